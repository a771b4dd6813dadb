"""Bad plugins beside a good one, all on at once and under load: whose calls end right, who is told, who is named."""

from __future__ import annotations

import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from dialer import demo
from dialer.hookspecs import TOLD
from dialer.simulator.invariants import Record, Told, Trouble, check
from soak.bad_plugins.exits import UPGRADED
from soak.bad_plugins.raises import UNCHECKED
from soak.chaos import PATIENCE, Sampling, Verdict
from soak.deployment import Deployment, signal_safely
from soak.judge import Truth, read_truth
from soak.load import Plan
from soak.processes import Starvation
from soak.stack import AGENTS, PYTHON, What, wait_until
from soak.toggles import install
from soak.truth import calls, jobs, told

BAD = ("raises", "sleeps", "burns", "floods", "exits")
GOOD = "recorder"
#: Seconds for a start that a plugin breaks.
START = 60.0


@dataclass(slots=True)
class Beside(Verdict):
    """What came of a run beside bad plugins."""

    named: tuple[str, ...] = ()
    told: int = 0

    def figure(self) -> str:
        parts = [self.loaded(), *self.struck(), self.judged(), f"{GOOD} told {self.told:,} times", self.timed()]
        return f"{self.name}: {', '.join(parts)}, named: {', '.join(self.named)}, seed {self.plan.seed}"


class Broken(Deployment):
    """A Dialer that has been started twice before: with `exits` as it was, and with its upgrade, which ends it."""

    def start(self, what: What, env: Mapping[str, str] | None = None) -> None:
        if what == "web":
            code = "from dialer.starting import start; start()"  # as `dialer run` begins
            self._run((sys.executable, "-P", "-c", code), expected=0)
            (self.folder / UPGRADED).touch()
            self._run(self._command("web", changed=False), expected=1)
        super().start(what, env)

    def _run(self, command: tuple[str, ...], expected: int) -> None:
        done = subprocess.run(
            command, env=self.environ, cwd=self.folder, capture_output=True, timeout=START, check=False, text=True
        )
        assert done.returncode == expected, f"{command} ended with {done.returncode}: {done.stderr}"

    def told_all(self) -> bool:
        """Whether nothing is owed to the good plugin any more."""
        with self.store().read() as tx:
            pending = {row["plugin"] for row in tx.all("count_pending_jobs", now=0.0)}
            return GOOD not in pending | {row["plugin"] for row in tx.all("count_waiting_jobs")}


def run_beside(folder: Path, plan: Plan) -> Beside:
    """Start all with every plugin on, play the load, wait until every call is settled, and judge."""
    install(folder / "site", [(name, f"soak.bad_plugins.{name}:{name.capitalize()}") for name in BAD])
    deployment = Broken(folder, load=plan, plugins=", ".join((*BAD, GOOD)))
    # By the network's process alone: those of Dialer wait for a processor as long as a plugin of theirs computes.
    hungry = Starvation(lambda: deployment.pids("simulator"))
    with deployment, Sampling(deployment) as samples, hungry:
        begun = time.time()
        deployment.begin()
        played = deployment.wait_played(plan.seconds + PATIENCE)
        settled = played and deployment.wait_settled(PATIENCE) and wait_until(deployment.told_all, PATIENCE, look=0.2)
        named, listed = name_bad(deployment)
        deployment.stop("simulator")
        truth = read_truth(deployment.rows())
        breaches = judge_beside(deployment, truth, [Trouble("down", *spell) for spell in hungry.spells])
        breaches["bad plugins named"] = [f"{name} is not: {listed}" for name in BAD if name not in named]
        count, starved = len(told(deployment)), sum(end - start for start, end in hungry.spells)
        for pid in deployment.everybody().values():  # in order it would take as long as a plugin holds up the stop
            signal_safely(pid, signal.SIGKILL)
        return Beside(
            "bad plugins", plan, begun, truth, breaches, settled, [], [*samples], starved, named=named, told=count
        )


def name_bad(deployment: Deployment) -> tuple[tuple[str, ...], str]:
    """Whom `dialer plugins list` says something of, and all that it says."""
    command = (*PYTHON, "dialer", "plugins", "list")
    done = subprocess.run(
        command, env=deployment.environ, cwd=deployment.folder, capture_output=True, check=False, text=True
    )
    lines = done.stdout.splitlines()
    named = (name for name in (*BAD, GOOD) if any(line.startswith(f"{name}: ") for line in lines))
    return tuple(named) if done.returncode == 0 else (), done.stdout + done.stderr


def judge_beside(deployment: Deployment, truth: Truth, troubles: Sequence[Trouble]) -> dict[str, list[str]]:
    """All invariants, with nothing excused but a machine without time for anybody, and what is promised of plugins."""
    heard = [_told(line) for line in told(deployment)]
    workspaces = dict.fromkeys(AGENTS, demo.WORKSPACE)
    record = Record(
        truth.legs, truth.log, deployment.store(), truth.delivered, workspaces, troubles,
        told=heard, tells={GOOD: frozenset(TOLD)},
    )  # fmt: skip
    return check(record) | {
        "the good one told": list(lost(jobs(deployment), heard)),
        "refused for a reason": list(refused(calls(deployment))),
    }


def lost(owed: Iterable[Mapping[str, Any]], heard: Iterable[Told]) -> Iterator[str]:
    """Deliveries to the good plugin that were not made."""
    times = Counter((one.hook, one.call_id) for one in heard)
    due = Counter[tuple[str, str]]()
    for job in owed:
        if job["plugin"] == GOOD:
            due[job["hook"], job["call_id"]] += 1
            if job["status"] != "done":
                yield f"{job['hook']} of {job['call_id']} is {job['status']}: {job['result']}"
    yield from (f"{hook} of {call}: {count} owed" for (hook, call), count in due.items() if times[hook, call] < count)


def refused(rows: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    """Calls that were refused, or not, against what is promised: a plugin that cannot check a call costs that call."""
    for row in rows:
        unchecked = row["to_number"].endswith(UNCHECKED)
        if unchecked != (row["rule"] == "plugin-error:raises") or (row["status"] == "rejected") != unchecked:
            yield f"{row['id']} to {row['to_number']} is {row['status']} by the rule {row['rule']!r}"


def _told(line: dict[str, Any]) -> Told:
    return Told(GOOD, line["hook"], line["call"], line.get("name", ""), line.get("leg", ""), line.get("at", 0.0))
