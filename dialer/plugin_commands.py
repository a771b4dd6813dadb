"""The plugins' own commands: `dialer <plugin> ...`. A broken one costs a line on standard error, never the rest."""

from __future__ import annotations

from collections.abc import Collection, Iterator
from dataclasses import replace
from functools import cache
from typing import TYPE_CHECKING

import click

from dialer.answers import said
from dialer.config import load
from dialer.discovery import installed
from dialer.errors import ConfigError, DialerError
from dialer.plugin_set import look_over
from dialer.plugins import Plugins, PluginSet
from dialer.settings import PluginList, Settings

if TYPE_CHECKING:
    from dialer.service import Service


class _Later(Plugins):
    """All plugins that are listed, for a command that comes to need them: most work with their own only."""

    def __init__(self, settings: Settings) -> None:
        self.problem = ""
        self._settings = settings
        self._built: PluginSet | None = None

    def current(self) -> PluginSet:
        if self._built is None:
            self._built = PluginSet.build(self._settings)
            self._built.attach(self._settings.instance, lambda: _service(self._settings, self))
        return self._built


def find(name: str) -> click.Command | None:
    """The command of the listed plugin of this name; raises DialerError for one that is installed and off."""
    settings = _settings()
    if settings is None:
        return None
    if name not in settings.plugins.enabled:
        if name in installed():
            raise DialerError(f"{name} is off: dialer plugins enable {name}")
        return None
    return _command(settings, name)


def overview(but: Collection[str]) -> Iterator[tuple[str, str]]:
    """Each plugin's command and its first line of help."""
    settings = _settings()
    for name in settings.plugins.enabled if settings else ():
        command = _command(settings, name) if settings and name not in but else None
        if command:
            yield name, command.get_short_help_str(limit=80)


def _settings() -> Settings | None:
    try:
        return load()
    except ConfigError as error:
        _complain(str(error))
        return None


def _command(settings: Settings, name: str) -> click.Command | None:
    found = look_over(replace(settings, plugins=PluginList(enabled=(name,))))
    for fault in found.faults:
        _complain(fault.text)
    if found.faults:
        return None
    own, all_plugins = PluginSet(found.plugins), _Later(settings)
    own.attach(settings.instance, cache(lambda: _service(settings, all_plugins)))
    for _, function in own.set_up_hooks("register_commands"):
        try:
            command = function()
            if command is not None and not isinstance(command, click.Command):
                raise TypeError(f"register_commands gave a {type(command).__name__}, not a click.Command")
            return command
        except (Exception, SystemExit) as error:
            _complain(f"plugin {name}: register_commands: {said(error)}")
    return None


def _service(settings: Settings, plugins: Plugins) -> Service:
    from dialer.service import Service
    from dialer.store import open_store

    return Service(settings, open_store(settings.store.url), plugins)


def _complain(text: str) -> None:
    click.echo(f"dialer: {text}", err=True)
