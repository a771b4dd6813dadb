"""The store on SQLite: what fails leaves nothing half-written, what is acknowledged is there, whoever else writes."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from urllib.parse import urlencode

import pytest
from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from dialer.app import create_app
from dialer.errors import ConfigError
from dialer.signature import signature_of
from dialer.simulator.world import PUBLIC_URL, World
from dialer.store import StoreError, open_store
from dialer.store import sqlite as module
from dialer.store.migrations import migrations
from dialer.store.sqlite import SqliteStore, require_new_sqlite
from dialer.store.statements import STATEMENTS

MIGRATIONS = list(migrations.pending(Database(memory=True)))

AGENT, CUSTOMER = "CA" + "a" * 32, "CA" + "c" * 32
TWIML, STATUS = "/v1/voice/twiml", "/v1/voice/status"


class Faulty(sqlite3.Connection):
    """A connection whose statements fail on demand: `fails(sql)` decides, for all of them."""

    fails: Callable[[str], bool] = staticmethod(lambda sql: False)

    def execute(self, sql: str, *values: Any) -> Any:
        if sql != "ROLLBACK" and Faulty.fails(sql):  # that one needs no disk
            raise sqlite3.OperationalError("disk I/O error")
        return super().execute(sql, *values)


@pytest.fixture
def opened(monkeypatch: pytest.MonkeyPatch) -> Iterator[list[Any]]:
    """The connections that the store opens: quick to give up, and failing on demand."""
    connections: list[Any] = []

    def connect(*args: Any, **options: Any) -> Any:
        connections.append(sqlite3.connect(*args, **options, factory=Faulty))
        return connections[-1]

    monkeypatch.setattr(module, "sqlite3", SimpleNamespace(**vars(sqlite3) | {"connect": connect}))
    monkeypatch.setattr(module, "BUSY_SECONDS", 0.02)
    yield connections
    Faulty.fails = staticmethod(lambda sql: False)


@pytest.fixture
def store(tmp_path: Path, opened: list[Any]) -> Iterator[SqliteStore]:
    made = SqliteStore(tmp_path / "dialer.db", durable=False)
    yield made
    made.close()


@pytest.fixture
def world(opened: list[Any], stage: Any) -> World:
    found: World = stage.world
    return found


def add(store: Any, name: str) -> None:
    with store.write() as tx:
        tx.run("add_workspace", id=name, name=name, created_at=1.0)


def names(store: Any) -> list[str]:
    with store.read() as tx:
        return [row["id"] for row in tx.all("workspaces")]


def posting(world: World) -> Callable[..., tuple[int, bytes]]:
    """Send signed webhooks to an application of its own over this world's store."""
    dialer = world.dialer
    app = create_app(dialer.settings, plugins=dialer.plugins, store=dialer.store, clock=dialer.clock)
    account = dialer.settings.accounts[0]

    def post(path: str, **fields: str) -> tuple[int, bytes]:
        form = {"AccountSid": account.sid, "CallSid": AGENT, **fields}
        headers = {
            "X-Twilio-Signature": signature_of(PUBLIC_URL + path, list(form.items()), account.tokens[0].reveal())
        }
        kind = "application/x-www-form-urlencoded"
        answer = app.test_client().post(path, data=urlencode(form), content_type=kind, headers=headers)
        return answer.status_code, answer.data

    return post


def agent_calls(post: Callable[..., tuple[int, bytes]], call_sid: str = AGENT) -> tuple[int, bytes]:
    return post(TWIML, CallSid=call_sid, Caller="client:ws_demo_agent_0", To="+14155550103", CallStatus="ringing")


def rows(world: World) -> dict[str, list[Any]]:
    database = Database(sqlite3.connect(str(world.folder / "world.db")))
    try:
        return {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in database.table_names()}
    finally:
        database.close()


def test_the_file_and_its_lock_are_for_this_user_only(tmp_path: Path) -> None:
    store = open_store(f"sqlite:///{tmp_path}/new/folder/dialer.db")
    add(store, "ws")
    files = sorted((tmp_path / "new" / "folder").iterdir())
    assert [file.name for file in files] == ["dialer.db", "dialer.db-shm", "dialer.db-wal", "dialer.db.lock"]
    assert {file.stat().st_mode & 0o777 for file in files} == {0o600}
    store.close()


@pytest.mark.parametrize("url", ["", "mysql:///x", "sqlite://x", "sqlite:///", "postgresql://x/y"])
def test_an_unknown_store_is_refused_with_the_fix(url: str) -> None:
    with pytest.raises(ConfigError, match=r"use sqlite:///path/to/dialer\.db"):
        open_store(url)


def test_a_path_that_cannot_be_opened_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="cannot be opened"):
        SqliteStore(tmp_path / "file" / "dialer.db")


def test_a_file_that_is_no_database_is_a_store_error(tmp_path: Path) -> None:
    (tmp_path / "dialer.db").write_text("this is a text, and long enough not to be taken for an empty file" * 20)
    with pytest.raises(StoreError, match=r"dialer\.db: file is not a database"):
        SqliteStore(tmp_path / "dialer.db")


def test_an_sqlite_that_can_lose_commits_is_refused() -> None:
    require_new_sqlite((3, 51, 3))
    with pytest.raises(ConfigError, match=r"SQLite 3\.46\.1 can lose commits .* pip install 'pysqlite3>=0\.6'"):
        require_new_sqlite((3, 46, 1))


def test_commits_are_on_disk_and_waiting_ends_before_twilios_patience(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "dialer.db")
    settings = {
        name: store.database().execute(f"PRAGMA {name}").fetchone()[0]
        for name in ("journal_mode", "synchronous", "busy_timeout")
    }
    assert (settings["journal_mode"], settings["synchronous"]) == ("wal", 2)
    assert settings["busy_timeout"] < 15_000
    store.close()


def test_migrations_are_applied_once_and_again_change_nothing(tmp_path: Path) -> None:
    path = tmp_path / "dialer.db"
    path.touch()
    shapes: list[str] = []
    for _ in range(2):
        store = SqliteStore(path)
        add(store, f"ws{len(shapes)}")
        shapes.append(store.database().schema)
        assert store.database()["_sqlite_migrations"].count == len(MIGRATIONS)
        store.close()
    assert shapes[0] == shapes[1]


def test_a_migration_that_fails_half_way_is_taken_back(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dialer.store import migrations

    whole = migrations.SCHEMA
    monkeypatch.setattr(migrations, "SCHEMA", (*whole[:5], "CREATE TABLE broken ("))
    with pytest.raises(StoreError):
        SqliteStore(tmp_path / "dialer.db")
    monkeypatch.setattr(migrations, "SCHEMA", whole)
    store = SqliteStore(tmp_path / "dialer.db")
    add(store, "ws")
    assert names(store) == ["ws"]
    store.close()


PROCESS = """
import sys
from pathlib import Path
from dialer.store.sqlite import SqliteStore
sys.stdin.read(1)
store = SqliteStore(Path(sys.argv[1]), durable=False)
for number in range(int(sys.argv[3])):
    with store.write() as tx:
        tx.run("add_workspace", id=f"{sys.argv[2]}_{number}", name="x", created_at=1.0)
store.close()
"""


def in_processes(path: Path, count: int) -> list[int]:
    """Two processes that open the store and write to it at the same moment; gives their exit codes."""
    processes = [
        subprocess.Popen([sys.executable, "-c", PROCESS, str(path), name, str(count)], stdin=subprocess.PIPE)
        for name in ("one", "two")
    ]
    for process in processes:
        assert process.stdin
        process.stdin.write(b"x")
        process.stdin.close()
    return [process.wait(50) for process in processes]


def test_two_processes_migrate_and_write_at_once(tmp_path: Path) -> None:
    path = tmp_path / "dialer.db"
    assert in_processes(path, 100) == [0, 0]
    store = SqliteStore(path)
    assert len(names(store)) == 200
    assert store.database()["_sqlite_migrations"].count == len(MIGRATIONS)
    store.close()


def test_a_forked_child_does_not_share_connection_or_lock(store: SqliteStore) -> None:
    add(store, "parent")
    begun, begin = os.pipe()
    reader = store.database()
    child = os.fork()
    if not child:
        try:
            assert store.database() is not reader
            os.read(begun, 1)
            add(store, "child")  # with the parent's own lock it would not wait here, and find the file busy
            os._exit(0)
        finally:
            os._exit(1)
    with store.write() as tx:
        tx.run("add_workspace", id="held", name="x", created_at=1.0)
        os.write(begin, b"x")
        time.sleep(0.2)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    os.close(begun)
    os.close(begin)
    assert names(store) == ["child", "held", "parent"]


def test_a_person_can_browse_the_file(stage: Any) -> None:
    talker = stage.agent_dials("+14155550106")
    stage.ends()
    database = Database(stage.world.folder / "world.db")
    tables = {"workspaces", "agents", "numbers", "keys", "calls", "legs", "dial_intents", "events", "verdicts", "jobs"}
    assert tables <= set(database.table_names())
    assert "call_overview" in database.view_names()
    (row,) = database["call_overview"].rows
    assert row["id"] == talker.call.id
    assert (row["to_number"], row["status"], row["ended_by"]) == ("+14155550106", "completed", "customer")
    assert re.fullmatch(r"20\d\d-\d\d-\d\d \d\d:\d\d:\d\d", row["answered"])
    assert row["legs"].startswith(f"agent {talker.leg.sid} completed, customer CA")
    database.close()


#: Statements that are not of one tenant, and who may use them.
EVERYBODYS = {
    "dispatcher": {
        "due_plugins", "due_jobs", "living_legs", "sending_intents", "next_job", "finish_job", "retry_job",
        "overdue_calls", "wake_open_calls", "wake_jobs",
    },
    "clock": {
        "kept_clock", "keep_clock", "newest_moment", "note_step",
        "shift_jobs", "shift_waiting", "shift_breakers", "shift_intents", "shift_missing",
    },
    "metrics": {
        "count", "counts", "count_open_calls", "count_open_dials", "count_pending_jobs", "count_dead_jobs",
        "count_waiting_jobs", "count_resting_plugins",
        "count_events",
    },
    "readiness": {"open_calls"},
    "reconciler, within an account": {"leg_owner"},
    "invariants": {"all_agent_legs", "all_intents", "all_event_keys", "strangers_of_call"},
    "command line": {
        "all_calls", "calls_starting_with", "all_numbers", "workspaces", "workspace", "add_workspace", "agents",
        "disable_workspace", "disable_agent", "keys", "revoke_key",
    },
    "finding out the tenant": {"agent", "key", "operator_key"},
    "rate limit, by key": {"count_use", "forget_use", "uses"},
    "names that are unique over all": {"conference_taken"},
    "plugins, for the admin of all": {
        "all_breakers", "all_delivery", "all_deliveries", "replay_delivery", "replay_deliveries", "waiting_for_plugins",
        "plugin_changes", "plugin_note", "save_plugin_note", "plugin_answers", "plugin_failure", "plugin_deliveries",
        "hold_job",
    },
}  # fmt: skip


@pytest.mark.parametrize("name", STATEMENTS)
def test_a_statement_fits_the_schema_and_stays_with_its_tenant(store: SqliteStore, name: str) -> None:
    sql = STATEMENTS[name]
    store.database().execute(f"EXPLAIN {sql}", dict.fromkeys(re.findall(r":(\w+)", sql)))
    bound = re.search(r"\b(workspace = :workspace|account_sid = :account_sid)\b", sql) and ":workspace = ''" not in sql
    given = sql.startswith("INSERT") and '"workspace"' in sql
    everybodys = set().union(*EVERYBODYS.values())
    assert bool(bound or given) != (name in everybodys)


def test_what_the_webhooks_and_the_sweep_ask_does_not_read_whole_tables(store: SqliteStore) -> None:
    hot = ["call", "call_of_leg", "call_of_intent", "call_of_conference", "answer_of_leg", "legs", "intent"]
    hot += ["add_event", "save_call", "overdue_calls", "due_plugins", "due_jobs", "latest_dials", "events_of_call"]
    hot += ["calls", "key", "jobs_of_call", "numbers", "agent", "count_use", "leg_owner"]
    scans = []
    for name in hot:
        sql = STATEMENTS[name]
        plan = store.database().execute(f"EXPLAIN QUERY PLAN {sql}", dict.fromkeys(re.findall(r":(\w+)", sql)))
        scans += [(name, row["detail"]) for row in plan if re.match(r"SCAN (?!.*USING.*INDEX)", row["detail"])]
    assert scans == []


def test_an_exception_takes_back_all_of_a_transaction(store: SqliteStore) -> None:
    with pytest.raises(RuntimeError), store.write() as tx:
        tx.run("add_workspace", id="ws", name="x", created_at=1.0)
        raise RuntimeError
    assert names(store) == []
    add(store, "after")
    assert names(store) == ["after"]


def test_a_reader_sees_one_state(store: SqliteStore) -> None:
    add(store, "one")
    with store.read() as tx:
        before = len(tx.all("workspaces"))
        with ThreadPoolExecutor(1) as pool:
            pool.submit(add, store, "two").result()
        assert len(tx.all("workspaces")) == before
    assert names(store) == ["one", "two"]


def test_a_closed_store_opens_again_when_it_is_needed(store: SqliteStore) -> None:
    add(store, "one")
    store.close()
    store.close()
    add(store, "two")
    assert names(store) == ["one", "two"]


def test_a_statement_that_is_refused_is_a_store_error(store: SqliteStore) -> None:
    with pytest.raises(StoreError, match=r"dialer\.db: "), store.write() as tx:
        tx.run("add_workspace", id=None, name=None, created_at=1.0)


def test_threads_that_write_at_once_are_all_answered_truly(store: SqliteStore) -> None:
    """Some fail by themselves, and now and then the commit that several share fails: who is told so has nothing."""
    told: dict[str, bool] = {}
    begin, count = threading.Barrier(12), 40
    statements = iter(range(10**9))
    Faulty.fails = staticmethod(lambda sql: sql == "COMMIT" and next(statements) % 5 == 4)

    def work(thread: int) -> None:
        begin.wait()
        for number in range(count):
            name = f"t{thread}_{number}"
            try:
                with store.write() as tx:
                    tx.run("add_workspace", id=name, name="x", created_at=1.0)
                    if number % 7 == thread % 7:
                        raise RuntimeError
                told[name] = True
            except (RuntimeError, StoreError):
                told[name] = False

    threads = [threading.Thread(target=work, args=(thread,), daemon=True) for thread in range(12)]
    for one in threads:
        one.start()
    for one in threads:
        one.join(40)
    assert len(told) == 12 * count
    Faulty.fails = staticmethod(lambda sql: False)
    assert set(names(store)) == {name for name, done in told.items() if done}
    assert 0 < sum(told.values()) < 12 * count


def test_a_locked_file_is_a_500_that_wrote_nothing_and_passes(world: World) -> None:
    post = posting(world)
    assert agent_calls(post)[0] == 200
    before = rows(world)
    holder = sqlite3.connect(str(world.folder / "world.db"), isolation_level=None)
    holder.execute("BEGIN IMMEDIATE")
    assert post(STATUS, CallStatus="completed") == (500, b"the store is not available, try again\n")
    assert agent_calls(post, CUSTOMER)[0] == 500
    holder.execute("ROLLBACK")
    holder.close()
    assert rows(world) == before
    assert post(STATUS, CallStatus="completed")[0] == 204


def test_a_full_disk_is_a_500_that_wrote_nothing_and_passes(world: World, opened: list[Any]) -> None:
    post = posting(world)
    for one in opened:
        pages = one.execute("PRAGMA page_count").fetchone()[0]
        one.execute(f"PRAGMA max_page_count = {pages}")
    answers = [agent_calls(post, f"CA{number:032x}")[0] for number in range(60)]
    assert answers[-1] == 500
    full = rows(world)
    assert len(full["calls"]) == answers.count(200)
    assert all(len(full[name]) == answers.count(200) for name in ("legs", "dial_intents", "events"))
    for one in opened:
        one.execute("PRAGMA max_page_count = 1000000")
    assert agent_calls(post, f"CA{59:032x}")[0] == 200


REQUESTS: dict[str, Callable[[Callable[..., tuple[int, bytes]]], tuple[int, bytes]]] = {
    "twiml": lambda post: agent_calls(post, CUSTOMER),
    "status": lambda post: post(STATUS, CallStatus="in-progress", SequenceNumber="2"),
}


@pytest.mark.parametrize("request_of", REQUESTS.values(), ids=REQUESTS)
def test_whichever_statement_fails_nothing_is_half_written(world: World, request_of: Any) -> None:
    post = posting(world)
    agent_calls(post)
    before = rows(world)
    for nth in range(60):
        left = iter([False] * nth + [True])
        Faulty.fails = staticmethod(lambda sql, left=left: next(left, False))
        status, _ = request_of(post)
        unused = next(left, None)
        Faulty.fails = staticmethod(lambda sql: False)
        if unused:
            break
        assert (status, rows(world)) == (500, before)
    assert (status, nth > 4) in [(200, True), (204, True)]
    assert rows(world) != before


def test_a_write_ahead_log_that_cannot_be_read_is_a_500(world: World) -> None:
    post = posting(world)
    agent_calls(post)
    Faulty.fails = staticmethod(lambda sql: sql == "BEGIN")
    assert agent_calls(post, CUSTOMER) == (500, b"the store is not available, try again\n")


def at_once(count: int, work: Callable[[], Any]) -> list[Any]:
    """The same thing on so many threads, started together."""
    begin = threading.Barrier(count)

    def one(_: int) -> Any:
        begin.wait()
        return work()

    with ThreadPoolExecutor(count) as pool:
        return list(pool.map(one, range(count)))


@pytest.fixture
def patient(monkeypatch: pytest.MonkeyPatch, opened: list[Any]) -> None:
    monkeypatch.setattr(module, "BUSY_SECONDS", 8.0)


@pytest.mark.usefixtures("patient")
def test_the_same_agents_request_twice_at_once_is_one_call_and_equal_bytes(world: World) -> None:
    post = posting(world)
    for number in range(10):
        answers = at_once(2, partial(agent_calls, post, f"CA{number:032x}"))
        assert answers[0] == answers[1]
        assert answers[0][0] == 200
    found = rows(world)
    assert (len(found["calls"]), len(found["legs"]), len(found["dial_intents"])) == (10, 10, 10)


@pytest.mark.usefixtures("patient")
def test_the_same_callback_from_twenty_threads_is_one_event_with_one_set_of_jobs(world: World) -> None:
    post = posting(world)
    agent_calls(post)
    answers = at_once(20, lambda: post(STATUS, CallStatus="in-progress", SequenceNumber="0")[0])
    assert answers == [204] * 20
    found = rows(world)
    assert (len(found["events"]), len(found["jobs"])) == (2, 1)
