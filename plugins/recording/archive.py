"""The plugin's own record of recordings, and how one gets from Twilio into it: once, whole, and before it is deleted.

A copy is safe when it is under its name and on record; only then Twilio's may go. Each step can be done again.
"""

from __future__ import annotations

import hashlib
import os
import re
import tempfile
from dataclasses import astuple, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING

from dialer import Call, GiveUp, Host, RetryLater
from dialer.twilio import RecordingTruth
from dialer_plugins.recording.storage import S3, Disk, NotKept, Storage

if TYPE_CHECKING:
    from sqlite_utils import Database

SID = re.compile(r"RE[0-9a-f]{32}")
#: Seconds after the end of a call when its recording should be there; when Twilio is asked for one that was not told
#: of; when it counts as lost.
READY_AFTER, LOST_AFTER = 60.0, 1800.0

_SCHEMA = (
    """CREATE TABLE IF NOT EXISTS recordings (
        sid TEXT NOT NULL, call_id TEXT NOT NULL, workspace TEXT NOT NULL, agent TEXT NOT NULL,
        called_at REAL NOT NULL, place TEXT NOT NULL, name TEXT NOT NULL, bytes INTEGER NOT NULL,
        sha256 TEXT NOT NULL, seconds INTEGER NOT NULL, channels INTEGER NOT NULL, stored_at REAL NOT NULL,
        deleted_at_twilio REAL, purged_at REAL, tried_at REAL, deleting_at REAL,
        PRIMARY KEY (workspace, call_id, sid)
    ) WITHOUT ROWID""",
    "CREATE INDEX IF NOT EXISTS recordings_by_time ON recordings (workspace, called_at) WHERE purged_at IS NULL",
    "CREATE TABLE IF NOT EXISTS purges (id INTEGER PRIMARY KEY CHECK (id = 1), at REAL NOT NULL)",
)
_COLUMNS = (
    "sid, call_id, workspace, agent, called_at, place, name, bytes, sha256, seconds, channels, stored_at, "
    "deleted_at_twilio, purged_at, tried_at, deleting_at"
)


@dataclass(frozen=True, slots=True)
class Kept:
    """A recording on record. `place` and `name` (the file's, or the object's whole key) say where it is.

    `tried_at`: its deletion was last tried then; `deleting_at`: it was there and was about to be deleted;
    `purged_at`: it was deleted then.
    """

    sid: str
    call_id: str
    workspace: str
    agent: str
    called_at: float
    place: str
    name: str
    bytes: int
    sha256: str
    seconds: int
    channels: int
    stored_at: float
    deleted_at_twilio: float | None = None
    purged_at: float | None = None
    tried_at: float | None = None
    deleting_at: float | None = None


def keep(host: Host, call: Call, found: RecordingTruth, ending: str, s3: S3 | None, *, delete_at_twilio: bool) -> None:
    """Copy a recording, unless that was done, and delete Twilio's if that is wanted.

    Raises GiveUp for what is no recording, RetryLater while there is no file, and what the network raises.
    """
    if not SID.fullmatch(found.sid):
        raise GiveUp(f"{found.sid!r:.50} is not the SID of a recording")
    kept = find(host, call, found.sid) or _copy(host, call, found, ending, storage_of(host, s3))
    finish(host, call, kept, delete_at_twilio=delete_at_twilio)


def finish(host: Host, call: Call, kept: Kept, *, delete_at_twilio: bool) -> None:
    """Say on the call that its recording is safe, and delete Twilio's, if that is owed. Raises what the SDK raises."""
    if kept.purged_at is not None:
        return
    facts = ("sid", "place", "name", "bytes", "sha256", "seconds", "channels")
    host.add_event(call, "stored", {name: str(getattr(kept, name)) for name in facts}, key=f"stored:{kept.sid}")
    if delete_at_twilio and kept.deleted_at_twilio is None:
        host.delete_recording(call, kept.sid)
        mark(host, kept, "deleted_at_twilio")
        host.add_event(call, "deleted-at-twilio", {"sid": kept.sid}, key=f"deleted-at-twilio:{kept.sid}")


def missed(host: Host, call: Call, *, expected: bool) -> list[RecordingTruth]:
    """What Twilio recorded of an ended call and did not tell us; raises RetryLater until that can be known."""
    told = {event.name for event in host.events(call)}
    if of_call(host, call.workspace, call.id) or "recording-absent" in told:
        return []
    if not expected and not any(name.startswith("recording-") for name in told):
        return []
    since_end = host.clock() - (call.ended_at or call.requested_at)
    if since_end < READY_AFTER:
        raise RetryLater(READY_AFTER - since_end, "the recording is not expected to be ready yet")
    found = [one for one in host.recordings(call) if SID.fullmatch(one.sid)]
    ready = [one for one in found if one.status == "completed"]
    if not ready and since_end < LOST_AFTER:
        raise RetryLater(READY_AFTER, "Twilio has no finished recording of the call yet")
    if not ready:
        statuses = ", ".join(f"{one.sid} {one.status}" for one in found) or "none"
        host.add_event(call, "missing", {"at_twilio": statuses[:1000]})
    return ready


def mark(host: Host, kept: Kept, column: str) -> None:
    """Note the time of what was done with a recording."""
    key = (kept.workspace, kept.call_id, kept.sid)
    query = f"UPDATE recordings SET {column} = ? WHERE workspace = ? AND call_id = ? AND sid = ?"
    opened(host).execute(query, (host.clock(), *key))


def find(host: Host, call: Call, sid: str) -> Kept | None:
    return next((kept for kept in of_call(host, call.workspace, call.id) if kept.sid == sid), None)


def of_call(host: Host, workspace: str, call_id: str) -> list[Kept]:
    """The recordings of a call, those that were purged too."""
    query = f"SELECT {_COLUMNS} FROM recordings WHERE workspace = ? AND call_id = ? ORDER BY stored_at, sid"
    return [Kept(*row) for row in opened(host).execute(query, (workspace, call_id))]


def older(host: Host, workspace: str, before: float) -> list[Kept]:
    """The workspace's recordings of calls before then that are not purged."""
    query = f"SELECT {_COLUMNS} FROM recordings WHERE workspace = ? AND called_at < ? AND purged_at IS NULL"
    return [Kept(*row) for row in opened(host).execute(query, (workspace, before))]


def listing(host: Host, *, workspace: str = "", call_id: str = "", since: float = 0.0) -> list[Kept]:
    """Recordings of calls since then, newest first; of all workspaces when none is named."""
    query = f"""SELECT {_COLUMNS} FROM recordings WHERE ? IN ('', workspace) AND ? IN ('', call_id) AND called_at >= ?
        ORDER BY called_at DESC, sid"""
    return [Kept(*row) for row in opened(host).execute(query, (workspace, call_id, since))]


def storage_of(host: Host, s3: S3 | None) -> Storage:
    """Where new recordings are kept."""
    return s3 or Disk(host.folder)


def storage_with(host: Host, kept: Kept) -> Storage:
    """Where this one is kept; raises NotKept when the settings lead there no more."""
    if kept.place == Disk.place:
        return Disk(host.folder)
    s3: S3 | None = host.plugin(kept.workspace).s3
    if s3 is None or s3.place != kept.place:
        raise NotKept(f"{kept.sid} is in {kept.place}, which the settings of {kept.workspace} do not name any more")
    return s3


def whole(text: str) -> int:
    """A count as Twilio sends it; 0 for anything else."""
    return int(text) if text.isascii() and text.isdigit() and len(text) < 10 else 0


def opened(host: Host) -> Database:
    db = host.database()
    for statement in _SCHEMA:
        db.execute(statement)
    return db


def _copy(host: Host, call: Call, found: RecordingTruth, ending: str, storage: Storage) -> Kept:
    incoming = host.folder / "incoming"
    incoming.mkdir(mode=0o700, exist_ok=True)
    for left in incoming.glob(f"{found.sid}.*"):  # by a process that died
        left.unlink(missing_ok=True)
    handle, path = tempfile.mkstemp(prefix=f"{found.sid}.", dir=incoming)  # mode 0600
    file = Path(path)
    try:
        size, digest = _download(host, call, f"{found.url}.{ending}", handle)
        month = datetime.fromtimestamp(call.requested_at, UTC).strftime("%Y/%m")
        name = f"{call.workspace}/{month}/{call.id}-{found.sid}.{ending}"
        name = storage.put(file, name)
    finally:
        file.unlink(missing_ok=True)
    of_call = (found.sid, call.id, call.workspace, call.agent, call.requested_at)
    kept = Kept(*of_call, storage.place, name, size, digest, found.duration, found.channels, host.clock())
    values = astuple(kept)
    marks = ", ".join("?" * len(values))
    opened(host).execute(f"INSERT OR IGNORE INTO recordings ({_COLUMNS}) VALUES ({marks})", values)
    return kept


def _download(host: Host, call: Call, url: str, handle: int) -> tuple[int, str]:
    """Write the file as it comes, to the disk; gives its size and SHA-256."""
    digest, size = hashlib.sha256(), 0
    with os.fdopen(handle, "wb") as file:
        for piece in host.fetch(call, url):
            file.write(piece)
            digest.update(piece)
            size += len(piece)
        if not size:
            raise RetryLater(READY_AFTER, "Twilio sent an empty file")
        file.flush()
        os.fsync(file.fileno())
    return size, digest.hexdigest()
