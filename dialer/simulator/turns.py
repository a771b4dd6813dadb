"""One life of the dispatcher in a world: what `Dispatcher.run` does with threads and a clock on the wall."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from functools import partial

from dialer.dispatcher import CORE_THREADS, PLUGIN_THREADS, SWEEP, WATCH, WATCH_AGAIN
from dialer.jobs import Worker
from dialer.simulator.chaos import Process, Task, sleep
from dialer.simulator.record import Overdue
from dialer.simulator.trace import Trace
from dialer.store import Row, Store, StoreError

#: Seconds within which the dispatcher picks a due job up.
PICK_UP = 0.05
#: Seconds that it keeps away from a store that does not answer.
PAUSE = 1.0
#: Seconds between looks for calls past their deadline that no sweep takes.
LOOK = 5
#: What a look at all who talk is about: no call in particular.
EVERYBODY = "everybody"


@dataclass(slots=True)
class Turns:
    """Turns of one dispatcher process. `store` is looked into from outside; `overdue` collects what no sweep took."""

    process: Process
    worker: Worker
    store: Store
    trace: Trace
    overdue: list[Overdue]
    awake: bool = False
    stale: bool = True
    """Whether the store has to be asked when the next job is due."""
    _busy: bool = False
    _watching: bool = False
    _next_sweep: float = 0.0
    _next_watch: float = 0.0
    _job_at: float | None = None
    _claimed: list[Row] = field(default_factory=list)
    _running: Counter[str] = field(default_factory=Counter)

    @property
    def now(self) -> float:
        return self.process.network.now

    def take(self) -> None:
        """One turn, if there is anything to do, and then the jobs that it took."""
        if not self._busy and self._has_work():
            Task(self.process, self._turn).go()
        while self._claimed and self.process.alive:
            job = self._claimed.pop(0)
            self._running[job["plugin"]] += 1
            Task(self.process, partial(self._run_job, job), job["call_id"]).go()

    def next_due(self) -> list[float]:
        """When there may be something to do."""
        if self._busy:
            return []
        job_at = self.next_job()
        due = [self._next_sweep] if self._watching else [self._next_sweep, self._next_watch]
        return due if job_at is None else [*due, max(job_at - self._ahead(), self.now) + PICK_UP]

    def next_job(self) -> float | None:
        """The earliest that a job may be due, by the dispatcher's clock; None when none waits."""
        if self.stale:
            self.stale = False
            with self.store.read() as tx:
                job = tx.one("next_job")
            self._job_at = job["run_at"] if job else None
        return self._job_at

    def expect(self, run_at: float) -> None:
        """A job for that moment was stored."""
        self._job_at = min(run_at, self._job_at or run_at)

    def _has_work(self) -> bool:
        job_at = self.next_job()
        has_job = job_at is not None and job_at - self._ahead() <= self.now
        return not self.awake or has_job or self.now >= min(self._next_sweep, self._next_watch)

    def _ahead(self) -> float:
        """How far the dispatcher's clock is ahead of the network's."""
        return self.worker.dialer.clock() - self.now

    def _turn(self) -> None:
        self._busy = True
        try:
            self._look_around()
        except StoreError:
            sleep(self.process.network, PAUSE)
        finally:
            self._busy, self.stale = False, True

    def _look_around(self) -> None:
        worker, now = self.worker, self.now
        if not self.awake:
            worker.wake()
            self.awake = True
        worker.mind_clock()
        if now >= self._next_sweep:
            self._next_sweep = now + SWEEP
            worker.sweep()
            if int(now) % LOOK == 0:
                self._look_for_overdue()
        if now >= self._next_watch and not self._watching:
            self._next_watch, self._watching = now + WATCH, True
            self.process.network.later(0.0, Task(self.process, self._watch, EVERYBODY).go)
        for plugin in worker.due():
            free = (PLUGIN_THREADS if plugin else CORE_THREADS) - self._running[plugin]
            if free > 0:
                self._claimed += worker.claim(plugin, free)

    def _look_for_overdue(self) -> None:
        """Right after a sweep no call is past its deadline."""
        clock = self.worker.dialer.clock()
        with self.store.read() as tx:
            for row in tx.all("overdue_calls", now=clock - SWEEP, limit=100):
                call = tx.one("call", call_id=row["id"], workspace=row["workspace"])
                if call:
                    self.overdue.append(Overdue(row["id"], self.now, clock - call["deadline"]))

    def _watch(self) -> None:
        try:
            self.worker.watch()
        except Exception as error:  # as the dispatcher does: Twilio did not answer, the next look will
            self._next_watch = min(self._next_watch, self.now + WATCH_AGAIN)
            self.trace.note("dispatcher", f"could not look at all who talk: {type(error).__name__}")
        finally:
            self._watching = False

    def _run_job(self, job: Row) -> None:
        try:
            self.worker.run(job)
        except StoreError:  # as the dispatcher does: the outcome is kept, and stored by a later turn
            self.trace.note("dispatcher", f"job {job['kind']}: outcome not stored", job["call_id"])
        finally:
            self._running[job["plugin"]] -= 1
