"""The checker on records that are made by hand: it sees what is wrong, and forgives only what it says it forgives."""

from __future__ import annotations

from collections import defaultdict
from typing import Any

import pytest

from dialer.simulator.invariants import (
    NetworkLeg,
    Overdue,
    Record,
    Story,
    Trouble,
    alone,
    grace,
    kept_in_time,
    length,
    never_goes_back,
    owed_to_plugins,
    tells_the_truth,
)

Intervals = list[tuple[float, float]]


def recorded(*troubles: Trouble, overdue: tuple[Overdue, ...] = ()) -> Record:
    return Record({}, [], None, [], {}, troubles, overdue=overdue)  # type: ignore[arg-type]  # no store is asked here


def story(status: str = "completed", rule: str = "", customer: str = "completed") -> Story:
    row: dict[str, Any] = {"id": "call_1", "intent": "di_1", "conference_sid": "CF1", "status": status, "rule": rule}
    agent = NetworkLeg("CA1", "completed", "alice", "", 100.0, 160.0)
    customers = [NetworkLeg("CA2", customer, "", "di_1", 102.0, 150.0)] if customer else []
    return Story(row, ["di_1"], agent=agent, customers=customers, inside=defaultdict(list))


@pytest.mark.parametrize(
    ("inside", "company", "stretches"),
    [
        ([], [], []),
        ([(0.0, 9.0)], [], [(0.0, 9.0)]),
        ([(0.0, 9.0)], [(0.0, 9.0)], []),
        ([(0.0, 9.0)], [(2.0, 5.0)], [(0.0, 2.0), (5.0, 9.0)]),
        ([(0.0, 9.0)], [(5.0, 7.0), (0.0, 4.0)], [(4.0, 5.0), (7.0, 9.0)]),
        ([(0.0, 2.0), (5.0, 9.0)], [(1.0, 6.0)], [(0.0, 1.0), (6.0, 9.0)]),
        ([(3.0, 4.0)], [(0.0, 3.0), (4.0, 5.0)], [(3.0, 4.0)]),
    ],
)
def test_the_stretches_alone_are_found(inside: Intervals, company: Intervals, stretches: Intervals) -> None:
    assert alone(inside, company) == stretches


@pytest.mark.parametrize(
    ("intervals", "seconds"),
    [([], 0.0), ([(1.0, 3.0)], 2.0), ([(1.0, 3.0), (2.0, 5.0)], 4.0), ([(1.0, 9.0), (2.0, 3.0), (10.0, 11.0)], 9.0)],
)
def test_overlapping_times_count_once(intervals: Intervals, seconds: float) -> None:
    assert length(intervals) == seconds


@pytest.mark.parametrize(
    ("trouble", "seconds"),
    [
        (None, 5.0),
        (Trouble("lost", 120.0, 120.0, "CA2"), 10.0),
        (Trouble("lost", 120.0, 120.0, "di_1"), 10.0),
        (Trouble("lost", 120.0, 120.0, "CF1"), 10.0),
        (Trouble("lost", 120.0, 120.0, "CA9"), 5.0),
        (Trouble("lost", 99.0, 99.0, "CA2"), 5.0),
        (Trouble("lost", 171.0, 171.0, "CA2"), 5.0),
        (Trouble("clock", 120.0, 120.0), 10.0),
        (Trouble("down", 120.0, 124.0), 10.0),
        (Trouble("down", 148.0, 152.0), 12.0),
        (Trouble("down", 151.0, 190.0), 29.0),
        (Trouble("down", 80.0, 99.0), 5.0),
        (Trouble("waiting", 152.0, 162.0, "CA1"), 20.0),
        (Trouble("waiting", 152.0, 162.0, "CA9"), 5.0),
        (Trouble("waiting", 152.0, 156.0), 9.0),
    ],
)
def test_the_grace_grows_only_by_what_touched_this_call(trouble: Trouble | None, seconds: float) -> None:
    record = recorded(*([trouble] if trouble else []))
    assert grace(record, story(), 150.0, 170.0) == seconds


@pytest.mark.parametrize(
    ("told", "trouble", "broken"),
    [
        (story(), None, False),
        (story("busy"), None, True),
        (story("completed", customer=""), None, True),
        (story("failed", customer=""), None, False),
        (story("failed", "not-placed"), None, True),
        (story("failed", "not-placed"), Trouble("late", 60.0, 102.0, "di_1"), False),
        (story("failed", "not-placed"), Trouble("late", 60.0, 102.0, "di_2"), True),
        (story("failed", "refused"), Trouble("late", 60.0, 102.0, "di_1"), True),
    ],
)
def test_a_wrong_final_status_is_seen(told: Story, trouble: Trouble | None, broken: bool) -> None:
    assert bool([*tells_the_truth(recorded(*([trouble] if trouble else [])), told)]) is broken


@pytest.mark.parametrize(("rivals", "broken"), [(0, True), (1, False)])
def test_a_leg_that_may_be_anybodys_is_forgiven(rivals: int, broken: bool) -> None:
    told = story("failed", "not-placed", "busy")
    told.rivals = rivals
    assert bool([*tells_the_truth(recorded(), told)]) is broken


@pytest.mark.parametrize(
    ("seconds", "trouble", "broken"),
    [
        (1.0, None, False),
        (3.0, None, True),
        (3.0, Trouble("down", 190.0, 199.0), False),
        (3.0, Trouble("down", 150.0, 160.0), True),
        (3000.0, Trouble("clock", 199.0, 199.0), False),
    ],
)
def test_a_call_that_nobody_looks_after_is_seen(seconds: float, trouble: Trouble | None, broken: bool) -> None:
    record = recorded(*([trouble] if trouble else []), overdue=(Overdue("call_1", 200.0, seconds),))
    assert bool([*kept_in_time(record)]) is broken


def event(name: str, status: str = "", call_sid: str = "CA1") -> dict[str, Any]:
    return {"name": name, "status": status, "call_sid": call_sid}


def test_plugins_are_owed_news_and_no_repetition() -> None:
    events = [
        event("call-started", "ringing"),
        event("participant-join", "in-progress"),
        event("dial-sending", "sending", ""),
        event("leg-initiated", "initiated", "CA2"),
        event("leg-queued", "queued", "CA2"),
        event("customer-answered", "in-progress", "CA2"),
        event("leg-in-progress", "in-progress", "CA2"),
        event("leg-completed", "completed", "CA2"),
    ]
    assert [(hook, one["name"]) for hook, one in owed_to_plugins(events)] == [
        ("call_started", "call-started"),
        ("conference_event", "participant-join"),
        ("call_status", "leg-initiated"),
        ("call_status", "customer-answered"),
        ("call_status", "leg-completed"),
    ]


@pytest.mark.parametrize(
    ("statuses", "broken"),
    [
        (["requested", "agent-joined", "dialing", "dialing", "ringing", "in-progress", "completed"], False),
        (["queued", "initiated", "busy", "busy"], False),
        (["in-progress", "ringing"], True),
        (["completed", "busy"], True),
        (["failed", "in-progress"], True),
    ],
)
def test_a_status_that_goes_back_is_seen(statuses: list[str], broken: bool) -> None:
    record = recorded()
    record.statuses = {"call_1": statuses}
    assert bool([*never_goes_back(record)]) is broken
