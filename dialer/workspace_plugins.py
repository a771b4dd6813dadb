"""The plugins' part of dialer.toml: the list, each plugin's table, and what differs for a workspace."""

from __future__ import annotations

from collections.abc import Mapping
from types import MappingProxyType
from typing import Any

from dialer.reading import Reading
from dialer.settings import PluginList, WorkspacePlugins

Tables = Mapping[str, Mapping[str, Any]]


def listed(reading: Reading) -> PluginList:
    """The plugins that the file lists."""
    table = reading.table(reading.tables, "plugins", "plugins")
    own = {name: value for name, value in table.items() if name == "enabled" or not isinstance(value, dict)}
    found = reading.build(PluginList, own, "plugins")
    _refuse_repeats(reading, found.enabled)
    return found


def enabled(reading: Reading, found: PluginList) -> PluginList:
    """The plugins that are on: those of DIALER_PLUGINS if it is set, even to nothing."""
    named = reading.source.environ.get("DIALER_PLUGINS")
    if named is None:
        return found
    wanted = tuple(name.strip() for name in named.split(",") if name.strip())
    _refuse_repeats(reading, wanted)
    return PluginList(enabled=wanted)


def tables(reading: Reading) -> Tables:
    """The settings of each plugin, as they stand there."""
    return _tables_in(reading.table(reading.tables, "plugins", "plugins"))


def of_workspace(reading: Reading, workspace: str, own: Mapping[str, Any]) -> tuple[WorkspacePlugins, Tables]:
    """What [workspaces.NAME.plugins] says: what is off there, and the settings that differ."""
    plain = {name: value for name, value in own.items() if not isinstance(value, dict)}
    return reading.build(WorkspacePlugins, plain, f"workspaces.{workspace}.plugins"), _tables_in(own)


def _tables_in(table: Mapping[str, Any]) -> Tables:
    return MappingProxyType({name: value for name, value in table.items() if isinstance(value, dict)})


def _refuse_repeats(reading: Reading, names: tuple[str, ...]) -> None:
    for name in sorted({name for name in names if names.count(name) > 1}):
        reading.fault("plugins", "enabled", f"{name} is listed more than once; keep the place it should have")
