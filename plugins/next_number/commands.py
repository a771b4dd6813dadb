"""`dialer next_number`: say which number follows which."""

from __future__ import annotations

import csv
from collections.abc import Iterator
from pathlib import Path
from typing import TextIO

import click

from dialer import DialerError, Host
from dialer.numbers import to_e164
from dialer.printing import json_option, print_json, print_table
from dialer_plugins.next_number import numbers
from dialer_plugins.next_number.numbers import Pair

#: Bad rows that are printed.
MOST_SHOWN = 20
HEADS = ("number", "next_number")
_WORKSPACE = click.option("--workspace", required=True, help="The workspace that calls.")
_REGION = click.option("--region", default="", help="ISO country of numbers without +, such as US.")


def group(host: Host) -> click.Group:
    return click.Group(
        "next_number",
        commands=[import_, add, remove, list_, export],
        help="The numbers to try when one is not answered.",
        context_settings={"obj": host},
    )


@click.command("import")
@click.argument("file", type=click.Path(exists=True, dir_okay=False, path_type=Path))
@_WORKSPACE
@_REGION
@click.option("--replace", is_flag=True, help="Forget what the file does not hold.")
@click.option("--encoding", default="utf-8-sig", show_default=True, help="How the file's letters are written.")
@click.pass_obj
def import_(host: Host, file: Path, workspace: str, region: str, replace: bool, encoding: str) -> None:
    """Read pairs from the CSV file FILE, with the columns number and next_number: all of them, or none."""
    found: list[Pair] = []
    bad: list[str] = []
    try:
        with file.open(newline="", encoding=encoding) as text:
            for line, row in _rows(text, file.name):
                pair = _pair(row, region)
                if isinstance(pair, Pair):
                    found.append(pair)
                else:
                    bad.append(f"line {line}: {pair}")
    except (UnicodeDecodeError, LookupError, csv.Error) as error:
        raise DialerError(f"{file.name} cannot be read ({error}); save it as CSV in UTF-8, or say --encoding") from None
    for fault in bad[:MOST_SHOWN]:
        click.echo(fault, err=True)
    if bad:
        raise DialerError(f"{len(bad)} bad rows in {file.name}, nothing was imported; mend them")
    new = numbers.add(host, workspace, found, replace=replace)
    click.echo(f"{len(found)} rows of {file.name}: {new} {'kept' if replace else 'new'}")


@click.command()
@click.argument("number")
@click.argument("next_number")
@_WORKSPACE
@_REGION
@click.pass_obj
def add(host: Host, number: str, next_number: str, workspace: str, region: str) -> None:
    """Have NEXT_NUMBER tried when NUMBER is not answered, behind those that are tried already."""
    pair = _pair({"number": number, "next_number": next_number}, region)
    if not isinstance(pair, Pair):
        raise click.UsageError(pair)
    new = numbers.add(host, workspace, [pair])
    click.echo(f"after {pair.number}, {pair.next} is {'tried now' if new else 'tried already'}")


@click.command()
@click.argument("number")
@click.argument("next_number", default="")
@_WORKSPACE
@click.pass_obj
def remove(host: Host, number: str, next_number: str, workspace: str) -> None:
    """Forget what follows NUMBER (in E.164): all of it, or only NEXT_NUMBER."""
    gone = numbers.remove(host, workspace, number, next_number)
    if not gone:
        raise DialerError(f"nothing of the kind follows {number} in {workspace}")
    click.echo(f"{gone} taken away")


@click.command("list")
@_WORKSPACE
@click.option("--number", default="", help="Only what follows this number (E.164).")
@json_option
@click.pass_obj
def list_(host: Host, workspace: str, number: str, as_json: bool) -> None:
    """List the pairs, in the order in which they are tried."""
    found = numbers.pairs(host, workspace, number)
    if as_json:
        print_json([dict(zip(HEADS, pair, strict=True)) for pair in found])
    elif found:
        print_table(HEADS, found)
    else:
        click.echo("there are none; dialer next_number import reads them from a file")


@click.command()
@_WORKSPACE
@click.option("--output", type=click.File("w", lazy=False), default="-", help="A file; else standard output.")
@click.pass_obj
def export(host: Host, workspace: str, output: TextIO) -> None:
    """Write the pairs as CSV, which import reads again."""
    writer = csv.writer(output, lineterminator="\n")
    writer.writerow(HEADS)
    writer.writerows(numbers.pairs(host, workspace))


def _rows(text: TextIO, name: str) -> Iterator[tuple[int, dict[str, str]]]:
    """The rows by line, empty ones left out; raises DialerError without the two columns."""
    first = text.readline()
    separator = next((one for one in ";\t" if one in first), ",")
    heads = [head.strip().lower().replace(" ", "_") for head in next(csv.reader([first], delimiter=separator), [])]
    if not set(HEADS) <= set(heads):
        raise DialerError(
            f"{name} needs the columns number and next_number in its first line, not {first.strip()!r:.80}"
        )
    reader = csv.reader(text, delimiter=separator)
    for cells in reader:
        if any(cell.strip() for cell in cells):
            yield reader.line_num + 1, dict(zip(heads, cells, strict=False))


def _pair(row: dict[str, str], region: str) -> Pair | str:
    """The row's pair, or what is wrong with it."""
    read = {}
    for head in HEADS:
        typed = row.get(head, "").strip()
        number = to_e164(typed, region)
        if number is None:
            return f"{head} {typed!r:.40} is not a number in international form, starting with + (or say --region)"
        read[head] = number
    pair = Pair(read["number"], read["next_number"])
    return f"{pair.number} would follow itself" if pair.number == pair.next else pair
