"""Read dialer.toml and the environment into frozen settings; the environment wins.

`load` raises ConfigError with the first fault, `check` lists them all.
"""

from __future__ import annotations

import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from types import MappingProxyType
from typing import Any
from urllib.parse import urlsplit

from dialer import workspace_plugins
from dialer.errors import ConfigError
from dialer.reading import Reading, mark_of, open_file
from dialer.settings import (
    Account,
    Calls,
    Server,
    Settings,
    StoreSettings,
    Twilio,
    Workspace,
    WorkspacePlugins,
    WorkspaceTwilio,
    is_loopback,
)
from dialer.tables import Mark, Secret, one_line, unknown

__all__ = ["Account", "Mark", "Secret", "Settings", "check", "config_path", "load", "mark", "reload"]

LAST_GOOD = ".last-good"
SECTIONS = {"server": Server, "store": StoreSettings, "twilio": Twilio, "calls": Calls}


def load(environ: Mapping[str, str] = os.environ, *, cwd: Path | None = None) -> Settings:
    """Read all settings; raises ConfigError with the first fault and the number of others."""
    settings, faults = _read(environ, cwd or Path.cwd())
    if faults:
        more = f" (and {len(faults) - 1} more: run dialer check)" if len(faults) > 1 else ""
        raise ConfigError(faults[0] + more)
    if fault := lost(settings.source.file):
        raise ConfigError(fault)
    return settings


def reload(settings: Settings) -> Settings:
    """Read again what these settings were read from; raises ConfigError."""
    return load(settings.source.environ, cwd=settings.source.cwd)


def check(environ: Mapping[str, str] = os.environ, *, cwd: Path | None = None) -> list[str]:
    """Every fault of the settings, one line each; those of plugins are found by `plugins.check`."""
    return _read(environ, cwd or Path.cwd())[1]


def mark(path: Path) -> Mark:
    """What tells one content of a file from the next without reading it; None when there is no file."""
    try:
        return mark_of(path.stat())
    except OSError:
        return None


def last_good_path(settings: Settings) -> Path:
    """Where the last usable dialer.toml is kept, beside it: what it names by a relative path is found from there."""
    file = settings.source.file
    return file.with_name(f"{file.name}{LAST_GOOD}")


def keep_good(settings: Settings, environ: Mapping[str, str] = os.environ) -> None:
    """Keep a copy of a dialer.toml that is in use, for processes that `dialer run` has to start while it is broken."""
    kept, file = environ.get("DIALER_LAST_GOOD"), settings.source.file
    if not kept or file == Path(kept) or not file.exists() or not file.stat().st_size:
        return
    beside = Path(f"{kept}.{os.getpid()}")
    with open(os.open(beside, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as copy:
        copy.write(file.read_bytes())
    beside.replace(kept)


def load_last_good(error: ConfigError, environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings that were last in use, under `dialer run`; elsewhere, or without any, raises the error."""
    kept = environ.get("DIALER_LAST_GOOD")
    if not kept or not Path(kept).exists():
        raise error
    return load({**environ, "DIALER_CONFIG": kept})


def lost(path: Path) -> str:
    """What is wrong when a file that was there before is gone or empty now; nothing where there never was one."""
    good = path.with_name(f"{path.name}{LAST_GOOD}")
    if (path.exists() and path.read_bytes().strip()) or not good.exists() or not good.stat().st_size:
        return ""
    return one_line(
        f"{path}: the file is {'empty' if path.exists() else 'gone'}, and with it every plugin, checks too;"
        f" copy {good.name} back, or delete that as well to begin anew"
    )


def write_first(environ: Mapping[str, str] = os.environ, *, cwd: Path | None = None) -> Path | None:
    """Put the example in place of a dialer.toml that is not there yet; gives its path if it did.

    Nothing is written where DIALER_CONFIG names a file: then somebody else looks after it.
    """
    path = config_path(environ, cwd or Path.cwd())
    if environ.get("DIALER_CONFIG") or path.exists():
        return None
    if fault := lost(path):
        raise ConfigError(fault)
    example = Path(__file__).with_name("dialer.example.toml").read_bytes()
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as file:
            file.write(example)
    except FileExistsError:
        return None
    except OSError as error:
        raise ConfigError(one_line(f"{path}: cannot be written: {error.strerror} (set DIALER_INSTANCE)")) from None
    return path


def instance_path(environ: Mapping[str, str], cwd: Path) -> Path:
    """The folder of the database and the secrets."""
    return cwd / (environ.get("DIALER_INSTANCE") or "instance")


def config_path(environ: Mapping[str, str], cwd: Path) -> Path:
    """Where dialer.toml is, or would be."""
    named = environ.get("DIALER_CONFIG")
    return cwd / named if named else instance_path(environ, cwd) / "dialer.toml"


def _read(environ: Mapping[str, str], cwd: Path) -> tuple[Settings, list[str]]:
    reading = open_file(config_path(environ, cwd), environ, cwd)
    for name in reading.tables:
        if name not in (*SECTIONS, "plugins", "workspaces"):
            reading.fault(name, "", unknown(name, (*SECTIONS, "plugins", "workspaces"), "section"))
    sections: dict[str, Any] = {
        name: reading.build(cls, reading.table(reading.tables, name, name), name, overridden=True)
        for name, cls in SECTIONS.items()
    }
    workspaces = _workspaces(reading)
    in_file = workspace_plugins.listed(reading)
    settings = Settings(
        source=reading.source,
        instance=instance_path(environ, cwd),
        **sections,
        plugins=workspace_plugins.enabled(reading, in_file),
        plugins_in_file=in_file,
        plugin_tables=workspace_plugins.tables(reading),
        workspace_plugins=MappingProxyType(workspaces.plugins),
        workspace_tables=MappingProxyType(workspaces.tables),
        workspaces=MappingProxyType(workspaces.named),
        accounts=tuple(_accounts(reading, {None: sections["twilio"], **workspaces.accounts})),
    )
    _check_reach(reading, settings)
    return _with_defaults(settings), reading.faults


@dataclass
class _Workspaces:
    """The [workspaces.NAME] tables, taken apart."""

    named: dict[str, Workspace] = field(default_factory=dict)
    accounts: dict[str | None, WorkspaceTwilio] = field(default_factory=dict)
    plugins: dict[str, WorkspacePlugins] = field(default_factory=dict)
    tables: dict[str, workspace_plugins.Tables] = field(default_factory=dict)


def _workspaces(reading: Reading) -> _Workspaces:
    found = _Workspaces()
    tables = reading.table(reading.tables, "workspaces", "workspaces")
    for name in tables:
        section = f"workspaces.{name}"
        if not re.fullmatch(r"[A-Za-z0-9_-]{1,64}", name):
            reading.fault(section, "", "a workspace's name is up to 64 letters, digits, _ and -")
        table = dict(reading.table(tables, name, section))
        if "twilio" in table:
            own = reading.table(table, "twilio", f"{section}.twilio")
            found.accounts[name] = reading.build(WorkspaceTwilio, own, f"{section}.twilio")
            del table["twilio"]
        if "plugins" in table:
            own = reading.table(table, "plugins", f"{section}.plugins")
            found.plugins[name], found.tables[name] = workspace_plugins.of_workspace(reading, name, own)
            del table["plugins"]
        found.named[name] = reading.build(Workspace, table, section)
    return found


def _accounts(reading: Reading, given: Mapping[str | None, WorkspaceTwilio]) -> Iterator[Account]:
    """The usable accounts, the default one first; what is missing of the others becomes faults."""
    seen: dict[str, str] = {}
    for workspace, own in given.items():
        section = f"workspaces.{workspace}.twilio" if workspace else "twilio"
        for key, text in () if section in reading.faulty else _gaps(own, workspace):
            reading.fault(section, key, text)
        if own.account_sid in seen:
            other = seen[own.account_sid]
            reading.fault(section, "account_sid", f"this is also the account of [{other}]; each has its own")
        elif own.account_sid:
            seen[own.account_sid] = section
            yield _account(own, workspace)


def _account(own: WorkspaceTwilio, workspace: str | None) -> Account:
    return Account(
        sid=own.account_sid,
        tokens=tuple(token for token in (own.auth_token, own.previous_auth_token) if token),
        api_key=own.api_key,
        api_secret=own.api_secret,
        app_sid=own.app_sid,
        workspace=workspace,
        calls_per_second=own.calls_per_second,
    )


def _gaps(own: WorkspaceTwilio, workspace: str | None) -> Iterator[tuple[str, str]]:
    """What one account lacks. The default account may be missing as a whole."""
    fix = "set it" if workspace else "set it or TWILIO_{}"
    token = own.auth_token or own.previous_auth_token
    if own.account_sid and not own.auth_token:
        yield "auth_token", f"missing; {fix.format('AUTH_TOKEN')}, or no signature can be checked"
    if not own.account_sid and (workspace or token or own.api_key or own.app_sid):
        yield "account_sid", f"missing; {fix.format('ACCOUNT_SID')}, the AC... of the account"
    if own.api_key and not own.api_secret:
        yield "api_secret", f"missing; {fix.format('API_SECRET')}, the secret of the API key"
    if own.api_secret and not own.api_key:
        yield "api_key", f"missing; {fix.format('API_KEY')}, the SK... of the secret"


def _check_reach(reading: Reading, settings: Settings) -> None:
    """Twilio itself must be told a URL that it can reach."""
    if not settings.accounts or settings.simulated or reading.faulty & {"server", "twilio"}:
        return
    url = settings.server.public_url
    if not url:
        fix = "missing; set it or DIALER_PUBLIC_URL to the https:// URL under which Twilio reaches Dialer"
        reading.fault("server", "public_url", fix)
    elif is_loopback(urlsplit(url).hostname or ""):
        reading.fault("server", "public_url", f"{url} is this machine's own; use one that Twilio can reach")


def _with_defaults(settings: Settings) -> Settings:
    """Fill in what follows from the rest: the database's place, our URL for a simulator beside us, a host's prefix."""
    server, store = settings.server, settings.store
    if not server.public_url:
        host, _, port = server.bind.rpartition(":")
        host = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}.get(host, host)
        server = replace(server, public_url=f"http://{host}:{port}")
    prefix = settings.source.environ.get("DIALER_URL_PREFIX", "")
    if not urlsplit(server.public_url).path.endswith(prefix):
        server = replace(server, public_url=server.public_url + prefix)
    if not store.url:
        store = replace(store, url=f"sqlite:///{settings.instance / 'dialer.db'}")
    return replace(settings, server=server, store=store)
