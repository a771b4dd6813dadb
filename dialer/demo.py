"""What a first run needs and nobody has configured: a simulated Twilio account, and a workspace to call from."""

from __future__ import annotations

import json
import os
import secrets
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from dialer.auth import SCOPES, add_agent, add_key, add_workspace
from dialer.config import load
from dialer.errors import ConfigError
from dialer.service import FALLBACK_PATH, STATUS_PATH, TWIML_PATH
from dialer.settings import Settings, is_loopback
from dialer.store import Store

WORKSPACE = "ws_demo"
AGENTS = (("demo_alice", "Alice", "admin"), ("demo_bob", "Bob", "agent"))
NUMBER = "+14155550199"
SIMULATOR_BIND = "127.0.0.1:8100"
#: Every retry that Twilio offers, as our own callback URLs ask for it.
RETRIES = "#rc=5&rp=all"


def settings(environ: Mapping[str, str] = os.environ) -> Settings:
    """The settings as `dialer run` gives them to its children: with the simulated account when there is no other."""
    found = load(environ)
    if found.accounts or not account_path(found).exists():
        return found
    return load({**environ, **account_environment(found, environ)})


def account_path(found: Settings) -> Path:
    """Where the simulated account is kept: the configuration of `dialer simulator`, knobs and faults included."""
    return found.instance / "simulator.json"


def simulator_bind(environ: Mapping[str, str]) -> tuple[str, int]:
    """Host and port of the simulator beside `dialer run`; raises ConfigError."""
    text = environ.get("DIALER_SIMULATOR_BIND") or SIMULATOR_BIND
    host, _, port = text.rpartition(":")
    if not is_loopback(host.strip("[]")) or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536):
        fix = f"must be host:port of this machine, such as {SIMULATOR_BIND}"
        raise ConfigError(f"DIALER_SIMULATOR_BIND: {text!r:.60} {fix}")
    return host.strip("[]"), int(port)


def base_url(host: str, port: int) -> str:
    """How a server that listens there is reached from this machine."""
    host = {"0.0.0.0": "127.0.0.1", "::": "::1"}.get(host, host)
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


def split_bind(bind: str) -> tuple[str, int]:
    """Host and port of a setting such as 127.0.0.1:8000 or [::1]:8000."""
    host, _, port = bind.rpartition(":")
    return host.strip("[]"), int(port)


def new_account() -> dict[str, Any]:
    """A simulated Twilio account with an API key and a TwiML App, all made up."""
    return {
        "sid": f"AC{secrets.token_hex(16)}",
        "auth_token": secrets.token_hex(16),
        "friendly_name": "Simulated account of Dialer",
        "keys": {f"SK{secrets.token_hex(16)}": secrets.token_hex(16)},
        "applications": [{"sid": f"AP{secrets.token_hex(16)}", "friendly_name": "Dialer"}],
        "numbers": [{"phone_number": NUMBER}],
    }


def application_urls(public_url: str) -> dict[str, str]:
    """What a TwiML App must be set to, for the browsers' calls to reach Dialer."""
    return {
        "voice_url": f"{public_url}{TWIML_PATH}{RETRIES}",
        "voice_fallback_url": f"{public_url}{FALLBACK_PATH}{RETRIES}",
        "status_callback": f"{public_url}{STATUS_PATH}{RETRIES}",
    }


def prepare_account(found: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """Make the simulated account, or bring the one there up to date with our address; gives its environment."""
    path = account_path(found)
    config = _read(path) if path.exists() else {"accounts": [new_account()]}
    host, port = simulator_bind(environ)
    public_url = base_url(*split_bind(found.server.bind))
    server_host = split_bind(found.server.bind)[0]
    config |= {"host": host, "port": port, "allow_hosts": ["127.0.0.1", "localhost", "::1", server_host]}
    _application(config, path).update(application_urls(public_url))
    _write_private(path, json.dumps(config, indent=2) + "\n")
    return account_environment(found, environ)


def account_environment(found: Settings, environ: Mapping[str, str]) -> dict[str, str]:
    """The variables that make Dialer call through the simulated account; raises ConfigError for a broken file."""
    path = account_path(found)
    config = _read(path)
    application = _application(config, path)
    account = config["accounts"][0]
    key, secret = next(iter(account["keys"].items()))
    return {
        "TWILIO_ACCOUNT_SID": account["sid"],
        "TWILIO_AUTH_TOKEN": account["auth_token"],
        "TWILIO_API_KEY": key,
        "TWILIO_API_SECRET": secret,
        "TWILIO_APP_SID": application["sid"],
        "TWILIO_API_BASE": base_url(*simulator_bind(environ)),
        "DIALER_PUBLIC_URL": base_url(*split_bind(found.server.bind)),
    }


def make_workspace(store: Store, now: float) -> dict[str, str]:
    """Make the demo workspace if it is missing; gives each agent's new key, nothing when it was there."""
    with store.write() as tx:
        if tx.one("workspace", workspace=WORKSPACE):
            return {}
        add_workspace(tx, WORKSPACE, "Demo", now)
        tx.run("add_number", workspace=WORKSPACE, number=NUMBER, created_at=now)
        for identity, name, role in AGENTS:
            add_agent(tx, WORKSPACE, identity, name, role, now)
        return {identity: add_key(tx, WORKSPACE, identity, SCOPES, now=now) for identity, _, _ in AGENTS}


def _read(path: Path) -> dict[str, Any]:
    try:
        found = json.loads(path.read_text())
    except (OSError, ValueError) as error:
        raise _broken(path, str(error)) from None
    if not isinstance(found, dict):
        raise _broken(path, "not an object")
    return found


def _application(config: dict[str, Any], path: Path) -> dict[str, str]:
    """The TwiML App of the first account, once all that is needed of the account is seen to be there."""
    try:
        account = config["accounts"][0]
        found: dict[str, str] = account["applications"][0]
        values = (account["sid"], account["auth_token"], found["sid"], *next(iter(account["keys"].items())))
    except (LookupError, TypeError, AttributeError, StopIteration):
        values = ()
    if not values or not all(isinstance(value, str) for value in values):
        raise _broken(path, "the account lacks its sid, auth_token, a key or an application")
    return found


def _broken(path: Path, why: str) -> ConfigError:
    return ConfigError(f"{path}: {why} (remove the file: dialer run makes a new simulated account)")


def _write_private(path: Path, text: str) -> None:
    """Replace the file as a whole, readable by this user only: it holds secrets, if only simulated ones."""
    new = path.with_suffix(".new")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        new.unlink(missing_ok=True)
        with os.fdopen(os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "w") as file:
            file.write(text)
        new.replace(path)
    except OSError as error:
        raise ConfigError(f"{path} cannot be written: {error.strerror} (set DIALER_INSTANCE)") from None
