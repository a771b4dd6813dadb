"""The plugins that are on, asked one by one, each guarded.

A hook is called implementation by implementation, in the order of the admin's list, so that what one plugin
does wrong stays its own: it counts as the answer that the hook's docstring promises, and a Verdict says why.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import TYPE_CHECKING, Any

from dialer.answers import Failed, Implementation, in_words, named, safe_answer, said
from dialer.calls import Call
from dialer.discovery import HOOKS, Fault, Found, Plugin, hosts_of, implementation, register, set_up
from dialer.errors import ConfigError, PluginError
from dialer.hookspecs import TOLD, CallEvent, Refusal, Remark, hookimpl
from dialer.isolation import Pool
from dialer.settings import Settings
from dialer.starts import Starts
from dialer.tables import one_line

if TYPE_CHECKING:
    from dialer.service import Service

log = logging.getLogger("dialer.plugins")

_NOTHING: Mapping[str, Any] = MappingProxyType({})


class Broken(ConfigError):
    """Nothing but plugins' own code is in the way: by plugin, why."""

    def __init__(self, text: str, broken: Mapping[str, str]) -> None:
        super().__init__(text)
        self.broken = dict(broken)


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one plugin said to one hook, in words, and how long it took; `error` when it failed."""

    plugin: str
    hook: str
    answer: str
    milliseconds: float
    error: str = ""


class PluginSet:
    """The plugins that are on, in the admin's order. Never changed, only replaced.

    `differing` is what workspaces have in their place, `listed` the admin's list, `aside` why some of it are stand-ins
    or missing. `inline` calls plugins without threads and times nothing, so that a simulation repeats exactly.
    """

    def __init__(
        self,
        plugins: Sequence[Plugin],
        *,
        inline: bool = False,
        differing: Mapping[str, Sequence[Plugin]] = _NOTHING,
        aside: Mapping[str, str] = _NOTHING,
        pools: Mapping[str, Pool | None] = _NOTHING,
        listed: Sequence[str] = (),
    ) -> None:
        manager, faults = register(plugins)
        if faults:
            raise ConfigError("; ".join(one_line(f"plugin {name}: {fault}") for name, fault in faults))
        self.manager = manager
        self.plugins = tuple(plugins)
        self.names = tuple(plugin.name for plugin in plugins)
        self.versions = {plugin.name: plugin.version for plugin in plugins}
        self.listed = tuple(listed) or self.names
        self.aside = dict(aside)
        self.label = ", ".join(f"{plugin.name} {plugin.version}".rstrip() for plugin in plugins)
        self._clock = _no_clock if inline else time.perf_counter
        self.pools = pools or {one.name: None if inline else Pool(one.name, one.budget) for one in plugins}
        self._hooks = {hook: tuple(self._implementations(hook)) for hook in HOOKS}
        self._differing = {
            workspace: PluginSet(own, inline=inline, aside=aside, pools=self.pools or {"": None})
            for workspace, own in differing.items()
        }

    @classmethod
    def of(cls, instances: Iterable[object], *, inline: bool = False) -> PluginSet:
        """A set of plugin objects, named after their classes: NumberPolicy is number_policy."""
        plugins: list[Plugin] = []
        for instance in instances:
            name = snake_case(type(instance).__name__)
            count = sum(plugin.name.partition("-")[0] == name for plugin in plugins)
            plugins.append(Plugin(f"{name}-{count + 1}" if count else name, "", instance))
        return cls(plugins, inline=inline)

    @classmethod
    def build(
        cls, settings: Settings, *, inline: bool = False, starts: Starts | None = None, aside: Iterable[str] = ()
    ) -> PluginSet:
        """The set that the settings ask for; raises ConfigError (Broken) with the first fault.

        Those of `aside` may be broken: what stands in for them refuses calls if they might have.
        """
        found, tolerated = look_over(settings, starts), set(aside)
        faults = [fault for fault in found.faults if fault.plugin not in tolerated]
        if faults:
            more = f" (and {len(faults) - 1} more: run dialer check)" if len(faults) > 1 else ""
            text = faults[0].text + more
            if all(fault.plugin for fault in faults):
                raise Broken(text, {fault.plugin: fault.text for fault in faults})
            raise ConfigError(text)
        return cls.around(settings, found, {fault.plugin: fault.text for fault in found.faults}, starts, inline=inline)

    @classmethod
    def around(
        cls, settings: Settings, found: Found, aside: Mapping[str, str], starts: Starts | None, *, inline: bool = False
    ) -> PluginSet:
        """The set of what was found but for whom is at fault; those of `aside` have a stand-in."""
        faulty = {fault.plugin for fault in found.faults}
        plugins = {plugin.name: plugin for plugin in found.plugins if plugin.name not in faulty}
        for name, reason in aside.items():
            if instance := _stand_in(reason, starts.hooks(name) if starts else ("validate_call",)):
                plugins[name] = Plugin(name, "(set aside)", instance)
        listed = settings.plugins.enabled
        used = [plugins[name] for name in listed if name in plugins]
        return cls(used, inline=inline, differing=_differing(settings, used, found), aside=aside, listed=listed)

    def in_workspace(self, workspace: str) -> PluginSet:
        """The plugins as this workspace has them."""
        return self._differing.get(workspace, self)

    def on(self, plugin: str) -> bool:
        """Whether a plugin is on, and not set aside."""
        return plugin in self.names and plugin not in self.aside

    def instance(self, plugin: str) -> object:
        """A plugin's object; raises PluginError when it is off."""
        found = next((one.instance for one in self.plugins if one.name == plugin and self.on(plugin)), None)
        if found is None:
            raise PluginError(f"plugin {plugin} is not on (on: {', '.join(self.names) or 'none'})")
        return found

    def attach(self, instance: Path, service: Callable[[], Service]) -> None:
        """Lend the plugins what they ask for: their part of this Dialer."""
        for one in (self, *self._differing.values()):
            for plugin in one.plugins:
                for host in hosts_of(plugin.instance):
                    host.attach(plugin.name, instance / "plugins" / plugin.name, service)

    def ask(self, hook: str, call: Call, until: float | None = None) -> tuple[Any, list[Verdict]]:
        """The first answer that is not None, and what each plugin asked until then said.

        Past `until` (by time.monotonic; None is no limit) nobody is asked, and the safe answers count.
        """
        verdicts: list[Verdict] = []
        for one in self.in_workspace(call.workspace)._hooks[hook]:
            answer, verdict = self._guarded(one, call, until)
            verdicts.append(verdict)
            if answer is not None:
                return answer, verdicts
        return None, verdicts

    def gather(
        self, hook: str, call: Call, until: float | None = None
    ) -> tuple[list[tuple[str, Any]], list[Verdict]]:
        """Every answer that is not None with the plugin that gave it, and what each plugin said; `until` as above."""
        answers: list[tuple[str, Any]] = []
        verdicts: list[Verdict] = []
        for one in self.in_workspace(call.workspace)._hooks[hook]:
            answer, verdict = self._guarded(one, call, until)
            verdicts.append(verdict)
            if answer is not None and not isinstance(answer, Remark):
                answers.append((one.plugin, answer))
        return answers, verdicts

    def hooks_of(self, plugin: str) -> list[str]:
        """The hooks that a plugin has."""
        return [hook for hook in HOOKS if plugin in self.has(hook)]

    def has(self, hook: str) -> list[str]:
        """The plugins that have this hook."""
        return [one.plugin for one in self._hooks[hook]]

    def tells(self, hook: str, workspace: str = "") -> list[str]:
        """The plugins that want to be told of a workspace's calls through this hook."""
        return self.in_workspace(workspace).has(hook)

    @property
    def follow_up(self) -> bool:
        """Whether any plugin says what follows when nobody answered."""
        return bool(self._hooks["handle_unanswered"])

    def tell(self, plugin: str, hook: str, call: Call, event: CallEvent | None = None) -> float:
        """Tell one plugin, here and without a budget; gives the milliseconds, raises PluginError if it fails or is off.

        A plugin that no longer has the hook is told nothing.
        """
        own, started = self.in_workspace(call.workspace), self._clock()
        own.instance(plugin)
        for one in own._hooks[hook]:
            if one.plugin == plugin:
                try:
                    one(call, event)
                except BaseException as error:
                    if isinstance(error, KeyboardInterrupt) and threading.current_thread() is threading.main_thread():
                        raise  # of the person at the keyboard
                    raise PluginError(one_line(f"plugin {plugin}: {hook}: {said(error)}")) from error
        return (self._clock() - started) * 1000

    def set_up_hooks(self, hook: str) -> list[tuple[str, Callable[[], Any]]]:
        """The plugins that bring something of their own through this hook, and the function that gives it."""
        return [(one.plugin, one.function) for one in self._hooks[hook] if self.on(one.plugin)]

    def _implementations(self, hook: str) -> Iterable[Implementation]:
        for plugin in self.plugins:
            found = implementation(self.manager, plugin.name, hook)
            if found is not None:
                pool = None if plugin.name in self.aside else self.pools[plugin.name]
                yield Implementation(plugin.name, hook, found.function, tuple(found.argnames), pool)

    def _guarded(self, one: Implementation, call: Call, until: float | None) -> tuple[Any, Verdict]:
        """One plugin's answer, or the safe answer of the hook."""
        started, answer, error, caught = self._clock(), None, "", None
        try:
            asked = functools.partial(one.judged, call)
            answer, error = one.pool.run(asked, until) if one.pool else asked()
        except Failed as failed:
            error, caught = str(failed), failed
        except Exception as raised:  # no answer in time
            error = said(raised)
        milliseconds = round((self._clock() - started) * 1000, 3)
        if error:
            what = (one.plugin, one.hook, error, milliseconds)
            log.error("plugin %s: %s: %s (%.1f ms)", *what, exc_info=caught)
            answer = safe_answer(one)
        elif isinstance(answer, Refusal):
            answer = named(answer, one.plugin)
        return answer, Verdict(one.plugin, one.hook, in_words(answer), milliseconds, error)


def look_over(settings: Settings, starts: Starts | None = None) -> Found:
    """What the settings list, set up, with every fault: of the settings, of imports, of hooks."""
    found = set_up(settings, starts)
    for name, text in register(found.plugins)[1]:
        found.faults.append(Fault(settings.source.fault(f"plugins.{name}", "", text), name))
    return found


def _differing(settings: Settings, listed: Sequence[Plugin], found: Found) -> dict[str, list[Plugin]]:
    """The list as workspaces have it for whom it differs."""
    return {
        workspace: [
            found.differing.get(workspace, {}).get(plugin.name, plugin)
            for plugin in listed
            if plugin.name not in own.disabled
        ]
        for workspace, own in settings.workspace_plugins.items()
    }


def _stand_in(reason: str, hooks: Iterable[str]) -> object | None:
    """What answers for a plugin that is set aside: it cannot check calls, and what it would be told waits for it."""

    def unable(self: object, call: Call) -> None:
        raise PluginError(f"set aside: {reason}")

    kept = [hook for hook in hooks if hook == "validate_call" or hook in TOLD]
    return type("SetAside", (), dict.fromkeys(kept, hookimpl(unable)))() if kept else None


def _no_clock() -> float:
    return 0.0


def snake_case(name: str) -> str:
    """The name of a class as plugins are named: NumberPolicy is number_policy."""
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name).strip("_")
