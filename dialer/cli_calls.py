"""`dialer call`, `dialer calls`, `dialer show`: place a call, list them, read one."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from dialer import demo
from dialer.api import call_json, event_json
from dialer.auth import SCOPES, add_key
from dialer.cli_admin import opened
from dialer.config import load
from dialer.errors import ConfigError, DialerError
from dialer.following import Follower, connect, require_server
from dialer.ladder import Ladder, Rung, outcome
from dialer.loopback import NotReachable, ask
from dialer.plugin_story import plugin_story
from dialer.printing import json_option, moment, print_json, print_table
from dialer.records import load as load_call
from dialer.repairs import repairs
from dialer.store import Store
from dialer.tables import one_line

#: Seconds that a call may take to settle, beyond ringing and talking.
SETTLES = 60.0
#: What `dialer show` prints of a call, and the tables after it: title, name in the record, columns.
HEADER = ("id", "workspace", "agent", "to", "from", "requestedAt", "answeredAt", "endedAt", "conference", "plugins")
SECTIONS = (
    ("every event", "events", ("id", "receivedAt", "name", "source", "role", "status", "callSid")),
    ("every answer of a plugin", "verdicts", ("plugin", "hook", "answer", "milliseconds", "error")),
    ("what was done", "jobs", ("kind", "plugin", "call_sid", "status", "attempts", "result", "run_at", "done_at")),
    ("dial requests", "dials", ("id", "state", "attempts", "sent_at", "error")),
)
KEY_TTL = 3600.0


@click.command()
@click.argument("number")
@click.option("--as", "agent", default="demo_alice", show_default=True, help="The agent who calls.")
@click.option("--workspace", default=demo.WORKSPACE, show_default=True, help="The agent's workspace.")
@click.option("--talk", default=5.0, show_default=True, type=click.FloatRange(0, 3600),
              help="Seconds of talk until the agent hangs up.")  # fmt: skip
@json_option
@click.pass_context
def call(ctx: click.Context, number: str, agent: str, workspace: str, talk: float, as_json: bool) -> None:
    """Call NUMBER from a simulated browser through the running server, and watch what happens.

    Exit code 0 for any outcome (busy and refused ones too), 1 when there was none in time.
    """
    settings = demo.settings()
    if not settings.accounts:
        raise NotReachable("Dialer was never started here: start it with dialer run")
    if not settings.simulated:
        raise ConfigError("real calls start in a browser: this is for dialer run without a Twilio account")
    server, simulator = settings.server.public_url, settings.twilio.api_base
    require_server(server, simulator)
    with opened(settings) as store, short_lived_key(store, workspace, agent) as key:
        leg = connect(server, simulator, key, {"To": number, "workspaceId": workspace}, talk)
        follower = Follower(server, key, leg, settings.calls.ring_seconds + talk + SETTLES)
        try:
            follow(follower, as_json)
        except KeyboardInterrupt:
            ask(f"{simulator}/_simulator/calls/{leg}/hangup", {})
            raise
    ctx.exit(0 if follower.settled else 1)


@contextmanager
def short_lived_key(store: Store, workspace: str, agent: str) -> Iterator[str]:
    """A key of this agent for as long as the block lasts."""
    now = time.time()
    with store.write() as tx:
        key = add_key(tx, workspace, agent, SCOPES, now=now, ttl=KEY_TTL)
    try:
        yield key
    finally:
        with store.write() as tx:
            tx.run("revoke_key", key_id=key.split("_")[1], now=time.time())


def follow(follower: Follower, as_json: bool) -> None:
    for rung in follower.rungs():
        if not as_json:
            print_rung(rung)
    found = follower.call
    if as_json:
        ladder = [rung.as_json() for rung in follower.told]
        print_json({"outcome": found and outcome(found), "call": found, "ladder": ladder, "events": follower.events})
    elif found is None:
        click.echo("the browser's call never reached Dialer: see the log of dialer run", err=True)
    else:
        unsettled = "" if follower.settled else "; not settled in time"
        click.echo(f"\n{one_line(outcome(found))}{unsettled}\n({found['id']}: dialer show {found['id']})")


def print_rung(rung: Rung) -> None:
    """One line, at once; the leg in colour on a terminal."""
    from rich.console import Console
    from rich.text import Text

    colour = {"agent": "cyan", "customer": "green", "Dialer": "yellow"}.get(rung.who, "magenta")
    line = Text(str(rung))
    line.highlight_words([f"  {rung.who} "], style=colour)
    Console(highlight=False, soft_wrap=True).print(line)


@click.command()
@click.option("--workspace", default="", help="Only of this workspace.")
@click.option("--status", default="", help="Only in this status, such as completed or no-answer.")
@click.option("--limit", default=20, show_default=True, type=click.IntRange(1, 10_000), help="At most so many.")
@json_option
def calls(workspace: str, status: str, limit: int, as_json: bool) -> None:
    """List the newest calls of all workspaces."""
    with opened(load()) as store, store.read() as tx:
        rows = tx.all("all_calls", workspace=workspace, status=status, limit=limit)
        found = [call_json(one) for one in (load_call(tx, row) for row in rows) if one]
    if as_json:
        print_json({"calls": found})
        return
    heads = ("requested", "call", "workspace", "agent", "to", "outcome")
    print_table(
        heads,
        (
            (readable(one["requestedAt"]), one["id"], one["workspace"], one["agent"], one["to"], outcome(one))
            for one in found
        ),
    )


@click.command()
@click.argument("call_id", metavar="CALL")
@json_option
def show(call_id: str, as_json: bool) -> None:
    """Show all that is known of CALL: its history, who ended it and why, what plugins said, what was done.

    The first characters of its id are enough.
    """
    with opened(load()) as store:
        record = read_record(store, call_id)
    if as_json:
        print_json(record)
    else:
        print_record(record)


def read_record(store: Store, call_id: str) -> dict[str, Any]:
    """All that is on record of the one call whose id starts so; raises DialerError when that is none, or several."""
    prefix = call_id if call_id.startswith("call_") else f"call_{call_id}"
    with store.read() as tx:
        rows = tx.all("calls_starting_with", prefix=prefix, limit=2)
        found = load_call(tx, rows[0]) if len(rows) == 1 else None
        if found is None:
            many = "more than one call starts" if rows else "no call starts"
            raise DialerError(f"{many} with {prefix} (dialer calls lists them)")
        of_call = {"call_id": found.id, "workspace": found.workspace}
        events = [event_json(row) for row in tx.all("events_of_call", **of_call, after=0)]
        shown = call_json(found)
        return {
            "call": shown,
            "outcome": outcome(shown),
            "ladder": [rung.as_json() for rung in Ladder(shown).rungs(events)],
            "repairs": repairs(events),
            "events": events,
            "verdicts": [dict(row) for row in tx.all("verdicts_of_call", **of_call)],
            "jobs": [dict(row) for row in tx.all("jobs_of_call", **of_call)],
            "dials": [dict(row) for row in tx.all("intents_of_call", **of_call)],
        }


def print_record(record: dict[str, Any]) -> None:
    """A call's record, section by section."""
    one = record["call"]
    for name in HEADER:
        if one[name]:
            click.echo(f"{name:<12} {one_line(str(one[name]))}")
    click.echo(f"{'outcome':<12} {one_line(record['outcome'])}")
    section("what happened")
    for rung in record["ladder"]:
        print_rung(Rung(**rung))
    section("legs")
    print_table(("role", "status", "CallSid"), ((leg["role"], leg["status"], leg["callSid"]) for leg in one["legs"]))
    section("what plugins said")
    for sentence in plugin_story(record["verdicts"], record["jobs"]) or ["nothing"]:
        click.echo(one_line(sentence))
    section("what Dialer learned by asking")
    for repair in record["repairs"] or [{"at": "", "text": "nothing"}]:
        click.echo(f"{repair['at'][11:19]} {one_line(repair['text'])}".strip())
    for title, name, columns in SECTIONS:
        section(title)
        if not record[name]:
            click.echo("nothing")
            continue
        print_table(columns, ([cell(row, column) for column in columns] for row in record[name]))


def cell(row: dict[str, Any], column: str) -> object:
    return moment(row[column]) if column.endswith("_at") else row[column]


def section(title: str) -> None:
    click.secho(f"\n{title}", bold=True)


def readable(iso: str) -> str:
    return iso[:19].replace("T", " ")
