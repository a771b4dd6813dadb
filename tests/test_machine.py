"""The state machine: total, never back, never out of a terminal status, and the same end whatever the order."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialer.calls import LEG_RANK, STATUS_RANK, TERMINAL, Call, Change, Effect, Event
from dialer.machine import EXIT_GRACE, apply, owed, wait_seconds

AGENT, CUSTOMER, OTHER = "CA" + "a" * 32, "CA" + "c" * 32, "CA" + "d" * 32


def new_call(**values: Any) -> Call:
    return replace(Call("call_1", "ws", "alice", "+14155550101", "+14155550199", "conf", intent="di_1"), **values)


def play(call: Call, *events: Event) -> Change:
    change = Change(call)
    effects: tuple[Effect, ...] = ()
    for event in events:
        change = apply(change.call, event)
        effects += change.effects
    return Change(change.call, effects)


def leg(role: str, status: str, at: float = 0.0) -> Event:
    return Event("leg", at, role, AGENT if role == "agent" else CUSTOMER, status=status)


AGENT_IN = Event("join", 1.0, "agent", AGENT, status="in-progress", conference_sid="CF1")
CUSTOMER_IN = Event("join", 5.0, "customer", CUSTOMER, status="in-progress")
CUSTOMER_OUT = Event("leave", 9.0, "customer", CUSTOMER, by="customer")
AGENT_OUT = Event("leave", 9.0, "agent", AGENT, by="agent")
SENDING = Event("dial", 2.0, status="sending")
DIALLED = play(new_call(), leg("agent", "ringing"), AGENT_IN, SENDING).call


def kinds(change: Change) -> list[str]:
    return [effect.kind for effect in change.effects]


def test_agent_joining_makes_the_dial_due_once() -> None:
    change = play(new_call(), leg("agent", "ringing"), AGENT_IN, AGENT_IN)
    assert (change.call.status, kinds(change)) == ("agent-joined", ["dial"])


def test_an_agent_in_progress_without_a_join_is_enough_to_dial() -> None:
    assert kinds(play(new_call(), leg("agent", "in-progress"))) == ["dial"]


def test_dial_when_requested_does_not_wait_for_the_agent() -> None:
    assert kinds(play(new_call(dial_when="requested"), leg("agent", "ringing"))) == ["dial"]


def test_a_talk_ends_completed_by_the_one_who_left_first() -> None:
    ended = play(DIALLED, leg("customer", "in-progress", 4), CUSTOMER_IN, CUSTOMER_OUT, leg("customer", "completed", 9))
    assert (ended.call.status, ended.call.ended_by, kinds(ended)) == (
        "completed",
        "customer",
        ["end_conference"],
    )
    assert ended.effects[0].after > 0


def test_the_agent_leaving_a_talk_hangs_the_customer_up_within_a_second() -> None:
    change = play(DIALLED, leg("customer", "in-progress", 4), CUSTOMER_IN, AGENT_OUT)
    assert change.effects == (Effect("hang_up", CUSTOMER, after=EXIT_GRACE),)


@pytest.mark.parametrize("status", ["busy", "no-answer", "failed", "canceled"])
def test_an_unanswered_call_is_announced_to_the_agent(status: str) -> None:
    change = play(DIALLED, leg("customer", "ringing"), leg("customer", status))
    assert (change.call.status, change.effects) == (status, (Effect("announce", AGENT),))


def test_the_agent_leaving_before_the_dial_cancels_it() -> None:
    change = play(new_call(), leg("agent", "ringing"), AGENT_IN, leg("agent", "completed", 3))
    assert (change.call.status, change.call.dial, change.call.ended_by) == ("canceled", "canceled", "agent")
    assert owed(change.call) == frozenset()


def test_the_agent_leaving_while_it_rings_cancels_the_customers_leg() -> None:
    change = play(DIALLED, leg("customer", "ringing"), leg("agent", "completed", 3))
    assert change.effects == (Effect("hang_up", CUSTOMER),)
    assert change.call.status == "ringing"  # until Twilio says how that leg ended


def test_the_agent_leaving_during_the_request_hangs_up_whatever_it_made() -> None:
    gone = play(DIALLED, leg("agent", "completed", 3))
    assert gone.effects == ()
    assert play(gone.call, leg("customer", "queued")).effects == (Effect("hang_up", CUSTOMER),)


def test_a_second_customer_leg_is_a_stray_and_is_hung_up() -> None:
    change = play(DIALLED, leg("customer", "ringing"), Event("leg", 5, "stray", OTHER, status="ringing"))
    assert change.effects == (Effect("hang_up", OTHER),)


def test_a_leg_that_shows_up_after_the_call_was_given_up_is_hung_up() -> None:
    absent = play(DIALLED, Event("dial", 20, status="unknown"), Event("dial", 60, status="absent", reason="not placed"))
    assert (absent.call.status, kinds(absent)) == ("failed", ["announce"])
    late = play(absent.call, leg("customer", "ringing", 70))
    assert (late.call.status, late.effects) == ("failed", (Effect("hang_up", CUSTOMER),))


def test_a_rejected_dial_fails_the_call_with_its_reason() -> None:
    change = play(DIALLED, Event("dial", 3, status="rejected", reason="Twilio refused", rule="twilio-21211"))
    assert (change.call.status, change.call.reason, change.call.rule) == (
        "failed",
        "Twilio refused",
        "twilio-21211",
    )
    assert kinds(change) == ["announce"]


def test_an_unknown_dial_is_never_due_again() -> None:
    change = play(DIALLED, Event("dial", 3, status="unknown"), AGENT_IN)
    assert kinds(change) == []
    assert change.call.status == "dialing"


def test_a_hang_up_by_request_ends_every_live_leg() -> None:
    change = play(DIALLED, leg("customer", "in-progress"), Event("hang-up", 6, by="agent"))
    assert set(change.effects) == {Effect("hang_up", AGENT), Effect("hang_up", CUSTOMER)}


def test_a_refused_call_owes_nothing() -> None:
    refused = Event("refused", 0, "agent", AGENT, status="ringing", by="system", reason="no", rule="x")
    change = play(new_call(), refused, AGENT_IN)
    assert (change.call.status, change.effects, change.call.rule) == ("rejected", (), "x")


SIX = (
    AGENT_IN,
    leg("customer", "initiated", 2),
    leg("customer", "ringing", 3),
    leg("customer", "in-progress", 4),
    leg("customer", "completed", 9),
    leg("agent", "completed", 10),
)


def final(call: Call) -> Call:
    """What must not depend on the order: all but the order of the legs."""
    return replace(call, legs=tuple(sorted(call.legs, key=lambda one: one.call_sid)))


@pytest.mark.parametrize("missing", [None, 0, 1, 2, 3, 4, 5])
def test_every_order_of_the_six_usual_events_ends_the_same(missing: int | None) -> None:
    events = [event for index, event in enumerate(SIX) if index != missing]
    ends = {final(play(DIALLED, *order).call).__repr__() for order in permutations(events)}
    assert len(ends) == 1


@pytest.mark.parametrize("doubled", range(6))
def test_a_doubled_event_changes_nothing(doubled: int) -> None:
    once = final(play(DIALLED, *SIX).call)
    ends = {final(play(DIALLED, *order, SIX[doubled]).call).__repr__() for order in permutations(SIX)}
    assert ends == {repr(once)}


any_event = st.builds(
    Event,
    kind=st.sampled_from(
        [
            "leg",
            "join",
            "leave",
            "conference-start",
            "conference-end",
            "dial",
            "hang-up",
            "refused",
            "checked",
            "?",
        ]
    ),
    at=st.floats(0, 100),
    role=st.sampled_from(["agent", "customer", "stray", "", "supervisor"]),
    call_sid=st.sampled_from([AGENT, CUSTOMER, OTHER, ""]),
    status=st.sampled_from([*LEG_RANK, "sending", "unknown", "accepted", "rejected", "absent", "planned", "", "??"]),
    by=st.sampled_from(["agent", "customer", "system", ""]),
    reason=st.sampled_from(["", "because"]),
    conference_sid=st.sampled_from(["", "CF1", "CF2"]),
    duration=st.none() | st.integers(0, 9999),
)


@given(st.lists(any_event, max_size=25), st.sampled_from(["agent-joined", "requested"]))
def test_any_sequence_is_valid_never_goes_back_and_never_leaves_the_end(events: list[Event], when: str) -> None:
    call = new_call(dial_when=when)
    for event in events:
        after = apply(call, event).call
        assert STATUS_RANK[after.status] >= STATUS_RANK[call.status]
        if call.status in TERMINAL:
            assert after.status == call.status
        for old in call.legs:
            new = next(one for one in after.legs if one.call_sid == old.call_sid)
            assert LEG_RANK[new.status] >= LEG_RANK[old.status]
        assert (wait_seconds(after) is None) == after.settled
        call = after


@given(st.lists(any_event, max_size=25))
def test_the_same_event_again_changes_nothing_and_owes_nothing(events: list[Event]) -> None:
    for event in events:
        once = apply(new_call(), event)
        again = apply(once.call, event)
        assert (again.call, again.effects) == (once.call, ())


@given(st.lists(any_event, max_size=25))
def test_the_dial_becomes_due_at_most_once_unless_it_was_put_back(events: list[Event]) -> None:
    events = [event for event in events if not (event.kind == "dial" and event.status == "planned")]
    assert kinds(play(new_call(), *events)).count("dial") <= 1


twilio_event = st.builds(
    Event,
    kind=st.sampled_from(["leg", "join", "leave"]),
    at=st.integers(0, 20).map(float),
    role=st.just("customer"),
    call_sid=st.just(CUSTOMER),
    status=st.sampled_from(["queued", "initiated", "ringing", "in-progress"]),
    by=st.sampled_from(["customer", ""]),
)


@given(st.lists(twilio_event, max_size=8), st.randoms(), st.sampled_from(sorted(TERMINAL - {"rejected"})))
def test_whatever_the_order_the_end_is_the_same(events: list[Event], random: Random, status: str) -> None:
    events = [*events, leg("customer", status, 21), leg("agent", "completed", 22)]
    shuffled = list(events)
    random.shuffle(shuffled)
    assert final(play(DIALLED, *events).call) == final(play(DIALLED, *shuffled).call)
