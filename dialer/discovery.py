"""From a name on the admin's list to a plugin ready to be asked: find, import, set up, look over."""

from __future__ import annotations

import dataclasses
import inspect
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from dialer import hookspecs
from dialer.settings import Settings
from dialer.tables import Source, read, unknown

GROUP = "dialer.plugins"
HOOKS = (*hookspecs.ASKED, *hookspecs.GATHERED, *hookspecs.TOLD)
BUDGET, MOST = 0.25, 5.0


@dataclass(frozen=True)
class Plugin:
    """A plugin that is set up: its name on the list, its version, the object with its hooks."""

    name: str
    version: str
    instance: object

    @property
    def budget(self) -> float:
        """Seconds that one of its answers within a request may take."""
        return float(getattr(self.instance, "budget_seconds", BUDGET))


def installed() -> dict[str, list[EntryPoint]]:
    """The plugins that may be listed, none of them imported: name to who brings it (normally one)."""
    found: dict[str, list[EntryPoint]] = {}
    for entry_point in entry_points(group=GROUP):
        found.setdefault(entry_point.name, []).append(entry_point)
    return dict(sorted(found.items()))


def brought_by(entry_point: EntryPoint) -> str:
    """The distribution and version that an entry point comes from."""
    return f"{entry_point.dist.name} {entry_point.dist.version}" if entry_point.dist else "nobody known"


def set_up(settings: Settings) -> tuple[list[Plugin], list[str]]:
    """Every listed plugin in the list's order, and every fault. Only what is listed is imported."""
    names = settings.plugins.enabled
    if not names:
        return [], []
    source, tables, there = settings.source, settings.plugin_tables, installed()
    plugins: list[Plugin] = []
    faults = [
        source.fault(f"plugins.{name}", "", unknown(name, there, "plugin"))
        for name in tables
        if name not in there and name not in names
    ]
    for name in names:
        try:
            entry_point = _only(name, there)
            target = _load(entry_point)
        except ValueError as error:
            faults.append(source.fault("plugins", "enabled", str(error)))
            continue
        instance, found = _make(name, target, tables.get(name, {}), source)
        faults += found
        if not found:
            plugins.append(Plugin(name, entry_point.dist.version if entry_point.dist else "", instance))
    return plugins, faults


def register(plugins: Sequence[Plugin]) -> tuple[pluggy.PluginManager, list[tuple[str, str]]]:
    """A plugin manager with these plugins, and what is wrong with their hooks: (plugin, fault)."""
    manager = pluggy.PluginManager("dialer")
    manager.add_hookspecs(hookspecs)
    faults: list[tuple[str, str]] = []
    for plugin in plugins:
        try:
            manager.register(plugin.instance, plugin.name)
        except Exception as error:  # pluggy looks at every attribute, and a property may raise anything
            faults.append((plugin.name, str(error)))
            continue
        faults += [(plugin.name, fault) for fault in _faults_of(manager, plugin)]
    return manager, faults


def implementation(manager: pluggy.PluginManager, plugin: str, hook: str) -> pluggy.HookImpl | None:
    """What a plugin has for a hook."""
    found = getattr(manager.hook, hook).get_hookimpls()
    return next((one for one in found if one.plugin_name == plugin), None)


def _only(name: str, there: Mapping[str, list[EntryPoint]]) -> EntryPoint:
    if name not in there:
        raise ValueError(f"{name}: {unknown(name, there, 'plugin')}; install it or take it off the list")
    found = there[name]
    if len(found) > 1:
        who = " and ".join(sorted(map(brought_by, found)))
        raise ValueError(f"{name} is brought by {who}; uninstall all but one")
    return found[0]


def _load(entry_point: EntryPoint) -> Any:
    try:
        return entry_point.load()
    except (Exception, SystemExit) as error:
        raise ValueError(
            f"{entry_point.name} ({brought_by(entry_point)}) cannot be imported:"
            f" {type(error).__name__}: {error}; mend it or take it off the list"
        ) from error


def _make(name: str, target: Any, table: Mapping[str, Any], source: Source) -> tuple[object, list[str]]:
    """The plugin's object with its settings, and every fault in them."""
    section, fields = f"plugins.{name}", _fields(target)
    try:
        if not fields:
            faults = [source.fault(section, key, f"{name} has no settings") for key in table]
            return (target() if isinstance(target, type) else target), faults
        values, faults = read(target, table, source, section)
        return (None, faults) if faults else (target(**values), [])
    except (Exception, SystemExit) as error:  # whatever its own checks raise
        text = str(error) if isinstance(error, ValueError) else f"{type(error).__name__}: {error}"
        key, _, rest = text.partition(" ")
        named = key.rstrip(":") in fields
        return None, [source.fault(section, key.rstrip(":") if named else "", rest if named else text)]


def _fields(target: Any) -> set[str]:
    """The names of a plugin class's settings; none for what is no dataclass."""
    if not (isinstance(target, type) and dataclasses.is_dataclass(target)):
        return set()
    return {one.name for one in dataclasses.fields(target) if one.init}


def _faults_of(manager: pluggy.PluginManager, plugin: Plugin) -> Iterator[str]:
    """What is wrong with a registered plugin: misspelt, unmarked or unusable hooks, a bad budget."""
    names = []
    for caller in manager.get_hookcallers(plugin.instance) or ():
        names.append(caller.name)
        hook = next(one for one in caller.get_hookimpls() if one.plugin_name == plugin.name)
        if not caller.has_spec() and not hook.optionalhook:
            yield f"{caller.name}: {unknown(caller.name, HOOKS, 'hook')}"
        yield from (f"{caller.name} {fault}" for fault in _faults_of_hook(hook))
    for name in HOOKS:
        if name not in names and inspect.isroutine(inspect.getattr_static(plugin.instance, name, None)):
            yield f"{name} is not marked; write @hookimpl above it"
    if not names:
        yield "has no hooks; write @hookimpl above its methods"
    budget = getattr(plugin.instance, "budget_seconds", BUDGET)
    if isinstance(budget, bool) or not isinstance(budget, int | float) or not 0 < budget <= MOST:
        yield f"budget_seconds must be a number above 0 and up to {MOST:g}, not {budget!r:.60}"


def _faults_of_hook(hook: pluggy.HookImpl) -> Iterator[str]:
    if inspect.iscoroutinefunction(hook.function) or inspect.isasyncgenfunction(hook.function):
        yield "is async; hooks are plain functions, called in a thread of the plugin's own"
    elif hook.wrapper or hook.hookwrapper or inspect.isgeneratorfunction(hook.function):
        yield "is a wrapper or yields; a hook is a plain function that returns its answer"
    if hook.tryfirst or hook.trylast:
        yield "asks for a place with tryfirst or trylast; the admin's list is the order"
    if hook.kwargnames:
        yield f"has arguments with defaults ({', '.join(hook.kwargnames)}); take call (and event) only"
