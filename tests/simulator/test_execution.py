"""TwiML verbs, told by what happens and when."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dialer.simulator import AgentPlan, Call, Knobs, Params

if TYPE_CHECKING:
    from tests.simulator.conftest import Play, Story

FAST = float("inf")


def response(body: str) -> str:
    return f"<Response>{body}</Response>"


def talked(story: Story, body: str, to: str = "+14155550101", seconds: float = 60.0) -> Call:
    story.pages["/join"] = response(body)
    call = story.call(to, StatusCallbackEvent="completed")
    story.run(seconds)
    return call


@pytest.mark.parametrize(
    ("body", "seconds"),
    [
        ("<Say>Hi</Say>", 1.0),
        (f"<Say>{'x' * 100}</Say>", 6.0),
        (f"<Say loop='2'>{'x' * 100}</Say>", 12.0),
        ("<Play>a.mp3</Play>", 3.0),
        ("<Play loop='3'>a.mp3</Play>", 9.0),
        ("<Play digits='w1'/>", 0.75),
        ("<Pause/>", 1.0),
        ("<Pause length='5'/><Pause length='2'/>", 7.0),
        ("<Pause length='long'/>", 1.0),
        ("<Say>Hi</Say><Hangup/><Say>Never</Say>", 1.0),
        ("<Enqueue>sales</Enqueue><Leave/>", 0.0),
        ("<Pause length='0'/>" * 2000, 0.0),
    ],
)
def test_how_long_it_takes(play: Play, body: str, seconds: float) -> None:
    story = play(Knobs(cps=FAST, jitter=0.0))
    call = talked(story, body)
    assert call.end_time is not None and call.answer_time is not None
    assert call.end_time - call.answer_time == pytest.approx(seconds + 0.05)


def test_a_loop_without_end(play: Play) -> None:
    story = play()
    call = talked(story, "<Play loop='0'>a.mp3</Play>", seconds=3600)
    assert call.status == "in-progress"


def test_unknown_verbs_are_skipped_with_a_warning(play: Play) -> None:
    story = play()
    talked(story, "<Enqueue>sales</Enqueue><Say>Next</Say>")
    assert story.alerts() == [12200]
    assert story.entries("said") == [{"text": "Next"}]


def test_redirect(play: Play) -> None:
    story = play(next=response("<Say>Next</Say>"))
    talked(story, "<Redirect method='GET'>next?a=1&amp;b=2</Redirect><Say>Never</Say>")
    (told,) = story.told("redirect")
    assert told.request.url.startswith("https://app.example/next?a=1&b=2&AccountSid=")
    assert story.entries("said") == [{"text": "Next"}]


def test_a_redirect_to_nowhere(play: Play) -> None:
    story = play()
    call = talked(story, "<Redirect>mailto:x@example.com</Redirect>")
    assert (call.ended_by, story.alerts()) == ("application-error", [11200])


@pytest.mark.parametrize(("attribute", "status"), [("", "no-answer"), (" reason='busy'", "busy")])
def test_reject(play: Play, attribute: str, status: str) -> None:
    story = play(voice=response(f"<Reject{attribute}/>"))
    call = story.network.dial_in("+14155550101", "+14155550199")
    story.run(5)
    assert (call.status, call.duration) == (status, 0)


def test_reject_in_a_talk_just_ends_it(play: Play) -> None:
    assert talked(play(), "<Reject/>").status == "completed"


def test_a_pause_first_keeps_it_ringing(play: Play) -> None:
    story = play(voice=response("<Pause length='5'/><Say>Hello</Say>"))
    call = story.network.dial_in("+14155550101", "+14155550199")
    story.run(4)
    assert call.status == "ringing"
    story.run(5)
    assert (call.status, call.duration) == ("completed", 1)


# Gather


def test_gather_by_number_of_digits(play: Play) -> None:
    story = play(keys=response("<Say>Thanks</Say>"))
    talked(story, "<Gather numDigits='2' action='keys'><Say>Press two</Say></Gather><Say>None</Say>", "+14155550115")
    (told,) = story.told("gather")
    assert told.fields["Digits"] == "12"
    assert [entry["text"] for entry in story.entries("said")] == ["Press two", "Thanks"]


def test_gather_without_keys_goes_on(play: Play) -> None:
    story = play(Knobs(cps=FAST, jitter=0.0))
    call = talked(story, "<Gather timeout='3' action='/keys'><Say>Press</Say></Gather><Say>None</Say>")
    assert story.told("gather") == []
    assert story.entries("said")[-1] == {"text": "None"}
    assert call.duration == 6  # 1 s prompt, 3 s waiting, 1 s speech


def test_gather_tells_of_nothing_when_asked_to(play: Play) -> None:
    story = play(keys=response(""))
    talked(story, "<Gather actionOnEmptyResult='true' action='/keys'/>")
    assert story.told("gather")[0].fields["Digits"] == ""


def test_gather_times_out_after_the_last_key(play: Play) -> None:
    story = play(keys=response(""))
    talked(story, "<Gather timeout='4' finishOnKey='*' action='/keys'/>", "+14155550115")
    assert story.told("gather")[0].fields["Digits"] == "12#"


def test_gather_without_an_action_asks_its_own_document_again(play: Play) -> None:
    story = play()
    story.pages["/join"] = lambda request: response(
        "<Hangup/>" if request.purpose == "gather" else "<Gather numDigits='1'/>"
    )
    story.call("+14155550115")
    story.run(20)
    assert story.told("gather")[0].path == "/join"


# Record


def test_record(play: Play) -> None:
    story = play(done=response("<Say>Saved</Say>"))
    talked(story, "<Record timeout='2' action='/done' recordingStatusCallback='/recording'/>")
    (told,) = story.told("record")
    assert told.fields["RecordingDuration"] == "5"
    (recording,) = story.network.recordings.values()
    assert told.fields["RecordingUrl"] == recording.url
    assert (recording.source, recording.status) == ("RecordVerb", "completed")
    assert story.told("recording")[0].fields["RecordingStatus"] == "completed"


def test_record_ends_on_a_key_and_at_the_longest(play: Play) -> None:
    story = play(done=response(""))
    talked(story, "<Record finishOnKey='2' action='/done'/>", "+14155550115")
    assert story.told("record")[-1].fields["Digits"] == "2"
    talked(story, "<Record maxLength='1' action='/done'/>")
    assert story.told("record")[-1].fields["RecordingDuration"] == "1"


def test_a_recording_ends_with_the_call(play: Play) -> None:
    story = play()
    talked(story, "<Record action='/done'/>", "+14155550106")
    (recording,) = story.network.recordings.values()
    assert (recording.status, recording.duration) == ("completed", 3)
    assert story.told("record") == []


# Dial to numbers and browsers


def dialled(story: Story, dial: str, plan: AgentPlan | None = None, seconds: float = 60.0) -> Call:
    story.pages["/voice"] = response(dial)
    call = story.connect(plan=plan)
    story.run(seconds)
    return call


def leg_of(story: Story, call: Call) -> Call:
    return next(c for c in story.network.calls.values() if c.parent_call_sid == call.sid)


NUMBER = (
    "<Dial callerId='+14155550199' action='/after'><Number statusCallback='/leg'"
    " statusCallbackEvent='initiated ringing answered completed'>{}</Number></Dial>"
)


@pytest.mark.parametrize(
    ("to", "status", "bridged"),
    [
        ("+14155550106", "completed", "true"),
        ("+14155550102", "busy", "false"),
        ("+14155550103", "no-answer", "false"),
        ("+14155550104", "failed", "false"),
    ],
)
def test_dialling_a_number(play: Play, to: str, status: str, bridged: str) -> None:
    story = play(after=response("<Say>After</Say>"))
    call = dialled(story, NUMBER.format(to))
    leg = leg_of(story, call)
    (told,) = story.told("action")
    assert (told.fields["DialCallStatus"], told.fields["DialBridged"]) == (status, bridged)
    assert (told.fields["DialCallSid"], told.fields["DialCallDuration"]) == (leg.sid, str(leg.duration))
    assert (leg.direction, leg.from_, leg.status) == ("outbound-dial", "+14155550199", status)
    assert story.statuses(leg)[-1] == status
    assert story.told("status", leg)[0].fields["ParentCallSid"] == call.sid
    assert story.entries("said") == [{"text": "After"}]


def test_the_dialled_leg_is_bridged(play: Play) -> None:
    story = play()
    call = dialled(story, NUMBER.format("+14155550101"), AgentPlan(hang_up_after_bridged=5.0))
    leg = leg_of(story, call)
    assert story.kinds().count("bridged") == 2
    assert (leg.status, leg.ended_by, leg.duration) == ("completed", "parent", 5)
    assert story.told("action") == []


def test_the_caller_leaves_while_it_rings(play: Play) -> None:
    story = play()
    call = dialled(story, NUMBER.format("+14155550103"), AgentPlan(hang_up_after=3.0))
    leg = leg_of(story, call)
    assert (leg.status, story.statuses(leg)[-1]) == ("canceled", "canceled")
    assert "ring-stop" in story.kinds(leg)


def test_the_first_of_several_wins(play: Play) -> None:
    story = play()
    story.network.register(story.account.sid, "bob", answer_after=3.0)
    call = dialled(
        story,
        "<Dial callerId='+14155550199'><Number>+14155550108</Number><Client>bob</Client>"
        "<Number>+14155550102</Number></Dial>",
        AgentPlan(hang_up_after_bridged=2.0),
    )
    legs = {c.to: c.status for c in story.network.calls.values() if c.parent_call_sid == call.sid}
    assert legs == {"+14155550108": "canceled", "client:bob": "completed", "+14155550102": "busy"}


def test_one_after_the_other(play: Play) -> None:
    story = play(after=response(""))
    dialled(
        story,
        "<Dial callerId='+14155550199' sequential='true' action='/after'><Number>+14155550102</Number>"
        "<Number>+14155550106</Number><Number>+14155550101</Number></Dial>",
    )
    first, second, third = list(story.network.calls.values())[1:]
    assert (first.status, second.status, third.status) == ("busy", "completed", "canceled")
    assert first.end_time is not None and second.start_time is not None
    assert second.start_time >= first.end_time
    assert third.start_time is None
    assert story.told("action")[0].fields["DialCallSid"] == second.sid


def test_answer_on_bridge(play: Play) -> None:
    story = play()
    call = dialled(story, NUMBER.format("+14155550108").replace("<Dial", "<Dial answerOnBridge='true'"), seconds=10)
    assert call.status == "ringing"
    story.run(5)
    assert call.status == "in-progress"


def test_a_number_hears_its_own_program_first(play: Play) -> None:
    story = play(screen=response("<Say>A call for you</Say>"))
    page = "<Dial callerId='+14155550199'><Number url='/screen'>+14155550101</Number></Dial>"
    call = dialled(story, page, seconds=2.3)
    assert (story.entries("said"), "bridged" in story.kinds()) == ([{"text": "A call for you"}], False)
    story.run(3)
    assert "bridged" in story.kinds(call)


def test_a_screening_program_that_hangs_up(play: Play) -> None:
    story = play(screen=response("<Hangup/>"), after=response(""))
    page = "<Dial callerId='+14155550199' action='/after'><Number url='/screen'>+14155550101</Number></Dial>"
    dialled(story, page)
    assert story.told("action")[0].fields["DialCallStatus"] == "no-answer"


@pytest.mark.parametrize(
    ("noun", "code"),
    [
        ("<Number>12</Number>", 13223),
        ("<Number>+14155550107</Number>", 13224),
        ("<Number>+14155550111</Number>", 13227),
        ("<Number>+442079460000</Number>", 13227),
        ("<Sip>sip:bob@example.com</Sip>", 13224),
    ],
)
def test_nouns_that_are_refused(play: Play, noun: str, code: int) -> None:
    story = play(after=response("<Say>Sorry</Say>"))
    story.account.blocked_countries = {"GB"}
    dialled(story, f"<Dial callerId='+14155550199' action='/after'>{noun}</Dial>")
    assert story.alerts() == [code]
    assert story.told("action")[0].fields["DialCallStatus"] == "failed"
    assert story.entries("said") == [{"text": "Sorry"}]


@pytest.mark.parametrize("caller_id", ["", " callerId='+14155550123'"])
def test_a_caller_id_that_may_not_be_shown(play: Play, caller_id: str) -> None:
    story = play()
    call = dialled(story, f"<Dial{caller_id}>+14155550101</Dial>")
    assert (story.alerts(), call.status) == ([13214], "completed")


def test_a_dialled_leg_cannot_dial(play: Play) -> None:
    story = play(screen=response("<Dial>+14155550102</Dial>"))
    dialled(story, "<Dial callerId='+14155550199'><Number url='/screen'>+14155550101</Number></Dial>", seconds=5)
    assert 13201 in story.alerts()


def test_a_dialled_leg_that_is_redirected(play: Play) -> None:
    story = play(other=response("<Dial><Conference waitUrl=''>room</Conference></Dial>"))
    page = "<Dial timeLimit='30' callerId='+14155550199'>+14155550101</Dial><Say>Next</Say><Pause length='90'/>"
    call = dialled(story, page, seconds=5)
    leg = leg_of(story, call)
    story.network.update_call(leg, Params({"Url": "https://app.example/other"}))
    story.run(60)
    assert story.entries("said") == [{"text": "Next"}]
    assert (call.status, leg.status) == ("in-progress", "in-progress")
    assert "conference-enter" in story.kinds(leg)


def test_a_star_ends_the_dial(play: Play) -> None:
    story = play()
    page = "<Dial hangupOnStar='true' callerId='+14155550199'>+14155550101</Dial><Say>Next</Say>"
    call = dialled(story, page, seconds=5)
    story.network.press(call.sid, "*")
    assert story.entries("said") == [{"text": "Next"}]
    assert leg_of(story, call).status == "completed"


def test_the_time_limit_of_a_dial(play: Play) -> None:
    story = play()
    page = "<Dial timeLimit='10' callerId='+14155550199'>+14155550101</Dial>"
    assert leg_of(story, dialled(story, page)).duration == 10


def test_recording_a_dial(play: Play) -> None:
    story = play(after=response(""))
    page = NUMBER.format("+14155550106").replace(
        "<Dial", "<Dial record='record-from-answer-dual' recordingStatusCallback='/recording'"
    )
    call = dialled(story, page)
    (recording,) = story.network.recordings.values()
    assert (recording.source, recording.channels, recording.call_sid) == ("DialVerb", 2, call.sid)
    assert story.told("action")[0].fields["RecordingUrl"] == recording.url
    assert story.told("recording")[0].fields["RecordingDuration"] == "3"


def test_a_client_with_parameters(play: Play) -> None:
    story = play()
    story.network.register(story.account.sid, "bob")
    page = "<Dial><Client><Identity>bob</Identity><Parameter name='a' value='1'/></Client></Dial>"
    call = dialled(story, page, seconds=5)
    leg = leg_of(story, call)
    assert (leg.to, leg.from_, leg.status) == ("client:bob", "client:alice", "in-progress")
    assert leg.voice_params == [("a", "1")]


def test_the_knob_for_bad_attribute_values(play: Play) -> None:
    body = "<Dial timeLimit='long'><Conference waitUrl='' muted='maybe'>room</Conference></Dial>"
    story = play()
    assert talked(story, body).status == "in-progress"
    assert story.alerts() == [13216, 13230]
    story = play(Knobs(cps=FAST, bad_attribute="fail"))
    assert talked(story, body).ended_by == "application-error"
    assert story.alerts() == [13216]
