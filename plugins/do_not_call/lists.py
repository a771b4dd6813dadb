"""The lists and their entries in the plugin's database. The list of all workspaces has no workspace."""

from __future__ import annotations

import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

from dialer import Call, Host

if TYPE_CHECKING:
    from sqlite_utils import Database

NAME = re.compile(r"[A-Za-z0-9_.-]{1,60}")
EVERYBODY = ""
#: For how long a call is known to be counted: far longer than a delivery is retried.
COUNTED_SECONDS = 90 * 86_400.0
#: Rows that are staged at once.
BATCH = 10_000

# By number first: a check is one search in one tree. The list's index serves the commands.
_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS entries (
        number TEXT NOT NULL, workspace TEXT NOT NULL, list TEXT NOT NULL, reason TEXT NOT NULL,
        added_at REAL NOT NULL, expires_at REAL, hits INTEGER NOT NULL DEFAULT 0, last_hit_at REAL,
        PRIMARY KEY (number, workspace, list)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS entries_of_list ON entries (workspace, list)",
    """CREATE TABLE IF NOT EXISTS lists (
        workspace TEXT NOT NULL, name TEXT NOT NULL, imported_at REAL NOT NULL, PRIMARY KEY (workspace, name)
    ) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS counted (call_id TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID",
)
_COLUMNS = "number, workspace, list, reason, added_at, expires_at, hits, last_hit_at"
_STAGE = "CREATE TEMP TABLE incoming (number TEXT NOT NULL, reason TEXT NOT NULL, expires_at REAL)"
# An entry keeps when it was added and its hits; of several rows for a number the last one counts.
_INTO = "INSERT INTO entries (number, workspace, list, reason, added_at, expires_at)"
_OR_UPDATE = """
    ON CONFLICT (number, workspace, list) DO UPDATE SET reason = excluded.reason, expires_at = excluded.expires_at
"""
_ADD = f"{_INTO} VALUES (:number, :workspace, :list, :reason, :now, :expires_at) {_OR_UPDATE}"
_MERGE = f"""{_INTO}
    SELECT number, :workspace, :list, reason, :now, expires_at FROM incoming WHERE true ORDER BY number, rowid
    {_OR_UPDATE}
"""
_LISTED = "INTO lists (workspace, name, imported_at) VALUES (:workspace, :list, :now)"
_DROP_OTHERS = """
    DELETE FROM entries WHERE workspace = :workspace AND list = :list AND number NOT IN (SELECT number FROM incoming)
"""
_OVERVIEW = """
    SELECT lists.workspace, lists.name, lists.imported_at, count(number),
        count(number) FILTER (WHERE expires_at <= ?), CAST(total(hits) AS INTEGER)
    FROM lists LEFT JOIN entries ON entries.workspace = lists.workspace AND entries.list = lists.name
    GROUP BY lists.workspace, lists.name
"""


@dataclass(frozen=True, slots=True)
class Incoming:
    """What an import brings for one number."""

    number: str
    reason: str
    expires_at: float | None


@dataclass(frozen=True, slots=True)
class Entry:
    """A number on a list; `workspace` is empty on a list of all."""

    number: str
    workspace: str
    list: str
    reason: str
    added_at: float
    expires_at: float | None
    hits: int
    last_hit_at: float | None


@dataclass(frozen=True, slots=True)
class List:
    workspace: str
    name: str
    imported_at: float


@dataclass(frozen=True, slots=True)
class Overview:
    workspace: str
    name: str
    imported_at: float
    entries: int
    expired: int
    hits: int


@dataclass(frozen=True, slots=True)
class Merged:
    """What an import came to, in entries of the list."""

    before: int
    added: int
    removed: int


def find(host: Host, workspace: str, number: str, now: float) -> list[Entry]:
    """The entries that forbid a number then, those of the workspace's own lists first."""
    query = f"""SELECT {_COLUMNS} FROM entries WHERE number = ? AND workspace IN (?, ?)
        AND (expires_at IS NULL OR expires_at > ?) ORDER BY workspace DESC, list"""
    return [Entry(*row) for row in _opened(host).execute(query, (number, workspace, EVERYBODY, now))]


def all_of(host: Host, workspace: str, number: str) -> list[Entry]:
    """Every entry of a number that the workspace sees, expired ones too."""
    query = f"SELECT {_COLUMNS} FROM entries WHERE number = ? AND workspace IN (?, ?) ORDER BY workspace DESC, list"
    return [Entry(*row) for row in _opened(host).execute(query, (number, workspace, EVERYBODY))]


def lists_of(host: Host, workspace: str) -> list[List]:
    """The lists that a workspace's calls are checked against."""
    query = "SELECT workspace, name, imported_at FROM lists WHERE workspace IN (?, ?) ORDER BY workspace DESC, name"
    return [List(*row) for row in _opened(host).execute(query, (workspace, EVERYBODY))]


def overview(host: Host) -> list[Overview]:
    return [Overview(*row) for row in _opened(host).execute(_OVERVIEW, (host.clock(),))]


def entries(host: Host, workspace: str, name: str) -> Iterator[Entry]:
    """All entries of one list, in order of their numbers."""
    query = f"SELECT {_COLUMNS} FROM entries WHERE workspace = ? AND list = ? ORDER BY number"
    for row in _opened(host).execute(query, (workspace, name)):
        yield Entry(*row)


def add(host: Host, workspace: str, name: str, entry: Incoming) -> bool:
    """Put one number on a list, which does not make an old list newer; whether it was not on it yet."""
    _opened(host)
    with host.writing() as db:
        before = _count(db, workspace, name)
        values = {"workspace": workspace, "list": name, "now": host.clock(), **asdict(entry)}
        db.execute(_ADD, values)
        db.execute(f"INSERT OR IGNORE {_LISTED}", values)
        return _count(db, workspace, name) > before


def merge(host: Host, workspace: str, name: str, coming: Iterable[Sequence[Incoming]], *, replace: bool) -> Merged:
    """Put batches onto a list, all or nothing; `replace` takes off what they do not hold.

    The batches are staged in a file of SQLite's own first, so that neither memory nor a lock is held while they come.
    """
    db = _opened(host)
    db.execute("DROP TABLE IF EXISTS incoming")
    db.execute(_STAGE)
    try:
        for batch in coming:
            _stage(db, batch)
        return _merge_staged(host, workspace, name, replace)
    finally:
        db.execute("DROP TABLE incoming")


def remove(host: Host, workspace: str, name: str, number: str) -> bool:
    """Take a number off a list; whether it was on it."""
    _opened(host)
    with host.writing() as db:
        query = "DELETE FROM entries WHERE number = ? AND workspace = ? AND list = ?"
        gone = db.execute(query, (number, workspace, name)).rowcount
    return bool(gone)


def drop(host: Host, workspace: str, name: str) -> int | None:
    """Delete a list; how many entries it had, None when there was no such list."""
    _opened(host)
    with host.writing() as db:
        if not db.execute("DELETE FROM lists WHERE workspace = ? AND name = ?", (workspace, name)).rowcount:
            return None
        return int(db.execute("DELETE FROM entries WHERE workspace = ? AND list = ?", (workspace, name)).rowcount)


def count_hit(host: Host, call: Call, found: Iterable[Entry]) -> None:
    """Count a refused call on each of its entries, once however often this is told."""
    _opened(host)
    with host.writing() as db:
        now = host.clock()
        if not db.execute("INSERT OR IGNORE INTO counted (call_id, at) VALUES (?, ?)", (call.id, now)).rowcount:
            return
        for entry in found:
            db.execute(
                "UPDATE entries SET hits = hits + 1, last_hit_at = ? WHERE number = ? AND workspace = ? AND list = ?",
                (call.requested_at, entry.number, entry.workspace, entry.list),
            )
        db.execute("DELETE FROM counted WHERE at < ?", (now - COUNTED_SECONDS,))


def _stage(db: Database, batch: Sequence[Incoming]) -> None:
    db.execute("BEGIN")
    rows = [(one.number, one.reason, one.expires_at) for one in batch]
    db.conn.executemany("INSERT INTO incoming (number, reason, expires_at) VALUES (?, ?, ?)", rows)
    db.execute("COMMIT")


def _merge_staged(host: Host, workspace: str, name: str, replace: bool) -> Merged:
    with host.writing() as db:
        values = {"workspace": workspace, "list": name, "now": host.clock()}
        before = _count(db, workspace, name)
        removed = db.execute(_DROP_OTHERS, values).rowcount if replace else 0
        db.execute(_MERGE, values)
        added = _count(db, workspace, name) - before + removed
        db.execute(f"INSERT OR REPLACE {_LISTED}", values)
        return Merged(before, added, removed)


def _count(db: Database, workspace: str, name: str) -> int:
    row = db.execute("SELECT count(*) FROM entries WHERE workspace = ? AND list = ?", (workspace, name)).fetchone()
    return int(row[0])


def _opened(host: Host) -> Database:
    db = host.database()
    for statement in _SCHEMA:
        db.execute(statement)
    return db
