"""`dialer rate_limit`: stop and go, and what is used."""

from __future__ import annotations

from datetime import UTC, datetime

import click

from dialer import Host
from dialer.printing import json_option, print_json, print_table
from dialer_plugins.rate_limit import places
from dialer_plugins.rate_limit.prices import start_of_day

_WORKSPACE = click.option("--workspace", default="", help="The workspace.")
_ALL = click.option("--all", "everybody", is_flag=True, help="Every workspace.")


def group(host: Host) -> click.Group:
    return click.Group(
        "rate_limit",
        commands=[stop, go, status],
        help="Stop all calls at once, let them go on, and see what is used.",
        context_settings={"obj": host},
    )


@click.command()
@_WORKSPACE
@_ALL
@click.option("--reason", default="", help="What agents hear.")
@click.option("--hang-up", is_flag=True, help="Also end the calls in progress (of one workspace).")
@click.pass_obj
def stop(host: Host, workspace: str, everybody: bool, reason: str, hang_up: bool) -> None:
    """Refuse every call from now on, in all workers."""
    whose = _whose(workspace, everybody)
    if hang_up and everybody:
        raise click.UsageError("--hang-up needs --workspace: name one workspace after the other")
    places.stop(host, whose, reason)
    click.echo(f"calls stopped for {whose or 'all workspaces'}; dialer rate_limit go lets them go on")
    if hang_up:
        calls = host.open_calls(workspace)
        for call in calls:
            host.hang_up(call, "calls were stopped")
        click.echo(f"{len(calls)} calls in progress are being ended")


@click.command()
@_WORKSPACE
@_ALL
@click.pass_obj
def go(host: Host, workspace: str, everybody: bool) -> None:
    """Take a stop back."""
    whose = _whose(workspace, everybody)
    there = places.go(host, whose)
    who = whose or "all workspaces"
    click.echo(f"calls go on for {who}" if there else f"calls were not stopped for {who}")
    for left in places.stops(host):
        click.echo(f"still stopped: {left.workspace or 'all workspaces'}, since {_moment(left.at)}")


@click.command()
@_WORKSPACE
@click.option("--agent", default="", help="Also what this agent uses.")
@json_option
@click.pass_obj
def status(host: Host, workspace: str, agent: str, as_json: bool) -> None:
    """Show what is stopped, and what a workspace uses now."""
    stopped = [
        {"workspace": one.workspace or "*", "since": _moment(one.at), "reason": one.reason}
        for one in places.stops(host)
    ]
    usage = _usage(host, workspace, agent) if workspace else []
    if as_json:
        print_json({"stopped": stopped, "used": usage})
        return
    for one in stopped:
        click.echo(f"stopped: {one['workspace']}, since {one['since']}: {one['reason'] or 'no reason given'}")
    if not stopped:
        click.echo("nothing is stopped")
    if usage:
        print_table(list(usage[0]), [list(one.values()) for one in usage])


def _usage(host: Host, workspace: str, agent: str) -> list[dict[str, object]]:
    now = host.clock()
    used = places.used_by(host, workspace, agent, now, start_of_day(now, host.plugin(workspace).time_zone))
    both = [(workspace, used.workspace), *([(agent, used.agent)] if agent else [])]
    return [
        {"who": who, "last minute": one.last_minute, "at once": one.at_once, "minutes": one.minutes, "spend": one.spend}
        for who, one in both
    ]


def _whose(workspace: str, everybody: bool) -> str:
    if bool(workspace) == everybody:
        raise click.UsageError("give either --workspace NAME or --all")
    return workspace


def _moment(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%d %H:%M:%SZ")
