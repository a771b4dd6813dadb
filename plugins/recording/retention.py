"""How long recordings are kept: what is older is deleted, and stays on record as deleted."""

from __future__ import annotations

from dataclasses import dataclass

from dialer import Host, PluginError
from dialer_plugins.recording import archive
from dialer_plugins.recording.archive import Kept

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
    """Recordings that are older than their workspace keeps them."""
    query = "SELECT DISTINCT workspace FROM recordings WHERE purged_at IS NULL ORDER BY workspace"
    found: list[Kept] = []
    for (owner,) in archive.opened(host).execute(query).fetchall():
        if workspace in ("", owner) and (days := _keep_days(host, owner)):
            found += _older(host, owner, host.clock() - days * DAY)
    return found[:limit]


def purge(host: Host, workspace: str = "", limit: int | None = None) -> Purge:
    """Delete what is too old, everywhere or in one workspace."""
    done = Purge([], [])
    for kept in due(host, workspace, limit):
        try:
            archive.storage_with(host, kept).delete(kept.name)
        except Exception as error:  # of a disk or a bucket: the others can be deleted
            done.failed.append(f"{kept.sid}: {error}")
            continue
        _note(host, kept)
        done.purged.append(kept)
    return done


def _keep_days(host: Host, workspace: str) -> int:
    try:
        days: int = host.plugin(workspace).keep_days
    except PluginError:  # it is off there, and nobody says for how long
        return 0
    return days


def _older(host: Host, workspace: str, before: float) -> list[Kept]:
    query = "SELECT sid FROM recordings WHERE workspace = ? AND called_at < ? AND purged_at IS NULL ORDER BY called_at"
    rows = archive.opened(host).execute(query, (workspace, before)).fetchall()
    return [kept for (sid,) in rows if (kept := archive.find(host, sid))]


def _note(host: Host, kept: Kept) -> None:
    now = host.clock()
    archive.opened(host).execute("UPDATE recordings SET purged_at = ? WHERE sid = ?", (now, kept.sid))
    call = host.call(kept.workspace, kept.call_id)
    if call:
        detail = {"sid": kept.sid, "sha256": kept.sha256}
        host.add_event(call, "purged", detail, key=f"purged:{kept.sid}")
