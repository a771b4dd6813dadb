"""One line per key into a file, whatever is told twice and wherever a process died.

The dispatcher alone tells of the ends of calls, in one process; its threads take turns through the database's lock.
"""

from __future__ import annotations

import os
import re
from dataclasses import dataclass
from datetime import UTC, datetime
from logging.handlers import RotatingFileHandler
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO

from dialer import Host

if TYPE_CHECKING:
    from sqlite_utils import Database

#: For how long a call is known to be written: far longer than a delivery is retried.
KEPT_SECONDS = 400 * 86_400.0
#: No line is longer: a call has few legs, and its texts have limits.
LONGEST_LINE = 65_536

_BEGINS_OURS = b'{"id":"'
_OURS = re.compile(rb'\{"id":"([^"\\]+)"')

_SCHEMA = (
    "CREATE TABLE IF NOT EXISTS written (call_id TEXT PRIMARY KEY, at REAL NOT NULL) WITHOUT ROWID",
    "CREATE INDEX IF NOT EXISTS written_by_time ON written (at)",
    # The day of the last line by Dialer's clock, which the file's own times do not show.
    "CREATE TABLE IF NOT EXISTS files (path TEXT PRIMARY KEY, day TEXT NOT NULL) WITHOUT ROWID",
)


@dataclass(frozen=True, slots=True)
class Rotation:
    """A new file each day (UTC), or beyond so many bytes; `keep` older ones stay."""

    daily: bool
    max_bytes: int | None
    keep: int


def write_once(host: Host, path: Path, key: str, text: str, rotation: Rotation) -> bool:
    """Append the line unless its key was written before; False when it was. Raises OSError."""
    db = host.database()
    for statement in _SCHEMA:
        db.execute(statement)
    with host.writing() as db:
        now = host.clock()
        _notice_last(db, path, now)
        if db.execute("SELECT 1 FROM written WHERE call_id = ?", (key,)).fetchone():
            return False
        if _is_due(db, path, len(text), now, rotation):
            _rotate(path, rotation)
        _append(path, text.encode())
        _note(db, path, key, now)
        db.execute("DELETE FROM written WHERE at < ?", (now - KEPT_SECONDS,))
    return True


def _notice_last(db: Database, path: Path, now: float) -> None:
    """Take note of a last line that was written just before the process died, and cut off half a line."""
    try:
        with path.open("r+b") as file:
            last = _last_line(file)
    except FileNotFoundError:
        return
    if found := _OURS.match(last):
        _note(db, path, found[1].decode(), now)


def _note(db: Database, path: Path, key: str, now: float) -> None:
    """Put a line on record; once."""
    if db.execute("INSERT OR IGNORE INTO written (call_id, at) VALUES (?, ?)", (key, now)).rowcount:
        db.execute("INSERT OR REPLACE INTO files (path, day) VALUES (?, ?)", (str(path), _day(now)))


def _last_line(file: BinaryIO) -> bytes:
    size = file.seek(0, os.SEEK_END)
    start = file.seek(max(0, size - LONGEST_LINE))
    tail = file.read()
    whole = tail.rfind(b"\n") + 1
    half = tail[whole:]
    if half and _BEGINS_OURS.startswith(half[: len(_BEGINS_OURS)]):  # an admin may have named a file of another kind
        file.truncate(start + whole)
    return tail[:whole].rstrip(b"\n").rpartition(b"\n")[2]


def _is_due(db: Database, path: Path, coming: int, now: float, rotation: Rotation) -> bool:
    """Whether the file is full, or was last written on another day."""
    size = path.stat().st_size if path.exists() else 0
    if rotation.max_bytes is not None and size and size + coming > rotation.max_bytes:
        return True
    day = db.execute("SELECT day FROM files WHERE path = ?", (str(path),)).fetchone()
    return bool(rotation.daily and size and day and day[0] != _day(now))


def _rotate(path: Path, rotation: Rotation) -> None:
    """Rename the file and its elders; the oldest goes."""
    handler = RotatingFileHandler(path, backupCount=rotation.keep, delay=True)
    handler.doRollover()
    handler.close()


def _append(path: Path, line: bytes) -> None:
    path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    descriptor = os.open(path, os.O_WRONLY | os.O_APPEND | os.O_CREAT | os.O_CLOEXEC, 0o600)
    try:
        if os.write(descriptor, line) != len(line):
            raise OSError(f"{path}: only a part of the line could be written")
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def _day(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).date().isoformat()
