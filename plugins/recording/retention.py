"""How long recordings are kept: what is older is deleted, and stays on record as deleted."""

from __future__ import annotations

from dataclasses import dataclass

from dialer import Host, PluginError
from dialer_plugins.recording import archive
from dialer_plugins.recording.archive import Kept
from dialer_plugins.recording.storage import NotKept

DAY, HOUR = 86_400.0, 3600.0
#: Recordings that one hourly look deletes at most: it holds up what the plugin is told.
AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Purge:
    """What was deleted, and what could not be, with the reasons."""

    purged: list[Kept]
    failed: list[str]


def purge_hourly(host: Host) -> None:
    """Delete what is too old, at most once an hour; what cannot be deleted is tried again in the next."""
    archive.opened(host)
    with host.writing() as db:
        now = host.clock()
        row = db.execute("SELECT at FROM purges").fetchone()
        if row and 0 <= now - row[0] < HOUR:
            return
        db.execute("INSERT OR REPLACE INTO purges (id, at) VALUES (1, ?)", (now,))
    for reason in purge(host, limit=AT_ONCE).failed:
        host.log.warning("a recording that is too old could not be deleted: %s", reason)


def due(host: Host, workspace: str = "", limit: int | None = None) -> list[Kept]:
    """Recordings that are older than their workspace keeps them; those last that were tried last."""
    query = "SELECT DISTINCT workspace FROM recordings WHERE purged_at IS NULL ORDER BY workspace"
    found: list[Kept] = []
    for (owner,) in archive.opened(host).execute(query).fetchall():
        if workspace in ("", owner) and (days := _keep_days(host, owner)):
            found += archive.older(host, owner, host.clock() - days * DAY)
    return sorted(found, key=lambda kept: (kept.tried_at or 0.0, kept.called_at))[:limit]


def purge(host: Host, workspace: str = "", limit: int | None = None) -> Purge:
    """Delete what is too old, everywhere or in one workspace."""
    done = Purge([], [])
    for kept in due(host, workspace, limit):
        try:
            _delete(host, kept)
        except Exception as error:  # of a disk or a bucket: the others can be deleted
            done.failed.append(f"{kept.sid}: {error}")
        else:
            done.purged.append(kept)
    return done


def _delete(host: Host, kept: Kept) -> None:
    """Delete one and put it on record; raises NotKept for one that is not there and that we did not delete."""
    archive.mark(host, kept, "tried_at")
    storage = archive.storage_with(host, kept)
    if storage.has(kept.name):
        archive.mark(host, kept, "deleting_at")
        storage.delete(kept.name)
    elif kept.deleting_at is None:
        raise NotKept(f"there is no {kept.name} in {kept.place}: it was moved, or deleted by somebody else")
    _note(host, kept)
    archive.mark(host, kept, "purged_at")


def _keep_days(host: Host, workspace: str) -> int:
    try:
        days: int = host.plugin(workspace).keep_days
    except PluginError:  # it is off there, and nobody says for how long
        return 0
    return days


def _note(host: Host, kept: Kept) -> None:
    call = host.call(kept.workspace, kept.call_id)
    if call:
        detail = {"sid": kept.sid, "sha256": kept.sha256}
        try:
            host.add_event(call, "purged", detail, key=f"purged:{kept.sid}")
        except PluginError as full:  # a call takes so many events of a plugin and no more
            host.log.warning("%s of %s was purged: %s", kept.sid, call.id, full)
