"""Conferences: the rules of start and end, labels, waiting, moderation, events."""

from __future__ import annotations

from typing import TYPE_CHECKING
from xml.sax.saxutils import escape

import pytest

from dialer.simulator import Call, Conference, Knobs, Params, TwilioError, WebAnswer

if TYPE_CHECKING:
    from tests.simulator.conftest import Play, Story

ALL_EVENTS = "start end join leave mute hold modify speaker announcement"


def enter(story: Story, name: str = "room", to: str = "+14155550101", after: str = "", **attributes: str) -> Call:
    """Somebody called over REST who is then in the conference, and a moment passes."""
    given = {"statusCallback": "/conference", "statusCallbackEvent": ALL_EVENTS, "waitUrl": "", **attributes}
    written = " ".join(f'{key}="{escape(value)}"' for key, value in given.items())
    page = f"<Response><Dial><Conference {written}>{name}</Conference></Dial>{after}</Response>"
    story.pages[f"/join{len(story.network.calls)}"] = page
    call = story.call(to, Url=f"https://app.example/join{len(story.network.calls)}", StatusCallback="")
    story.run(3)
    return call


def live(story: Story, name: str = "room") -> Conference:
    return story.network.live_conferences[story.account.sid, name]


def change(story: Story, call: Call, **params: str) -> None:
    participant = story.network.find_participant(live(story), call.sid)
    story.network.update_participant(participant, Params(params))


def test_two_start_it_and_one_must_be_a_starter(play: Play) -> None:
    story = play()
    enter(story, startConferenceOnEnter="false")
    enter(story, startConferenceOnEnter="false")
    assert live(story).status == "init"
    enter(story, startConferenceOnEnter="true")
    assert live(story).status == "in-progress"
    assert story.events() == ["participant-join"] * 3 + ["conference-start"]
    assert story.kinds().count("bridged") == 3


def test_one_alone_does_not_start_it(play: Play) -> None:
    story = play()
    enter(story)
    story.run(100)
    assert live(story).status == "init"
    assert story.events() == ["participant-join"]


def test_a_late_comer_who_starts_nothing_is_in_at_once(play: Play) -> None:
    story = play()
    enter(story)
    enter(story)
    late = enter(story, startConferenceOnEnter="false", waitUrl="/wait")
    assert "bridged" in story.kinds(late)
    assert story.told("wait") == []


def test_it_ends_with_the_last_one(play: Play) -> None:
    story = play()
    first, second = enter(story), enter(story, participantLabel="second")
    conference = live(story)
    story.network.hang_up(first.sid)
    assert live(story).status == "in-progress"
    story.network.hang_up(second.sid)
    assert conference.status == "completed"
    assert conference.reason_conference_ended == "last-participant-left"
    assert conference.call_sid_ending_conference == second.sid
    story.run(1)
    fields = {h.event: h.fields for h in story.told("conference")}["conference-end"]
    assert fields["ParticipantLabelEndingConference"] == "second"
    assert conference.participants == {}


def test_the_same_name_later_is_another_conference(play: Play) -> None:
    story = play()
    call = enter(story)
    first = live(story)
    story.network.hang_up(call.sid)
    enter(story)
    assert live(story) is not first
    assert live(story).friendly_name == first.friendly_name


def test_whoever_is_left_goes_on_with_his_program(play: Play) -> None:
    story = play()
    left = enter(story, after="<Say>Goodbye now</Say>")
    ender = enter(story, endConferenceOnExit="true")
    story.network.hang_up(ender.sid)
    assert story.entries("said") == [{"text": "Goodbye now"}]
    assert left.status == "in-progress"
    story.run(5)
    assert left.status == "completed"


def test_the_action_of_the_dial_follows(play: Play) -> None:
    page = '<Response><Dial action="/after"><Conference waitUrl="">room</Conference></Dial><Say>No</Say></Response>'
    story = play(join=page, after="<Response/>")
    story.call()
    story.run(3)
    story.network.update_conference(live(story), Params({"Status": "completed"}))
    story.run(3)
    (told,) = story.told("action")
    assert (told.fields["DialCallStatus"], told.fields["DialBridged"]) == ("answered", "false")
    assert "DialCallSid" not in told.fields
    assert story.entries("said") == []


def test_the_action_hears_of_the_bridge(play: Play) -> None:
    page = '<Response><Dial action="/after"><Conference waitUrl="">room</Conference></Dial></Response>'
    story = play(join=page, after="<Response/>")
    story.call()
    story.call("+14155550106")
    story.run(10)
    story.network.update_conference(live(story), Params({"Status": "completed"}))
    story.run(1)
    assert [heard.fields["DialBridged"] for heard in story.told("action")] == ["true"]


def test_a_label_is_unique(play: Play) -> None:
    story = play()
    enter(story, participantLabel="agent")
    second = enter(story, participantLabel="agent", after="<Say>Not added</Say>")
    assert story.alerts() == [16025]
    assert second.sid not in live(story).participants
    assert story.entries("said") == [{"text": "Not added"}]
    assert story.events() == ["participant-join"]


@pytest.mark.parametrize("label", ["a/b", "x" * 129, "CA" + "0" * 32])
def test_a_label_that_cannot_be_one(play: Play, label: str) -> None:
    story = play()
    enter(story, participantLabel=label)
    assert story.alerts() == [16023]
    assert story.network.conferences == {}


@pytest.mark.parametrize("name", ["", " ", "x" * 129])
def test_a_name_that_cannot_be_one(play: Play, name: str) -> None:
    story = play()
    call = enter(story, name=name)
    assert story.alerts() == [13237]
    assert call.status == "completed"


@pytest.mark.parametrize(("trim", "name"), [(True, "room"), (False, " room\n")])
def test_the_knob_for_whitespace_in_the_name(play: Play, trim: bool, name: str) -> None:
    story = play(Knobs(cps=float("inf"), trim_conference_name=trim))
    enter(story, name=" room\n")
    assert live(story, name).friendly_name == name


def test_a_full_conference(play: Play) -> None:
    story = play()
    enter(story)
    enter(story)
    enter(story, maxParticipants="2")
    assert story.alerts() == [16020]
    assert len(live(story).participants) == 2


def test_only_the_first_ones_callback_counts(play: Play) -> None:
    story = play()
    enter(story)
    enter(story, statusCallback="/other", region="de1")
    assert {heard.path for heard in story.told("conference")} == {"/conference"}
    assert live(story).region == "us1"


def test_without_events_nothing_is_told(play: Play) -> None:
    story = play()
    enter(story, statusCallbackEvent="")
    assert story.told("conference") == []


def test_the_wait_url_is_heard_until_the_start(play: Play) -> None:
    story = play(wait="<Response><Play>ring.mp3</Play><Redirect/></Response>")
    first = enter(story, waitUrl="/wait")
    story.run(10)
    assert 3 <= len(story.told("wait", first)) <= 5
    assert story.told("wait")[0].fields["CallStatus"] == "in-progress"
    enter(story)
    before = len(story.told("wait"))
    story.run(20)
    assert len(story.told("wait")) == before


def test_music_without_a_redirect_is_asked_for_once(play: Play) -> None:
    story = play(wait="<Response><Play>song.mp3</Play></Response>")
    enter(story, waitUrl="/wait")
    story.run(60)
    assert len(story.told("wait")) == 1


def test_who_cannot_hear_the_wait_url_is_not_in(play: Play) -> None:
    story = play(wait=WebAnswer(500))
    call = enter(story, waitUrl="/wait", after="<Say>No music</Say>")
    assert story.alerts() == [11200]
    assert story.network.conferences == {}
    assert story.entries("said") == [{"text": "No music"}]
    assert story.events() == []
    story.run(5)
    assert call.status == "completed"


def test_a_wait_document_that_is_none(play: Play) -> None:
    story = play(wait="<Respond/>")
    call = enter(story, waitUrl="/wait")
    assert (story.alerts(), call.status) == ([12102], "completed")


def test_the_first_one_sets_the_region(play: Play) -> None:
    story = play()
    enter(story, region="ie1")
    enter(story, region="de1")
    assert live(story).region == "ie1"


def test_a_conference_cannot_be_mixed_with_numbers(play: Play) -> None:
    page = "<Response><Dial><Conference waitUrl=''>room</Conference><Number>+14155550102</Number></Dial></Response>"
    story = play(join=page)
    story.call()
    story.run(5)
    assert (story.alerts(), len(story.network.calls)) == ([13000], 1)


def test_a_verb_that_cannot_wait(play: Play) -> None:
    story = play(wait="<Response><Dial>+14155550101</Dial></Response>")
    call = enter(story, waitUrl="/wait")
    assert story.alerts() == [13238]
    assert call.sid in live(story).participants


def test_leaving_while_the_wait_url_is_asked_for(play: Play) -> None:
    story = play(wait=None)
    call = enter(story, waitUrl="/wait")
    story.network.hang_up(call.sid)
    story.run(30)
    assert (story.network.conferences, call.status) == ({}, "completed")


def test_kicking(play: Play) -> None:
    story = play()
    kicked = enter(story, after="<Say>You were sent out</Say>")
    enter(story)
    participant = story.network.find_participant(live(story), kicked.sid)
    story.network.remove_participant(participant)
    assert story.entries("said") == [{"text": "You were sent out"}]
    assert live(story).status == "in-progress"
    story.run(1)
    assert story.told("conference")[-1].fields["ParticipantCallStatus"] == "in-progress"
    with pytest.raises(TwilioError) as refused:
        story.network.remove_participant(participant)
    assert refused.value.code == 20404


@pytest.mark.parametrize(
    ("end", "reason"),
    [("true", "participant-with-end-conference-on-exit-kicked"), ("false", "last-participant-kicked")],
)
def test_kicking_can_end_it(play: Play, end: str, reason: str) -> None:
    story = play()
    call = enter(story, endConferenceOnExit=end)
    conference = live(story)
    story.network.remove_participant(conference.participants[call.sid])
    assert conference.reason_conference_ended == reason


def test_a_redirected_call_leaves(play: Play) -> None:
    story = play(elsewhere="<Response><Pause length='9'/></Response>")
    call = enter(story, endConferenceOnExit="true")
    other = enter(story)
    story.network.update_call(call, Params({"Url": "https://app.example/elsewhere"}))
    story.run(2)
    assert (call.status, other.status) == ("in-progress", "completed")
    reasons = [h.fields.get("ReasonParticipantLeft") for h in story.told("conference")]
    assert "participant_updated_via_api" in reasons


def test_mute_and_hold(play: Play) -> None:
    story = play(music="<Response><Play>m.mp3</Play></Response>")
    call = enter(story)
    enter(story)
    change(story, call, Muted="true")
    change(story, call, Hold="true", HoldUrl="https://app.example/music")
    change(story, call, Hold="true")
    story.run(1)
    assert story.told("wait")[0].request.method == "GET"
    change(story, call, Muted="false", Hold="false")
    story.run(1)
    assert story.events()[3:] == [
        "participant-mute", "participant-hold", "participant-unmute", "participant-unhold",
    ]  # fmt: skip
    held = next(h for h in story.told("conference") if h.event == "participant-hold")
    assert (held.fields["Hold"], held.fields["Muted"], held.fields["Coaching"]) == ("true", "true", "false")


def test_end_on_exit_can_change_but_not_on_hold(play: Play) -> None:
    story = play()
    call = enter(story)
    change(story, call, Hold="true")
    change(story, call, EndConferenceOnExit="true")
    assert not live(story).participants[call.sid].end_on_exit
    change(story, call, Hold="false")
    change(story, call, EndConferenceOnExit="true")
    assert live(story).participants[call.sid].end_on_exit
    story.run(1)
    assert story.events()[-1] == "participant-modify"


def test_coaching(play: Play) -> None:
    story = play()
    agent, supervisor = enter(story), enter(story)
    change(story, supervisor, Coaching="true", CallSidToCoach=agent.sid)
    assert live(story).participants[supervisor.sid].call_sid_to_coach == agent.sid
    with pytest.raises(TwilioError) as refused:
        change(story, supervisor, Coaching="true", CallSidToCoach="CA" + "0" * 32)
    assert refused.value.code == 16028
    change(story, agent, Hold="true")
    third = enter(story)
    with pytest.raises(TwilioError) as refused:
        change(story, third, Coaching="true", CallSidToCoach=agent.sid)
    assert refused.value.code == 16027


def test_coaching_somebody_absent_in_twiml(play: Play) -> None:
    story = play()
    enter(story)
    enter(story, coach="CA" + "0" * 32)
    assert story.alerts() == [13240]
    assert len(live(story).participants) == 1


def test_announcements(play: Play) -> None:
    story = play(say="<Response><Say>A word to all of you</Say></Response>", broken=WebAnswer(500))
    call = enter(story)
    change(story, call, AnnounceUrl="https://app.example/say")
    story.run(3)
    last = story.told("conference")[-1]
    assert (last.event, last.fields["AnnounceUrl"]) == ("announcement-end", "https://app.example/say")
    assert last.fields["CallSid"] == call.sid
    story.network.update_conference(live(story), Params({"AnnounceUrl": "https://app.example/broken"}))
    story.run(3)
    last = story.told("conference")[-1]
    assert last.event == "announcement-fail"
    assert last.fields["ReasonAnnouncementFailed"]


def test_an_ended_conference_cannot_be_changed(play: Play) -> None:
    story = play()
    call = enter(story)
    conference = live(story)
    story.network.update_conference(conference, Params({"Status": "completed"}))
    assert conference.reason_conference_ended == "conference-ended-via-api"
    assert conference.call_sid_ending_conference is None
    for act in (
        lambda: story.network.update_conference(conference, Params({"Status": "completed"})),
        lambda: story.network.create_participant(story.account.sid, conference.sid, Params()),
    ):
        with pytest.raises(TwilioError) as refused:
            act()
        assert refused.value.code == 16022
    with pytest.raises(TwilioError):
        story.network.find_participant(conference, call.sid)
    with pytest.raises(TwilioError):
        story.network.update_conference(conference, Params({"Status": "over"}))


def test_a_star_leaves_when_asked_for(play: Play) -> None:
    page = '<Response><Dial hangupOnStar="true"><Conference waitUrl="">room</Conference></Dial></Response>'
    story = play(join=page)
    call = story.call()
    story.run(3)
    story.network.press(call.sid, "1")
    assert call.status == "in-progress"
    story.network.press(call.sid, "*")
    assert call.status == "completed"


def test_the_time_limit_of_the_dial(play: Play) -> None:
    page = '<Response><Dial timeLimit="20"><Conference waitUrl="">room</Conference></Dial></Response>'
    story = play(join=page)
    call = story.call()
    story.run(40)
    assert (call.status, call.duration) == ("completed", 21)


# Participants added over REST


def add(story: Story, conference: str = "room", to: str = "+14155550101", **params: str) -> Call:
    given = {"From": "+14155550199", "To": to, "Label": "customer", **params}
    participant = story.network.create_participant(story.account.sid, conference, Params(given))
    return story.network.calls[participant.call_sid]


CALLBACK = {"ConferenceStatusCallback": "https://app.example/conference"}


def test_adding_a_participant(play: Play) -> None:
    story = play()
    enter(story)
    call = add(story, live(story).sid)
    participant = story.network.find_participant(live(story), "customer")
    statuses = {participant.status}
    for _ in range(40):
        story.run(0.1)
        statuses.add(participant.status)
    assert statuses == {"queued", "connecting", "ringing", "connected"}
    assert live(story).status == "in-progress"
    assert story.told("voice", call) == []
    assert story.events() == ["participant-join", "participant-join", "conference-start"]


def test_it_makes_the_conference_and_sets_its_callback(play: Play) -> None:
    story = play()
    add(story, **CALLBACK)
    assert live(story).status == "init"
    story.run(3)
    enter(story)
    story.network.update_conference(live(story), Params({"Status": "completed"}))
    story.run(2)
    assert story.events() == ["conference-start", "conference-end"]  # the default


def test_a_participant_who_does_not_answer(play: Play) -> None:
    story = play()
    enter(story)
    call = add(story, to="+14155550102")
    participant = live(story).participants[call.sid]
    story.run(5)
    assert (participant.status, call.sid in live(story).participants) == ("failed", False)
    last = story.told("conference")[-1]
    assert last.event == "participant-leave"
    assert last.fields["ParticipantCallStatus"] == "busy"
    assert last.fields["ReasonParticipantLeft"] == "participant_add_failed"


@pytest.mark.parametrize(("ends", "status"), [(True, "completed"), (False, "init")])
def test_the_knob_for_an_unanswered_participant_that_ends(play: Play, ends: bool, status: str) -> None:
    story = play(Knobs(cps=float("inf"), unanswered_ends_conference=ends))
    enter(story)
    conference = live(story)
    add(story, to="+14155550102", EndConferenceOnExit="true")
    story.run(5)
    assert conference.status == status


@pytest.mark.parametrize(("cancels", "status"), [(True, "canceled"), (False, "ringing")])
def test_the_knob_for_ringing_participants_of_an_ended_conference(
    play: Play, cancels: bool, status: str
) -> None:
    story = play(Knobs(cps=float("inf"), conference_end_cancels_ringing=cancels))
    enter(story)
    call = add(story, to="+14155550108")
    story.run(3)
    story.network.update_conference(live(story), Params({"Status": "completed"}))
    assert call.status == status
    story.run(20)
    assert len(story.network.conferences) == (1 if cancels else 2)


def test_nobody_in_a_conference_that_was_made_for_one_who_never_came(play: Play) -> None:
    story = play()
    add(story, to="+14155550103", Timeout="10")
    conference = live(story)
    story.run(20)
    assert conference.status == "completed"


def test_kicking_one_who_still_rings(play: Play) -> None:
    story = play()
    enter(story)
    call = add(story, to="+14155550103")
    story.run(3)
    story.network.remove_participant(live(story).participants[call.sid])
    assert call.status == "canceled"
    assert call.sid not in live(story).participants


def test_the_call_of_an_added_participant_ends_when_it_comes_out(play: Play) -> None:
    story = play()
    enter(story, endConferenceOnExit="true")
    call = add(story)
    story.run(3)
    story.network.remove_participant(live(story).participants[call.sid])
    assert (call.status, call.ended_by) == ("completed", "program")


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"Label": "taken"}, 16026),
        ({"Label": "a/b"}, 16024),
        ({"Coaching": "true", "CallSidToCoach": "CA" + "0" * 32}, 16028),
        ({"MaxParticipants": "1"}, 20422),
        ({"Beep": "loud"}, 20422),
        ({"Muted": "perhaps"}, 20422),
        ({"Timeout": "x"}, 21208),
        ({"To": "911"}, 21211),
        ({"ConferenceStatusCallback": "nowhere"}, 21609),
        ({"ConferenceStatusCallbackEvent": "begin"}, 16002),
        ({"AmdStatusCallback": "x", "MachineDetection": "Enable"}, 21609),
    ],
)
def test_refused_participants(play: Play, params: dict[str, str], code: int) -> None:
    story = play()
    enter(story, participantLabel="taken")
    before = len(story.network.calls)
    with pytest.raises(TwilioError) as refused:
        add(story, **params)
    assert refused.value.code == code
    assert (len(story.network.calls), len(live(story).participants)) == (before, 1)


def test_a_conference_is_only_asked_to_end(play: Play) -> None:
    story = play()
    enter(story)
    with pytest.raises(TwilioError) as refused:
        story.network.update_conference(live(story), Params({"Status": "init"}))
    assert refused.value.code == 20422


@pytest.mark.parametrize(("conference", "code"), [("CF" + "0" * 32, 20404), ("x" * 129, 16003)])
def test_conferences_that_cannot_be_added_to(play: Play, conference: str, code: int) -> None:
    story = play()
    with pytest.raises(TwilioError) as refused:
        add(story, conference)
    assert refused.value.code == code


def test_a_full_conference_over_rest(play: Play) -> None:
    story = play()
    enter(story)
    enter(story)
    with pytest.raises(TwilioError) as refused:
        add(story, MaxParticipants="2")
    assert refused.value.code == 16020
