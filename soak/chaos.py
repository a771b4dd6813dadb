"""Load and chaos: Dialer as `dialer run` starts it, signed load of full calls, a nemesis, and the checks afterwards.

Gunicorn itself starts its workers again; its master and the dispatcher are started again by `dialer run`.
"""

from __future__ import annotations

import os
import sys
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, suppress
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path

import click

from dialer.simulator.invariants import Trouble
from soak.deployment import Deployment
from soak.judge import Truth, judge, percentile, read_truth
from soak.load import Plan
from soak.nemesis import EVERYTHING, KILLS, Blow, Nemesis, Strike, schedule, small_disk
from soak.proxy import Proxy
from soak.stack import ROOT

#: Seconds at the start that figures leave out, of a short run the first third: calls have yet to come to their ends.
WARM_UP = 10.0
#: Seconds that the last call may take to end, and its record to be settled: a dial without an outcome takes 35.
PATIENCE = 240.0
#: Bytes of a store of its own disk: to begin with, and for each webhook.
DISK, DISK_EACH = 64 << 20, 3000
SAMPLE = 1.0
#: Seconds a second for which the threads of Dialer together wait for a processor, from which on the machine is starved:
#: what happens then says little about Dialer, unless something is lost or doubled.
STARVED = 0.5


@dataclass(frozen=True, slots=True)
class Sample:
    """What Dialer's processes hold at one moment: resident bytes, open files, and the bytes of the store's WAL.

    `waited`: seconds for which the threads of each have waited for a processor so far, by process id.
    """

    at: float
    rss: int
    files: int
    wal: int
    waited: dict[int, float]


@dataclass(slots=True)
class Verdict:
    """What came of one run."""

    name: str
    plan: Plan
    begun: float
    truth: Truth
    breaches: dict[str, list[str]]
    settled: bool
    blows: list[Blow] = field(default_factory=list)
    samples: list[Sample] = field(default_factory=list)
    starved: float = 0.0
    """Seconds for which the machine had too little time for Dialer."""

    @property
    def warm(self) -> float:
        """The moment from which on the figures count."""
        return self.begun + min(WARM_UP, self.plan.seconds / 3)

    @property
    def failed(self) -> bool:
        refused = 0 if self.blows else self.truth.attempts.not_2xx
        return not self.settled or any(self.breaches.values()) or refused > 0

    def answers(self) -> Iterator[tuple[float, int]]:
        """When each webhook attempt was due, and the status of its answer."""
        return zip(self.truth.attempts.due, self.truth.attempts.status, strict=True)

    def figure(self) -> str:
        """The one line of figures."""
        parts = [self.loaded(), *self.struck(), self.judged(), self.timed(), f"seed {self.plan.seed}"]
        return f"{self.name}: " + ", ".join(parts)

    def loaded(self) -> str:
        end = self.begun + self.plan.seconds
        reached = sum(1 for at in self.truth.attempts.due if self.warm <= at < end) / (end - self.warm)
        calls = sum(1 for leg in self.truth.legs.values() if leg.identity)
        return f"{calls:,} calls, {len(self.truth.attempts.due):,} webhooks, {reached:.0f}/s of {self.plan.rate:.0f}/s"

    def struck(self) -> list[str]:
        if not self.blows:
            others = Counter(status for status in self.truth.attempts.status if status // 100 != 2)
            which = ", ".join(f"{count} with {status or 'nothing'}" for status, count in sorted(others.items()))
            return [f"{others.total()} not answered 2xx" + (f" ({which})" if which else "")]
        kinds = Counter(blow.what for blow in self.blows)
        return [f"{len(self.blows)} blows ({', '.join(f'{count} {what}' for what, count in sorted(kinds.items()))})"]

    def judged(self) -> str:
        stored = self.breaches.get("events stored once", [])
        lost = sum("is not stored" in breach for breach in stored)
        others = sum(map(len, self.breaches.values())) - len(stored)
        unsettled = "" if self.settled else ", NOT settled in time"
        busy = f" (machine starved for {self.starved:.0f} s)" if self.starved else ""
        return f"{lost} acknowledged lost, {len(stored) - lost} stored twice, {others} other breaches{unsettled}{busy}"

    def timed(self) -> str:
        times = self.truth.attempts.latencies(self._quiet)
        when = " outside the blows' own second" if self.blows else ""
        half, most = percentile(times, 0.5), percentile(times, 0.99)
        return f"p50 {half:.1f} ms, p99 {most:.1f} ms{when}, max {times[-1] if times else 0:.0f} ms"

    def _quiet(self, due: float) -> bool:
        """Whether this moment is past the warm-up, and neither in a blow nor in the second after it began."""
        return due >= self.warm and not any(blow.start <= due < max(blow.start + 1.0, blow.end) for blow in self.blows)

    def resources(self) -> str:
        """Growth of what the processes hold, from the end of the warm-up on."""
        kept = [one for one in self.samples if one.at >= self.warm] or self.samples
        first, last = kept[0], kept[-1]
        return (
            f"RSS {first.rss / 1e6:.0f} -> {last.rss / 1e6:.0f} MB (slope {slope(kept) / 1e6:.1f} MB/h over "
            f"{last.at - first.at:.0f} s), WAL {first.wal / 1e6:.1f} -> {last.wal / 1e6:.1f} MB "
            f"(most {max(one.wal for one in kept) / 1e6:.1f}), open files {first.files} -> {last.files}"
        )


def slope(samples: Sequence[Sample]) -> float:
    """Bytes of growth an hour: the straight line through all samples."""
    mean_at = sum(one.at for one in samples) / len(samples)
    mean = sum(one.rss for one in samples) / len(samples)
    spread = sum((one.at - mean_at) ** 2 for one in samples)
    return 3600.0 * sum((one.at - mean_at) * (one.rss - mean) for one in samples) / spread if spread else 0.0


def sample(deployment: Deployment) -> Sample:
    """Look at all living processes of Dialer."""
    rss, files, waited = 0, 0, dict[int, float]()
    for pid in deployment.everybody().values():
        with suppress(OSError):  # it has just died
            rss += int(Path(f"/proc/{pid}/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
            files += len(os.listdir(f"/proc/{pid}/fd"))
            threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
            waited[pid] = sum(int(one.read_text().split()[1]) for one in threads) / 1e9
    wal = Path(f"{deployment.database}-wal")
    return Sample(time.time(), rss, files, wal.stat().st_size if wal.exists() else 0, waited)


def starved(samples: Sequence[Sample]) -> Iterator[Trouble]:
    """The times in which the machine had no processor for Dialer."""
    for before, after in pairwise(samples):
        waited = sum(seconds - before.waited.get(pid, 0.0) for pid, seconds in after.waited.items())
        if waited > STARVED * (after.at - before.at):
            yield Trouble("down", before.at, after.at)


class Sampling:
    """Samples in a thread while its block lasts."""

    def __init__(self, deployment: Deployment) -> None:
        self.deployment = deployment
        self.samples: list[Sample] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="sampling", daemon=True)

    def __enter__(self) -> list[Sample]:
        self._thread.start()
        return self.samples

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        while not self._over.wait(SAMPLE):
            self.samples.append(sample(self.deployment))


def run(name: str, folder: Path, plan: Plan, strikes: Sequence[Strike] = (), *, disk: bool = False) -> Verdict:
    """Start all, play the load under these strikes, wait until every call is settled, and judge.

    With `disk` the store lies on a disk of its own, which may be filled.
    """
    proxied = any(strike.what.startswith(("rest", "web")) for strike in strikes)
    with ExitStack() as stack:
        store = folder / "store"
        if disk:
            stack.enter_context(small_disk(store, int(DISK + plan.rate * plan.seconds * DISK_EACH) >> 20))
        deployment = Deployment(folder, load=plan, store_folder=store if disk else None)
        rest = web = None
        if proxied:
            rest = stack.enter_context(Proxy(deployment.simulator_port, plan.seed))
            web = stack.enter_context(Proxy(deployment.web_port, plan.seed))
            deployment.rest_port, deployment.webhook_port = rest.port, web.port
        stack.enter_context(deployment)
        samples = stack.enter_context(Sampling(deployment))
        begun = time.time()
        deployment.begin()
        with Nemesis(deployment, strikes, rest, web) as nemesis:
            time.sleep(plan.seconds)
        played = deployment.wait_played(PATIENCE)
        settled = played and deployment.wait_settled(PATIENCE)
        deployment.stop("simulator")
        truth = read_truth(deployment.rows())
        hungry = list(starved(samples))
        breaches = judge(deployment.store(), truth, nemesis.troubles() + hungry)
        return Verdict(name, plan, begun, truth, breaches, settled, nemesis.done, list(samples), len(hungry) * SAMPLE)


def tell(verdict: Verdict, command: str) -> None:
    """Print what came of it; ends the process with 1 on a breach."""
    for name, found in verdict.breaches.items():
        for breach in found[:20]:
            click.echo(f"BREACH {name}: {breach}")
    if not verdict.blows:
        click.echo(verdict.resources())
    click.echo(verdict.figure())
    if verdict.failed:
        click.echo(f"again: python -m soak {command}")
        sys.exit(1)


def play(name: str, command: str, plan: Plan, strikes: Sequence[Strike] = (), *, disk: bool = False) -> None:
    """One run in a folder of its own, told."""
    click.echo(f"{name}: {plan.rate:.0f} webhooks/s for {plan.seconds:.0f} s, {len(strikes)} strikes, seed {plan.seed}")
    (ROOT / "instance").mkdir(exist_ok=True)
    # Beside the real database, on the same disk: a folder in memory would make commits look free.
    with tempfile.TemporaryDirectory(prefix="soak-", dir=ROOT / "instance") as folder:
        tell(run(name, Path(folder), plan, strikes, disk=disk), command)


def options(seconds: float, rate: float, every: float | None) -> Callable[[Callable[..., None]], Callable[..., None]]:
    """The options that the commands share."""

    def add(command: Callable[..., None]) -> Callable[..., None]:
        command = click.option("--seed", default=1, show_default=True)(command)
        if every is not None:
            command = click.option("--every", default=every, show_default=True, help="Seconds.")(command)
        command = click.option("--rate", default=rate, show_default=True, help="Webhooks a second.")(command)
        return click.option("--seconds", default=seconds, show_default=True)(command)

    return add


@click.command()
@options(30.0, 150.0, 2.0)
def kills(seconds: float, rate: float, every: float, seed: int) -> None:
    """Kill -9 of gunicorn's workers, its master and the dispatcher, under load."""
    command = f"kills --seconds {seconds:g} --rate {rate:g} --every {every:g} --seed {seed}"
    strikes = schedule(seed, seconds, every, KILLS)
    play(f"kill -9 every {every:g} s", command, Plan(rate, seconds, seed), strikes)


@click.command()
@options(60.0, 300.0, None)
def steady(seconds: float, rate: float, seed: int) -> None:
    """Load and nothing else: latency, memory, open files."""
    play("steady load", f"steady --seconds {seconds:g} --rate {rate:g} --seed {seed}", Plan(rate, seconds, seed))


@click.command()
@options(120.0, 100.0, 5.0)
def nemesis(seconds: float, rate: float, every: float, seed: int) -> None:
    """All of it under load: kills, processes stopped, the disk full, the network cut in every way."""
    command = f"nemesis --seconds {seconds:g} --rate {rate:g} --every {every:g} --seed {seed}"
    strikes = schedule(seed, seconds, every, EVERYTHING)
    play("nemesis", command, Plan(rate, seconds, seed), strikes, disk=True)
