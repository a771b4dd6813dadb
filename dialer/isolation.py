"""Run a plugin's code where it cannot hold anybody up: two threads of its own, and a budget of seconds."""

from __future__ import annotations

import ctypes
import os
import queue
import sys
import threading
import time
import weakref
from collections.abc import Callable
from time import perf_counter
from typing import Any

THREADS = 2
#: Seconds after which a thread that still hangs is written off for a new one, and how many may be at a time.
HOPELESS, MOST_WRITTEN_OFF = 30.0, 6
#: Seconds after which a thread that computes lets another one run. With Python's own 5 ms, each step of a request that
#: waits for the disk or the network would wait as long again behind a plugin that never comes to an end.
SWITCH = 0.0005


class Overrun(Exception):
    """The plugin gave no answer in time, or was not asked: the time is up, or its threads hang in earlier questions."""


class Pool:
    """The threads of one plugin, started by its first question.

    A question waits for a free thread and for the answer, both within the budget. Once both threads are in
    questions that ran over, further ones are refused at once: a plugin that hangs costs the budget twice and
    then nothing. What a thread answers too late is dropped. One that goes on hanging is written off for a new one, so
    that a plugin recovers, and told to stop: that ends one that computes, and not one that waits for the network.
    """

    def __init__(self, name: str, budget: float) -> None:
        self.name = name
        self.budget = budget
        self._work: _Work | None = None
        self._starting = threading.Lock()
        _pools.add(self)

    def run(self, function: Callable[[], Any], until: float | None = None) -> Any:
        """Call the function in a thread; raises Overrun, or what the function raises.

        `until`, by time.monotonic, is the end of all waiting, whatever is left of the budget.
        """
        patience = self.budget if until is None else min(self.budget, until - time.monotonic())
        if patience <= 0:
            raise Overrun("not asked: the time for all plugins is used up")
        work = self._work or self._start()
        if work.late:
            work.write_off()
        if work.stuck >= THREADS:
            raise Overrun("all its threads hang in earlier calls")
        question = _Question(function)
        work.questions.put(question)
        if not question.answered.acquire(timeout=patience) and work.give_up(question):
            sys.setswitchinterval(SWITCH)
            raise Overrun(f"no answer within {patience * 1000:.0f} ms")
        if question.error is not None:
            raise question.error
        return question.value

    def forget(self) -> None:
        """Start anew in a forked process: threads do not survive a fork, and locks may have been held."""
        self._work = None
        self._starting = threading.Lock()

    def _start(self) -> _Work:
        with self._starting:
            if self._work is None:
                self._work = _Work(f"plugin-{self.name}")
                for _ in range(THREADS):
                    self._work.start_thread()
            return self._work

    def __del__(self) -> None:
        if self._work is not None:
            for _ in range(THREADS):
                self._work.questions.put(None)


class Stopped(SystemExit):
    """Raised in a thread that was written off; a plain SystemExit where nobody waits for it any more."""


class _Question:
    __slots__ = ("answered", "error", "function", "state", "thread", "value")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.state = "waiting"
        self.thread = 0
        self.value: Any = None
        self.error: Exception | None = None
        self.answered = threading.Lock()
        self.answered.acquire()


class _Work:
    """What a pool and its threads share; the threads do not know the pool, so that it can be collected."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.questions: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self.late: dict[int, float] = {}
        self.written_off: set[int] = set()
        self.started = 0
        self._lock = threading.Lock()

    @property
    def stuck(self) -> int:
        """Threads in questions that ran over, but for those that have been replaced."""
        return len(self.late) - len(self.written_off)

    def start_thread(self) -> None:
        name = f"{self.name}-{self.started}"
        self.started += 1
        threading.Thread(target=self.answer_all, name=name, daemon=True).start()

    def give_up(self, question: _Question) -> bool:
        """Stop waiting for an answer; False when it has just come."""
        with self._lock:
            if question.state == "done":
                return False
            if question.state == "running":
                self.late[question.thread] = perf_counter()
            question.state = "late" if question.state == "running" else "dropped"
            return True

    def write_off(self) -> None:
        """Replace the threads that have hung for too long, and tell them to stop."""
        with self._lock:
            for thread, since in self.late.items():
                if (
                    perf_counter() - since > HOPELESS
                    and thread not in self.written_off
                    and len(self.written_off) < MOST_WRITTEN_OFF
                ):
                    self.written_off.add(thread)
                    self.start_thread()
                    ctypes.pythonapi.PyThreadState_SetAsyncExc(ctypes.c_ulong(thread), ctypes.py_object(Stopped))

    def answer_all(self) -> None:
        """What a thread does: answer questions until there is no more pool, or it was written off."""
        try:
            while (question := self.questions.get()) is not None:
                if self._begin(question) and self._answer(question):
                    return
                del question  # an idle thread holds on to nothing
        except Stopped:  # raised between two steps of our own
            self._returned()

    def _answer(self, question: _Question) -> bool:
        """Whether the thread was written off meanwhile."""
        try:
            question.value = question.function()
        except Exception as error:
            question.error = error
        except BaseException as error:  # SystemExit: a plugin must not take its thread along
            question.error = RuntimeError(f"{type(error).__name__}: {error}")
        with self._lock:
            question.state = "done"
        question.answered.release()
        return self._returned()

    def _begin(self, question: _Question) -> bool:
        with self._lock:
            if question.state == "dropped":
                return False
            question.state, question.thread = "running", threading.get_ident()
            return True

    def _returned(self) -> bool:
        """Note that this thread is back from a question; whether it was written off."""
        thread = threading.get_ident()
        with self._lock:
            gone = thread in self.written_off
            self.late.pop(thread, None)
            self.written_off.discard(thread)
            return gone


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _forget_all() -> None:
    for pool in _pools:
        pool.forget()


os.register_at_fork(after_in_child=_forget_all)
