"""Places that calls take, counted and taken in one transaction, so that two calls never take the same last one."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dialer import Call, Host

if TYPE_CHECKING:
    from sqlite_utils import Database

#: Seconds after which a place whose call Dialer does not know was taken by a request that came to nothing: Twilio asks
#: once more for the same call, and must not find its place taken.
UNKNOWN_SECONDS = 3.0
#: Seconds that a call may last beyond its limits.
GRACE = 30.0
#: Days after which nothing is counted any more.
KEPT_SECONDS = 3 * 86_400.0
EVERYBODY = ""
#: Whose sums are those of the workspace: an agent always has an identity.
_ALL_AGENTS = ""

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS places (
        call_id TEXT PRIMARY KEY, workspace TEXT NOT NULL, agent TEXT NOT NULL,
        at REAL NOT NULL, until REAL NOT NULL, seconds INTEGER, price REAL NOT NULL
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS places_by_time ON places (workspace, at)",
    "CREATE INDEX IF NOT EXISTS places_open ON places (workspace) WHERE seconds IS NULL",
    """CREATE TABLE IF NOT EXISTS quarters (
        workspace TEXT NOT NULL, agent TEXT NOT NULL, quarter INTEGER NOT NULL,
        minutes INTEGER NOT NULL, spend REAL NOT NULL, PRIMARY KEY (workspace, agent, quarter)
    ) WITHOUT ROWID""",
    "CREATE TABLE IF NOT EXISTS stops (workspace TEXT PRIMARY KEY, at REAL NOT NULL, reason TEXT NOT NULL)",
)

# A call that is open counts the minutes since it was asked for, at least one. One that should have ended long ago, and
# of which nothing was heard, counts no longer. What has ended is summed up by quarters of an hour, with which a day of
# every time zone begins: so a count stays as small after a long day as in its morning.
_RUNNING = """
    WITH counted AS (
        SELECT call_id, agent, at, until, seconds, price FROM places WHERE workspace = :workspace AND at > :now - 60
        UNION
        SELECT call_id, agent, at, until, seconds, price FROM places WHERE workspace = :workspace AND seconds IS NULL
    ), running AS (
        SELECT agent = :agent AS own, at > :now - 60 AS recent, seconds IS NULL AND until > :now AS open, price,
            (seconds IS NULL AND until > :now AND at >= :day) * ((max(:now - at, 0) + 60) / 60) AS minutes
        FROM counted WHERE call_id != :call_id
    )
    SELECT total(recent), total(open), total(CAST(minutes AS INTEGER)), total(CAST(minutes AS INTEGER) * price),
        total(recent AND own), total(open AND own), total(CAST(minutes AS INTEGER) * own),
        total(CAST(minutes AS INTEGER) * price * own)
    FROM running
"""
_ENDED = """
    SELECT total(minutes), total(spend) FROM quarters
    WHERE workspace = :workspace AND agent = :agent AND quarter >= CAST(:day / 900 AS INTEGER)
"""
_ADD_UP = """
    INSERT INTO quarters (workspace, agent, quarter, minutes, spend)
    VALUES (:workspace, :agent, CAST(:at / 900 AS INTEGER), :minutes, :spend)
    ON CONFLICT (workspace, agent, quarter)
    DO UPDATE SET minutes = minutes + excluded.minutes, spend = spend + excluded.spend
"""
_TAKE = """
    INSERT INTO places (call_id, workspace, agent, at, until, price)
    VALUES (:call_id, :workspace, :agent, :now, :until, :price)
    ON CONFLICT (call_id) DO UPDATE SET price = excluded.price
"""
_RELEASE = """
    INSERT INTO places (call_id, workspace, agent, at, until, seconds, price)
    VALUES (:call_id, :workspace, :agent, :at, :at, :seconds, :price)
    ON CONFLICT (call_id) DO UPDATE SET seconds = excluded.seconds WHERE seconds IS NULL
    RETURNING at, price
"""


@dataclass(frozen=True, slots=True)
class Usage:
    """What is used: calls started in the last 60 seconds, calls at once, minutes and money today."""

    last_minute: int
    at_once: int
    minutes: int
    spend: float


@dataclass(frozen=True, slots=True)
class Used:
    workspace: Usage
    agent: Usage


@dataclass(frozen=True, slots=True)
class Stop:
    """Calls of a workspace, or of everybody, are stopped."""

    workspace: str
    at: float
    reason: str


@contextmanager
def counting(
    host: Host, call: Call, now: float, day: float
) -> Iterator[tuple[Used, Callable[[float], None]]]:
    """What others use, and a function that takes a place at a price; nobody else counts in between."""
    _opened(host)
    values = {"call_id": call.id, "workspace": call.workspace, "agent": call.agent}
    with host.writing() as db:

        def take(price: float) -> None:
            until = now + call.ring_seconds + call.time_limit + GRACE
            db.execute(_TAKE, {**values, "now": now, "until": until, "price": price})

        yield _used(db, now=now, day=day, **values), take


def used_by(host: Host, workspace: str, agent: str, now: float, day: float) -> Used:
    """What a workspace and an agent of it use now."""
    return _used(_opened(host), call_id="", workspace=workspace, agent=agent, now=now, day=day)


def drop(host: Host, call: Call) -> None:
    """Forget the place of a call that was refused after all."""
    _opened(host).execute("DELETE FROM places WHERE call_id = ?", (call.id,))


def release(host: Host, call: Call, price: float) -> None:
    """Free the place of a call that has ended, and keep its minutes; also of one that never had a place."""
    _opened(host)
    with host.writing() as db:
        _release(db, call, price)
        db.execute("DELETE FROM places WHERE workspace = ? AND at < ?", (call.workspace, host.clock() - KEPT_SECONDS))
        oldest = (host.clock() - KEPT_SECONDS) // 900
        db.execute("DELETE FROM quarters WHERE workspace = ? AND quarter < ?", (call.workspace, oldest))


def heal(host: Host, workspace: str, price: Callable[[str], float]) -> bool:
    """Free the places of calls that Dialer knows to be over, or does not know at all; whether there were any."""
    before = host.clock() - UNKNOWN_SECONDS
    query = "SELECT call_id, at FROM places WHERE workspace = ? AND seconds IS NULL AND at < ?"
    held = {row[0]: row[1] for row in _opened(host).execute(query, (workspace, before))}
    gone = held.keys() - {call.id for call in host.open_calls(workspace)} if held else set()
    if not gone:
        return False
    known = {call.id: call for call in host.calls(workspace, since=min(held[one] for one in gone) - GRACE)}
    with host.writing() as db:
        for call_id in gone:
            call = known.get(call_id)
            if call and call.status != "rejected":
                _release(db, call, price(call.to))
            else:
                db.execute("DELETE FROM places WHERE call_id = ?", (call_id,))
    return True


def find_stop(host: Host, workspace: str) -> Stop | None:
    """What stops the calls of this workspace; everybody's stop comes first."""
    query = "SELECT workspace, at, reason FROM stops WHERE workspace IN (?, ?) ORDER BY workspace LIMIT 1"
    row = _opened(host).execute(query, (EVERYBODY, workspace)).fetchone()
    return Stop(*row) if row else None


def stops(host: Host) -> list[Stop]:
    rows = _opened(host).execute("SELECT workspace, at, reason FROM stops ORDER BY workspace")
    return [Stop(*row) for row in rows]


def stop(host: Host, workspace: str, reason: str) -> None:
    values = (workspace, host.clock(), reason)
    _opened(host).execute("INSERT OR REPLACE INTO stops (workspace, at, reason) VALUES (?, ?, ?)", values)


def go(host: Host, workspace: str) -> bool:
    """Take a stop back; whether there was one."""
    return bool(_opened(host).execute("DELETE FROM stops WHERE workspace = ?", (workspace,)).rowcount)


def _opened(host: Host) -> Database:
    db = host.database()
    # A power cut may cost the last counts: cheaper than a disk's time in every request.
    db.execute("PRAGMA synchronous = NORMAL")
    for statement in _SCHEMA:
        db.execute(statement)
    return db


def _used(db: Database, *, workspace: str, agent: str, **values: Any) -> Used:
    row = db.execute(_RUNNING, {"workspace": workspace, "agent": agent, **values}).fetchone()
    usages = []
    for whose, (last_minute, at_once, minutes, spend) in ((_ALL_AGENTS, row[:4]), (agent, row[4:])):
        ended = db.execute(_ENDED, {"workspace": workspace, "agent": whose, "day": values["day"]}).fetchone()
        usages.append(Usage(int(last_minute), int(at_once), int(minutes + ended[0]), round(spend + ended[1], 6)))
    return Used(*usages)


def _release(db: Database, call: Call, price: float) -> None:
    """Free a place and add its minutes up; once, as a place that is free already returns no row."""
    values = {"call_id": call.id, "workspace": call.workspace, "agent": call.agent, "at": call.requested_at}
    row = db.execute(_RELEASE, {**values, "seconds": _seconds(call), "price": price}).fetchone()
    if row is None:
        return
    minutes = (_seconds(call) + 59) // 60
    for whose in (call.agent, _ALL_AGENTS):
        added = {"at": row[0], "minutes": minutes, "spend": minutes * row[1]}
        db.execute(_ADD_UP, {"workspace": call.workspace, "agent": whose, **added})


def _seconds(call: Call) -> int:
    """How long it was talked: what Twilio said, else from the answer to the end."""
    if call.duration is not None:
        return call.duration
    if call.answered_at is None or call.ended_at is None:
        return 0
    return max(0, round(call.ended_at - call.answered_at))
