"""Plugins switched on and off while real processes are under load, and bad ones beside a good one."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from soak.load import Plan
from soak.neighbours import BAD, refused, run_beside
from soak.plugins import IN_TIME, run_toggles
from soak.toggles import Asked, Reign
from soak.torn import Sight, Stamps, follow, late_uses, look_at, never_asked_for

SEED = 1
ASKED: Asked = (("beta", 3), ("alpha", 2))


@pytest.mark.timeout(240)
def test_no_request_is_torn_while_plugins_are_toggled(
    tmp_path: Path, record_property: Callable[[str, object], None]
) -> None:
    verdict = run_toggles(tmp_path, Plan(60.0, 14.0, SEED), changes=10)
    verdict.breaches.pop(IN_TIME)  # the command's to judge: this machine may be busy
    assert not any(verdict.breaches.values()), verdict.breaches
    last = verdict.follows[-1].reign
    assert len({one.pid for one in verdict.follows if one.reign == last}) == 3
    assert verdict.settled
    assert verdict.truth.attempts.not_2xx == 0
    assert len(verdict.changes) >= 10 and verdict.requests > 20
    kinds = {kind for _, kind in verdict.changes}
    assert kinds >= {"enable", "disable", "broken", "rewrite"}, kinds
    record_property("figure", verdict.figure())


@pytest.mark.timeout(240)
def test_bad_plugins_cost_nobody_a_call(tmp_path: Path, record_property: Callable[[str, object], None]) -> None:
    verdict = run_beside(tmp_path, Plan(12.0, 8.0, SEED))
    assert not any(verdict.breaches.values()), verdict.breaches
    assert verdict.settled
    assert verdict.truth.attempts.not_2xx == 0
    assert {*BAD} <= {*verdict.named}
    record_property("figure", verdict.figure())


def request(**changes: Any) -> tuple[Stamps, dict[str, Any], list[dict[str, Any]], set[str]]:
    """What is known of one request that saw one set, but for some of its answers: by hook and plugin."""
    stamps = Stamps(builds={"7_1": (10.0, ASKED), "7_2": (20.0, ASKED)})
    answers: dict[str, str] = {
        **{
            f"validate_call {name}": json.dumps({"build": "7_1", "generation": number, "pid": 7, "at": 11.0})
            for name, number in ASKED
        },
        "name_conference beta": "7_1-call_1",
        **{f"dial_options {name}": "call_reason=7_1" for name, _ in ASKED},
        **{f"conference_options {name}": f"max_participants={10 + number}" for name, number in ASKED},
    }
    answers |= changes.pop("answers", {})
    verdicts = [
        {"hook": hook, "plugin": plugin, "answer": answer, "error": ""}
        for (hook, plugin), answer in ((name.split(), answer) for name, answer in answers.items())
        if answer
    ]
    call = {"id": "call_1", "plugins": "beta 1, alpha 1"} | changes.pop("call", {})
    return stamps, call, verdicts, changes.pop("owed", {"alpha", "beta"})


def stamp(build: str, generation: int) -> str:
    return json.dumps({"build": build, "generation": generation, "pid": 7, "at": 11.0})


def test_a_request_with_one_set_is_whole() -> None:
    stamps, call, verdicts, owed = request()
    assert [*look_at(stamps, call, verdicts, owed)] == []
    assert {sight.build for sight in stamps.sights} == {"7_1"}


@pytest.mark.parametrize(
    "changes",
    [
        {"answers": {"validate_call alpha": stamp("7_2", 2)}},
        {"answers": {"validate_call alpha": stamp("7_1", 1)}},
        {"answers": {"validate_call alpha": ""}},
        {"answers": {"name_conference beta": "7_2-call_1"}},
        {"answers": {"name_conference beta": "", "name_conference alpha": "7_1-call_1"}},
        {"answers": {"dial_options alpha": "call_reason=7_2"}},
        {"answers": {"dial_options alpha": ""}},
        {"answers": {"conference_options beta": "max_participants=12"}},
        {"answers": {"conference_options gamma": "max_participants=12"}},
        {"call": {"plugins": "alpha 1, beta 1"}},
        {"owed": {"alpha"}},
    ],
    ids=str,
)
def test_a_torn_request_is_seen(changes: dict[str, Any]) -> None:
    stamps, call, verdicts, owed = request(**changes)
    assert [*look_at(stamps, call, verdicts, owed)]


def test_a_plugin_that_failed_is_seen() -> None:
    stamps, call, verdicts, owed = request()
    verdicts[-1]["error"] = "Overrun"
    assert "Overrun" in next(look_at(stamps, call, verdicts, owed))


REIGNS = [Reign(0.0, (("alpha", 1),), "start"), Reign(9.0, ASKED, "rewrite"), Reign(15.0, (("beta", 3),), "disable")]


def test_a_set_that_is_used_for_too_long_is_seen() -> None:
    stamps = Stamps(builds={"7_1": (10.0, ASKED)}, sights=[Sight(14.0, 7, "7_1"), Sight(17.5, 7, "7_1")])
    assert [(sight.at, late) for sight, late in late_uses(stamps, REIGNS)] == [(17.5, 2.5)]


def test_a_process_that_does_not_follow_is_seen() -> None:
    stamps = Stamps(builds={"7_1": (10.0, ASKED), "7_2": (15.5, (("beta", 3),)), "8_1": (9.25, ASKED)})
    found, missed = follow(stamps, REIGNS, [7, 8])
    assert [(one.pid, one.seconds) for one in found] == [(7, 1.0), (8, 0.25), (7, 0.5)]
    assert [line.split()[1] for line in missed] == ["8"]


def test_a_set_that_nobody_asked_for_is_seen() -> None:
    stamps = Stamps(builds={"7_1": (10.0, (("beta", 2), ("alpha", 3)))}, sights=[Sight(10.5, 7, "7_1")])
    assert never_asked_for(stamps, REIGNS)


@pytest.mark.parametrize(
    ("to", "status", "rule", "right"),
    [
        ("+14155550107", "rejected", "plugin-error:raises", True),
        ("+14155550107", "completed", "", False),
        ("+14155550101", "rejected", "plugin-error:raises", False),
        ("+14155550101", "rejected", "plugin-error:exits", False),
        ("+14155550101", "completed", "", True),
    ],
)
def test_a_call_that_is_refused_without_need_is_seen(to: str, status: str, rule: str, right: bool) -> None:
    row: Mapping[str, Any] = {"id": "call_1", "to_number": to, "status": status, "rule": rule}
    assert (not [*refused([row])]) == right
