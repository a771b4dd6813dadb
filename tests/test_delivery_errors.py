"""A plugin that is told something may say when to tell it again, or that it will never work; and read what happened."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any

import pytest

from dialer import Call, CallEvent, GiveUp, Host, RetryLater, deliveries, hookimpl
from dialer.simulator.world import World
from tests.virtual_time import play

REFUSED, ANSWERS = "12345", "+14155550101"


@dataclass(eq=False)
class Picky:
    """Raises what it is given, every time."""

    errors: list[Exception]
    told_at: list[float] = field(default_factory=list)
    host: Host = field(default_factory=Host)

    @hookimpl
    def call_started(self, call: Call) -> None:
        self.told_at.append(self.host.clock())
        if self.errors:
            raise self.errors.pop(0)


def rows(world: World, status: str = "") -> list[dict[str, Any]]:
    values: dict[str, Any] = {"plugin": "", "workspace": "", "since": 0.0, "limit": 100, "status": status}
    with world.dialer.store.read() as tx:
        return [dict(row) for row in tx.all("all_deliveries", **values)]


def breakers(world: World) -> list[Any]:
    with world.dialer.store.read() as tx:
        return tx.all("all_breakers")


def test_what_a_plugin_asks_for_is_waited_for(make_stage: Any) -> None:
    plugin = Picky([RetryLater(90, "the CRM is busy")])
    stage = make_stage(plugins=[plugin])
    stage.agent_dials(REFUSED)
    stage.lasts(89)
    (row,) = rows(stage.world)
    assert row["result"] == "put off: plugin picky: call_started: RetryLater: the CRM is busy"
    assert len(plugin.told_at) == 1
    stage.lasts(10)
    assert plugin.told_at[1] - plugin.told_at[0] == pytest.approx(90, abs=2)


@pytest.mark.parametrize(("asked", "waited"), [(0.0, 5.0), (1e12, deliveries.LONGEST_DELAY), (float("nan"), 5.0)])
def test_never_sooner_than_the_schedule_and_never_later_than_a_day(
    make_stage: Any, asked: float, waited: float
) -> None:
    plugin = Picky([RetryLater(asked, "busy")])
    stage = make_stage(plugins=[plugin])
    stage.agent_dials(REFUSED)
    stage.lasts(0.5)
    (row,) = rows(stage.world)
    assert row["run_at"] - plugin.told_at[0] == pytest.approx(waited, rel=0.21)


def test_what_will_never_work_is_dead_at_once_and_can_be_replayed(make_stage: Any) -> None:
    plugin = Picky([GiveUp("the token is wrong")])
    stage = make_stage(plugins=[plugin])
    stage.agent_dials(REFUSED)
    stage.lasts(3600)
    (row,) = rows(stage.world, "dead")
    assert row["result"] == "given up: plugin picky: call_started: GiveUp: the token is wrong"
    assert len(plugin.told_at) == 1
    deliveries.replay(stage.world.dialer.store, stage.world.network.now, row["id"])
    stage.lasts(1)
    assert rows(stage.world, "dead") == [] and len(plugin.told_at) == 2


@pytest.mark.parametrize("error", [RetryLater(0, "one of three is down"), GiveUp("no such record")])
def test_one_that_knows_what_is_wrong_needs_no_rest(make_stage: Any, error: Exception) -> None:
    plugin = Picky([error] * deliveries.FAILURES)
    stage = make_stage(plugins=[plugin])
    for _ in range(deliveries.FAILURES):
        stage.agent_dials(REFUSED)
    stage.lasts(0.5)
    assert breakers(stage.world) == []


def test_a_plugin_that_is_never_content_ends_on_the_list_of_dead_letters(make_stage: Any) -> None:
    plugin = Picky([RetryLater(1, "busy") for _ in range(50)])
    stage = make_stage(plugins=[plugin])
    stage.agent_dials(REFUSED)
    play(stage.world, 40 * 3600)
    assert [row["status"] for row in rows(stage.world, "dead")] == ["dead"]
    assert len(plugin.told_at) == len(deliveries.RETRIES) + 1


def test_a_plugin_reads_what_happened_to_a_call_of_its_workspace(make_stage: Any) -> None:
    plugin = Picky([])
    stage = make_stage(plugins=[plugin])
    agent = stage.agent_dials(ANSWERS)
    stage.phone().answers()
    events = plugin.host.events(agent.call)
    assert events[0].name == "call-started" and isinstance(events[0], CallEvent)
    assert events[0].detail["To"] == ANSWERS
    assert len(events) == len(agent.rows("events_of_call", after=0))
    assert plugin.host.events(replace(agent.call, workspace="other")) == []
