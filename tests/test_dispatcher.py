"""The dispatcher: one per store, does what is due on threads, outlives a store that fails, and lets work finish."""

from __future__ import annotations

import os
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from dialer import jobs
from dialer.app import create_service
from dialer.calls import Call
from dialer.dispatcher import CORE_THREADS, Dispatcher, Pool, only_one
from dialer.errors import DialerError
from dialer.hookspecs import hookimpl
from dialer.records import add_job
from dialer.store import Row, StoreError

AGENT = "CA" + "a" * 32


class Listener:
    """A plugin that is told, and may take as long as the test likes."""

    def __init__(self) -> None:
        self.heard = threading.Semaphore(0)
        self.go = threading.Event()
        self.go.set()
        self.threads: set[int] = set()

    @hookimpl
    def call_ended(self, call: Call) -> None:
        self.threads.add(threading.get_ident())
        self.heard.release()
        assert self.go.wait(30)


class Office:
    """A dispatcher on a thread, by the real clock, over the store of a stage with one call that is over."""

    def __init__(self, stage: Any) -> None:
        self.listener = Listener()
        given = stage.world.dialer
        self.call: Call = stage.agent_dials("12345").call
        stage.world.settle()
        self.dialer = create_service(given.settings, plugins=[self.listener], store=given.store)
        self.dispatcher = Dispatcher(self.dialer)
        self.thread = threading.Thread(target=self.dispatcher.run, daemon=True)

    def owe(self, count: int, first: int = 0) -> None:
        with self.dialer.store.write() as tx:
            for number in range(first, first + count):
                key = f"k{number}"
                add_job(tx, self.call, "deliver", key, 1.0, plugin="listener", hook="call_ended", event_id=1)

    def results(self) -> list[str]:
        with self.dialer.store.read() as tx:
            rows = tx.all("jobs_of_call", call_id=self.call.id, workspace=self.call.workspace)
        return [row["result"].partition(" in ")[0] for row in rows if row["kind"] == "deliver"]

    def stop(self) -> None:
        self.listener.go.set()
        self.dispatcher.stopping.set()
        self.thread.join(30)
        assert not self.thread.is_alive()


@pytest.fixture
def office(stage: Any) -> Iterator[Office]:
    made = Office(stage)
    yield made
    if made.thread.ident:
        made.stop()


def heard(office: Office, times: int) -> bool:
    return all(office.listener.heard.acquire(timeout=20) for _ in range(times))


def test_what_is_due_is_done_and_written_down(office: Office) -> None:
    office.owe(20)
    office.thread.start()
    assert heard(office, 20)
    office.stop()
    assert office.results() == ["told call_ended"] * 20


def test_what_falls_due_later_is_done_then(office: Office) -> None:
    office.thread.start()
    office.owe(1)
    assert heard(office, 1)


def test_it_holds_no_more_than_it_works_on_and_finishes_it_when_stopped(office: Office) -> None:
    office.listener.go.clear()
    office.owe(20)
    office.thread.start()
    assert heard(office, 2)
    office.dispatcher.stopping.set()
    assert not office.listener.heard.acquire(timeout=0.3)
    office.stop()
    assert sorted(office.results()) == [""] * 18 + ["told call_ended"] * 2
    assert len(office.listener.threads) == 2


def signals(event: threading.Event) -> Callable[[jobs.Worker, Row], jobs.Result]:
    """A handler that only tells that it was called."""

    def handler(worker: jobs.Worker, job: Row) -> jobs.Result:
        event.set()
        return jobs.Result("done")

    return handler


def test_slow_plugins_do_not_hold_up_our_own_jobs(office: Office, monkeypatch: pytest.MonkeyPatch) -> None:
    office.listener.go.clear()
    done = threading.Event()
    monkeypatch.setattr(jobs, "HANDLERS", {**jobs.HANDLERS, "announce": signals(done)})
    office.owe(20)
    office.thread.start()
    assert heard(office, 2)
    with office.dialer.store.write() as tx:
        add_job(tx, office.call, "announce", "a", 1.0)
    assert done.wait(20)


class Diligent(Listener):
    """Another plugin, which never waits."""


def test_a_plugin_that_hangs_keeps_its_own_deliveries_only(stage: Any) -> None:
    office = Office(stage)
    diligent = Diligent()
    office.dialer = create_service(
        office.dialer.settings, plugins=[office.listener, diligent], store=office.dialer.store
    )
    office.dispatcher = Dispatcher(office.dialer)
    office.thread = threading.Thread(target=office.dispatcher.run, daemon=True)
    office.listener.go.clear()
    office.owe(20)
    with office.dialer.store.write() as tx:
        for number in range(20):
            key = f"d{number}"
            add_job(tx, office.call, "deliver", key, 1.0, plugin="diligent", hook="call_ended", event_id=1)
    office.thread.start()
    assert all(diligent.heard.acquire(timeout=20) for _ in range(20))
    office.stop()


@pytest.mark.parametrize("work", ["due", "wake"], ids=["at work", "at the start"])
def test_a_store_that_fails_for_a_while_is_outlived(
    work: str, office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    failed = threading.Semaphore(0)

    def fails(**_: Any) -> list[Any]:
        failed.release()
        raise StoreError("store dialer.db: database is locked")

    monkeypatch.setattr(type(office.dispatcher.worker), work, lambda self: fails())
    office.thread.start()
    assert failed.acquire(timeout=20)
    monkeypatch.undo()
    office.owe(1)
    assert heard(office, 1)


def test_an_outcome_that_cannot_be_stored_leaves_the_job_to_run_again(
    office: Office, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fails(*_: Any) -> None:
        raise StoreError("store dialer.db: database or disk is full")

    monkeypatch.setattr(type(office.dispatcher.worker), "_finish", fails)
    office.owe(1)
    office.thread.start()
    assert heard(office, 1)
    office.stop()
    assert office.results() == [""]
    with office.dialer.store.read() as tx:
        rows = tx.all("jobs_of_call", call_id=office.call.id, workspace=office.call.workspace)
    assert [row["status"] for row in rows if row["kind"] == "deliver"] == ["doing"]


def test_it_begins_by_asking_about_every_open_call(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    office = Office(stage)
    stage.agent_dials("+14155550103")
    asked = threading.Event()
    monkeypatch.setattr(jobs, "HANDLERS", {**jobs.HANDLERS, "reconcile": signals(asked)})
    database = office.dialer.store.database()  # type: ignore[attr-defined]
    database.execute("UPDATE calls SET deadline = 9e9 WHERE deadline IS NOT NULL")
    office.thread.start()
    assert asked.wait(20)
    office.stop()


def test_a_pool_counts_what_runs() -> None:
    class Work:
        def __init__(self) -> None:
            self.go = threading.Event()

        def run(self, job: Any) -> None:
            assert self.go.wait(30)

    pool, work = Pool(2), Work()
    assert pool.free() == 2
    pool.run(work, {})  # type: ignore[arg-type]
    assert pool.free() == 1
    work.go.set()
    pool.executor.shutdown(wait=True)
    assert pool.free() == 2
    assert CORE_THREADS > 1


def test_there_is_one_dispatcher_for_a_store(tmp_path: Path) -> None:
    lock = tmp_path / "dispatcher.lock"
    held = only_one(lock)
    open_files = len(os.listdir("/proc/self/fd"))
    for _ in range(3):
        with pytest.raises(DialerError, match=r"another dispatcher already works on this store \(dispatcher\.lock"):
            only_one(lock)
    assert len(os.listdir("/proc/self/fd")) == open_files
    os.close(held)
    os.close(only_one(lock))


HOLDS = """
import sys
from pathlib import Path
from dialer.dispatcher import only_one
only_one(Path(sys.argv[1]))
print("held", flush=True)
sys.stdin.read()
"""


def test_the_lock_of_a_killed_dispatcher_is_free_at_once(tmp_path: Path) -> None:
    lock = tmp_path / "dispatcher.lock"
    holder = subprocess.Popen([sys.executable, "-c", HOLDS, str(lock)], stdin=subprocess.PIPE, stdout=subprocess.PIPE)
    assert holder.stdout and holder.stdin
    assert holder.stdout.readline() == b"held\n"
    with pytest.raises(DialerError):
        only_one(lock)
    holder.kill()
    holder.wait()
    holder.stdout.close()
    holder.stdin.close()
    os.close(only_one(lock))
