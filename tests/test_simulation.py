"""`dialer simulate`: the same seed plays the same calls, and a broken protocol does not pass."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from dataclasses import fields
from typing import Any

import click
import pytest
from click.testing import CliRunner

from dialer import machine, simulation
from dialer.jobs import Worker
from dialer.simulation import BATCH, plans, play, read_faults, simulate, trace
from dialer.simulator.chaos import ALL_FAULTS, WorldFaults
from dialer.simulator.invariants import RULES, RULES_OF_ALL, check

INVARIANTS = {*RULES, *RULES_OF_ALL}


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
    assert one["calls"] == 60
    assert sum(one["outcomes"].values()) > 50  # some never reach Dialer, and some agents call twice
    assert one["invariants"] == dict.fromkeys(INVARIANTS, 0)
    assert set(one["faults"]) <= {field.name for field in fields(WorldFaults)}
    assert sum(one["faults"].values()) > 0


def test_another_seed_plays_other_calls() -> None:
    one, two = (simulated("--calls", "40", "--seed", seed) for seed in ("1", "2"))
    assert one["outcomes"] != two["outcomes"]
    assert one["faults"] == two["faults"] == {}


def test_more_calls_than_one_world_holds_are_all_played(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(simulation, "BATCH", 7)
    done: list[int] = []
    assert sum(play(17, 1, WorldFaults(), done.append).outcomes.values()) == 17
    assert done == [7, 7, 3]


def test_a_person_reads_outcomes_and_what_holds() -> None:
    result = CliRunner().invoke(simulate, ["--calls", "20", "--seed", "1"])
    assert result.exit_code == 0
    assert all(f"{name:22} holds" in result.stdout for name in INVARIANTS)
    assert "seed 1" in result.stdout.splitlines()[-1]


def test_every_fault_there_is_is_among_all_faults() -> None:
    assert all(getattr(ALL_FAULTS, field.name) > 0 for field in fields(WorldFaults))


def test_a_breach_is_told_and_its_history_printed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_must_end", lambda call, leg: False)
    result = CliRunner().invoke(simulate, ["--calls", "30", "--seed", "1", "--trace"])
    assert result.exit_code == 1
    assert "BROKEN" in result.stdout
    replay = re.search(r"^replay: dialer simulate (.*)$", result.stdout, re.MULTILINE)
    assert replay
    history = result.stdout.partition("calls per second)\n")[2]
    assert "BROKEN nobody alone" in history.splitlines()[-1]
    again = CliRunner().invoke(simulate, replay[1].split())
    assert again.stdout == history


def test_the_history_of_a_call_reads_in_the_order_of_time() -> None:
    (plan,) = plans(20, 5, ALL_FAULTS)
    lines = trace(plan, "call_")
    assert lines and lines[0].startswith("call_") and lines[-1] == "every promise held"
    times = [float(line.split()[0]) for line in lines if re.match(r" *[+-][0-9]", line)]
    assert times == sorted(times)
    told = "\n".join(lines)
    for word in ("POST /v1/voice/twiml", "stores event call-started", "queues job", "REST", "call-ended", "settled"):
        assert word in told


def test_a_call_that_is_not_there_has_no_history() -> None:
    result = CliRunner().invoke(simulate, ["--calls", "3", "--trace", "call_x"])
    assert result.exit_code == 1
    assert "no call of this run starts with call_x" in result.stderr


def test_any_number_of_processes_with_any_hash_seed_plays_the_same() -> None:
    found = []
    for processes, hash_seed in (("1", "1"), ("2", "2")):
        arguments = ["simulate", "--calls", str(BATCH + 20), "--seed", "4", "--faults", "all", "--json"]
        done = subprocess.run(
            [sys.executable, "-m", "dialer", *arguments, "--processes", processes],
            env={**os.environ, "PYTHONHASHSEED": hash_seed},
            capture_output=True,
            text=True,
        )
        found.append(json.loads(done.stdout))
        del found[-1]["calls_per_second"]
    assert found[0] == found[1]
    assert found[0]["calls"] == BATCH + 20


def test_one_world_of_a_run_is_played_as_it_was_in_the_run() -> None:
    whole = play(BATCH + 10, 6, ALL_FAULTS)
    parts = [play(BATCH + 10, 6, ALL_FAULTS, world=number) for number in (0, 1)]
    assert parts[0].outcomes + parts[1].outcomes == whole.outcomes
    assert parts[0].faults + parts[1].faults == whole.faults


@pytest.mark.parametrize(
    ("text", "faults"),
    [
        ("none", WorldFaults()),
        ("all", ALL_FAULTS),
        ("webhook_lost=0.5", WorldFaults(webhook_lost=0.5)),
        ("rest_429=1, webhook_late=0", WorldFaults(rest_429=1.0)),
    ],
)
def test_faults_are_read(text: str, faults: WorldFaults) -> None:
    assert read_faults(text) == faults


@pytest.mark.parametrize("text", ["", "x", "webhook_lost", "webhook_lost=", "webhook_lost=2", "x=0.5", "rest_429=nan"])
def test_faults_that_are_none_are_refused(text: str) -> None:
    with pytest.raises(click.BadParameter):
        read_faults(text)


def answered_with_the_dispatcher_down(stage: Any, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The agent leaves while it rings, nobody cancels for 20 s, the customer answers; what is found broken."""
    talker = stage.agent_dials("+14155550103")
    with monkeypatch.context() as down:
        down.setattr(Worker, "claim", lambda self, plugin, limit: [])
        talker.hangs_up()
        stage.phone().answers()
        stage.lasts(20)
    stage.world.settle()
    return [breach for found in check(stage.world.record()).values() for breach in found]


def test_a_customer_let_in_after_the_agent_left_is_noticed(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dialer.voice.agent_gone", lambda call: False)
    (breach,) = answered_with_the_dispatcher_down(stage, monkeypatch)
    assert "the customer was in the conference alone for 20" in breach


def test_a_customer_who_is_sent_off_is_not(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    assert answered_with_the_dispatcher_down(stage, monkeypatch) == []
