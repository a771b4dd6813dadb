"""`dialer simulate`: the same seed plays the same calls, and a broken protocol does not pass."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import fields
from typing import Any

import click
import pytest
from click.testing import CliRunner

from dialer import dialling, machine, simulation
from dialer.calls import LEG_RANK, Call, Effect, Leg
from dialer.jobs import Worker
from dialer.simulation import ALL_FAULTS, play, read_faults, simulate
from dialer.simulator import Faults
from dialer.simulator.invariants import RULES, check, longest_alone

INVARIANTS = {*RULES, "events stored once"}


def simulated(*arguments: str) -> dict[str, Any]:
    result = CliRunner().invoke(simulate, [*arguments, "--json"])
    assert result.exit_code == 0, result.output
    found: dict[str, Any] = json.loads(result.stdout)
    return found


def test_the_same_seed_gives_the_same_answer_but_for_its_speed() -> None:
    one, two = (simulated("--calls", "60", "--seed", "3", "--faults", "all") for _ in range(2))
    assert one.pop("calls_per_second") > 0
    assert two.pop("calls_per_second") > 0
    assert one == two
    assert one["calls"] == sum(one["outcomes"].values()) == 60
    assert one["invariants"] == dict.fromkeys(INVARIANTS, 0)
    assert set(one["faults"]) <= {field.name for field in fields(Faults)}
    assert sum(one["faults"].values()) > 0


def test_another_seed_plays_other_calls() -> None:
    one, two = (simulated("--calls", "40", "--seed", seed) for seed in ("1", "2"))
    assert one["outcomes"] != two["outcomes"]
    assert one["faults"] == two["faults"] == {}


def test_more_calls_than_one_world_holds_are_all_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "BATCH", 7)
    done: list[int] = []
    assert sum(play(17, 1, Faults(), done.append).outcomes.values()) == 17
    assert done == [7, 7, 3]


def test_a_person_reads_outcomes_and_what_holds() -> None:
    result = CliRunner().invoke(simulate, ["--calls", "20", "--seed", "1"])
    assert result.exit_code == 0
    assert all(f"{name:22} holds" in result.stdout for name in INVARIANTS)
    assert "seed 1" in result.stdout.splitlines()[-1]


def test_a_breach_is_told_and_fails(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_must_end", lambda call, leg: False)
    result = CliRunner().invoke(simulate, ["--calls", "30", "--seed", "1"])
    assert result.exit_code == 1
    assert "BROKEN" in result.stdout


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("none", Faults()),
        ("all", ALL_FAULTS),
        ("webhook_lost=0.5", Faults(webhook_lost=0.5)),
        ("rest_429=1, webhook_late=0", Faults(rest_429=1.0)),
    ],
)
def test_faults_are_read(text: str, faults: Faults) -> None:
    assert read_faults(text) == faults


@pytest.mark.parametrize("text", ["", "x", "webhook_lost", "webhook_lost=", "webhook_lost=2", "x=0.5", "rest_429=nan"])
def test_faults_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        read_faults(text)


def sends_again(monkeypatch: pytest.MonkeyPatch) -> None:
    """A request without an answer is simply repeated."""
    send = dialling.send

    def twice(*args: Any) -> dialling.Outcome:
        outcome = send(*args)
        return send(*args) if outcome.state == "unknown" else outcome

    monkeypatch.setattr(dialling, "send", twice)


def never_cancels(monkeypatch: pytest.MonkeyPatch) -> None:
    """An agent who leaves leaves the customer's leg as it is."""

    def only_strays(call: Call, leg: Leg) -> bool:
        return bool(call.end_requested_by) or leg.role == "stray"

    monkeypatch.setattr(machine, "_must_end", only_strays)


def never_asks(monkeypatch: pytest.MonkeyPatch) -> None:
    """No sweep: a callback that is lost is lost."""
    monkeypatch.setattr(Worker, "sweep", lambda self, limit=100: 0)


def leaves_the_agent(monkeypatch: pytest.MonkeyPatch) -> None:
    """A customer who is gone is nothing that the agent's leg is told of."""
    monkeypatch.setattr(machine, "_part_with_agent", lambda call, agent: Effect("nothing"))


def goes_back(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever comes last counts."""
    monkeypatch.setattr(machine, "_higher", lambda old, new: new if new in LEG_RANK else old)


def gives_up_at_once(monkeypatch: pytest.MonkeyPatch) -> None:
    """A dial without an answer is taken for one that made nothing."""
    monkeypatch.setattr(dialling, "outcome_of", lambda error: dialling.Outcome("rejected", rule="x", reason="x"))


MUTANTS = [
    (sends_again, "dialled at most once"),
    (never_cancels, "nobody alone"),
    (never_asks, "every call ends"),
    (leaves_the_agent, "nobody alone"),
    (goes_back, "every call ends"),
    (gives_up_at_once, "recorded as it was"),
]


@pytest.mark.parametrize(("mutate", "broken"), MUTANTS)
def test_a_broken_protocol_is_noticed(
    monkeypatch: pytest.MonkeyPatch, mutate: Callable[[pytest.MonkeyPatch], None], broken: str
) -> None:
    mutate(monkeypatch)
    for seed in range(1, 6):
        if play(80, seed, ALL_FAULTS).breaches[broken]:
            return
    pytest.fail("400 calls, and nothing was noticed")


def answered_with_the_dispatcher_down(stage: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The agent leaves while it rings, nobody cancels for 20 s, the customer answers; what is found broken."""
    talker = stage.agent_dials("+14155550103")
    with monkeypatch.context() as down:
        down.setattr(Worker, "claim", lambda self, plugin, limit: [])
        talker.hangs_up()
        stage.phone().answers()
        stage.lasts(20)
    stage.world.settle()
    return [breach for found in check(stage.world).values() for breach in found]


def test_a_customer_let_in_after_the_agent_left_is_noticed(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dialer.voice.agent_gone", lambda call: False)
    (breach,) = answered_with_the_dispatcher_down(stage, monkeypatch)
    assert "the customer was in the conference alone for 20" in breach


def test_a_customer_who_is_sent_off_is_not(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answered_with_the_dispatcher_down(stage, monkeypatch) == []


@pytest.mark.parametrize(
    ("inside", "company", "alone"),
    [
        ([], [], 0.0),
        ([(0.0, 9.0)], [], 9.0),
        ([(0.0, 9.0)], [(0.0, 9.0)], 0.0),
        ([(0.0, 9.0)], [(2.0, 5.0)], 4.0),
        ([(0.0, 9.0)], [(5.0, 7.0), (0.0, 4.0)], 2.0),
        ([(0.0, 2.0), (5.0, 9.0)], [(1.0, 6.0)], 3.0),
        ([(3.0, 4.0)], [(0.0, 3.0), (4.0, 5.0)], 1.0),
    ],
)
def test_the_longest_time_alone_is_measured(
    inside: list[tuple[float, float]], company: list[tuple[float, float]], alone: float
) -> None:
    assert longest_alone(inside, company) == alone
