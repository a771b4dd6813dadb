"""The reference pages that are made from the code: `python -m dialer.reference hooks > docs/hooks.md`."""

from __future__ import annotations

import inspect
import re
import sys
from collections.abc import Iterator, Mapping
from dataclasses import fields
from typing import Any

from dialer import hookspecs
from dialer.config import SECTIONS
from dialer.discovery import HOOKS
from dialer.hookspecs import Option
from dialer.settings import PluginList, Workspace, WorkspacePlugins, WorkspaceTwilio
from dialer.tables import kind, settings_of, shown

_MADE = "<!-- Made by `python -m dialer.reference {page} > docs/{page}.md`; a test compares. -->"


def hooks() -> str:
    """The page about hooks, in call order."""
    lines = ["# Hooks", "", _MADE.format(page="hooks"), "", *_paragraphs(hookspecs)]
    lines += [*_HOOKS.splitlines(), ""]
    for name in _in_call_order():
        function = getattr(hookspecs, name)
        lines += [f"## {name}", "", f"`{name}{_signature(function)}`", "", *_hook(function), ""]
    for value in (hookspecs.Refusal, hookspecs.Remark, hookspecs.Route, hookspecs.CallEvent):
        name = value.__name__
        lines += [f"## {name}", "", f"`{name}{_signature(value)}`", "", *_paragraphs(value), ""]
    lines += ["## Dial options", "", *_options(hookspecs.DIAL_OPTIONS), ""]
    lines += ["## Conference options", "", *_options(hookspecs.CONFERENCE_OPTIONS)]
    return "\n".join(lines) + "\n"


def configuration() -> str:
    """The page about dialer.toml and the environment."""
    lines = ["# Configuration", "", _MADE.format(page="configuration"), *_CONFIGURATION.rstrip().splitlines()]
    for section, cls in {
        **SECTIONS,
        "plugins": PluginList,
        "workspaces.NAME": Workspace,
        "workspaces.NAME.twilio": WorkspaceTwilio,
        "workspaces.NAME.plugins": WorkspacePlugins,
    }.items():
        lines += ["", f"## [{section}]", "", *_paragraphs(cls), "", *_settings(section, cls)]
    return "\n".join(lines) + "\n"


_HOOKS = """
A plugin is a class: its fields are its settings, its methods marked with `dialer.hookimpl` are its hooks.
Each takes `call`, and `event` where it is listed, as plain arguments. An error, an answer that is none of
those listed and one that comes too late all count as written under *If it raises*. A request waits 250 ms
for an answer; a class that sets `budget_seconds` gets up to 5 seconds.
"""

_CONFIGURATION = """
Settings come from `dialer.toml` and from the environment, which wins; without the file everything has its
default. It is in the instance folder (`DIALER_INSTANCE`, default `instance`), or where `DIALER_CONFIG`
says. `dialer check` lists every fault and what to change.

A secret, and any text, may be kept elsewhere: `{ env = "NAME" }` takes it from the environment, and
`{ file = "path" }` from a file, relative to `dialer.toml`. Nobody but the owner may be able to read a file
with a secret (`chmod 600`), and that goes for `dialer.toml` if it holds one itself.

`DIALER_PLUGINS`, a list with commas, takes the place of `[plugins] enabled`; empty, it turns all plugins
off. A change of the plugins' list or tables works at once, in every process; all else needs a restart.
`dialer plugins` makes such changes, keeps the file's comments, and knows who made which.
Write a new file and rename it over the old one, so that nobody reads half of it. A file that is gone, empty
or wrong changes nothing.
"""


def _in_call_order() -> list[str]:
    return [name for name in vars(hookspecs) if name in HOOKS]


def _signature(value: Any) -> str:
    text = re.sub(r"(: |-> )'([^']*)'", r"\1\2", str(inspect.signature(value)))
    return text.replace("<factory>", "{}").removesuffix(" -> None")


def _paragraphs(value: Any) -> list[str]:
    return inspect.cleandoc(value.__doc__ or "").splitlines()


def _hook(function: Any) -> Iterator[str]:
    first, _, *parts = _paragraphs(function)
    yield first
    yield ""
    for part in parts:
        label, _, text = part.partition(": ")
        yield f"- *{label}:* {text}"


def _options(options: Mapping[str, Option]) -> Iterator[str]:
    yield "| name | values | meaning |"
    yield "|---|---|---|"
    for name, option in options.items():
        yield f"| `{name}` | {_values(option)} | {option.meaning} |"


def _values(option: Option) -> str:
    if option.numbers is not None:
        return f"{option.numbers[0]} to {option.numbers[-1]}"
    shapes = [f"a text matching `{option.shape}`"] if option.shape else []
    return ", ".join([*(f"`{choice}`" if choice else "empty" for choice in option.choices), *shapes])


def _settings(section: str, cls: type[Any]) -> Iterator[str]:
    defaults = {one.name: one.default for one in fields(cls)}
    yield "| setting | type | default | environment | meaning |"
    yield "|---|---|---|---|---|"
    for name, (hint, one, _) in settings_of(cls).items():
        low_high = f", {one.numbers[0]:g} to {one.numbers[1]:g}" if one.numbers else ""
        env = f"`{one.env}`" if one.env and not section.startswith("workspaces") else ""
        default = defaults[name]
        written = "" if default is None else f"`{'[]' if default == () else shown(default)}`"
        yield f"| `{name}` | {kind(hint)}{low_high} | {written} | {env} | {one.meaning} |"


PAGES = {"hooks": hooks, "configuration": configuration}

if __name__ == "__main__":
    sys.stdout.write(PAGES[sys.argv[1]]())
