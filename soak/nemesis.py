"""The nemesis: a schedule from a seed of what is killed, stopped, filled and cut while Dialer is under load."""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Self, cast

from dialer.simulator.invariants import Trouble
from soak.deployment import Deployment, signal_safely
from soak.proxy import KINDS as FAULTS
from soak.proxy import Fault, Kind, Proxy
from soak.stack import wait_until

#: One round of kills, shuffled: gunicorn's workers most often, its master and the dispatcher too.
KILLS = ("kill worker",) * 5 + ("kill dispatcher",) * 2 + ("kill master",)
#: One round of everything. What is stopped or cut comes back after a moment that leaves the promises in reach.
EVERYTHING = (
    *KILLS,
    "pause worker",
    "pause dispatcher",
    "fill disk",
    *(f"{side} {kind}" for side in ("rest", "web") for kind in FAULTS),
)
#: Seconds for which something is stopped, full or cut, at least and at most.
OUTAGE = (0.5, 2.5)
#: Seconds for which the return of what was killed is waited for.
LONGEST_RETURN = 20.0
#: The share of the exchanges that a fault on the way of the network strikes.
SHARE = 0.3


@dataclass(frozen=True, slots=True)
class Strike:
    """What is done, how many seconds after the start, and for how long where it ends by itself."""

    at: float
    what: str
    seconds: float


@dataclass(frozen=True, slots=True)
class Blow:
    """A strike that fell, from its moment until all was back, by the wall clock."""

    what: str
    start: float
    end: float


def schedule(seed: int, seconds: float, every: float, kinds: Sequence[str]) -> list[Strike]:
    """A strike each `every` seconds, round by round of all kinds, in an order from the seed; none at the very end."""
    random, strikes, left = Random(seed), list[Strike](), list[str]()
    for number in range(1, int((seconds - 0.5) / every) + 1):
        left = left or random.sample(kinds, len(kinds))
        strikes.append(Strike(number * every, left.pop(), min(random.uniform(*OUTAGE), every * 0.8)))
    return strikes


@dataclass
class Nemesis:
    """Does what the schedule says, in a thread of its own, while its block lasts.

    `done`: each blow with its moments by the wall clock, the last one when its victim was back.
    """

    deployment: Deployment
    strikes: Sequence[Strike]
    rest: Proxy | None = None
    web: Proxy | None = None
    done: list[Blow] = field(default_factory=list)

    def __enter__(self) -> Self:
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._run, name="nemesis", daemon=True)
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _run(self) -> None:
        started = time.monotonic()
        for strike in self.strikes:
            if self._over.wait(max(0.0, started + strike.at - time.monotonic())):
                return
            self.strike(strike)

    def strike(self, strike: Strike) -> None:
        """One blow, and its end; without its victim it does not fall."""
        start, (verb, victim) = time.time(), strike.what.split()
        if BLOWS[verb](self, victim, strike.seconds):
            self.done.append(Blow(strike.what, start, time.time()))

    def troubles(self) -> list[Trouble]:
        """What the checks must know of it: when what was down or cut, and whose exchanges were struck."""
        down = [Trouble("lost" if blow.what == "kill worker" else "down", blow.start, blow.end) for blow in self.done]
        return down + troubles_of(proxy for proxy in (self.rest, self.web) if proxy)

    def kill(self, victim: str, seconds: float) -> bool:
        """With SIGKILL; Dialer itself must start what died, which is waited for."""
        pid = self._find(victim)
        if pid is None or not signal_safely(pid, signal.SIGKILL):
            return False
        if victim != "worker":
            wait_until(lambda: self._find(victim) not in (None, pid) and self.deployment.works(), LONGEST_RETURN)
        return True

    def pause(self, victim: str, seconds: float) -> bool:
        """Stop a process as a machine does that is short of memory."""
        pid = self._find(victim)
        if pid is None or not signal_safely(pid, signal.SIGSTOP):
            return False
        self._over.wait(seconds)
        return signal_safely(pid, signal.SIGCONT)

    def fill(self, victim: str, seconds: float) -> bool:
        """Fill the disk of the store."""
        with full_disk(self.deployment):
            self._over.wait(seconds)
        return True

    def cut_rest(self, kind: str, seconds: float) -> bool:
        """Break the way from Dialer to Twilio's REST API."""
        return self._cut(self.rest, kind, seconds)

    def cut_web(self, kind: str, seconds: float) -> bool:
        """Break the way of Twilio's webhooks to Dialer."""
        return self._cut(self.web, kind, seconds)

    def _cut(self, proxy: Proxy | None, kind: str, seconds: float) -> bool:
        if proxy is None:
            return False
        proxy.set(Fault(cast(Kind, kind), seconds=seconds, share=SHARE))
        self._over.wait(seconds)
        proxy.set()
        return True

    def _find(self, victim: str) -> int | None:
        """A process to strike; of the workers the one that has lived longest."""
        if victim == "worker":
            return next(iter(self.deployment.gunicorn_workers()), None)
        return self.deployment.master() if victim == "master" else self.deployment.dispatcher()


BLOWS: dict[str, Callable[[Nemesis, str, float], bool]] = {
    "kill": Nemesis.kill,
    "pause": Nemesis.pause,
    "fill": Nemesis.fill,
    "rest": Nemesis.cut_rest,
    "web": Nemesis.cut_web,
}


def troubles_of(proxies: Iterable[Proxy]) -> list[Trouble]:
    """Which calls had an exchange that was struck, and when."""
    return [
        Trouble("waiting" if hit.kind in ("drop", "mute", "delay") else "lost", hit.start, hit.end, hit.about)
        for proxy in proxies
        for hit in proxy.hits
        if hit.about
    ]


# Disk full: on a small file system of its own where that can be mounted, else by a limit on the size of files.


@contextlib.contextmanager
def small_disk(folder: Path, megabytes: int) -> Iterator[bool]:
    """Mount a file system of that size there while the block lasts; gives whether it could be done (root only)."""
    command = ("mount", "-t", "tmpfs", "-o", f"size={megabytes}m,mode=700", "tmpfs", str(folder))
    folder.mkdir(parents=True, exist_ok=True)
    mounted = os.geteuid() == 0 and subprocess.run(command, capture_output=True).returncode == 0
    try:
        yield mounted
    finally:
        if mounted:
            subprocess.run(("umount", "--lazy", str(folder)), check=True, capture_output=True)


@contextlib.contextmanager
def full_disk(deployment: Deployment) -> Iterator[None]:
    """No byte more can be written to the store while the block lasts."""
    folder = deployment.database.parent
    if os.path.ismount(folder):
        with filled(folder / "ballast"):
            yield
        return
    limit_files(deployment.everybody().values(), 0)
    try:
        yield
    finally:
        limit_files(deployment.everybody().values(), resource.RLIM_INFINITY)


@contextlib.contextmanager
def filled(ballast: Path) -> Iterator[None]:
    """Fill a file system to its last byte, and free it again."""
    with ballast.open("wb", buffering=0) as file:
        for size in (1 << 20, 4096, 1):
            with contextlib.suppress(OSError):
                while file.write(bytes(size)) == size:
                    pass
    try:
        yield
    finally:
        ballast.unlink()


def limit_files(pids: Iterable[int], size: int) -> None:
    """Let no write of these running processes go past that size of a file (EFBIG): takes no privilege."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            _, hard = resource.prlimit(pid, resource.RLIMIT_FSIZE)
            resource.prlimit(pid, resource.RLIMIT_FSIZE, (size, hard))
