"""A pool of two threads: what hangs in it costs its budget and no more."""

import functools
import gc
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace

import pytest

from dialer.isolation import THREADS, Overrun, Pool

LONG = 30.0


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    """What a hanging question waits for; opened at the end."""
    event = threading.Event()
    yield event
    event.set()


def threads_of(name: str) -> list[threading.Thread]:
    return [thread for thread in threading.enumerate() if thread.name.startswith(f"plugin-{name}-")]


def wait_until(true: Callable[[], bool]) -> None:
    while not true():
        time.sleep(0.001)


def hang(pool: Pool, gate: threading.Event, threads: int = 1) -> None:
    """Ask until so many threads are in a question that hangs; one that was never begun does not count."""
    while pool._work is None or pool._work.stuck < threads:
        with pytest.raises(Overrun):
            pool.run(gate.wait)


def test_an_answer_comes_from_a_daemon_thread_of_the_plugin() -> None:
    thread = Pool("crm", LONG).run(threading.current_thread)
    assert thread.name.startswith("plugin-crm-")
    assert thread.daemon


def test_no_thread_is_started_before_the_first_question() -> None:
    pool = Pool("lazy", LONG)
    assert threads_of("lazy") == []
    pool.run(int)
    assert len(threads_of("lazy")) == THREADS


def test_what_the_function_raises_is_raised() -> None:
    with pytest.raises(ZeroDivisionError):
        Pool("a", LONG).run(lambda: 1 // 0)


@pytest.mark.parametrize("way", [SystemExit, KeyboardInterrupt, GeneratorExit])
def test_a_plugin_that_leaves_takes_nobody_along(way: type[BaseException]) -> None:
    def leave() -> None:
        raise way("bye")

    pool = Pool("leaving", LONG)
    for _ in range(THREADS + 1):
        with pytest.raises(RuntimeError, match=f"{way.__name__}: bye"):
            pool.run(leave)
    assert pool.run(lambda: "still there") == "still there"


def test_what_takes_too_long_is_given_up(gate: threading.Event) -> None:
    with pytest.raises(Overrun, match="no answer within 10 ms"):
        Pool("slow", 0.01).run(gate.wait)


def test_a_question_waits_for_the_end_of_all_waiting_at_the_most(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dialer.isolation.time", SimpleNamespace(monotonic=lambda: 100.0))
    with pytest.raises(Overrun, match="no answer within 9 ms"):
        Pool("patient", 10_000.0).run(gate.wait, 100.009)
    assert Pool("quick", LONG).run(lambda: "fine", 100.0 + LONG) == "fine"


def test_the_budget_holds_where_more_time_is_left(gate: threading.Event) -> None:
    with pytest.raises(Overrun, match="no answer within 10 ms"):
        Pool("slow", 0.01).run(gate.wait, time.monotonic() + LONG)


def test_past_the_end_nothing_is_asked() -> None:
    pool, asked = Pool("last", LONG), list[str]()
    with pytest.raises(Overrun, match="not asked: the time for all plugins is used up"):
        pool.run(lambda: asked.append("late"), time.monotonic())
    assert (asked, threads_of("last")) == ([], [])


def test_one_hanging_thread_leaves_the_other(gate: threading.Event) -> None:
    pool = Pool("half", 0.01)
    hang(pool, gate)
    pool.budget = LONG
    assert [pool.run(lambda: "fine") for _ in range(3)] == ["fine"] * 3


def test_when_both_threads_hang_questions_are_refused_at_once(gate: threading.Event) -> None:
    pool = Pool("hung", 0.01)
    hang(pool, gate, THREADS)
    pool.budget = LONG
    asked: list[str] = []
    with pytest.raises(Overrun, match="all its threads hang in earlier calls"):
        pool.run(lambda: asked.append("once"))
    gate.set()
    wait_until(lambda: pool._work is not None and pool._work.stuck == 0)
    assert pool.run(lambda: "again") == "again"
    assert asked == []


def test_a_late_answer_is_dropped(gate: threading.Event) -> None:
    pool, answers = Pool("late", 0.01), iter(["late", "second", "third"])

    def answer() -> str:
        text = next(answers)
        if text == "late":
            gate.wait()
        return text

    while pool._work is None or pool._work.stuck == 0:
        with pytest.raises(Overrun):
            pool.run(answer)
    pool.budget = LONG
    gate.set()
    assert [pool.run(answer), pool.run(answer)] == ["second", "third"]


def test_more_questions_than_threads_wait_their_turn() -> None:
    pool, both = Pool("busy", LONG), threading.Barrier(THREADS)

    def meet(number: int) -> int:
        both.wait()
        return number

    with ThreadPoolExecutor(THREADS * 4) as callers:
        found = list(callers.map(lambda number: pool.run(lambda: meet(number)), range(THREADS * 4)))
    assert found == list(range(THREADS * 4))


def test_a_question_that_nobody_waits_for_any_more_is_not_asked(gate: threading.Event) -> None:
    pool, asked, entered = Pool("dropped", LONG), list[str](), threading.Barrier(THREADS + 1)

    def hold() -> None:
        entered.wait()
        gate.wait()

    with ThreadPoolExecutor(THREADS) as callers:
        held = [callers.submit(pool.run, hold) for _ in range(THREADS)]
        entered.wait()
        short = Pool("short", 0.01)
        short._work = pool._work  # the same threads, with less patience
        with pytest.raises(Overrun, match="no answer within 10 ms"):
            short.run(lambda: asked.append("late"))
        short._work = None
        gate.set()
    assert [one.result() for one in held] == [None] * THREADS
    assert [pool.run(int) for _ in range(THREADS * 2)] == [0] * THREADS * 2
    assert asked == []


def test_the_threads_end_with_the_pool() -> None:
    pool = Pool("ending", LONG)
    pool.run(int)
    threads, gone = threads_of("ending"), weakref.ref(pool)
    del pool
    gc.collect()
    for thread in threads:
        thread.join()
    assert gone() is None


def test_an_idle_thread_keeps_nothing_alive() -> None:
    class Large:
        pass

    pool, large = Pool("idle", LONG), Large()
    gone = weakref.ref(large)
    pool.run(functools.partial(id, large))
    del large
    wait_until(lambda: gc.collect() >= 0 and gone() is None)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork here")
def test_a_forked_process_starts_threads_of_its_own() -> None:
    pool = Pool("forked", LONG)
    pool.run(int)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # newer Pythons warn of forks beside threads
        child = os.fork()
    if child == 0:
        try:
            os._exit(0 if pool.run(lambda: "here") == "here" else 1)
        finally:
            os._exit(2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert pool.run(lambda: "there") == "there"


def test_one_plugins_hang_is_no_other_plugins(gate: threading.Event) -> None:
    bad, good = Pool("bad", 0.01), Pool("good", LONG)
    hang(bad, gate, THREADS)
    assert good.run(lambda: sys.maxsize) == sys.maxsize
