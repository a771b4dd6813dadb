"""Which record of a CRM holds which call: one record per call, whoever is told how often, wherever a process died."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dialer import Call, Host, RetryLater

if TYPE_CHECKING:
    from sqlite_utils import Database

#: Seconds after which whoever began a record, and was not heard of since, is taken for dead.
LEASE = 120.0
#: What stands in the place of a record that somebody has deleted.
DELETED = "deleted"

_SCHEMA = """CREATE TABLE IF NOT EXISTS records (
    workspace TEXT NOT NULL, call_id TEXT NOT NULL, record TEXT NOT NULL DEFAULT '', begun_at REAL NOT NULL,
    PRIMARY KEY (workspace, call_id)
) WITHOUT ROWID"""


def begin(host: Host, call: Call) -> tuple[str, bool]:
    """Take the call on; gives its record ("" if there is none) and whether one may have been made unnoticed.

    Raises RetryLater while somebody else is at it.
    """
    now = host.clock()
    with host.writing() as db:
        db.execute(_SCHEMA)
        query = "SELECT record, begun_at FROM records WHERE workspace = ? AND call_id = ?"
        row = db.execute(query, (call.workspace, call.id)).fetchone()
        if row and row["begun_at"] and now - row["begun_at"] < LEASE:
            raise RetryLater(LEASE - (now - row["begun_at"]), "another event of this call is being logged")
        _save(db, call, row["record"] if row else "", now)
    return (row["record"], True) if row else ("", False)


def end(host: Host, call: Call, record: str) -> None:
    """Keep the record of the call ("": it is not known), and let others have their turn."""
    with host.writing() as db:
        _save(db, call, record, 0.0)


def _save(db: Database, call: Call, record: str, begun_at: float) -> None:
    db.execute(
        """INSERT INTO records (workspace, call_id, record, begun_at) VALUES (?, ?, ?, ?)
        ON CONFLICT (workspace, call_id) DO UPDATE SET record = excluded.record, begun_at = excluded.begun_at""",
        (call.workspace, call.id, record, begun_at),
    )
