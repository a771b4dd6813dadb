"""The stage on which the stories of calls are played: the shipped application and the simulated network."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, settings

from dialer.calls import Call
from dialer.records import find_call
from dialer.simulator import AgentPlan, Knobs
from dialer.simulator import Call as NetworkLeg
from dialer.simulator.chaos import WorldFaults
from dialer.simulator.invariants import check
from dialer.simulator.world import FAST, Agent, World
from tests.conformance import every_answer_conforms

# How long an example takes says nothing on a machine that others use too.
settings.register_profile("dialer", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("dialer")


@pytest.fixture(autouse=True, scope="session")
def _answers_are_as_described() -> Iterator[None]:
    with every_answer_conforms():
        yield


ANSWERS, BUSY, NEVER, UNREACHABLE, VOICEMAIL, HANGS_UP = (f"+1415555010{digit}" for digit in range(1, 7))
REFUSED_BY_TWILIO, SLOW = "+14155550107", "+14155550108"


@dataclass
class Phone:
    """The customer's end of one call."""

    stage: Stage
    leg: NetworkLeg

    def answers(self) -> None:
        self.stage.world.network.pick_up(self.leg.sid)
        self.stage.world.run(0.3)

    def hangs_up(self) -> None:
        self.stage.world.network.hang_up(self.leg.sid)
        self.stage.world.run(0.3)


@dataclass
class Talker:
    """The agent's end of one call."""

    stage: Stage
    leg: NetworkLeg

    def hangs_up(self) -> None:
        self.stage.world.network.hang_up(self.leg.sid)
        self.stage.world.run(0.3)

    @property
    def heard(self) -> list[str]:
        """The sentences that were spoken to this leg."""
        return self.stage.heard(self.leg)

    @property
    def call(self) -> Call:
        """Dialer's record of the call."""
        with self.stage.world.dialer.store.read() as tx:
            call = find_call(tx, "call_of_leg", call_sid=self.leg.sid, account_sid=self.stage.world.account_sid)
        assert call is not None
        return call

    def rows(self, statement: str, **values: Any) -> list[dict[str, Any]]:
        """Rows on record of this call."""
        call = self.call
        with self.stage.world.dialer.store.read() as tx:
            found = tx.all(statement, call_id=call.id, workspace=call.workspace, **values)
        return [dict(row) for row in found]

    def events(self) -> list[str]:
        return [row["name"] for row in self.rows("events_of_call", after=0)]


class Stage:
    """A world with words for what people do in it."""

    def __init__(self, world: World) -> None:
        self.world = world

    def agent_dials(self, to: str, agent: Agent | None = None, plan: AgentPlan | None = None, **params: str) -> Talker:
        """An agent's browser connects, and a second goes by."""
        leg = self.world.dial(agent or self.world.agents[0], to, plan, **params)
        self.world.run(1.0)
        return Talker(self, leg)

    def phone(self, number: int = -1) -> Phone:
        """The customer's phone: the last one that was dialled, or the n-th."""
        return Phone(self, self.dialled()[number])

    def dialled(self) -> list[NetworkLeg]:
        return [leg for leg in self.world.network.calls.values() if leg.direction == "outbound-api"]

    def heard(self, leg: NetworkLeg) -> list[str]:
        return [e.detail["text"] for e in self.world.network.log if e.kind == "said" and e.call_sid == leg.sid]

    def lasts(self, seconds: float) -> None:
        self.world.run(seconds)

    def ends(self) -> None:
        """Play to the end, and find every invariant kept."""
        self.world.settle()
        assert {name: found for name, found in check(self.world.record()).items() if found} == {}


@pytest.fixture
def make_stage(tmp_path: Path) -> Iterator[Any]:
    """Make a stage: `make_stage(plugins=..., faults=..., knobs=..., calls=..., workspaces=..., pace=...)`."""
    stages: list[Stage] = []

    def make(**options: Any) -> Stage:
        folder = tmp_path / f"world{len(stages)}"
        folder.mkdir()
        options["knobs"] = Knobs(cps=FAST, **options.pop("knobs", {}))
        options["faults"] = WorldFaults(**options.pop("faults", {}))
        stages.append(Stage(World(folder, **options)))
        return stages[-1]

    yield make
    for stage in stages:
        stage.world.dialer.store.close()


@pytest.fixture
def stage(make_stage: Any) -> Stage:
    made: Stage = make_stage()
    return made


def pytest_terminal_summary(terminalreporter: Any) -> None:
    """Print what was measured: each figure that a test recorded by `record_property("figure", ...)`."""
    reports = [report for kind in ("passed", "failed") for report in terminalreporter.stats.get(kind, [])]
    figures = [value for report in reports for name, value in report.user_properties if name == "figure"]
    if figures:
        terminalreporter.section("figures")
        for figure in figures:
            terminalreporter.write_line(figure)
