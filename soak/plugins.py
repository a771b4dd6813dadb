"""Plugins under load: switched on and off again and again, and five bad ones beside a good one."""

from __future__ import annotations

import tempfile
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random

import click

from soak.chaos import PATIENCE, SAMPLE, Sampling, Verdict, starved, tell
from soak.deployment import Deployment
from soak.judge import judge, percentile, read_truth
from soak.load import Plan
from soak.neighbours import run_beside
from soak.stack import ROOT, wait_until
from soak.toggles import LOST, NAMES, Toggler, install, kinds_of
from soak.torn import Follow, Stamps, follow, late_uses, never_asked_for, read_stamps
from soak.truth import jobs

#: Seconds within which a change is to be live everywhere.
LIVE = 1.0
IN_TIME = "changes live in time"


@dataclass(slots=True)
class Toggled(Verdict):
    """What came of a run with changes of plugins."""

    changes: list[tuple[float, str]] = field(default_factory=list)
    follows: list[Follow] = field(default_factory=list)
    latest_use: float = 0.0
    requests: int = 0

    def figure(self) -> str:
        times = sorted(one.seconds * 1000 for one in self.follows)
        half, most = percentile(times, 0.5), percentile(times, 1.0)
        end = self.begun + self.plan.seconds
        under = sum(self.begun <= at <= end for at, _ in self.changes)
        parts = [
            f"{len(self.changes)} changes ({kinds_of(self.changes)}), {under} of them under load",
            self.loaded(),
            *self.struck(),
            f"{len(self.breaches['torn'])} of {self.requests:,} calls torn",
            f"live in each process after {half:.0f} ms (median), {most:.0f} ms (most)",
            f"last use of an old set after {self.latest_use * 1000:.0f} ms",
            self.judged(),
        ]
        return f"{self.name}: {', '.join(parts)}, seed {self.plan.seed}"


def run_toggles(folder: Path, plan: Plan, changes: int) -> Toggled:
    """Start all, change plugins while the load is played, wait until all is settled and told, and judge."""
    install(folder / "site", [*((name, "soak.stamp:Stamp") for name in NAMES), (LOST, "soak.nowhere:Nothing")])
    deployment = Deployment(folder, load=plan)
    toggler = Toggler(deployment, Random(plan.seed))
    deployment.plugins = ", ".join(toggler.listed)
    deployment.toml = "".join(f"[plugins.{name}]\ngeneration = 0\n" for name in NAMES)
    with deployment, Sampling(deployment) as samples:
        pids = [*deployment.gunicorn_workers(), deployment.dispatcher() or 0]
        toggler.begin()
        begun = time.time()
        deployment.begin()
        toggler.run(changes, plan.seconds)
        made = [*toggler.made]
        toggler.all_on()
        played = deployment.wait_played(plan.seconds + PATIENCE)
        settled = played and deployment.wait_settled(PATIENCE)
        settled = wait_until(lambda: told_all(deployment), PATIENCE, look=0.2) and settled
        restarted = pids != [*deployment.gunicorn_workers(), deployment.dispatcher() or 0]
        deployment.stop("simulator")
        truth, hungry, stamps = read_truth(deployment.rows()), list(starved(samples)), read_stamps(deployment)
        follows, missed = follow(stamps, toggler.reigns, pids)
        uses = list(late_uses(stamps, toggler.reigns))
        late = [
            f"process {sight.pid} still used build {sight.build} {late:.3f} s after another set was asked for"
            for sight, late in uses
            if late > LIVE and not any(one.start <= sight.at and sight.at - late <= one.end for one in hungry)
        ]
        breaches = judge(deployment.store(), truth, hungry) | {
            "torn": stamps.torn + never_asked_for(stamps, toggler.reigns),
            IN_TIME: late + missed,
            "changes": toggler.breaches + ["a process was started again"] * restarted,
            "told": lost(deployment, stamps),
        }
        return Toggled(
            "plugins toggled", plan, begun, truth, breaches, settled, [], [*samples], len(hungry) * SAMPLE,
            changes=made, follows=follows, latest_use=max((late for _, late in uses), default=0.0),
            requests=stamps.requests,
        )  # fmt: skip


def told_all(deployment: Deployment) -> bool:
    """Whether nothing is owed to a plugin any more."""
    with deployment.store().read() as tx:
        return not any(row["plugin"] for row in (*tx.all("count_pending_jobs", now=0.0), *tx.all("count_waiting_jobs")))


def lost(deployment: Deployment, stamps: Stamps) -> list[str]:
    """Deliveries that were not made, though the plugin was off for a while."""
    return [
        f"{job['plugin']}: {job['hook']} of {job['call_id']} is {job['status']}: {job['result']}"
        for job in jobs(deployment)
        if job["kind"] == "deliver"
        and (job["status"] != "done" or not stamps.told[job["plugin"], job["hook"], job["call_id"]])
    ]


def verdicts(parts: Sequence[Callable[[Path], Verdict]]) -> Iterable[Verdict]:
    """Each part in a folder of its own, on the same disk as the real database."""
    (ROOT / "instance").mkdir(exist_ok=True)
    for part in parts:
        with tempfile.TemporaryDirectory(prefix="soak-", dir=ROOT / "instance") as folder:
            yield part(Path(folder))


@click.command()
@click.option("--changes", default=50, show_default=True, help="Of the plugins, 0 for none.")
@click.option("--rate", default=200.0, show_default=True, help="Webhooks a second, meanwhile.")
@click.option("--seconds", default=150.0, show_default=True, help="Of that load.")
@click.option("--bad-rate", default=12.0, show_default=True, help="Webhooks a second beside bad plugins.")
@click.option("--bad-seconds", default=60.0, show_default=True, help="Of that load, 0 for none.")
@click.option("--seed", default=1, show_default=True)
def plugins(changes: int, rate: float, seconds: float, bad_rate: float, bad_seconds: float, seed: int) -> None:
    """Plugins toggled under load; and five bad ones beside a good one."""
    command = f"plugins --changes {changes} --rate {rate:g} --seconds {seconds:g} --seed {seed}"
    parts: list[Callable[[Path], Verdict]] = []
    if changes:
        parts.append(lambda folder: run_toggles(folder, Plan(rate, seconds, seed), changes))
    if bad_seconds:
        parts.append(lambda folder: run_beside(folder, Plan(bad_rate, bad_seconds, seed)))
    for verdict in verdicts(parts):
        tell(verdict, f"{command} --bad-rate {bad_rate:g} --bad-seconds {bad_seconds:g}")
