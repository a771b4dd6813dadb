"""The plugins that are on: asked one by one, each guarded, and swapped as a whole when dialer.toml changes.

A hook is called implementation by implementation, in the order of the admin's list, so that what one plugin
does wrong stays its own: it counts as the answer that the hook's docstring promises, and a Verdict says why.
"""

from __future__ import annotations

import functools
import logging
import threading
import time
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, replace
from typing import Any

from dialer.calls import Call
from dialer.config import keep_good, mark, reload
from dialer.discovery import HOOKS, Plugin, implementation, register, set_up
from dialer.errors import ConfigError, PluginError
from dialer.hookspecs import FAILS_CLOSED, CallEvent, Refusal, Route, answer_fault, plain
from dialer.isolation import Pool
from dialer.settings import Settings
from dialer.tables import Mark, one_line

log = logging.getLogger("dialer.plugins")

COULD_NOT_CHECK = "The call could not be checked."


@dataclass(frozen=True, slots=True)
class Verdict:
    """What one plugin said to one hook, in words, and how long it took; `error` when it failed."""

    plugin: str
    hook: str
    answer: str
    milliseconds: float
    error: str = ""


@dataclass(frozen=True, slots=True)
class _Implementation:
    """One plugin's function for one hook. Without a pool it is called right here."""

    plugin: str
    hook: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]
    pool: Pool | None

    def __call__(self, call: Call, event: CallEvent | None = None) -> Any:
        # Its own copy of the only part of a call that can be changed.
        given = {"call": replace(call, options=dict(call.options)), "event": event}
        return self.function(**{name: given[name] for name in self.arguments})


class PluginSet:
    """The plugins that are on, in the admin's order. Never changed, only replaced.

    `inline` calls plugins without threads and times nothing, so that a simulation repeats exactly.
    """

    def __init__(self, plugins: Sequence[Plugin], *, inline: bool = False) -> None:
        manager, faults = register(plugins)
        if faults:
            raise ConfigError("; ".join(one_line(f"plugin {name}: {fault}") for name, fault in faults))
        self.manager = manager
        self.plugins = tuple(plugins)
        self.names = tuple(plugin.name for plugin in plugins)
        self.versions = {plugin.name: plugin.version for plugin in plugins}
        self.label = ", ".join(f"{plugin.name} {plugin.version}".rstrip() for plugin in plugins)
        self._clock = _no_clock if inline else time.perf_counter
        pools = {plugin.name: None if inline else Pool(plugin.name, plugin.budget) for plugin in plugins}
        self._hooks = {hook: tuple(self._implementations(hook, pools)) for hook in HOOKS}

    @classmethod
    def of(cls, instances: Iterable[object], *, inline: bool = False) -> PluginSet:
        """A set of plugin objects, named after their classes: NumberPolicy is number_policy."""
        plugins: list[Plugin] = []
        for instance in instances:
            name = _snake_case(type(instance).__name__)
            count = sum(plugin.name.partition("-")[0] == name for plugin in plugins)
            plugins.append(Plugin(f"{name}-{count + 1}" if count else name, "", instance))
        return cls(plugins, inline=inline)

    @classmethod
    def build(cls, settings: Settings, *, inline: bool = False) -> PluginSet:
        """The set that the settings ask for; raises ConfigError with the first fault."""
        plugins, faults = _looked_over(settings)
        if faults:
            more = f" (and {len(faults) - 1} more: run dialer check)" if len(faults) > 1 else ""
            raise ConfigError(faults[0] + more)
        return cls(plugins, inline=inline)

    def ask(self, hook: str, call: Call, until: float | None = None) -> tuple[Any, list[Verdict]]:
        """The first answer that is not None, and what each plugin asked until then said.

        Past `until` (by time.monotonic; None is no limit) nobody is asked, and the safe answers count.
        """
        verdicts: list[Verdict] = []
        for one in self._hooks[hook]:
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
        for one in self._hooks[hook]:
            answer, verdict = self._guarded(one, call, until)
            verdicts.append(verdict)
            if answer is not None:
                answers.append((one.plugin, answer))
        return answers, verdicts

    def tells(self, hook: str) -> list[str]:
        """The plugins that want to be told through this hook."""
        return [one.plugin for one in self._hooks[hook]]

    def tell(self, plugin: str, hook: str, call: Call, event: CallEvent | None = None) -> None:
        """Tell one plugin, here and without a budget; raises PluginError if it fails or is off.

        A plugin that no longer has the hook is told nothing.
        """
        if plugin not in self.names:
            raise PluginError(f"plugin {plugin} is not on (on: {', '.join(self.names) or 'none'})")
        for one in self._hooks[hook]:
            if one.plugin == plugin:
                try:
                    one(call, event)
                except (Exception, SystemExit) as error:
                    raise PluginError(one_line(f"plugin {plugin}: {hook}: {_said(error)}")) from error

    def _implementations(self, hook: str, pools: dict[str, Pool | None]) -> Iterable[_Implementation]:
        for plugin in self.plugins:
            found = implementation(self.manager, plugin.name, hook)
            if found is not None:
                yield _Implementation(
                    plugin.name, hook, found.function, tuple(found.argnames), pools[plugin.name]
                )

    def _guarded(self, one: _Implementation, call: Call, until: float | None) -> tuple[Any, Verdict]:
        """One plugin's answer, or the safe answer of the hook."""
        started, answer, error, caught = self._clock(), None, "", None
        try:
            answer = plain(one.pool.run(functools.partial(one, call), until) if one.pool else one(call))
            error = "" if answer is None else one_line(answer_fault(one.hook, answer))
        except (Exception, SystemExit) as raised:
            error, caught = _said(raised), raised
        milliseconds = round((self._clock() - started) * 1000, 3)
        if error:
            what = (one.plugin, one.hook, error, milliseconds)
            log.error("plugin %s: %s: %s (%.1f ms)", *what, exc_info=caught)
            answer = _safe_answer(one)
        elif isinstance(answer, Refusal):
            answer = _named(answer, one.plugin)
        return answer, Verdict(one.plugin, one.hook, _in_words(answer), milliseconds, error)


class Plugins:
    """The set that is on now: built from dialer.toml, and built anew when the file has changed.

    `current` costs one look at the file; take it once per request. A change that cannot be used leaves the set
    as it was and stands in `problem`.
    """

    def __init__(self, settings: Settings, *, inline: bool = False) -> None:
        self._inline = inline
        self._busy = threading.Lock()
        self.problem = ""
        self._use(settings)

    def current(self) -> PluginSet:
        """The set to use for one whole request."""
        seen = mark(self._settings.source.file)
        if seen != self._seen or self._young:
            self._refresh(seen)
        return self._set

    def _use(self, settings: Settings) -> None:
        self._set = PluginSet.build(settings, inline=self._inline)
        self._settings = settings
        self._note(settings.source.mark)

    def _note(self, seen: Mark) -> None:
        # Two changes within one tick of the file system's clock (up to 10 ms) can bear the same mark.
        self._seen = seen
        self._young = seen is not None and abs(time.time_ns() - seen[0]) < 20_000_000

    def _refresh(self, seen: Mark) -> None:
        """Build and swap, in one thread at a time; the others go on with the set they know."""
        if not self._busy.acquire(blocking=False):
            return
        try:
            if seen is None or seen[1] == 0:  # as some editors leave it for a moment
                raise ConfigError(f"{self._settings.source.file}: the file is gone or empty")
            settings = reload(self._settings)
            if seen != self._seen or _asks_for_other(settings, self._settings):
                self._use(settings)
                keep_good(settings)
                log.info("plugins now: %s", self._set.label or "none")
            self._note(settings.source.mark)
            self.problem = ""
        except Exception as error:  # anything else would be a fault of ours, and no reason to stop calls
            self._note(seen)
            if self.problem != str(error):
                self.problem = str(error)
                log.error("change of plugins ignored, still on: %s: %s", self._set.label or "none", error)
        finally:
            self._busy.release()


class FixedPlugins(Plugins):
    """A set that never changes, such as one made of plugin objects."""

    def __init__(self, plugins: PluginSet) -> None:
        self.problem = ""
        self._set = plugins

    def current(self) -> PluginSet:
        return self._set


def check(settings: Settings) -> list[str]:
    """Every fault of the listed plugins and their settings, one line each."""
    return _looked_over(settings)[1]


def _looked_over(settings: Settings) -> tuple[list[Plugin], list[str]]:
    plugins, faults = set_up(settings)
    hooks = [settings.source.fault(f"plugins.{name}", "", text) for name, text in register(plugins)[1]]
    return plugins, faults + hooks


def _no_clock() -> float:
    return 0.0


def _asks_for_other(new: Settings, old: Settings) -> bool:
    return (new.plugins, new.plugin_tables) != (old.plugins, old.plugin_tables)


def _safe_answer(one: _Implementation) -> Refusal | None:
    return Refusal(COULD_NOT_CHECK, f"plugin-error:{one.plugin}") if one.hook in FAILS_CLOSED else None


def _named(refusal: Refusal, plugin: str) -> Refusal:
    """The refusal with a rule that starts with the plugin's name, so that nobody speaks for another."""
    if refusal.rule == plugin or refusal.rule.startswith(f"{plugin}:"):
        return refusal
    return Refusal(refusal.reason, f"{plugin}:{refusal.rule}".rstrip(":"))


def _said(error: BaseException) -> str:
    try:
        return one_line(f"{type(error).__name__}: {error}"[:300])
    except Exception:  # how an error reads is the plugin's code, too
        return type(error).__name__


def _in_words(answer: object) -> str:
    """An answer as an admin reads it in the record of the call."""
    if isinstance(answer, Refusal):
        return f"refused ({answer.rule}): {answer.reason}"
    if isinstance(answer, Route):
        return answer.to if answer.ring_seconds is None else f"{answer.to} for {answer.ring_seconds} s"
    if isinstance(answer, dict):
        return ", ".join(f"{name}={value}" for name, value in answer.items())
    return "" if answer is None else str(answer)


def _snake_case(name: str) -> str:
    return "".join(f"_{char.lower()}" if char.isupper() else char for char in name).strip("_")
