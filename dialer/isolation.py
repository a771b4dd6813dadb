"""Run a plugin's code where it cannot hold anybody up: two threads of its own, and a budget of seconds."""

from __future__ import annotations

import os
import queue
import threading
import time
import weakref
from collections.abc import Callable
from typing import Any

THREADS = 2


class Overrun(Exception):
    """The plugin gave no answer in time, or was not asked: the time is up, or its threads hang in earlier questions."""


class Pool:
    """The threads of one plugin, started by its first question.

    A question waits for a free thread and for the answer, both within the budget. Once both threads are in
    questions that ran over, further ones are refused at once: a plugin that hangs costs the budget twice and
    then nothing. A thread cannot be stopped; what it answers too late is dropped.
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
        if work.stuck >= THREADS:
            raise Overrun("all its threads hang in earlier calls")
        question = _Question(function)
        work.questions.put(question)
        if not question.answered.acquire(timeout=patience) and work.give_up(question):
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
                self._work = _Work()
                for number in range(THREADS):
                    name = f"plugin-{self.name}-{number}"
                    threading.Thread(target=self._work.answer_all, name=name, daemon=True).start()
            return self._work

    def __del__(self) -> None:
        if self._work is not None:
            for _ in range(THREADS):
                self._work.questions.put(None)


class _Question:
    __slots__ = ("answered", "error", "function", "state", "value")

    def __init__(self, function: Callable[[], Any]) -> None:
        self.function = function
        self.state = "waiting"
        self.value: Any = None
        self.error: Exception | None = None
        self.answered = threading.Lock()
        self.answered.acquire()


class _Work:
    """What a pool and its threads share; the threads do not know the pool, so that it can be collected."""

    def __init__(self) -> None:
        self.questions: queue.SimpleQueue[_Question | None] = queue.SimpleQueue()
        self.stuck = 0
        self._lock = threading.Lock()

    def give_up(self, question: _Question) -> bool:
        """Stop waiting for an answer; False when it has just come."""
        with self._lock:
            if question.state == "done":
                return False
            self.stuck += question.state == "running"
            question.state = "late" if question.state == "running" else "dropped"
            return True

    def answer_all(self) -> None:
        """What a thread does: answer questions until there is no more pool."""
        while (question := self.questions.get()) is not None:
            if self._begin(question):
                try:
                    question.value = question.function()
                except Exception as error:
                    question.error = error
                except BaseException as error:  # SystemExit: a plugin must not take its thread along
                    question.error = RuntimeError(f"{type(error).__name__}: {error}")
                self._finish(question)
            del question  # an idle thread holds on to nothing

    def _begin(self, question: _Question) -> bool:
        with self._lock:
            if question.state == "dropped":
                return False
            question.state = "running"
            return True

    def _finish(self, question: _Question) -> None:
        with self._lock:
            self.stuck -= question.state == "late"
            question.state = "done"
        question.answered.release()


_pools: weakref.WeakSet[Pool] = weakref.WeakSet()


def _forget_all() -> None:
    for pool in _pools:
        pool.forget()


os.register_at_fork(after_in_child=_forget_all)
