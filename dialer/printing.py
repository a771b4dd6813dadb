"""How commands print: tables for people, one JSON document for programs."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterable, Sequence
from typing import Any, TypeVar

import click

from dialer.tables import one_line

F = TypeVar("F", bound=Callable[..., Any])

#: Columns of output that is no terminal: nothing is cut off or wrapped for whatever reads it.
UNLIMITED = 10_000


def json_option(command: F) -> F:
    """The option of every command that prints data."""
    return click.option("--json", "as_json", is_flag=True, help="Print one JSON document.")(command)


def print_json(value: object) -> None:
    click.echo(json.dumps(value, indent=2))


def print_table(heads: Sequence[str], rows: Iterable[Sequence[object]]) -> None:
    """Rows under their heads. Cells are shown on one line and free of control characters: some come from outside."""
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    console = Console(highlight=False)
    if not console.is_terminal:
        console.width = UNLIMITED
    table = Table(box=None, pad_edge=False, header_style="bold")
    for head in heads:
        table.add_column(head, overflow="fold")
    for row in rows:
        table.add_row(*(Text(one_line(str("" if cell is None else cell))) for cell in row))
    with console.capture() as captured:
        console.print(table)
    click.echo("\n".join(line.rstrip() for line in captured.get().splitlines()))


def moment(at: float | None) -> str:
    """A time as an admin reads it: in UTC, to the second."""
    return "" if at is None else time.strftime("%Y-%m-%d %H:%M:%S", time.gmtime(at))
