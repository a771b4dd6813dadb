"""One plugin by itself, for tests: made as Dialer makes it, and everything noted that it was asked and told."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from dialer.calls import Call
from dialer.discovery import Plugin, installed, make
from dialer.errors import ConfigError, PluginError
from dialer.hookspecs import CallEvent
from dialer.host import Host
from dialer.plugin_set import PluginSet, Verdict, snake_case
from dialer.tables import Source

FILE = Path("dialer.toml")


@dataclass(frozen=True, slots=True)
class Told:
    """One try to tell the plugin of something. `error` is what it raised, None when it took the news."""

    hook: str
    call: Call
    event: CallEvent | None = None
    error: BaseException | None = None


@dataclass
class Notes:
    """What the plugin was asked, with its verdicts, and what it was told, in order."""

    asked: list[tuple[Call, Verdict]] = field(default_factory=list)
    told: list[Told] = field(default_factory=list)


class Rehearsal(PluginSet):
    """A set of plugins that takes notes of one of them."""

    def __init__(self, plugins: Iterable[Plugin], noted: str, **options: Any) -> None:
        super().__init__([*plugins], inline=True, **options)
        self.noted = noted
        self.notes = Notes()

    def ask(self, hook: str, call: Call, until: float | None = None) -> tuple[Any, list[Verdict]]:
        answer, verdicts = super().ask(hook, call, until)
        self._note(call, verdicts)
        return answer, verdicts

    def gather(
        self, hook: str, call: Call, until: float | None = None
    ) -> tuple[list[tuple[str, Any]], list[Verdict]]:
        answers, verdicts = super().gather(hook, call, until)
        self._note(call, verdicts)
        return answers, verdicts

    def tell(self, plugin: str, hook: str, call: Call, event: CallEvent | None = None) -> float:
        try:
            took = super().tell(plugin, hook, call, event)
        except PluginError as error:
            if plugin == self.noted:
                self.notes.told.append(Told(hook, call, event, error.__cause__ or error))
            raise
        if plugin == self.noted:
            self.notes.told.append(Told(hook, call, event))
        return took

    def _note(self, call: Call, verdicts: Iterable[Verdict]) -> None:
        self.notes.asked += [(call, verdict) for verdict in verdicts if verdict.plugin == self.noted]


def made(target: Any, settings: Mapping[str, Any], name: str, workspace: str = "", folder: Path | None = None) -> Any:
    """The plugin with these settings, as TOML would give them; raises ConfigError with what `dialer check` says."""
    section = f"workspaces.{workspace}.plugins.{name}" if workspace else f"plugins.{name}"
    instance, faults = make(name, target, settings, Source(FILE), section, Host(name, folder=folder))
    if faults:
        raise ConfigError("; ".join(fault.text for fault in faults))
    return instance


def name_of(plugin: object) -> str:
    """The name that the plugin's entry point gives it; without one its class's: QuietHours is quiet_hours."""
    cls = plugin if isinstance(plugin, type) else type(plugin)
    value = f"{cls.__module__}:{cls.__qualname__}"
    found = (name for name, points in installed().items() for point in points if point.value == value)
    return next(found, snake_case(cls.__name__))
