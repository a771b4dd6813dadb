"""`dialer recording`: what is kept, taken out, and deleted when its time is over."""

from __future__ import annotations

import csv
import getpass
import hashlib
import os
from dataclasses import asdict
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from dialer import DialerError, Host
from dialer.printing import json_option, moment, print_json, print_table
from dialer_plugins.recording import archive, retention
from dialer_plugins.recording.access import read
from dialer_plugins.recording.archive import Kept
from dialer_plugins.recording.storage import NotKept

_TIMES = ("called_at", "stored_at", "deleted_at_twilio", "purged_at", "tried_at", "deleting_at")
_SHOWN = ("called_at", "workspace", "agent", "call_id", "sid", "seconds", "bytes", "place", *_TIMES[2:4])
_CALL = click.option("--call", "call_id", default="", help="Only of this call.")
_SINCE = click.option("--since", type=click.DateTime(["%Y-%m-%d"]), help="Only of calls since this day (UTC).")


def group(host: Host) -> click.Group:
    return click.Group(
        "recording",
        commands=[list_, export, purge],
        help="The recordings that are kept: list them, take them out, delete those whose time is over.",
        context_settings={"obj": host},
    )


@click.command("list")
@click.option("--workspace", default="", help="Only of this workspace.")
@_CALL
@_SINCE
@json_option
@click.pass_obj
def list_(host: Host, workspace: str, call_id: str, since: datetime | None, as_json: bool) -> None:
    """List the recordings, newest first, those that were deleted too."""
    rows = [_row(kept) for kept in archive.listing(host, workspace=workspace, call_id=call_id, since=_epoch(since))]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(_SHOWN, ([row[head] for head in _SHOWN] for row in rows))
    else:
        click.echo("there are no such recordings")


@click.command()
@click.argument("folder", type=click.Path(file_okay=False, path_type=Path))
@click.option("--workspace", required=True, help="The workspace that called.")
@_CALL
@_SINCE
@click.pass_obj
def export(host: Host, folder: Path, workspace: str, call_id: str, since: datetime | None) -> None:
    """Copy recordings into FOLDER, with a list of them in recordings.csv; each copy stands on its call as an access."""
    found = archive.listing(host, workspace=workspace, call_id=call_id, since=_epoch(since))
    wanted = [kept for kept in found if kept.purged_at is None]
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    bad = [fault for kept in wanted if (fault := _export(host, kept, folder))]
    _write_list(folder / "recordings.csv", wanted)
    for fault in bad:
        click.echo(fault, err=True)
    click.echo(f"{len(wanted) - len(bad)} recordings in {folder}")
    if bad:
        raise DialerError(f"{len(bad)} recordings could not be taken out")


@click.command()
@click.option("--workspace", default="", help="Only of this workspace.")
@click.option("--dry-run", is_flag=True, help="Only say what would be deleted.")
@click.pass_obj
def purge(host: Host, workspace: str, dry_run: bool) -> None:
    """Delete the recordings that are older than keep_days of their workspace."""
    if dry_run:
        for kept in retention.due(host, workspace):
            click.echo(f"{kept.sid} of {kept.call_id}, {moment(kept.called_at)}, {kept.workspace}")
        return
    done = retention.purge(host, workspace)
    click.echo(f"{len(done.purged)} recordings deleted")
    if done.failed:
        raise DialerError(f"{len(done.failed)} could not be deleted: {'; '.join(done.failed[:5])}")


def _export(host: Host, kept: Kept, folder: Path) -> str:
    """Copy one recording and compare it with what was stored; what is wrong with it, else nothing."""
    target, digest = folder / Path(kept.name).name, hashlib.sha256()
    try:
        pieces = read(host, kept, getpass.getuser(), "export", 0, kept.bytes)
    except NotKept as error:
        return str(error)
    descriptor = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC | os.O_CLOEXEC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        for piece in pieces:
            file.write(piece)
            digest.update(piece)
    return "" if digest.hexdigest() == kept.sha256 else f"{target.name}: is not what was stored (SHA-256 differs)"


def _write_list(path: Path, found: list[Kept]) -> None:
    with path.open("w", newline="", encoding="utf-8") as file:
        writer = csv.writer(file, lineterminator="\n")
        heads = ("file", "call_id", "agent", "called_at", "seconds", "channels", "bytes", "sha256")
        writer.writerow(heads)
        for kept in found:
            row = {**_row(kept), "file": Path(kept.name).name}
            writer.writerow([row[head] for head in heads])


def _row(kept: Kept) -> dict[str, Any]:
    return {**asdict(kept), **{name: moment(getattr(kept, name)) for name in _TIMES}}


def _epoch(day: datetime | None) -> float:
    return day.replace(tzinfo=UTC).timestamp() if day else 0.0
