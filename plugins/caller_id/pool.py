"""The pool of numbers: which is free, which is next; chosen and taken in one transaction."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dialer import Call, Host
from dialer_plugins.caller_id.areas import distance

if TYPE_CHECKING:
    from sqlite_utils import Database

#: A number whose call Dialer does not know by then was taken by a request that came to nothing.
GRACE = 30.0

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS numbers (
        workspace TEXT NOT NULL, number TEXT NOT NULL, used_at REAL NOT NULL, PRIMARY KEY (workspace, number)
    ) WITHOUT ROWID""",
    """CREATE TABLE IF NOT EXISTS holds (
        call_id TEXT PRIMARY KEY, workspace TEXT NOT NULL, number TEXT NOT NULL, agent TEXT NOT NULL,
        at REAL NOT NULL, until REAL NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS holds_of_workspace ON holds (workspace, number)",
    """CREATE TABLE IF NOT EXISTS customers (
        workspace TEXT NOT NULL, customer TEXT NOT NULL, number TEXT NOT NULL, at REAL NOT NULL,
        PRIMARY KEY (workspace, customer)
    ) WITHOUT ROWID""",
)
_USE = "INSERT OR REPLACE INTO numbers (workspace, number, used_at) VALUES (?, ?, ?)"
_HOLD = "INSERT INTO holds (call_id, workspace, number, agent, at, until) VALUES (?, ?, ?, ?, ?, ?)"
_STICK = "INSERT OR REPLACE INTO customers (workspace, customer, number, at) VALUES (?, ?, ?, ?)"


@dataclass(frozen=True, slots=True)
class Wish:
    """How to choose. `sticky` and `cooldown` in seconds."""

    near: bool
    locked: bool
    sticky: float
    cooldown: float


def take(host: Host, call: Call, numbers: Sequence[str], wish: Wish) -> str | None:
    """The number that the call holds already, or the best free one, which it holds from now on; None: none is free."""
    _opened(host)
    now = host.clock()
    with host.writing() as db:
        row = db.execute("SELECT number FROM holds WHERE call_id = ?", (call.id,)).fetchone()
        if row and row[0] in numbers:
            return str(row[0])
        number = _best(db, call, numbers, wish, now)
        if number is not None:
            until = now + call.ring_seconds + call.time_limit + GRACE
            db.execute("DELETE FROM holds WHERE call_id = ?", (call.id,))
            db.execute(_HOLD, (call.id, call.workspace, number, call.agent, now, until))
            db.execute(_USE, (call.workspace, number, now))
            if wish.sticky:
                db.execute(_STICK, (call.workspace, call.to, number, now))
    return number


def confirm(host: Host, call: Call) -> None:
    """Let go of what a call does not use: it was refused, or shows another number."""
    if call.status == "rejected":
        _opened(host).execute("DELETE FROM holds WHERE call_id = ?", (call.id,))
    else:
        _opened(host).execute("DELETE FROM holds WHERE call_id = ? AND number != ?", (call.id, call.from_))


def release(host: Host, call: Call) -> None:
    """Free the number of a call that has ended; its rest begins."""
    _opened(host)
    with host.writing() as db:
        rows = db.execute("DELETE FROM holds WHERE call_id = ? RETURNING number", (call.id,)).fetchall()
        if rows and call.status != "rejected":
            db.execute(_USE, (call.workspace, rows[0][0], host.clock()))


def heal(host: Host, workspace: str) -> bool:
    """Free the numbers of calls that are not open any more, of which nothing was heard; whether there were any."""
    query = "SELECT call_id FROM holds WHERE workspace = ? AND at < ?"
    held = {row[0] for row in _opened(host).execute(query, (workspace, host.clock() - GRACE))}
    gone = held - {call.id for call in host.open_calls(workspace)} if held else set()
    with host.writing() as db:
        for call_id in gone:
            db.execute("DELETE FROM holds WHERE call_id = ?", (call_id,))
    return bool(gone)


def _best(db: Database, call: Call, numbers: Sequence[str], wish: Wish, now: float) -> str | None:
    query = "SELECT number, agent FROM holds WHERE workspace = ? AND until > ? AND call_id != ?"
    holds = db.execute(query, (call.workspace, now, call.id)).fetchall()
    taken = {number for number, agent in holds if agent != call.agent} if wish.locked else set()
    free = [number for number in numbers if number not in taken]
    known = _customers_number(db, call, now - wish.sticky) if wish.sticky else None
    if known in free:
        return known
    in_use = {number for number, _ in holds}
    rows = db.execute("SELECT number, used_at FROM numbers WHERE workspace = ?", (call.workspace,))
    used: dict[str, float] = {row[0]: row[1] for row in rows}

    def rank(number: str) -> tuple[bool, int, float]:
        last = used.get(number, 0.0)
        tired = bool(wish.cooldown) and (number in in_use or last > now - wish.cooldown)
        return tired, distance(number, call.to) if wish.near else 0, last

    return min(free, key=rank, default=None)


def _customers_number(db: Database, call: Call, since: float) -> str | None:
    query = "SELECT number FROM customers WHERE workspace = ? AND customer = ? AND at > ?"
    row = db.execute(query, (call.workspace, call.to, since)).fetchone()
    return str(row[0]) if row else None


def _opened(host: Host) -> Database:
    db = host.database()
    # A power cut may cost the last uses: cheaper than a disk's time in every request.
    db.execute("PRAGMA synchronous = NORMAL")
    for statement in _SCHEMA:
        db.execute(statement)
    return db
