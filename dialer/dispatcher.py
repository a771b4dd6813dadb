"""The dispatcher process: sweeps, claims and runs jobs on threads. One per store; the kernel frees its lock."""

from __future__ import annotations

import fcntl
import logging
import os
import sys
import threading
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from functools import cache
from pathlib import Path
from random import Random

from dialer.errors import DialerError
from dialer.isolation import SWITCH
from dialer.jobs import Worker
from dialer.service import Service
from dialer.store import Row, StoreError

log = logging.getLogger("dialer.dispatcher")

#: Seconds between looks for due jobs, and between sweeps for overdue calls.
POLL = 0.05
SWEEP = 1.0
#: Seconds between looks at all who talk: within the ten that somebody may be alone when callbacks were lost.
WATCH = 5.0
#: Seconds from such a look that Twilio did not answer to the next.
WATCH_AGAIN = 1.0
#: Jobs at once: our own, and each plugin's deliveries, which never wait for one another.
CORE_THREADS = 8
PLUGIN_THREADS = 2
#: Seconds that running jobs get to finish at a stop; a plugin that hangs is left behind.
STOP_SECONDS = 15.0


class Dispatcher:
    """Runs a Worker until it is told to stop, then lets running jobs finish."""

    def __init__(self, dialer: Service) -> None:
        self.dialer = dialer
        self.worker = Worker(dialer, cache(dialer.carrier), Random())
        self.stopping = threading.Event()
        self.pools: dict[str, Pool] = {}
        self._watcher = ThreadPoolExecutor(1)
        self._watch: Future[int] | None = None
        self._next_watch = 0.0  # like all in `run`, by a clock that nobody sets back

    def run(self) -> bool:
        """Work until `stopping` is set; False when a job still hung at the end, and its thread with it."""
        sys.setswitchinterval(SWITCH)  # what plugins are told has no time limit
        awake = False  # a store that is full may be so when we start, too
        swept = 0.0
        while not self.stopping.wait(POLL):
            try:
                if not awake:
                    self.worker.wake()
                    awake = True
                self.worker.mind_clock()
                if time.monotonic() - swept >= SWEEP:
                    swept = time.monotonic()
                    self.worker.sweep()
                if not self._watching() and time.monotonic() >= self._next_watch:
                    self._next_watch = time.monotonic() + WATCH
                    self._watch = self._watcher.submit(self.worker.watch)
                for plugin in self.worker.due():
                    self._fill(plugin)
            except StoreError as error:
                log.error("the store does not answer: %s", error)
                self.stopping.wait(1.0)
        self._watcher.shutdown(wait=False, cancel_futures=True)
        until = time.monotonic() + STOP_SECONDS
        closed = [pool.close(until) for pool in self.pools.values()]
        return all(closed)

    def _watching(self) -> bool:
        """Whether the last look at all who talk is under way; says once what it failed with."""
        if self._watch is None or not self._watch.done():
            return self._watch is not None
        error, self._watch = self._watch.exception(), None
        if error:
            self._next_watch = min(self._next_watch, time.monotonic() + WATCH_AGAIN)
            log.warning("could not look at all who talk: %s: %s", type(error).__name__, error)
        return False

    def _fill(self, plugin: str) -> None:
        pool = self.pools.setdefault(plugin, Pool(PLUGIN_THREADS if plugin else CORE_THREADS))
        free = pool.free()
        for job in self.worker.claim(plugin, free) if free else []:
            pool.run(self.worker, job)


class Pool:
    """Threads that never hold more jobs than they start at once: the lease of a claimed job is not for waiting."""

    def __init__(self, threads: int) -> None:
        self.threads = threads
        self.executor = ThreadPoolExecutor(threads)
        self._running: set[Future[None]] = set()

    def free(self) -> int:
        self._running = {future for future in self._running if not future.done()}
        return self.threads - len(self._running)

    def close(self, until: float) -> bool:
        """Let running jobs finish until that moment; whether all did."""
        self.executor.shutdown(wait=False)
        return not wait(self._running, timeout=max(0.0, until - time.monotonic())).not_done

    def run(self, worker: Worker, job: Row) -> None:
        self._running.add(self.executor.submit(_run_one, worker, job))


def _run_one(worker: Worker, job: Row) -> None:
    try:
        worker.run(job)
    except StoreError as error:
        log.error("a job's outcome could not be stored, it will run again: %s", error)


def only_one(lock_path: Path) -> int:
    """Hold the dispatcher's lock for the life of this process; raises DialerError when another process holds it."""
    descriptor = os.open(lock_path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        raise DialerError(f"another dispatcher already works on this store ({lock_path.name} is held)") from None
    return descriptor
