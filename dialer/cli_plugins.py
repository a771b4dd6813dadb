"""`dialer plugins`: which are there, what they do, switched on and off, and who changed what."""

from __future__ import annotations

import os
import time
import tomllib
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
import tomlkit

from dialer import audit
from dialer.cli_admin import opened, store_path
from dialer.cli_plugins_dev import new, test
from dialer.config import load, mark
from dialer.discovery import Found, installed
from dialer.errors import DialerError
from dialer.plugin_file import Edit, change, listing, reorder, table_at
from dialer.plugin_set import PluginSet, look_over
from dialer.plugin_view import ROUTES_DUE, description, overview, settings_view
from dialer.printing import json_option, moment, print_json, print_table
from dialer.settings import PluginList, Settings
from dialer.starts import Starts
from dialer.store import Store
from dialer.tables import unknown

TAKEN = "a running server takes it with its next request; if it cannot, it goes on as before, and its log says why"
IN_WORKSPACE = click.option("--workspace", default="", help="Only in this workspace.")


@click.group()
def plugins() -> None:
    """The plugins: what is installed, what is on, in which order, and how they do."""


plugins.add_command(new)
plugins.add_command(test)


@plugins.command("list")
@click.option("--workspace", default="", help="As this workspace has them.")
@json_option
def list_plugins(workspace: str, as_json: bool) -> None:
    """List the plugins, in the order in which they are asked; those that are installed and off come last.

    State: on, off, set aside (it broke two starts in a row), broken (a server that runs goes on as before).
    """
    settings = load()
    found, used = _plugins(settings)
    with _store(settings) as store:
        rows = overview(used, Starts.of(settings), store, time.time(), workspace)
    faults = [fault.text for fault in found.faults]
    if as_json:
        print_json({"plugins": rows, "faults": faults})
        return
    heads = ("", "plugin", "state", "brought by", "asked", "failed", "ms", "to tell", "dead")
    print_table(heads, (_cells(row) for row in rows))
    for row in rows:
        for remark in row["remarks"]:
            click.echo(f"{row['name']}: {remark}")
    for fault in faults:
        click.echo(f"fault: {fault}", err=True)
    if settings.source.environ.get("DIALER_PLUGINS") is not None:
        click.echo("DIALER_PLUGINS is set here and takes the place of the list in the file", err=True)


@plugins.command()
@click.argument("name")
@click.option("--workspace", default="", help="As this workspace has it.")
@json_option
def show(name: str, workspace: str, as_json: bool) -> None:
    """Show the plugin NAME: what it does, who brings it, its hooks, and its settings. Secrets are hidden."""
    settings, there = load(), installed()
    if name not in there:
        raise DialerError(f"{name}: {unknown(name, there, 'plugin')}")
    one, found = _alone(settings, name)
    tables = settings.workspace_tables.get(workspace, {})
    given = {**settings.plugin_tables.get(name, {}), **tables.get(name, {})}
    plugin = one.in_workspace(workspace).instance(name) if one.on(name) else there[name][0].load()
    with _store(settings) as store:
        rows = overview(_plugins(settings)[1], Starts.of(settings), store, time.time(), workspace)
    row = next(row for row in rows if row["name"] == name)
    shown = {
        **row,
        "description": description(plugin),
        "hooks": one.hooks_of(name) or row["hooks"],
        "settings": settings_view(plugin, given),
        "faults": [fault.text for fault in found.faults],
    }
    if as_json:
        print_json(shown)
        return
    for key in ("name", "description", "state", "place", "broughtBy"):
        click.echo(f"{key:<12} {shown[key] or ''}".rstrip())
    click.echo(f"{'entry point':<12} {' and '.join(point.value for point in there[name])}")
    click.echo(f"{'hooks':<12} {', '.join(shown['hooks'])}\n")
    heads = ("setting", "type", "default", "value", "from", "meaning")
    print_table(heads, ([one["name"], *(one[head] for head in heads[1:])] for one in shown["settings"]))
    for line in [*shown["remarks"], *shown["faults"]]:
        click.echo(line)


@plugins.command()
@click.argument("name")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting, as TOML has it, or a text.")
@IN_WORKSPACE
def enable(name: str, settings: tuple[str, ...], workspace: str) -> None:
    """Switch the plugin NAME on, as the last of the list, or back on in one workspace.

    For one that is on, it gives settings, and has one that was set aside tried again. Running servers follow at once.
    """
    given = dict(read_setting(text) for text in settings)

    def edit(document: tomlkit.TOMLDocument) -> None:
        path: tuple[str, ...] = ("workspaces", workspace, "plugins") if workspace else ("plugins",)
        if workspace:
            off = listing(document, *path, key="disabled")
            if name in off:
                off.remove(name)
        elif name not in (on := listing(document, *path, key="enabled")):
            on.append(name)
        if given:
            table_at(document, *path, name).update(given)

    _require(name, workspace)
    Starts.of(load()).forget(name)
    _apply(edit, f"plugin {name} is on{f' in {workspace}' if workspace else ''}")
    if _routes_are_due(name, workspace):
        click.echo(f"{name}: {ROUTES_DUE}")


@plugins.command()
@click.argument("name")
@IN_WORKSPACE
def disable(name: str, workspace: str) -> None:
    """Switch the plugin NAME off, everywhere or in one workspace. Its settings stay for another time.

    What it was still to be told of waits for it, for a day. What happens while it is off it is never told of.
    """

    def edit(document: tomlkit.TOMLDocument) -> None:
        if workspace:
            off = listing(document, "workspaces", workspace, "plugins", key="disabled")
            if name not in off:
                off.append(name)
        elif name in (on := listing(document, "plugins", key="enabled")):
            on.remove(name)

    listed = load().plugins_in_file.enabled
    if name not in listed:
        raise DialerError(f"{name} is not on (on: {', '.join(listed) or 'none'})")
    _require(name, workspace, is_installed=False)
    _apply(edit, f"plugin {name} is off{f' in {workspace}' if workspace else ''}")


@plugins.command()
@click.argument("names", nargs=-1, required=True)
def order(names: tuple[str, ...]) -> None:
    """Have the plugins NAMES asked first, in this order; the others follow as they did."""
    listed = load().plugins_in_file.enabled
    for name in names:
        if name not in listed or names.count(name) > 1:
            raise DialerError(f"{name} is not on, or named twice (on: {', '.join(listed) or 'none'})")
    wanted = [*names, *(name for name in listed if name not in names)]
    _apply(lambda document: reorder(listing(document, "plugins", key="enabled"), wanted), f"order: {', '.join(wanted)}")


@plugins.command()
@click.argument("name", default="")
@click.option("--workspace", default="", help="Only changes in this workspace.")
@click.option("--limit", default=50, show_default=True, type=click.IntRange(1, 10_000), help="At most so many.")
@json_option
def history(name: str, workspace: str, limit: int, as_json: bool) -> None:
    """List who changed which plugin (or the plugin NAME only), newest first."""
    with opened(load()) as store, store.read() as tx:
        rows = [dict(row) for row in tx.all("plugin_changes", plugin=name, workspace=workspace, limit=limit)]
    if as_json:
        print_json(rows)
        return
    heads = ("who", "via", "workspace", "plugin", "what", "before", "after")
    print_table(("at", *heads), ([moment(row["at"]), *(row[head] for head in heads)] for row in rows))


def _cells(row: dict[str, Any]) -> list[object]:
    answers, deliveries = row["answers"], row["deliveries"]
    figures = (answers["asked"], answers["failed"], answers["milliseconds"])
    told = (deliveries["pending"] + deliveries["waiting"], deliveries["dead"])
    return [row["place"], row["name"], row["state"], row["broughtBy"], *figures, *told]


def _plugins(settings: Settings) -> tuple[Found, PluginSet]:
    """The plugins that can be used, whatever is wrong with others, and all that is."""
    starts = Starts.of(settings)
    found, aside = look_over(settings, starts), starts.set_aside()
    faulty = {fault.plugin for fault in found.faults}
    return found, PluginSet.around(settings, found, {name: aside[name] for name in aside.keys() & faulty}, starts)


def _routes_are_due(name: str, workspace: str) -> bool:
    settings = load()
    with _store(settings) as store:
        rows = overview(_plugins(settings)[1], Starts.of(settings), store, time.time(), workspace)
    return any(row["name"] == name and ROUTES_DUE in row["remarks"] for row in rows)


def _alone(settings: Settings, name: str) -> tuple[PluginSet, Found]:
    only = replace(settings, plugins=PluginList(enabled=(name,)))
    found = look_over(only, Starts.of(settings))
    return PluginSet.around(only, found, {}, None), found


def read_setting(text: str) -> tuple[str, Any]:
    """KEY=VALUE, whose value is a text unless it is something else in TOML."""
    key, equals, value = text.partition("=")
    if not (equals and key.strip()):
        raise click.BadParameter(f"{text!r} is not KEY=VALUE", param_hint="--set")
    try:
        return key.strip(), tomllib.loads(f"value = {value}")["value"]
    except tomllib.TOMLDecodeError:
        return key.strip(), value


def _require(name: str, workspace: str, *, is_installed: bool = True) -> None:
    """There is such a plugin and such a workspace; raises DialerError."""
    there = installed()
    if is_installed and name not in there:
        raise DialerError(f"{name}: {unknown(name, there, 'plugin')}; install it first")
    settings = load()
    path = store_path(settings)
    if workspace and (path is None or path.exists()):
        with opened(settings) as store, store.read() as tx:
            if tx.one("workspace", workspace=workspace) is None:
                raise DialerError(f"there is no workspace {workspace} (dialer workspaces list)")


def _apply(edit: Edit, outcome: str) -> None:
    """Change the file, put on record who did, and say so."""
    old = load()
    with _store(old) as store:

        def claim(beside: Path) -> None:
            if store:
                audit.claim(store, mark(beside), audit.this_user())

        change(edit, claim)
        settings = load()
        if store:
            audit.note_change(store, settings, _plugins(settings)[1], time.time(), audit.this_user())
    click.echo(outcome)
    if settings.source.mark != old.source.mark:
        click.echo(TAKEN)
    if os.environ.get("DIALER_PLUGINS") is not None:
        click.echo("DIALER_PLUGINS is set here: where it is, the list in the file counts for nothing", err=True)


@contextmanager
def _store(settings: Settings) -> Iterator[Store | None]:
    """The store, if there is one yet."""
    path = store_path(settings)
    if path and not path.exists():
        yield None
        return
    with opened(settings) as store:
        yield store
