"""What the plugin remembers: who has which message, who rests, and who wants no more."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

from dialer import Host

if TYPE_CHECKING:
    from sqlite_utils import Database

#: So many failures in a row give a receiver a rest, first this long, doubled up to the longest.
FAILURES, REST, LONGEST_REST = 5, 30.0, 600.0
#: For how long a receipt is kept: longer than a delivery is retried, or replayed after a weekend.
KEPT_SECONDS = 90 * 86_400.0

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS receipts (
        workspace TEXT NOT NULL, url TEXT NOT NULL, message TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (message, workspace, url)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS receipts_by_time ON receipts (at)",
    """CREATE TABLE IF NOT EXISTS receivers (
        workspace TEXT NOT NULL, url TEXT NOT NULL,
        failures INTEGER NOT NULL DEFAULT 0, missed INTEGER NOT NULL DEFAULT 0,
        rests_until REAL NOT NULL DEFAULT 0, reason TEXT NOT NULL DEFAULT '', received_at REAL, gone_at REAL,
        PRIMARY KEY (workspace, url)
    ) WITHOUT ROWID""",
)
_COLUMNS = "workspace, url, failures, missed, rests_until, reason, received_at, gone_at"


@dataclass(frozen=True, slots=True)
class Receiver:
    """How an endpoint fares for one workspace. `gone_at`: it answered 410, and is left alone since then."""

    workspace: str
    url: str
    failures: int = 0
    missed: int = 0
    rests_until: float = 0.0
    reason: str = ""
    received_at: float | None = None
    gone_at: float | None = None


def receiver(host: Host, workspace: str, url: str) -> Receiver:
    query = f"SELECT {_COLUMNS} FROM receivers WHERE workspace = ? AND url = ?"
    row = _opened(host).execute(query, (workspace, url)).fetchone()
    return Receiver(*row) if row else Receiver(workspace, url)


def receivers(host: Host) -> list[Receiver]:
    return [Receiver(*row) for row in _opened(host).execute(f"SELECT {_COLUMNS} FROM receivers ORDER BY 1, 2")]


def has(host: Host, to: Receiver, message: str) -> bool:
    """Whether this message was received, by the receiver's own word."""
    query = "SELECT 1 FROM receipts WHERE message = ? AND workspace = ? AND url = ?"
    return _opened(host).execute(query, (message, to.workspace, to.url)).fetchone() is not None


def note_received(host: Host, to: Receiver, message: str) -> None:
    now = host.clock()
    with host.writing() as db:
        values = (to.workspace, to.url, message, now)
        db.execute("INSERT OR IGNORE INTO receipts (workspace, url, message, at) VALUES (?, ?, ?, ?)", values)
        db.execute("DELETE FROM receipts WHERE at < ?", (now - KEPT_SECONDS,))
        _save(db, to, "failures = 0, rests_until = 0, reason = '', received_at = ?", now)


def note_failure(host: Host, to: Receiver, reason: str, asked: float) -> float:
    """Count a failure; gives how many seconds the receiver is to be left alone, 0 if it may be tried at once."""
    now = host.clock()
    with host.writing() as db:
        _save(db, to, "failures = failures + 1, reason = ?", reason[:300])
        failures = receiver(host, to.workspace, to.url).failures
        rest = min(REST * 2 ** min(failures - FAILURES, 10), LONGEST_REST) if failures >= FAILURES else 0.0
        rest = max(rest, asked)
        _save(db, to, "rests_until = ?", now + rest if rest else 0.0)
    return rest


def note_gone(host: Host, to: Receiver) -> None:
    with host.writing() as db:
        _save(db, to, "gone_at = ?, reason = 'answered 410 Gone'", host.clock())


def note_missed(host: Host, to: Receiver) -> None:
    with host.writing() as db:
        _save(db, to, "missed = missed + ?", 1)


def forgive(host: Host, workspace: str, url: str) -> int:
    """Begin anew with an endpoint, of all workspaces if none is named; gives for how many it was gone or resting."""
    query = """DELETE FROM receivers WHERE url = ? AND ? IN ('', workspace)
        AND (gone_at IS NOT NULL OR failures > 0 OR rests_until > 0)"""
    with host.writing() as db:
        for statement in _SCHEMA:
            db.execute(statement)
        return int(db.execute(query, (url, workspace)).rowcount)


def _save(db: Database, to: Receiver, change: str, value: object) -> None:
    db.execute("INSERT OR IGNORE INTO receivers (workspace, url) VALUES (?, ?)", (to.workspace, to.url))
    db.execute(f"UPDATE receivers SET {change} WHERE workspace = ? AND url = ?", (value, to.workspace, to.url))


def _opened(host: Host) -> Database:
    database = host.database()
    for statement in _SCHEMA:
        database.execute(statement)
    return database
