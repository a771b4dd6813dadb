"""Processes that can be killed between any two of their steps, and what can go wrong with their store and clock.

Each request and each job of a process is a greenlet, so that others run while it waits for an answer. There are no
threads: who runs when follows from the network's clock alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

from greenlet import getcurrent, greenlet

from dialer.simulator.knobs import Faults
from dialer.simulator.network import Network
from dialer.simulator.record import Trouble
from dialer.store import Row, Store, StoreError, Tx
from dialer.store.sqlite import BUSY_SECONDS


@dataclass(frozen=True, slots=True)
class WorldFaults(Faults):
    """Faults of the network, and of the machine that Dialer runs on: the probability of each, 0 to 1."""

    web_killed: float = 0.0
    """At one step of the web server (a crash point, before or after a transaction, a commit), all of it is killed."""
    dispatcher_killed: float = 0.0
    """At one step of the dispatcher (as above, and before or after a REST request), all of it is killed."""
    store_busy: float = 0.0
    """As a transaction begins, the file is locked for 1 to 10 s: writers wait for six, then fail."""
    store_full: float = 0.0
    """As a transaction begins, the disk is full for up to 5 s: writers fail."""
    store_slow: float = 0.0
    """As a transaction begins, the disk stands still for up to 20 s: writers wait."""
    clock_jumps: float = 0.0
    """While a call is on, the machine's clock is set, by up to an hour."""


#: What `--faults all` means, as probabilities.
ALL_FAULTS = WorldFaults(
    webhook_lost=0.01,
    webhook_unreachable=0.01,
    webhook_answer_lost=0.01,
    webhook_late=0.02,
    webhook_repeated=0.02,
    webhook_reordered=0.05,
    webhook_together=0.05,
    rest_refused=0.01,
    rest_timeout_done=0.01,
    rest_timeout_undone=0.01,
    rest_500_done=0.01,
    rest_500_undone=0.01,
    rest_429=0.01,
    rest_late=0.01,
    rest_reset=0.01,
    rest_half=0.01,
    listing_lag=0.05,
    agent_leaves=0.05,
    agent_reloads=0.05,
    web_killed=0.0004,
    dispatcher_killed=0.0004,
    store_busy=0.0001,
    store_full=0.0002,
    store_slow=0.0001,
    clock_jumps=0.01,
)


class Killed(BaseException):
    """The process is dead. Nothing of it that is still on the stack does anything any more."""


@dataclass(slots=True, eq=False)
class Process:
    """One life of the web server or the dispatcher. `died` is called once, when nothing of it runs any more."""

    name: str
    network: Network
    died: Callable[[Process, str], None]
    main: greenlet = field(default_factory=getcurrent)
    alive: bool = True
    where: str = ""
    tasks: dict[Task, None] = field(default_factory=dict)

    def step(self, where: str) -> None:
        """Be killed here, maybe; a process that is dead already does no step."""
        if self.alive and strikes(self.network, f"{self.name}_killed"):
            self.alive, self.where = False, where
        if not self.alive:
            raise Killed

    def kill(self, where: str) -> None:
        """End it from outside."""
        self.alive, self.where = False, where
        self.bury()

    def bury(self) -> None:
        """End what else runs in a process that was killed."""
        for task in [task for task in self.tasks if task]:  # true once it has begun
            task.throw(Killed)
        self.died(self, self.where)


class Task(greenlet):
    """Something that a process does, a request or a job; it may wait while others run. `about`: the call's id."""

    def __init__(self, process: Process, work: Callable[[], object], about: str = "") -> None:
        super().__init__(self._run_to_end, process.main)
        self.process = process
        self.about = about
        self.work = work
        process.tasks[self] = None

    def go(self) -> None:
        """Run on until it waits or ends. Never called from within a task."""
        if self.dead or not self.process.alive:
            return
        self.switch()
        if not self.process.alive and self.process.where:
            self.process.bury()

    def _run_to_end(self) -> None:
        try:
            self.work()
        except Killed:
            pass
        finally:
            self.process.tasks.pop(self, None)


def sleep(network: Network, seconds: float) -> None:
    """Let that much virtual time pass for the running task; none passes outside of tasks."""
    task = getcurrent()
    if isinstance(task, Task) and seconds > 0:
        network.later(seconds, task.go)
        task.process.main.switch()


def pass_crash_point(name: str) -> None:
    """What the shipped code's crash points do in a simulation."""
    task = getcurrent()
    if isinstance(task, Task) and not name.startswith("store."):  # those two steps are this module's own
        task.process.step(name)


def strikes(network: Network, fault: str) -> bool:
    """Whether this fault, which a network alone does not know, happens now."""
    return getattr(network.faults, fault, 0.0) > 0.0 and network.draw(fault)


#: The longest that an outage of the store lasts, and the shortest.
OUTAGES = {"store_busy": (1.0, 10.0), "store_full": (0.2, 5.0), "store_slow": (0.5, 20.0)}


@dataclass(slots=True)
class Disk:
    """The machine's disk, that all processes share: whether writing works at the moment."""

    network: Network
    troubles: list[Trouble]
    outage: str = ""
    until: float = 0.0

    def begin(self) -> None:
        """Wait, or raise StoreError, as the disk is; maybe it begins to be so now."""
        self._maybe_fail()
        now = self.network.now
        if now >= self.until:
            return
        if self.outage == "store_full":
            raise StoreError("database or disk is full")
        wait = self.until - now
        if self.outage == "store_busy" and wait > BUSY_SECONDS:
            sleep(self.network, BUSY_SECONDS)
            raise StoreError("database is locked")
        sleep(self.network, wait)

    def commit(self) -> None:
        """Raise StoreError when the disk has filled up since the transaction began."""
        if self.outage == "store_full" and self.network.now < self.until:
            raise StoreError("database or disk is full")

    def _maybe_fail(self) -> None:
        for outage, (shortest, longest) in OUTAGES.items():
            if self.network.now >= self.until and strikes(self.network, outage):
                self.outage, self.until = outage, self.network.now + self.network.uniform(shortest, longest)
                self.troubles.append(Trouble("down", self.network.now, self.until))


#: Hears of a committed statement of a process, with its values and its result.
Watcher = Callable[[Process, str, dict[str, Any], Any], None]


@dataclass(slots=True)
class ProcessStore:
    """The store as one process has it: dead when the process is, and only as good as the disk."""

    inner: Store
    process: Process
    disk: Disk
    watcher: Watcher
    watched: frozenset[str]

    @contextmanager
    def write(self) -> Iterator[Tx]:
        step = self.process.step
        step("before a transaction")
        self.disk.begin()
        with self.inner.write() as inner:
            tx = WatchedTx(inner, self.watched)
            yield tx
            step("before a commit")
            self.disk.commit()
        for statement, values, result in tx.seen:
            self.watcher(self.process, statement, values, result)
        step("after a commit")

    @contextmanager
    def read(self) -> Iterator[Tx]:
        self.process.step("before a look into the store")
        with self.inner.read() as tx:
            yield tx

    def close(self) -> None:
        """The file stays open: its next process has it."""


class WatchedTx:
    """A transaction that remembers some of its statements."""

    __slots__ = ("_inner", "_watched", "seen")

    def __init__(self, inner: Tx, watched: frozenset[str]) -> None:
        self._inner = inner
        self._watched = watched
        self.seen: list[tuple[str, dict[str, Any], Any]] = []

    def one(self, statement: str, /, **values: Any) -> Row | None:
        row = self._inner.one(statement, **values)
        self._see(statement, values, row)
        return row

    def all(self, statement: str, /, **values: Any) -> list[Row]:
        rows = self._inner.all(statement, **values)
        self._see(statement, values, rows)
        return rows

    def run(self, statement: str, /, **values: Any) -> int:
        touched = self._inner.run(statement, **values)
        self._see(statement, values, touched)
        return touched

    def _see(self, statement: str, values: dict[str, Any], result: Any) -> None:
        if statement in self._watched:
            self.seen.append((statement, values, result))
