"""What `dialer check` looks at: the settings, the plugins and the store of this installation."""

from __future__ import annotations

import os
from importlib.metadata import version
from pathlib import Path
from typing import Any

from dialer import config
from dialer.cli_admin import opened, store_path
from dialer.errors import DialerError
from dialer.settings import Settings


def look_over() -> tuple[dict[str, Any], list[str]]:
    """What this installation is made of, and every fault."""
    path = config.config_path(os.environ, Path.cwd())
    read: dict[str, Any] = {
        "dialer": version("dialer"),
        "config": f"{path}" if path.exists() else f"{path} is not there: defaults and the environment",
    }
    faults = config.check()
    if faults:
        return read, faults
    settings = config.load()
    accounts = [account.sid for account in settings.accounts]
    read["twilio"] = accounts or "no account: dialer run would simulate the network"
    read["plugins"], found = look_at_plugins(settings)
    faults += found
    read["store"], found = look_at_store(settings)
    read["warnings"] = warnings_of(settings)
    return read, faults + found


def warnings_of(settings: Settings) -> list[str]:
    """What works, and is mostly not meant."""
    found = []
    if not settings.plugins.enabled:
        found.append("no plugin is on: any country and any premium number may be called (enable number_policy)")
    for account in settings.accounts:
        if not (account.api_key and account.api_secret and account.app_sid):
            found.append(f"account {account.sid}: browsers get no token without api_key, api_secret and app_sid")
    if settings.accounts and not settings.simulated and settings.server.public_url.startswith("http://"):
        found.append("[server].public_url is http: numbers would travel in the clear; use https")
    return found


def look_at_plugins(settings: Settings) -> tuple[list[str], list[str]]:
    """The plugins in order with their versions, and their faults."""
    from dialer.plugins import PluginSet
    from dialer.plugins import check as check_plugins

    faults = check_plugins(settings)
    if faults:
        return list(settings.plugins.enabled), faults
    versions = PluginSet.build(settings).versions
    return [f"{name} {versions[name]}".strip() for name in settings.plugins.enabled], []


def look_at_store(settings: Settings) -> tuple[str, list[str]]:
    """The store in words, and what is wrong with it."""
    url, path = settings.store.url, store_path(settings)
    if path and not path.exists():
        return f"{url} is not there yet: the first start makes it", _folder_faults(path.parent)
    try:
        with opened(settings) as store, store.read() as tx:
            row = tx.one("open_calls")
    except DialerError as error:
        return url, [str(error)]
    return f"{url}, {row['open'] if row else 0} calls under way", []


def _folder_faults(folder: Path) -> list[str]:
    """Why the store could not be made there."""
    while not folder.exists():
        folder = folder.parent
    if folder.is_dir() and os.access(folder, os.W_OK | os.X_OK):
        return []
    return [f"{folder}: nothing can be written there; mend that, or set DIALER_INSTANCE or DIALER_STORE"]
