"""Who changed which plugin, when, from what to what: rows in the store, and lines in the log.

What is on is kept in the store as it was last seen. Whoever swaps compares, in a transaction: so a change is noted
once, by the first process that has it, and one that was made while nothing ran by the next start.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import pwd
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, is_dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, get_args

from dialer.config import mark
from dialer.plugin_set import PluginSet
from dialer.settings import Settings
from dialer.store import Store, StoreError, Tx
from dialer.tables import Mark, Secret, settings_of

if TYPE_CHECKING:
    from dialer.service import Service

log = logging.getLogger("dialer.audit")

HIDDEN = "***"
Json = dict[str, Any]


@dataclass(frozen=True, slots=True)
class Author:
    """Who made a change, and how: with the command line (cli), in the file, in the environment, or Dialer itself."""

    who: str
    via: str


@dataclass(frozen=True, slots=True)
class PluginChange:
    """One thing that is different now; `before` and `after` as an admin reads them, secrets hidden."""

    plugin: str
    what: str
    before: str
    after: str
    workspace: str = ""


def note(dialer: Service, settings: Settings, plugins: PluginSet) -> None:
    """Note what was changed by hand; a store that does not answer must not keep plugins from working."""
    try:
        note_change(dialer.store, settings, plugins, dialer.clock())
    except StoreError as error:
        log.error("a change of plugins is not on record: %s", error)


def claim(store: Store, file: Mark, author: Author) -> None:
    """Say who is about to put this file in place, for whoever notices it first."""
    with store.write() as tx:
        tx.run("save_plugin_note", name="claim", note=json.dumps([file, author.who, author.via]))


def note_change(
    store: Store, settings: Settings, plugins: PluginSet, now: float, command: Author | None = None
) -> None:
    """Note what is different from what was last seen, if these settings are still those of the file.

    `command` is who runs a command that changed the file; a server that notices does not know, unless it was claimed.
    """
    with store.read() as tx:
        kept = _kept(tx, "seen")
        if kept == _seen_by(command, kept, settings, plugins, _salt(tx)):
            return
    with store.write() as tx:
        salt = _salt(tx) or os.urandom(16).hex()
        old = _kept(tx, "seen") or {}
        new = _seen_by(command, old, settings, plugins, salt)
        if settings.source.mark != mark(settings.source.file):
            return
        author = command or _claimed(tx, settings.source.mark) or owner_of(settings.source.file)
        changes = list(differences(old, new))
        for one in changes:
            by = _author(one, author)
            tx.run(
                "add_plugin_change", at=now, who=by.who, via=by.via, workspace=one.workspace, plugin=one.plugin,
                what=one.what, before=one.before, after=one.after,
            )  # fmt: skip
        tx.run("save_plugin_note", name="salt", note=json.dumps(salt))
        tx.run("save_plugin_note", name="seen", note=json.dumps(new))
    for one in changes if old else ():  # at the first start everything is new
        by = _author(one, author)
        where = f" in {one.workspace}" if one.workspace else ""
        change = f": {one.before or 'nothing'} -> {one.after or 'nothing'}" if one.before or one.after else ""
        log.info("plugin %s%s: %s by %s (%s)%s", one.plugin or "list", where, one.what, by.who, by.via, change)


def owner_of(file: Path) -> Author:
    """Who is taken for the author of what was changed by hand: the file's owner."""
    try:
        return Author(_name(file.stat().st_uid), "file")
    except OSError:
        return Author("nobody known", "file")


def this_user() -> Author:
    """Who runs this command."""
    return Author(_name(os.getuid()), "cli")


def seen(settings: Settings, plugins: PluginSet, salt: str) -> Json:
    """All that is audited: the list, the settings of who is on it, what workspaces differ in, who is set aside.

    A setting is a hash, to be compared, and what may be shown.
    """
    listed = [*settings.plugins_in_file.enabled]
    overridden = settings.source.environ.get("DIALER_PLUGINS") is not None
    named = {*listed, *settings.plugins.enabled}

    def shown_of(tables: Mapping[str, Mapping[str, Any]]) -> Json:
        return {
            name: {key: _shown(plugins, name, key, value, salt) for key, value in table.items()}
            for name, table in tables.items()
            if name in named and table
        }

    return {
        "listed": listed,
        "instead": [*settings.plugins.enabled] if overridden else None,
        "settings": shown_of(settings.plugin_tables),
        "workspaces": {
            name: {"off": sorted(own.disabled), "settings": shown_of(settings.workspace_tables[name])}
            for name, own in settings.workspace_plugins.items()
        },
        "aside": dict(plugins.aside),
    }


def differences(old: Mapping[str, Any], new: Mapping[str, Any]) -> Iterator[PluginChange]:
    """What is different, one thing at a time."""
    before, after = old.get("listed", []), new["listed"]
    for name in after:
        if name not in before:
            yield PluginChange(name, "enabled", "", _settings(new["settings"].get(name, {})))
    for name in before:
        if name not in after:
            yield PluginChange(name, "disabled", _settings(old["settings"].get(name, {})), "")
    if [name for name in before if name in after] != [name for name in after if name in before]:
        yield PluginChange("", "order", ", ".join(before), ", ".join(after))
    both = [name for name in after if name in before]
    yield from _changed_settings(old.get("settings", {}), new["settings"], both)
    if old.get("instead") != new["instead"]:
        yield PluginChange("", "DIALER_PLUGINS", _list(old.get("instead")), _list(new["instead"]))
    yield from _in_workspaces(old.get("workspaces", {}), new["workspaces"])
    was, now = old.get("aside", {}), new["aside"]
    for name in {*was, *now}:
        if (name in was) != (name in now):
            yield PluginChange(name, "set aside" if name in now else "back", was.get(name, ""), now.get(name, ""))


def secret_settings(cls: type[Any]) -> set[str]:
    """The settings of a plugin's class that nobody is shown."""

    def holds_secret(hint: object) -> bool:
        if isinstance(hint, type) and is_dataclass(hint):
            return bool(secret_settings(hint))
        return hint is Secret or any(holds_secret(inner) for inner in get_args(hint))

    return {name for name, (hint, _, _) in settings_of(cls).items() if holds_secret(hint)}


def _claimed(tx: Tx, file: Mark) -> Author | None:
    claim = _kept(tx, "claim")
    return Author(claim[1], claim[2]) if claim and file and claim[0] == [*file] else None


def _seen_by(command: Author | None, old: Json | None, settings: Settings, plugins: PluginSet, salt: str) -> Json:
    """A command knows the file; the server's environment, and who was set aside there, are not its own."""
    new = seen(settings, plugins, salt)
    return new | {key: old[key] for key in ("instead", "aside")} if old and command else new


def _in_workspaces(old: Json, new: Json) -> Iterator[PluginChange]:
    nothing: Json = {"off": [], "settings": {}}
    for workspace in sorted({*old, *new}):
        was, now = old.get(workspace, nothing), new.get(workspace, nothing)
        for name in sorted({*was["off"], *now["off"]}):
            if (name in was["off"]) != (name in now["off"]):
                what = "disabled" if name in now["off"] else "enabled"
                yield PluginChange(name, what, "", "", workspace)
        names = sorted({*was["settings"], *now["settings"]})
        yield from _changed_settings(was["settings"], now["settings"], names, workspace)


def _changed_settings(old: Json, new: Json, names: list[str], workspace: str = "") -> Iterator[PluginChange]:
    for name in names:
        was, now = old.get(name, {}), new.get(name, {})
        for key in sorted({*was, *now}):
            before, after = was.get(key), now.get(key)
            if (before and before[0]) != (after and after[0]):
                was_shown, now_shown = (one[1] if one else "default" for one in (before, after))
                yield PluginChange(name, f"setting {key}", was_shown, now_shown, workspace)


def _shown(plugins: PluginSet, plugin: str, key: str, value: object, salt: str) -> list[str]:
    text = json.dumps(value, default=str)
    known = next((one.instance for one in plugins.plugins if one.name == plugin and plugins.on(plugin)), None)
    hidden = known is None or (hasattr(known, "__dataclass_fields__") and key in secret_settings(type(known)))
    reference = isinstance(value, dict) and set(value) in ({"env"}, {"file"})
    bare = text if reference or not hidden or not isinstance(value, str | list | dict) else HIDDEN
    return [hashlib.blake2b(text.encode(), key=salt.encode(), digest_size=8).hexdigest(), bare[:200]]


def _settings(settings: Mapping[str, Any]) -> str:
    return ", ".join(f"{key} = {shown}" for key, (_, shown) in settings.items())


def _list(names: list[str] | None) -> str:
    return "not set" if names is None else ", ".join(names) or "none"


def _author(change: PluginChange, author: Author) -> Author:
    if change.what in ("set aside", "back"):
        return Author("dialer", "start")
    return Author(_name(os.getuid()), "environment") if change.what == "DIALER_PLUGINS" else author


def _kept(tx: Tx, name: str) -> Any:
    row = tx.one("plugin_note", name=name)
    return json.loads(row["note"]) if row else None


def _salt(tx: Tx) -> str:
    return _kept(tx, "salt") or ""


def _name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return f"user {uid}"
