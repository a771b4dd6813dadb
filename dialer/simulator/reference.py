"""The tables of docs/simulator.md, made from the code: `python -m dialer.simulator.reference docs/simulator.md`."""

from __future__ import annotations

import ast
import inspect
import re
import sys
from collections.abc import Iterable
from dataclasses import fields
from pathlib import Path
from typing import Any, Literal, get_args, get_origin, get_type_hints

from dialer.simulator.controls import PREFIX
from dialer.simulator.controls import TABLE as CONTROLS
from dialer.simulator.knobs import Faults, Knobs
from dialer.simulator.phones import PHONES
from dialer.simulator.rest import ROUTES

BLOCK = re.compile(r"(<!-- table: (\w+) -->\n).*?(<!-- end -->)", re.DOTALL)
"""A place in the page that is filled with the table of that name."""

Rows = Iterable[tuple[str, ...]]


def fill(page: str) -> str:
    """The page with each of its tables as the code has it now."""
    return BLOCK.sub(lambda block: block[1] + TABLES[block[2]]() + block[3], page)


def phones() -> str:
    """The scripted phones."""
    return table(("number", "what happens"), ((f"`{phone.number}`", phone.story) for phone in PHONES.values()))


def controls() -> str:
    """The simulator's own doors."""
    rows = ((f"`{method} {PREFIX}{path}`", does) for method, path, does, _ in CONTROLS)
    return table(("control", "what it is for"), rows)


def resources() -> str:
    """The paths of the REST API and the methods each answers."""
    methods: dict[str, list[str]] = {}
    for route in ROUTES:
        methods.setdefault(route.path, []).append(route.method)
    return table(("path", "methods"), ((f"`{path}`", ", ".join(known)) for path, known in methods.items()))


def knobs() -> str:
    """What is unconfirmed about Twilio, and latencies."""
    return table(("knob", "default", "meaning"), settings(Knobs))


def faults() -> str:
    """What can be made to go wrong."""
    return table(("fault", "what goes wrong"), ((name, meaning) for name, _, meaning in settings(Faults)))


def settings(kind: type[Any]) -> Rows:
    """Name, default and docstring of each field; the other choices follow the default."""
    meanings, hints = read_docstrings(kind), get_type_hints(kind)
    for one in fields(kind):
        others = [choice for choice in choices(hints[one.name]) if choice != one.default]
        default = f"`{write(one.default)}`" + (f" (or {', '.join(f'`{other}`' for other in others)})" if others else "")
        yield f"`{one.name}`", default, meanings[one.name]


def read_docstrings(kind: type[Any]) -> dict[str, str]:
    """The text below each field of a class, on one line."""
    (definition,) = ast.parse(inspect.getsource(kind)).body
    assert isinstance(definition, ast.ClassDef)
    found: dict[str, str] = {}
    for field, below in zip(definition.body, definition.body[1:], strict=False):
        match field, below:
            case ast.AnnAssign(target=ast.Name(id=name)), ast.Expr(value=ast.Constant(value=str(text))):
                found[name] = " ".join(text.split())
    return found


def choices(hint: Any) -> tuple[str, ...]:
    return get_args(hint) if get_origin(hint) is Literal else ()


def write(value: object) -> str:
    """A value as the JSON of the configuration has it."""
    if isinstance(value, tuple):
        return f"[{', '.join(map(write, value))}]"
    return str(value).lower() if isinstance(value, bool) else str(value)


def table(heads: tuple[str, ...], rows: Rows) -> str:
    """A Markdown table."""
    lines = [heads, ("---",) * len(heads), *rows]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)


TABLES = {"phones": phones, "controls": controls, "resources": resources, "knobs": knobs, "faults": faults}

if __name__ == "__main__":
    path = Path(sys.argv[1])
    path.write_text(fill(path.read_text()))
