"""What an admin is shown of the plugins: by `dialer plugins`, and by GET /v1/plugins for one workspace."""

from __future__ import annotations

import inspect
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, fields, is_dataclass
from typing import Any

from dialer.audit import HIDDEN, secret_settings
from dialer.deliveries import LEASE
from dialer.discovery import brought_by, installed
from dialer.plugin_set import PluginSet
from dialer.printing import moment
from dialer.starts import Starts
from dialer.store import Row, Store, Tx
from dialer.tables import kind, settings_of, shown

#: Of how many of the latest answers of all plugins figures are made.
LATEST = 5000
#: Seconds after which a delivery that is under way is worth a word.
LONG = 60.0
#: Of a plugin that is on and has routes which no web process has made yet.
ROUTES_DUE = "its routes come with the next start"

Json = dict[str, Any]


@dataclass(frozen=True)
class _Seen:
    """What the store knows of all plugins."""

    answers: Mapping[str, Row]
    failures: Mapping[str, Row]
    deliveries: list[Row]
    breakers: list[Row]
    routes: list[str]


def overview(
    plugins: PluginSet, starts: Starts, store: Store | None, now: float, workspace: str = ""
) -> list[Json]:
    """Every plugin that is installed or listed: those that are on first, in the order in which they are asked."""
    there, listed = installed(), [*plugins.listed]
    known = _look(store, workspace) if store else _Seen({}, {}, [], [], [])
    return [
        {
            "name": name,
            "place": listed.index(name) + 1 if name in listed else None,
            "state": _state(plugins, name, workspace, listed),
            "broughtBy": " and ".join(map(brought_by, there.get(name, []))) or "nobody: it is not installed",
            "hooks": plugins.hooks_of(name) or (list(starts.hooks(name)) if starts.has_worked(name) else []),
            **_figures(known, name),
            "remarks": list(_remarks(plugins, known, name, now, workspace)),
        }
        for name in [*listed, *(name for name in there if name not in listed)]
    ]


def settings_view(plugin: object, given: Mapping[str, Any]) -> list[Json]:
    """A plugin's settings as they are now; secrets hidden, `given` says which stand in the file."""
    if not is_dataclass(plugin):
        return []
    cls = plugin if isinstance(plugin, type) else type(plugin)
    secret = secret_settings(cls)
    defaults = {one.name: one.default for one in fields(cls)}
    return [
        {
            "name": name,
            "type": kind(hint) + (f", {one.numbers[0]:g} to {one.numbers[1]:g}" if one.numbers else ""),
            "default": None if required else _written(defaults[name], name in secret),
            "value": _written(getattr(plugin, name, None), name in secret),
            "from": "dialer.toml" if name in given else "default",
            "meaning": one.meaning,
        }
        for name, (hint, one, required) in settings_of(cls).items()
    ]


def description(plugin: object) -> str:
    """The first line that the plugin's class says of itself."""
    return (inspect.getdoc(plugin if isinstance(plugin, type) else type(plugin)) or "").partition("\n")[0]


def _look(store: Store, workspace: str) -> _Seen:
    with store.read() as tx:
        answers = {row["plugin"]: row for row in tx.all("plugin_answers", latest=LATEST, workspace=workspace)}
        failures = {name: found for name, row in answers.items() if (found := _failure(tx, row))}
        deliveries = tx.all("plugin_deliveries", workspace=workspace)
        breakers = [row for row in tx.all("all_breakers") if workspace in ("", row["workspace"])]
        note = tx.one("plugin_note", name="routes")
    return _Seen(answers, failures, deliveries, breakers, json.loads(note["note"]) if note else [])


def _failure(tx: Tx, row: Row) -> Row | None:
    return tx.one("plugin_failure", verdict=row["worst"]) if row["worst"] else None


def _state(plugins: PluginSet, name: str, workspace: str, listed: list[str]) -> str:
    if name in plugins.aside:
        return "set aside"
    if name not in plugins.names:
        return "broken" if name in listed else "off"
    return "on" if plugins.in_workspace(workspace).on(name) else "off in this workspace"


def _figures(known: _Seen, name: str) -> Json:
    row, failure = known.answers.get(name), known.failures.get(name)
    counts = {one["status"]: one["count"] for one in known.deliveries if one["plugin"] == name}
    return {
        "answers": {
            "asked": row["asked"] if row else 0,
            "failed": row["failed"] if row else 0,
            "milliseconds": row["milliseconds"] if row else None,
            "lastError": failure["error"] if failure else "",
        },
        "deliveries": {
            "pending": counts.get("pending", 0) + counts.get("doing", 0),
            "waiting": counts.get("waiting", 0),
            "dead": counts.get("dead", 0),
        },
    }


def _remarks(plugins: PluginSet, known: _Seen, name: str, now: float, workspace: str) -> list[str]:
    """What an admin should know, in sentences; one of a workspace is told nothing of the machine."""
    remarks = []
    if name in plugins.aside:
        refuses = "validate_call" in plugins.hooks_of(name)
        remarks.append("calls are refused, since it may check them" if refuses else "what it would be told waits")
        remarks += [] if workspace else [plugins.aside[name]]
    row, failure = known.answers.get(name), known.failures.get(name)
    if row and failure:
        still = "now too" if row["worst"] == row["last"] else "not the last time"
        share = f"{row['failed']} of its last {row['asked']} answers failed, {still}"
        remarks.append(f"{share}: {failure['error']} (call of {moment(failure['at'])})")
    for breaker in known.breakers:
        if breaker["plugin"] == name and breaker["open_until"]:
            where = f" in {breaker['workspace']}" if breaker["workspace"] else ""
            until = f"until {moment(breaker['open_until'])}" if breaker["open_until"] > now else "and is due for a try"
            remarks.append(f"is told nothing{where} {until}, after {breaker['failures']} failures: {breaker['reason']}")
    for one in known.deliveries:
        if one["plugin"] == name and one["status"] == "doing" and one["run_at"] - LEASE < now - LONG:
            remarks.append(f"a delivery is under way since {moment(one['run_at'] - LEASE)}")
        if one["plugin"] == name and one["status"] in ("waiting", "dead"):
            remarks.append(f"{one['count']} deliveries are {one['status']} (dialer deliveries list --plugin {name})")
    if "register_blueprint" in plugins.hooks_of(name) and plugins.on(name) and name not in known.routes:
        remarks.append(ROUTES_DUE)
    return remarks


def _written(value: object, secret: bool) -> str:
    if value is None:
        return "not set"
    if secret:
        return HIDDEN if value else "not set"
    return json.dumps(list(value), default=asdict) if isinstance(value, tuple) else shown(value)
