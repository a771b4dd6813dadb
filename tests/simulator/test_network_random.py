"""Whatever is done in whatever order: only TwilioError is raised, ends are final, conferences keep their rules."""

from __future__ import annotations

from typing import TYPE_CHECKING

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dialer.simulator import AgentPlan, Call, Faults, Knobs, Params, TwilioError, WebAnswer
from dialer.simulator.kinds import KINDS
from dialer.simulator.model import FINAL

if TYPE_CHECKING:
    from tests.simulator.conftest import Play, Story

numbers = st.integers(100, 120).map(lambda n: f"+14155550{n}") | st.sampled_from(["client:bob", "nobody", ""])
flags = st.sampled_from(["true", "false"])
conference = st.builds(
    "<Dial{}><Conference waitUrl='{}' startConferenceOnEnter='{}' endConferenceOnExit='{}' participantLabel='{}'"
    " statusCallback='/c' statusCallbackEvent='start end join leave' record='{}' maxParticipants='{}'>{}"
    "</Conference></Dial>".format,
    st.sampled_from(["", " action='/a'", " hangupOnStar='true'", " timeLimit='3'"]),
    st.sampled_from(["", "/b", "/missing"]),
    flags,
    flags,
    st.sampled_from(["", "x", "y", "a/b"]),
    st.sampled_from(["do-not-record", "record-from-start"]),
    st.integers(1, 4),
    st.sampled_from(["room", "hall", ""]),
)
dial = st.builds(
    "<Dial callerId='+14155550199'{}><Number{}>{}</Number><Client>bob</Client></Dial>".format,
    st.sampled_from(["", " action='/a'", " sequential='true'", " record='true'", " answerOnBridge='true'"]),
    st.sampled_from(["", " url='/b'", " statusCallback='/s'"]),
    numbers,
)
plain = st.sampled_from(
    [
        "<Say>Hello</Say>", "<Pause length='2'/>", "<Play loop='0'/>", "<Hangup/>", "<Reject/>", "<Enqueue/>",
        "<Redirect>/a</Redirect>", "<Redirect>/b</Redirect>", "<Gather numDigits='1' action='/b'/>",
        "<Gather timeout='2'><Say>Press</Say></Gather>", "<Record action='/b' maxLength='2'/>", "<",
    ]
)  # fmt: skip
pages = st.lists(plain | conference | dial, max_size=3).map(lambda parts: f"<Response>{''.join(parts)}</Response>")
answers = pages | st.sampled_from([WebAnswer(500), WebAnswer.failure("connect"), None])
updates = st.fixed_dictionaries(
    {},
    optional={
        "Status": st.sampled_from(["canceled", "completed", "paused", "in-progress", "stopped"]),
        "Url": st.sampled_from(["https://app.example/a", "https://app.example/b", "nowhere"]),
        "Twiml": pages,
        "Muted": flags,
        "Hold": flags,
        "EndConferenceOnExit": flags,
        "Coaching": flags,
        "AnnounceUrl": st.just("https://app.example/b"),
    },
)
ACTS = [
    "connect", "call", "dial_in", "add", "hang_up", "pick_up", "decline", "lose", "press", "update", "change",
    "kick", "end", "record", "alter", "delete", "forget", "wait",
]  # fmt: skip
steps = st.lists(
    st.tuples(
        st.sampled_from(ACTS),
        st.integers(0, 9),
        numbers,
        updates,
        st.floats(0.0, 8.0),
    ),
    max_size=25,
)
knobs = st.builds(
    Knobs,
    invalid_events=st.sampled_from(["drop-invalid", "drop-all", "refuse"]),
    from_param=st.sampled_from(["identity", "custom"]),
    completed_on_ringing_final=st.sampled_from(["canceled", "completed", "no-answer"]),
    completed_on_ended=st.sampled_from(["ok", "21220"]),
    early_agent_final=st.sampled_from(["completed", "busy", "no-answer", "failed", "canceled"]),
    bad_attribute=st.sampled_from(["default", "fail"]),
    unanswered_ends_conference=st.booleans(),
    conference_end_cancels_ringing=st.booleans(),
    duplicate_callbacks=st.sampled_from([0.0, 0.5]),
    cps=st.sampled_from([0.5, 5.0, float("inf")]),
    queue_limit=st.sampled_from([1, 100]),
)
faults = st.builds(
    Faults,
    **{f"webhook_{name}": st.sampled_from([0.0, 0.3]) for name in ("lost", "late", "repeated", "reordered")},
    webhook_unreachable=st.sampled_from([0.0, 0.2]),
    webhook_answer_lost=st.sampled_from([0.0, 0.2]),
)


def act(story: Story, name: str, index: int, number: str, params: dict[str, str]) -> None:
    """One step of somebody, on one of what there is."""
    network, account = story.network, story.account.sid
    calls, recordings = list(network.calls.values()), list(network.recordings.values())
    call = calls[index % len(calls)] if calls else None
    participants = [p for c in network.conferences.values() for p in c.participants.values()]
    participant = participants[index % len(participants)] if participants else None
    conferences = list(network.conferences.values())
    if name == "connect":
        story.connect(number, AgentPlan(hang_up_after_bridged=4.0))
    elif name == "call":
        story.call(number, StatusCallbackEvent=["completed", "answered"], Record="true")
    elif name == "dial_in":
        network.dial_in(number, "+14155550199")
    elif name == "add":
        given_ = {"From": "+14155550199", "To": number, "Label": "x", **params}
        network.create_participant(account, "room", Params(given_))
    elif name == "forget":
        network.forget(network.now - 5)
    elif name in ("hang_up", "pick_up", "decline", "lose") and call:
        getattr(network, name)(call.sid)
    elif name == "press" and call:
        network.press(call.sid, "1*#"[index % 3])
    elif name == "update" and call:
        network.update_call(call, Params(params))
    elif name == "change" and participant:
        network.update_participant(participant, Params(params))
    elif name == "kick" and participant:
        network.remove_participant(participant)
    elif name == "end" and conferences:
        network.update_conference(conferences[index % len(conferences)], Params(params))
    elif name == "record" and call:
        network.start_recording(call, Params())
    elif name == "alter" and recordings:
        network.update_recording(recordings[index % len(recordings)], Params(params))
    elif name == "delete" and call:
        network.delete_call(call)


def check(story: Story, ends: dict[str, tuple[str, float | None, int | None]]) -> None:
    """What must hold at any moment."""
    network = story.network
    for call in network.calls.values():
        if call.status in FINAL:
            end = (call.status, call.end_time, call.duration)
            assert ends.setdefault(call.sid, end) == end
            assert call.execution is None and call.participant is None and not call.timers and not call.rings
        elif call.participant is not None:
            assert network.conferences[call.participant.conference_sid].participants[call.sid] is call.participant
    check_conferences(story)
    assert story.account.live == sum(call.status not in FINAL for call in network.calls.values())


def check_conferences(story: Story) -> None:
    network = story.network
    for conference in network.conferences.values():
        key = (conference.account_sid, conference.friendly_name)
        assert (network.live_conferences.get(key) is conference) == (conference.status != "completed")
        assert bool(conference.participants) == (conference.status != "completed")
        inside = [p for p in conference.participants.values() if p.entered]
        ready = len(inside) >= 2 and any(p.start_on_enter for p in inside)
        assert conference.status == "in-progress" or not ready
        labels = [p.label for p in conference.participants.values() if p.label]
        assert len(labels) == len(set(labels))
        assert all(network.calls[sid].status not in FINAL for sid in conference.participants)


def check_callbacks(story: Story) -> None:
    """Each call's callbacks have their numbers without gaps, and nothing comes after a final status."""
    calls: dict[str, set[int]] = {}
    for heard in story.told("status"):
        calls.setdefault(heard.fields["CallSid"], set()).add(int(heard.fields["SequenceNumber"]))
        final = heard.fields["CallStatus"] in FINAL
        assert final == ("CallDuration" in heard.fields)
    if story.network.injected["webhook_lost"] + story.network.injected["webhook_unreachable"] == 0:
        assert all(numbers_ == set(range(len(numbers_))) for numbers_ in calls.values())


@settings(max_examples=250, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.integers(0, 9), knobs, faults, answers, answers, pages, steps)
def test_anything_goes(
    play: Play,
    seed: int,
    knobs: Knobs,
    faults: Faults,
    voice: str | WebAnswer | None,
    join: str | WebAnswer | None,
    other: str,
    steps: list[tuple[str, int, str, dict[str, str], float]],
) -> None:
    missing = WebAnswer(404)
    b = "<Response><Say>B</Say></Response>"
    story = play(knobs, faults, seed, voice=voice, join=join, a=other, b=b, missing=missing)
    story.network.register(story.account.sid, "bob", answer_after=2.0)
    ends: dict[str, tuple[str, float | None, int | None]] = {}
    for name, index, number, params, seconds in steps:
        try:
            act(story, name, index, number, params)
        except TwilioError as error:
            assert 400 <= error.http_status < 500
        check(story, ends)
        story.run(seconds)
        check(story, ends)
    finish(story)
    assert {entry.kind for entry in story.network.log} <= set(KINDS)
    check(story, ends)
    check_callbacks(story)
    assert (story.account.live, story.account.queued, story.network.live_conferences) == (0, 0, {})


def finish(story: Story) -> None:
    """Everybody hangs up, and whatever still rings or waits is ended."""
    for call in list(story.network.calls.values()):
        end_call(story, call)
    story.run(120)
    assert story.network.exchanges == {}


def end_call(story: Story, call: Call) -> None:
    if call.status not in FINAL:
        story.network.update_call(call, Params({"Status": "completed"}))
