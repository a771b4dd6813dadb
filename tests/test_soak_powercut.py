"""Power cuts: the harness of `python -m soak power` with few cuts, and that it would see what it is to see."""

from __future__ import annotations

import pickle
from collections.abc import Callable
from pathlib import Path
from random import Random

import pytest
from click.testing import CliRunner

from dialer.store.sqlite import SqliteStore
from soak import powercut
from soak.powercut import Summary, apply, control, cut_often, disk_after, examine, figure, power, record, sectors
from soak.vfs import Create, Delete, Log, Promise, Sync, Truncate, Write, recording

SEED = 1


@pytest.fixture(scope="module")
def log() -> Log:
    return record(SEED)


@pytest.mark.timeout(180)
def test_what_was_acknowledged_outlives_a_power_cut(
    log: Log, record_property: Callable[[str, object], None]
) -> None:
    summary = Summary()
    cut_often(log, 60, SEED, summary)
    assert summary.breaches == []
    careless = control(SEED)
    assert careless.losing > careless.cuts / 2
    assert careless.corrupt == 0
    record_property("figure", figure(summary, careless))


def test_a_recording_holds_what_the_cuts_are_to_fall_into(log: Log, tmp_path: Path) -> None:
    promises = [entry.key for entry in log if isinstance(entry, Promise)]
    assert len(promises) > 300
    assert {key.partition(":")[0] for key in promises[1:]} == {"twiml", "join", "status", "conference", "dial"}
    synced = [entry.file for entry in log if isinstance(entry, Sync)]
    assert synced.count("dialer.db") > 3  # checkpoints
    assert Delete("dialer.db-wal", False) in log  # a restart
    (tmp_path / "dialer.db").write_bytes(disk_after(log, len(log), "drop", SEED)["dialer.db"])
    store = SqliteStore(tmp_path / "dialer.db")
    jobs = store.database()["jobs"].count_where("status = 'done'")  # each took a transaction, as each webhook did
    store.close()
    assert len(promises) + jobs > 1.2 * synced.count("dialer.db-wal")  # commits that threads shared


@pytest.mark.parametrize("query", sorted(powercut.HALVES.values()))
def test_a_transaction_by_half_is_seen(query: str, log: Log, tmp_path: Path) -> None:
    (tmp_path / "dialer.db").write_bytes(disk_after(log, len(log), "drop", SEED)["dialer.db"])
    store = SqliteStore(tmp_path / "dialer.db")
    database = store.database()
    assert list(database.execute(query)) == []
    for damage in DAMAGES[query_name(query)]:
        database.execute(damage)
    assert list(database.execute(query)) != []
    store.close()


def query_name(query: str) -> str:
    return next(name for name, other in powercut.HALVES.items() if other == query)


DAMAGES = {
    "event without its call": ["DELETE FROM calls"],
    "call without its first event": ["DELETE FROM events"],
    "call without its agent's leg": ["DELETE FROM legs"],
    "call without its intent": ["DELETE FROM dial_intents"],
    "event without its leg": ["DELETE FROM legs"],
    "leg behind its event": ["UPDATE legs SET status = 'ringing'"],
    "event that the plugin is not owed": ["DELETE FROM jobs"],
    "join without a dial": ["DELETE FROM jobs"],
    "dial without its intent": ["UPDATE dial_intents SET state = 'planned'"],
    "intent that the call knows otherwise": ["UPDATE calls SET dial = 'planned'"],
}


def test_a_broken_file_is_seen(log: Log, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = disk_after(log, len(log), "drop", SEED)["dialer.db"]
    broken = whole[:4096] + bytes(range(256)) * 32 + whole[12288:]
    monkeypatch.setattr(powercut, "disk_after", lambda *_: {"dialer.db": broken})
    assert examine(log, len(log), "drop", SEED).corrupt


def test_what_a_cut_broke_can_be_seen_again(tmp_path: Path) -> None:
    kept = tmp_path / "recording"
    kept.write_bytes(pickle.dumps([Promise("twiml:CA1")]))
    result = CliRunner().invoke(power, ["--replay", str(kept), "--cut", "1"])
    assert (result.exit_code, result.output) == (1, "lost: twiml:CA1\n")
    result = CliRunner().invoke(power, ["--replay", str(kept), "--cut", "0"])
    assert (result.exit_code, result.output) == (0, "nothing is wrong\n")


# The model of the disk.

SYNCED: Log = [Create("a"), Write("a", 0, b"one"), Sync("a", 2)]


def found(log: Log, mode: str) -> set[bytes]:
    """Everything that file a may hold after a cut at the end of the log."""
    return {disk_after(log, len(log), mode, seed)["a"] for seed in range(200)}


def test_what_was_synced_is_there() -> None:
    assert found(SYNCED, "drop") == found(SYNCED, "torn") == {b"one"}


def test_a_write_during_a_sync_may_miss_it() -> None:
    log: Log = [Create("a"), Write("a", 0, b"one"), Write("a", 3, b"two"), Sync("a", 2)]
    assert found(log, "drop") == {b"one", b"onetwo"}


def test_of_unsynced_writes_a_beginning_survives_or_any_of_them() -> None:
    log: Log = [*SYNCED, Write("a", 3, b"two"), Write("a", 6, b"six")]
    assert found(log, "drop") == {b"one", b"onetwo", b"onetwosix"}
    assert found(log, "torn") >= {b"one", b"onetwo", b"onetwosix", b"one\0\0\0six"}


def test_a_truncation_may_be_lost() -> None:
    assert found([*SYNCED, Truncate("a", 1)], "drop") == {b"one", b"o"}


def test_one_write_tears_between_sectors() -> None:
    kept = [list(sectors(Write("a", 500, bytes(600)), Random(seed))) for seed in range(100)]
    pieces = {(write.offset, len(write.data)) for writes in kept for write in writes}
    assert pieces == {(500, 12), (512, 512), (1024, 76)}
    assert {len(writes) for writes in kept} == {0, 1, 2, 3}


def test_a_deletion_may_be_lost_until_the_folder_is_written() -> None:
    gone: Log = [*SYNCED, Delete("a", False)]
    ends = [disk_after(gone, len(gone), "drop", seed) for seed in range(50)]
    assert {b"one"} == {end["a"] for end in ends if end}
    assert {} in ends
    assert disk_after([*SYNCED, Delete("a", True)], 4, "drop", 0) == {}
    later: Log = [*gone, Create("b")]
    assert all(disk_after(later, len(later), "drop", seed) == {"b": b""} for seed in range(50))


def test_a_gap_before_a_write_is_zeros() -> None:
    content = bytearray(b"x")
    apply(content, Write("a", 3, b"y"))
    assert content == b"x\0\0y"


def test_the_log_of_a_file_gives_that_file(tmp_path: Path) -> None:
    with recording(tmp_path) as log:
        store = SqliteStore(tmp_path / "dialer.db")
        with store.write() as tx:
            tx.run("add_workspace", id="ws", name="ws", created_at=0.0)
        there = {file: (tmp_path / file).read_bytes() for file in ("dialer.db", "dialer.db-wal")}
        now = len(log)
        store.close()
    assert disk_after(log, now, "drop", SEED) == there
    assert not list(Path().glob("*-shm"))


def test_nothing_is_recorded_outside(tmp_path: Path) -> None:
    (tmp_path / "inside").mkdir()
    with recording(tmp_path / "inside") as log:
        SqliteStore(tmp_path / "dialer.db").close()
    SqliteStore(tmp_path / "inside" / "dialer.db").close()
    assert log == []
