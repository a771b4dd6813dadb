"""Which number follows which, by workspace, and which were tried in a call."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, NamedTuple

from dialer import Call, Host

if TYPE_CHECKING:
    from sqlite_utils import Database

#: Seconds for which it is known what a call tried: far longer than a call lasts.
KEPT_SECONDS = 7 * 86_400.0

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS numbers (
        workspace TEXT NOT NULL, number TEXT NOT NULL, place INTEGER NOT NULL, next TEXT NOT NULL,
        PRIMARY KEY (workspace, number, next)
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS tried (
        call_id TEXT NOT NULL, number TEXT NOT NULL, at REAL NOT NULL, PRIMARY KEY (call_id, number)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS tried_by_time ON tried (at)",
)
_LAST = "(SELECT coalesce(max(place), 0) + 1 FROM numbers WHERE workspace = ?1 AND number = ?2)"
_ADD = f"INSERT OR IGNORE INTO numbers (workspace, number, place, next) VALUES (?1, ?2, {_LAST}, ?3)"


class Pair(NamedTuple):
    """A number, and one to try when it is not answered."""

    number: str
    next: str


def next_of(host: Host, call: Call) -> str:
    """The number to try after call.to: its own next ones, then those of the numbers before it; never one twice."""
    _opened(host)
    with host.writing() as db:
        now = host.clock()
        db.execute("INSERT OR IGNORE INTO tried (call_id, number, at) VALUES (?, ?, ?)", (call.id, call.to, now))
        db.execute("DELETE FROM tried WHERE at < ?", (now - KEPT_SECONDS,))
        query = "SELECT number FROM tried WHERE call_id = ? ORDER BY number != ?, at DESC"
        tried = [number for (number,) in db.execute(query, (call.id, call.to))]
        following = (one for number in tried for one in _following(db, call.workspace, number))
        return next((one for one in following if one not in tried), "")


def pairs(host: Host, workspace: str, number: str = "") -> list[Pair]:
    """All pairs of a workspace, or those of one number, in the order in which they are tried."""
    query = "SELECT number, next FROM numbers WHERE workspace = ? AND ? IN ('', number) ORDER BY number, place"
    return [Pair(*row) for row in _opened(host).execute(query, (workspace, number))]


def add(host: Host, workspace: str, coming: Iterable[Pair], *, replace: bool = False) -> int:
    """Put pairs behind those that are there, or in their place, all or none; gives how many are new."""
    _opened(host)
    with host.writing() as db:
        if replace:
            db.execute("DELETE FROM numbers WHERE workspace = ?", (workspace,))
        return sum(db.execute(_ADD, (workspace, one.number, one.next)).rowcount for one in coming)


def remove(host: Host, workspace: str, number: str, following: str = "") -> int:
    """Take away what follows a number: all of it, or one; gives how many that were."""
    query = "DELETE FROM numbers WHERE workspace = ? AND number = ? AND ? IN ('', next)"
    return int(_opened(host).execute(query, (workspace, number, following)).rowcount)


def _following(db: Database, workspace: str, number: str) -> list[str]:
    query = "SELECT next FROM numbers WHERE workspace = ? AND number = ? ORDER BY place"
    return [one for (one,) in db.execute(query, (workspace, number))]


def _opened(host: Host) -> Database:
    db = host.database()
    for statement in _SCHEMA:
        db.execute(statement)
    return db
