"""A pool of two threads: what hangs in it costs its budget and no more."""

import functools
import gc
import logging
import os
import sys
import threading
import time
import warnings
import weakref
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from types import SimpleNamespace
from typing import Any

import pytest

from dialer.calls import Call
from dialer.hookspecs import Refusal, Route, hookimpl
from dialer.host import Host
from dialer.isolation import MOST_WRITTEN_OFF, SWITCH, THREADS, Overrun, Pool
from dialer.logs import Flood, configure
from dialer.plugins import PluginSet

CALL = Call("call_1", "ws", "alice", "+14155550101", "+14155550199", "ws-1")

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


def test_who_overruns_must_let_others_run_more_often(gate: threading.Event) -> None:
    before = sys.getswitchinterval()
    try:
        sys.setswitchinterval(0.005)
        assert Pool("quick", LONG).run(lambda: 1) == 1
        assert sys.getswitchinterval() == pytest.approx(0.005)
        hang(Pool("burns", 0.01), gate)
        assert sys.getswitchinterval() == pytest.approx(SWITCH)
    finally:
        sys.setswitchinterval(before)


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


# threads that go on hanging


def hopeless(monkeypatch: pytest.MonkeyPatch) -> None:
    """From now on, whoever hangs has hung for long enough."""
    monkeypatch.setattr("dialer.isolation.HOPELESS", -1.0)


def test_a_thread_that_goes_on_hanging_is_replaced(gate: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    pool = Pool("recovering", LONG)
    pool.budget = 0.01
    hang(pool, gate, THREADS)
    with pytest.raises(Overrun, match="all its threads hang"):
        pool.run(int)
    hopeless(monkeypatch)
    pool.budget = LONG
    assert pool.run(lambda: "works again") == "works again"


def test_a_thread_that_computes_for_ever_is_stopped(monkeypatch: pytest.MonkeyPatch) -> None:
    def burn() -> None:
        while True:
            pass

    pool = Pool("burning", LONG)
    pool.budget = 0.01
    while pool._work is None or pool._work.stuck < THREADS:
        with pytest.raises(Overrun):
            pool.run(burn)
    burning = {thread.name for thread in threads_of("burning")}
    hopeless(monkeypatch)
    pool.budget = LONG
    assert pool.run(lambda: "works again") == "works again"
    wait_until(lambda: not burning & {thread.name for thread in threads_of("burning")})
    assert pool._work is not None
    wait_until(lambda: pool._work is not None and not pool._work.late)
    assert pool._work.stuck == 0


def test_so_many_are_replaced_and_no_more(gate: threading.Event, monkeypatch: pytest.MonkeyPatch) -> None:
    hopeless(monkeypatch)
    pool = Pool("greedy", 0.01)
    for _ in range(4 * (THREADS + MOST_WRITTEN_OFF)):
        with pytest.raises(Overrun):
            pool.run(gate.wait)
    wait_until(lambda: len(threads_of("greedy")) == THREADS + MOST_WRITTEN_OFF)
    with pytest.raises(Overrun, match="all its threads hang"):
        for _ in range(2 * THREADS):
            pool.run(gate.wait)
    gate.set()
    wait_until(lambda: len(threads_of("greedy")) == THREADS)
    pool.budget = LONG
    assert pool.run(lambda: "works again") == "works again"


# what plugins do wrong within a request


class Wild:
    """Does whatever it is told to, in every hook that is asked."""

    budget_seconds = 0.2

    def __init__(self, act: Callable[[], object]) -> None:
        self.act = act

    @hookimpl
    def validate_call(self, call: Call) -> Any:
        return self.act()

    @hookimpl
    def route_call(self, call: Call) -> Any:
        return self.act()


class Calm:
    @hookimpl
    def route_call(self, call: Call) -> Route:
        return Route("+14155550102")


def deep() -> object:
    return deep()


def leave(error: BaseException) -> object:
    raise error


class Endless:
    """An answer that takes for ever to look at, and an error that takes for ever to read."""

    def __repr__(self) -> str:
        while True:
            time.sleep(0.01)


class Unreadable(Exception):
    def __str__(self) -> str:
        while True:
            time.sleep(0.01)


class Liar:
    """Says it is a Refusal."""

    __class__ = Refusal  # type: ignore[assignment]


@pytest.mark.parametrize(
    "act",
    [
        lambda: leave(ValueError("no")),
        lambda: leave(SystemExit(3)),
        lambda: leave(KeyboardInterrupt()),
        lambda: leave(GeneratorExit()),
        lambda: leave(MemoryError()),
        deep,
        lambda: time.sleep(1),
        lambda: "x" * 50_000_000,
        lambda: Refusal("x" * 50_000_000),
        lambda: Route("+1" * 10_000_000, 30),
        lambda: object(),
        lambda: 7,
        lambda: b"\xff",
        lambda: [None] * 1_000_000,
        Endless,
        lambda: leave(Unreadable()),
        Liar,
    ],
)
def test_whatever_one_plugin_does_the_safe_answers_count_and_the_others_are_asked(act: Callable[[], object]) -> None:
    plugins = PluginSet.of([Wild(act), Calm()])
    answers, (verdict,) = plugins.gather("validate_call", CALL)
    assert answers == [("wild", Refusal("The call could not be checked.", "plugin-error:wild"))]
    assert 0 < len(verdict.error) < 500 and verdict.error.isprintable()
    answer, verdicts = plugins.ask("route_call", CALL)
    assert (answer, bool(verdicts[0].error), verdicts[1].error) == (Route("+14155550102"), True, "")


def test_a_flood_of_log_lines_is_cut_short(capfd: pytest.CaptureFixture[str]) -> None:
    handlers, level, on = (log := logging.getLogger("dialer")).handlers, log.level, log.propagate
    try:
        configure("text", "info")
        loud, good = Host("loud").log, Host("good").log
        for number in range(5000):
            loud.info("line %d %s", number, "x" * 10_000)
        good.info("all is well")
    finally:
        log.handlers, log.propagate = handlers, on
        log.setLevel(level)
    lines = capfd.readouterr().err.splitlines()
    assert len(lines) == Flood.lines + 2
    assert "over 100 lines in 10 s: the rest of them is left out" in lines[-2]
    assert lines[-1].endswith("dialer.plugins.good all is well")
    assert max(map(len, lines)) < Flood.length + 100
