"""`dialer do_not_call`: fill the lists, look into them, and take the evidence out."""

from __future__ import annotations

import csv
import sys
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any, TextIO, TypeVar

import click

from dialer import DialerError, Host
from dialer.printing import json_option, print_json, print_table
from dialer_plugins.do_not_call import evidence as checks
from dialer_plugins.do_not_call import lists
from dialer_plugins.do_not_call.importing import Import, import_file
from dialer_plugins.do_not_call.lists import Entry, Incoming
from dialer_plugins.do_not_call.moments import moment, read_day, read_expiry
from dialer_plugins.do_not_call.reading import Defaults, read_number

F = TypeVar("F", bound=Callable[..., Any])


def _whose(command: F) -> F:
    """The options that say whose list is meant."""
    command = click.option("--workspace", default="", help="The workspace whose list it is.")(command)
    return click.option("--all", "everybody", is_flag=True, help="The list is of all workspaces.")(command)


_LIST = click.option("--list", "name", default="internal", show_default=True, help="The name of the list.")
_REGION = click.option("--region", default="", help="ISO country of numbers without +, such as US.")
_REASON = click.option("--reason", default="", help="Why, where the file does not say.")
_EXPIRES = click.option("--expires", default="", help="Until when: 2027-01-31 (that day included, UTC) or 90d.")
_OUTPUT = click.option("--output", type=click.File("w", lazy=False), default="-", help="A file; else standard output.")


def group(host: Host) -> click.Group:
    return click.Group(
        "do_not_call",
        commands=[import_, add, remove, check, list_, drop, export, evidence],
        help="The do-not-call lists: fill them, look into them, take the evidence out.",
        context_settings={"obj": host},
    )


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_whose
@_LIST
@click.option("--column", "columns", multiple=True, help="Head or place (1, 2, ...) of the number; parts are joined.")
@_REGION
@_REASON
@_EXPIRES
@click.option("--replace", is_flag=True, help="Take off the list what the file does not hold.")
@click.option("--skip-bad", is_flag=True, help="Import the good rows although there are bad ones.")
@click.option("--encoding", default="utf-8-sig", show_default=True, help="How the file's letters are written.")
@click.pass_obj
def import_(
    host: Host,
    file: Path,
    workspace: str,
    everybody: bool,
    name: str,
    columns: tuple[str, ...],
    region: str,
    reason: str,
    expires: str,
    replace: bool,
    skip_bad: bool,
    encoding: str,
) -> None:
    """Put the numbers of the CSV file FILE on a list: all of them, or none when a row is bad."""
    whose = _checked(host, workspace, everybody, name, region)
    defaults = Defaults(region, reason[:200], _expiry(host, expires), host.clock())
    with click.progressbar(length=file.stat().st_size, label=file.name, file=sys.stderr) as bar:
        result = import_file(
            host,
            file,
            (whose, name),
            defaults,
            columns=columns,
            replace=replace,
            skip_bad=skip_bad,
            encoding=encoding,
            tick=bar.update,
        )
    _print_import(file.name, _called(whose, name), result)


@click.command()
@click.argument("number")
@_whose
@_LIST
@_REGION
@_REASON
@_EXPIRES
@click.pass_obj
def add(
    host: Host, number: str, workspace: str, everybody: bool, name: str, region: str, reason: str, expires: str
) -> None:
    """Put NUMBER on a list."""
    whose = _checked(host, workspace, everybody, name, region)
    wanted = Incoming(_number(number, region), reason[:200], _expiry(host, expires))
    added = lists.add(host, whose, name, wanted)
    click.echo(f"{wanted.number} {'added to' if added else 'was already on'} {_called(whose, name)}")


@click.command()
@click.argument("number")
@_whose
@_LIST
@_REGION
@click.pass_obj
def remove(host: Host, number: str, workspace: str, everybody: bool, name: str, region: str) -> None:
    """Take NUMBER off a list."""
    whose, wanted = _checked(host, workspace, everybody, name, region), _number(number, region)
    if not lists.remove(host, whose, name, wanted):
        raise DialerError(f"{wanted} is not on {_called(whose, name)}")
    click.echo(f"{wanted} taken off {_called(whose, name)}")


@click.command()
@click.argument("number")
@click.option("--workspace", required=True, help="The workspace that would call.")
@_REGION
@json_option
@click.pass_context
def check(ctx: click.Context, number: str, workspace: str, region: str, as_json: bool) -> None:
    """Say whether a workspace may call NUMBER; exit code 1 when it may not."""
    host: Host = ctx.obj
    wanted, now = _number(number, region), host.clock()
    forbidding = lists.find(host, workspace, wanted, now)
    found = [_row(entry) for entry in lists.all_of(host, workspace, wanted)]
    if as_json:
        print_json({"number": wanted, "may_be_called": not forbidding, "entries": found})
    else:
        click.echo(f"{wanted} {'is listed' if forbidding else 'is not listed'} for {workspace}")
        if found:
            print_table(list(found[0]), [list(row.values()) for row in found])
    ctx.exit(1 if forbidding else 0)


@click.command("list")
@click.option("--workspace", default="", help="Only what this workspace is checked against.")
@json_option
@click.pass_obj
def list_(host: Host, workspace: str, as_json: bool) -> None:
    """List the lists: how many entries, how many of them expired, how many calls they refused."""
    found = [one for one in lists.overview(host) if not workspace or one.workspace in (workspace, lists.EVERYBODY)]
    rows = [
        {**asdict(one), "workspace": one.workspace or "*", "imported_at": moment(one.imported_at)} for one in found
    ]
    if as_json:
        print_json(rows)
    elif rows:
        print_table(list(rows[0]), [list(row.values()) for row in rows])
    else:
        click.echo("there are no lists; dialer do_not_call import makes one")


@click.command()
@_whose
@_LIST
@click.confirmation_option(prompt="Delete the list and all its entries?")
@click.pass_obj
def drop(host: Host, workspace: str, everybody: bool, name: str) -> None:
    """Delete a whole list."""
    whose = _checked(host, workspace, everybody, name)
    count = lists.drop(host, whose, name)
    if count is None:
        raise DialerError(f"there is no list {_called(whose, name)}")
    click.echo(f"{_called(whose, name)} deleted, with {count} entries")


@click.command()
@_whose
@_LIST
@_OUTPUT
@click.pass_obj
def export(host: Host, workspace: str, everybody: bool, name: str, output: TextIO) -> None:
    """Write the entries of a list as CSV, which import reads again."""
    whose = _checked(host, workspace, everybody, name)
    heads = ("number", "reason", "expires", "added_at", "hits", "last_hit_at")
    _write_csv(output, heads, (_exported(entry) for entry in lists.entries(host, whose, name)))


@click.command()
@click.option("--workspace", required=True, help="The workspace that called.")
@click.option("--since", required=True, help="From this day on (UTC), such as 2026-01-31.")
@click.option("--number", default="", help="Only of calls to this number (E.164).")
@_OUTPUT
@click.pass_obj
def evidence(host: Host, workspace: str, since: str, number: str, output: TextIO) -> None:
    """Write what was checked for each call, and found or not found, as CSV."""
    try:
        begin = read_day(since)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--since") from None
    found = checks.evidence(host, workspace, begin, number)
    _write_csv(output, checks.HEADS, found)


def _checked(host: Host, workspace: str, everybody: bool, name: str, region: str = "") -> str:
    """Whose list is meant; raises UsageError."""
    import phonenumbers

    if bool(workspace) == everybody:
        raise click.UsageError("give either --workspace NAME or --all")
    if not lists.NAME.fullmatch(name):
        raise click.BadParameter("letters, digits, _ . and -, 60 at most", param_hint="--list")
    if region and region not in phonenumbers.SUPPORTED_REGIONS:
        raise click.BadParameter(f"{region!r:.20} is not an ISO country such as US, in capitals", param_hint="--region")
    if workspace and not host.numbers(workspace):
        click.echo(f"warning: workspace {workspace} has no numbers to call from; is it spelt right?", err=True)
    return workspace


def _number(text: str, region: str) -> str:
    try:
        number: str = read_number(text, region)
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="NUMBER") from None
    return number


def _expiry(host: Host, text: str) -> float | None:
    try:
        at: float | None = read_expiry(text, host.clock())
    except ValueError as error:
        raise click.BadParameter(str(error), param_hint="--expires") from None
    return at


def _print_import(file: str, target: str, result: Import) -> None:
    for bad in result.bad:
        click.echo(f"line {bad.line}: {bad.why}", err=True)
    if result.bad_rows > len(result.bad):
        click.echo(f"... and {result.bad_rows - len(result.bad)} more", err=True)
    merged = result.merged
    if merged is None:
        raise DialerError(f"{result.bad_rows} bad rows in {file}, nothing was imported; mend them or give --skip-bad")
    now = merged.before + merged.added - merged.removed
    click.echo(f"{result.rows} rows of {file}, {result.bad_rows} bad ones left out")
    click.echo(f"{merged.added} numbers added to {target}, {merged.removed} taken off; it has {now} now")


def _called(workspace: str, name: str) -> str:
    return f"list {name} of {workspace or 'all workspaces'}"


def _row(entry: Entry) -> dict[str, Any]:
    times = ("added_at", "expires_at", "last_hit_at")
    values = {**asdict(entry), **{name: moment(getattr(entry, name)) for name in times}}
    return {**values, "workspace": entry.workspace or "*"}


def _exported(entry: Entry) -> Sequence[object]:
    # The day before, as import reads a day as included.
    expires = moment(None if entry.expires_at is None else entry.expires_at - 1)[:10]
    return entry.number, entry.reason, expires, moment(entry.added_at), entry.hits, moment(entry.last_hit_at)


def _write_csv(output: TextIO, heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(heads)
    writer.writerows(rows)
