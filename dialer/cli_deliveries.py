"""`dialer deliveries`: what plugins are told, what failed, and telling it again."""

from __future__ import annotations

import json
import re
import time
from datetime import UTC, datetime
from typing import Any

import click

from dialer import deliveries as told
from dialer.cli_admin import opened
from dialer.config import load
from dialer.errors import DialerError
from dialer.printing import json_option, moment, print_json, print_table

_UNITS = {"s": 1, "m": 60, "h": 3600, "d": 86_400}
STATUSES = ("dead", "waiting", "pending", "doing", "done")
OF_PLUGIN = click.option("--plugin", default="", help="Only of this plugin.")
OF_WORKSPACE = click.option("--workspace", default="", help="Only of this workspace.")


class Since(click.ParamType):  # type: ignore[type-arg]  # generic in click's newest only
    """A moment: some time ago (90s, 30m, 2h, 7d), or a date and time (2026-11-22T10:00, in UTC)."""

    name = "since"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> float:
        if isinstance(value, float):
            return value
        if ago := re.fullmatch(r"([0-9]{1,9})([smhd])", value):
            return time.time() - int(ago[1]) * _UNITS[ago[2]]
        try:
            at = datetime.fromisoformat(value)
        except ValueError:
            self.fail(f"{value!r} is neither a time ago such as 2h nor a moment such as 2026-11-22T10:00", param, ctx)
        return (at if at.tzinfo else at.replace(tzinfo=UTC)).timestamp()


SINCE = click.option("--since", type=Since(), default=0.0, help="Caused since then: 2h ago, or 2026-11-22T10:00 (UTC).")


@click.group()
def deliveries() -> None:
    """What plugins are told of calls: again while they fail, then dead until somebody replays it.

    What a plugin was still to be told as it was switched off, and all while it is set aside, waits for it for a day.
    What happens while it is off is not kept for it.
    """


@deliveries.command("list")
@OF_PLUGIN
@OF_WORKSPACE
@SINCE
@click.option("--status", default="", type=click.Choice(["", *STATUSES]), help="[default: all with a trouble]")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="At most so many.")
@json_option
def list_deliveries(plugin: str, workspace: str, since: float, status: str, limit: int, as_json: bool) -> None:
    """List deliveries that are dead, wait, or failed and will be tried again, newest first."""
    values = {"plugin": plugin, "workspace": workspace, "since": since, "status": status, "limit": limit}
    with opened(load()) as store, store.read() as tx:
        rows = [dict(row) for row in tx.all("all_deliveries", **values)]
    if as_json:
        print_json(rows)
        return
    heads = ("id", "caused", "plugin", "workspace", "call", "hook", "event", "status", "tries", "again", "result")
    print_table(heads, (_cells(row) for row in rows))


@deliveries.command()
@click.argument("delivery", type=int)
@json_option
def show(delivery: int, as_json: bool) -> None:
    """Show the delivery with the id DELIVERY, and the event that it tells."""
    with opened(load()) as store:
        found = told.find(store, delivery)
    if as_json:
        print_json(found)
        return
    event = found.pop("event") or {}
    for name, value in found.items():
        click.echo(f"{name:<12} {moment(value) if name.endswith('_at') else value}")
    click.echo("event")
    for name, value in event.items():
        if name == "payload":
            value = json.dumps(json.loads(value), indent=2)
        click.echo(f"  {name:<12} {moment(value) if name in ('at', 'received_at') else value}")


@deliveries.command()
@click.argument("delivery", type=int, required=False)
@OF_PLUGIN
@OF_WORKSPACE
@SINCE
def replay(delivery: int | None, plugin: str, workspace: str, since: float) -> None:
    """Tell again what is dead or waits: one, by its id DELIVERY, or all of a plugin or a workspace.

    Plugins are told at least once, not exactly once: a good one knows an event that it has had.
    """
    if (delivery is None) == (not (plugin or workspace)) or (delivery is not None and since):
        raise click.UsageError("name one delivery, or --plugin or --workspace (and --since)")
    with opened(load()) as store:
        now = time.time()
        if delivery is not None:
            again = told.replay(store, now, delivery)
        else:
            again = told.replay_all(store, now, plugin=plugin, workspace=workspace, since=since)
    if delivery is not None and not again:
        raise DialerError(f"delivery {delivery} is neither dead nor waits, or there is none (dialer deliveries list)")
    click.echo(f"{again} deliver{'y' if again == 1 else 'ies'} will be told again")


def _cells(row: dict[str, Any]) -> list[object]:
    again = moment(row["run_at"]) if row["status"] == "pending" else ""
    where = (row["plugin"], row["workspace"], row["call_id"], row["hook"], row["event"])
    return [row["id"], moment(row["created_at"]), *where, row["status"], row["attempts"], again, row["result"]]
