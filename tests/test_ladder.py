"""What a person reads of a call: the rungs of its ladder and its outcome in a sentence."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialer.api import call_json, event_json
from dialer.ladder import Ladder, Rung, outcome
from dialer.simulator import AgentPlan

CALL = {
    "agent": "ann", "to": "+14155550101", "from": "+14155550199", "status": "completed", "reason": "", "rule": "",
    "endedBy": "agent", "duration": 5, "answeredAt": None, "requestedAt": "2026-01-01T00:00:00.000Z",
}  # fmt: skip


def event(name: str, role: str = "", status: str = "", sid: str = "CA1", **detail: object) -> dict[str, Any]:
    return {
        "name": name, "role": role, "status": status, "callSid": sid, "detail": detail,
        "receivedAt": "2026-01-01T00:00:01.500Z",
    }  # fmt: skip


def texts(*events: dict[str, Any], **call: object) -> list[str]:
    return [f"{rung.who}: {rung.text}" for rung in Ladder({**CALL, **call}).rungs(events)]


def told(stage: Any, number: str, plan: AgentPlan | None = None) -> tuple[list[str], str]:
    """The ladder and the outcome of a whole call over the simulated network."""
    talker = stage.agent_dials(number, plan=plan)
    stage.ends()
    call = call_json(talker.call)
    events = [event_json(row) for row in talker.rows("events_of_call", after=0)]
    return [f"{rung.who}: {rung.text}" for rung in Ladder(call).rungs(events)], outcome(call)


def test_a_call_that_is_answered_reads_from_the_agents_twiml_to_the_end(stage: Any) -> None:
    rungs, ended = told(stage, "+14155550101", AgentPlan(hang_up_after_bridged=5))
    agent = stage.world.agents[0].identity
    assert rungs[:3] == [
        f"agent: {agent} calls +14155550101: Dialer sends the browser into a conference",
        "agent: is in the conference, and waits",
        f"Dialer: asks Twilio to call +14155550101 from {stage.dialled()[0].from_}",
    ]
    story = ("the phone rings", "somebody answers the phone", "is in the conference: they can talk")
    places = [rungs.index(f"customer: {text}") for text in story]
    places += [rungs.index("agent: hangs up and leaves the conference")]
    places += [rungs.index("customer: the customer's phone is off the line")]
    assert places == sorted(places)
    assert "conference: is over" in rungs
    assert ended.startswith("completed: the agent hung up after ")


@pytest.mark.parametrize(
    ("number", "rung", "ended"),
    [
        ("+14155550102", "customer: the line is busy (SIP 486)", "busy: the customer's line was busy"),
        ("+14155550103", "customer: nobody answered, the phone stops ringing", "no-answer: nobody answered"),
        (
            "+14155550104",
            "customer: the number cannot be reached (SIP 404)",
            "failed: the number could not be reached",
        ),
        (
            "+14155550107",
            "Dialer: is refused by Twilio: That is not a valid phone number. (twilio-21211)",
            "failed: That is not a valid phone number. (rule twilio-21211)",
        ),
    ],
)
def test_nobody_reached_is_told_with_its_reason(stage: Any, number: str, rung: str, ended: str) -> None:
    rungs, found = told(stage, number)
    assert rung in rungs
    assert "agent: is taken out of the conference to be told why" in rungs
    assert found == ended


def test_a_customer_who_hangs_up_is_named(stage: Any) -> None:
    rungs, ended = told(stage, "+14155550106")
    assert "customer: hangs up and leaves the conference" in rungs
    assert ended.startswith("completed: the customer hung up after ")


def test_a_refused_call_says_what_the_agent_is_told_and_the_rule(stage: Any) -> None:
    rungs, ended = told(stage, "12345")
    reason = "That is not a phone number in international form, starting with plus."
    assert rungs[0] == f"agent: {stage.world.agents[0].identity} calls 12345 and is told: {reason}"
    assert ended == f"rejected: {reason} (rule not-e164; nothing was dialled)"


def test_seconds_count_from_the_request() -> None:
    (rung,) = Ladder(CALL).rungs([event("conference-end")])
    assert rung == Rung(1.5, "conference", "is over")
    assert str(rung) == "   1.5 s  conference  is over"
    assert rung.as_json() == {"seconds": 1.5, "who": "conference", "text": "is over"}


def test_a_clock_that_went_back_gives_no_negative_seconds() -> None:
    early = event("conference-end") | {"receivedAt": "2025-12-31T23:59:59.000Z"}
    assert [rung.seconds for rung in Ladder(CALL).rungs([early])] == [0.0]


def test_what_two_sources_report_of_a_leg_is_told_once_even_in_two_turns() -> None:
    ladder = Ladder(CALL)
    assert len(list(ladder.rungs([event("leg-completed", "customer", "completed")]))) == 1
    assert list(ladder.rungs([event("leg-completed", "customer", "completed")])) == []
    assert len(list(ladder.rungs([event("leg-completed", "customer", "completed", sid="CA2")]))) == 1


@pytest.mark.parametrize(
    ("found", "text"),
    [
        (event("dial-sending", attempt=2), "Dialer: asks Twilio to call +14155550101 from +14155550199 (attempt 2)"),
        (event("dial-planned", rule="twilio-20429"),
         "Dialer: nothing was placed, and Twilio will be asked again (twilio-20429)"),
        (event("participant-mute", "agent"), "agent: is muted"),
        (event("participant-leave", "agent", ReasonParticipantLeft="participant_updated_via_api"),
         "agent: is let go by Dialer"),
        (event("participant-leave", "customer"), "customer: leaves the conference"),
        (event("participant-modify", "customer"), "customer: participant modify"),
        (event("leg-completed", "stray", "completed"), "stray: stray leg: completed"),
        (event("hang-up-requested"), "Dialer: is asked to end the call"),
        (event("announcement-end"), "Dialer: announcement end"),
    ],
)  # fmt: skip
def test_other_events_have_their_words_too(found: dict[str, Any], text: str) -> None:
    assert texts(found) == [text]


def test_a_leg_that_fails_after_the_answer_was_lost_not_unreachable() -> None:
    failed = event("leg-failed", "customer", "failed")
    assert texts(failed) == ["customer: the number cannot be reached"]
    answered = {"answeredAt": "2026-01-01T00:00:01.000Z"}
    assert texts(failed, **answered) == ["customer: the connection to the customer is lost"]


def test_what_a_browser_sent_cannot_control_the_terminal() -> None:
    (text,) = texts(event("call-started"), status="rejected", to="\x1b[2J\n+1", reason="No.")
    assert "\x1b" not in text
    assert "\n" not in text


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        ({"duration": None, "endedBy": "system"}, "completed: the system hung up"),
        ({"endedBy": "plugin:limits"}, "completed: the plugin limits hung up after 5 s"),
        ({"endedBy": ""}, "completed: nobody known hung up after 5 s"),
        ({"status": "canceled"}, "canceled: cancelled before anybody answered, by the agent"),
        ({"status": "ringing", "endedBy": ""}, "ringing: not over yet"),
        (
            {"status": "failed", "answeredAt": "2026-01-01T00:00:02.000Z"},
            "failed: the connection was lost during the call",
        ),
    ],
)
def test_outcomes(call: dict[str, Any], sentence: str) -> None:
    assert outcome({**CALL, **call}) == sentence


@given(
    st.sampled_from(["call-started", "dial-x", "leg-x", "participant-leave", "participant-x", "x", ""]),
    st.sampled_from(["", "agent", "customer", "stray", "x"]),
    st.text(),
    st.dictionaries(st.sampled_from(["rule", "SipResponseCode", "ReasonParticipantLeft"]), st.text()),
)
def test_any_event_becomes_at_most_one_line(name: str, role: str, status: str, detail: dict[str, str]) -> None:
    for text in texts(event(name, role, status, **detail)):
        assert text.isprintable()
