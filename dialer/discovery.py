"""From a name on the admin's list to a plugin ready to be asked: find, import, set up, look over."""

from __future__ import annotations

import dataclasses
import inspect
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass, field
from importlib.metadata import EntryPoint, entry_points
from typing import Any

import pluggy

from dialer import hookspecs
from dialer.host import Host
from dialer.settings import Settings
from dialer.starts import HANGS, IMPORT_SECONDS, Starts
from dialer.tables import Source, lent_fields, read, unknown

GROUP = "dialer.plugins"
HOOKS = (*hookspecs.ASKED, *hookspecs.GATHERED, *hookspecs.TOLD, *hookspecs.SET_UP)
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


@dataclass(frozen=True)
class Fault:
    """One line for the admin; `plugin` is the one whose own code is at fault, and not what was written about it."""

    text: str
    plugin: str = ""


@dataclass
class Found:
    """Every listed plugin that can be used, in the list's order; what workspaces have instead; and every fault."""

    plugins: list[Plugin] = field(default_factory=list)
    differing: dict[str, dict[str, Plugin]] = field(default_factory=dict)
    faults: list[Fault] = field(default_factory=list)


def set_up(settings: Settings, starts: Starts | None = None) -> Found:
    """Import and make the plugins that are listed, and no others; what breaks on the way is told, never raised."""
    names, found = settings.plugins.enabled, Found()
    if not names:
        return found
    there = installed()
    found.faults += _strangers(settings, there)
    for name in names:
        _set_up_one(found, settings, starts, name, there)
    return found


def _set_up_one(
    found: Found, settings: Settings, starts: Starts | None, name: str, there: Mapping[str, list[EntryPoint]]
) -> None:
    source = settings.source
    if starts and name in starts.given_up:
        found.faults.append(Fault(starts.given_up[name], name))
        return
    try:
        entry_point = _only(name, there)
    except ValueError as error:
        gone = name if starts and starts.has_worked(name) else ""
        found.faults.append(Fault(source.fault("plugins", "enabled", str(error)), gone))
        return
    try:
        target = _load(entry_point, starts)
    except ValueError as error:
        fault = Fault(source.fault("plugins", "enabled", str(error)), name)
        found.faults.append(fault)
        if starts and HANGS in fault.text:  # not once more in the same start
            starts.given_up[name] = fault.text
            starts.deaths.setdefault(name, fault.text[fault.text.index(HANGS) :].partition(";")[0])
        return
    version, host = entry_point.dist.version if entry_point.dist else "", Host(name)
    table, section = settings.plugin_tables.get(name, {}), f"plugins.{name}"
    instance, faults = make(name, target, table, source, section, host)
    found.faults += faults
    if faults:
        return
    found.plugins.append(Plugin(name, version, instance))
    for workspace, tables in settings.workspace_tables.items():
        if name in tables:
            section = f"workspaces.{workspace}.plugins.{name}"
            instance, faults = make(name, target, {**table, **tables[name]}, source, section, host)
            found.faults += faults
            found.differing.setdefault(workspace, {})[name] = Plugin(name, version, instance)


def _strangers(settings: Settings, there: Mapping[str, list[EntryPoint]]) -> Iterator[Fault]:
    """Names that are no plugin's. One that is only off may be named: its settings wait for it."""
    known, source = {*there, *settings.plugins.enabled}, settings.source
    for name in settings.plugin_tables.keys() - known:
        yield Fault(source.fault(f"plugins.{name}", "", unknown(name, there, "plugin")))
    for workspace, tables in settings.workspace_tables.items():
        section = f"workspaces.{workspace}.plugins"
        for name in tables.keys() - known:
            yield Fault(source.fault(f"{section}.{name}", "", unknown(name, settings.plugins.enabled, "plugin")))
        for name in settings.workspace_plugins[workspace].disabled:
            if name not in known:
                why = f"{name}: {unknown(name, settings.plugins.enabled, 'plugin')}"
                yield Fault(source.fault(section, "disabled", why))


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


def _load(entry_point: EntryPoint, starts: Starts | None) -> Any:
    """What the entry point names; raises ValueError. An import that hangs is waited for no longer than it is worth."""
    name, whose = entry_point.name, f"{entry_point.name} ({brought_by(entry_point)})"
    reason = starts.refuses(name) if starts else ""
    with starts.importing(name) if starts and not reason else nullcontext():
        loaded, told = (None, reason) if reason else within(IMPORT_SECONDS, entry_point.load)
    if told:
        raise ValueError(f"{whose} cannot be imported: {told}; mend it or take it off the list")
    return loaded


def within(seconds: float, function: Callable[[], Any], hangs: str = HANGS) -> tuple[Any, str]:
    """What the function gives, or why it gave nothing in so many seconds."""
    outcome: list[tuple[Any, str]] = []

    def run() -> None:
        try:
            outcome.append((function(), ""))
        except BaseException as error:
            outcome.append((None, f"{type(error).__name__}: {error}"))

    thread = threading.Thread(target=run, name="plugin-import", daemon=True)
    thread.start()
    thread.join(seconds)
    return outcome[0] if outcome else (None, f"{hangs} {seconds:g} s")


def make(
    name: str, target: Any, table: Mapping[str, Any], source: Source, section: str, host: Host
) -> tuple[object, list[Fault]]:
    """The plugin's object with its settings, and every fault in them."""
    own = isinstance(target, type) and dataclasses.is_dataclass(target)
    fields = {one.name for one in dataclasses.fields(target) if one.init} if own else set()
    try:
        lent = dict.fromkeys(lent_fields(target), host) if own else {}
        if fields <= lent.keys():
            faults = [source.fault(section, key, f"{name} has no settings") for key in table]
            return (target(**lent) if isinstance(target, type) else target), [Fault(text) for text in faults]
        values, faults = read(target, table, source, section)
        return (None if faults else target(**values, **lent)), [Fault(text) for text in faults]
    except ValueError as error:  # its own checks of its settings
        key, _, rest = str(error).partition(" ")
        named = key.rstrip(":") in fields
        text = source.fault(section, key.rstrip(":") if named else "", rest if named else str(error))
        return None, [Fault(text)]
    except (Exception, SystemExit) as error:
        return None, [Fault(source.fault(section, "", f"{type(error).__name__}: {error}"), name)]


def hosts_of(instance: object) -> list[Host]:
    """What a plugin's object has been lent."""
    if dataclasses.is_dataclass(instance):
        values = [getattr(instance, one.name, None) for one in dataclasses.fields(instance)]
    else:
        values = list(getattr(instance, "__dict__", {}).values())
    return [value for value in values if isinstance(value, Host)]


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
