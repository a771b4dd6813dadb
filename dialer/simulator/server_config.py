"""How the simulator's server is set up: accounts, addresses, knobs and faults, from code or a JSON file."""

from __future__ import annotations

import json
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, field
from ipaddress import ip_address
from pathlib import Path
from typing import Any, Literal
from urllib.parse import urlsplit

from dialer.simulator.knobs import Faults, Knobs
from dialer.simulator.model import AgentPlan
from dialer.simulator.network import Network
from dialer.simulator.settings import ConfigError, change_settings, read_settings

KNOBS = Knobs(max_log=100_000)  # a server may run for weeks
FAULTS = Faults()
LOOPBACK_HOSTS = ("127.0.0.1", "localhost", "::1")
_NUMBER_FIELDS = (
    "voice_url",
    "voice_method",
    "voice_fallback_url",
    "voice_fallback_method",
    "status_callback",
    "status_callback_method",
    "friendly_name",
    "sid",
)


@dataclass(frozen=True)
class AccountConfig:
    """One account. Empty SIDs and tokens are made. Applications and numbers are mappings of their fields."""

    sid: str = ""
    auth_token: str = ""
    friendly_name: str = "Simulated account"
    status: Literal["active", "suspended", "closed"] = "active"
    type: Literal["Full", "Trial"] = "Full"
    keys: Mapping[str, str] = field(default_factory=dict)
    """API key SID to secret."""
    applications: tuple[Mapping[str, str], ...] = ()
    numbers: tuple[Mapping[str, str], ...] = ()
    """Each with phone_number."""
    caller_ids: tuple[str, ...] = ()
    clients: tuple[Mapping[str, Any], ...] = ()
    """Browsers that take calls: identity, answer_after, hang_up_after, hang_up_after_bridged (seconds)."""
    blocked_countries: tuple[str, ...] = ()
    """ISO codes, here and in the next two."""
    high_risk_special_countries: tuple[str, ...] = ()
    high_risk_tollfraud_countries: tuple[str, ...] = ()
    cps: float | None = None
    max_calls: int | None = None


@dataclass(frozen=True)
class SimulatorConfig:
    """The whole server."""

    host: str = "127.0.0.1"
    port: int = 8100
    allow_public: bool = False
    """Whether it may be bound to an address that others can reach; nothing in it is protected."""
    accounts: tuple[AccountConfig, ...] = ()
    public_urls: Mapping[str, str] = field(default_factory=dict)
    """Public base URL of an application to the loopback base URL where it really listens."""
    allow_hosts: tuple[str, ...] = LOOPBACK_HOSTS
    """Hosts that may be called without such a mapping."""
    knobs: Knobs = KNOBS
    faults: Faults = FAULTS
    seed: int | None = None
    """None: another one at each start, so that SIDs never come twice to an application that remembers them."""
    keep_seconds: float = 3600.0
    """How long ended calls, conferences and their traces are kept."""
    keep_requests: int = 1000
    """How many sent webhooks are remembered."""

    def __post_init__(self) -> None:
        if not self.allow_public and not is_loopback(self.host):
            raise ConfigError(f"host: {self.host} is not loopback; to bind it, set allow_public = true")
        if not 0 <= self.port <= 65535:
            raise ConfigError(f"port: {self.port} is not between 0 and 65535")
        for public, local in self.public_urls.items():
            _read_host(public)
            if not is_loopback(_read_host(local)) and _read_host(local) not in self.allow_hosts:
                raise ConfigError(f"public_urls: {local} is neither loopback nor on allow_hosts")


def is_loopback(host: str) -> bool:
    """Whether only this machine can reach that address."""
    if host == "localhost":
        return True
    try:
        return ip_address(host).is_loopback
    except ValueError:
        return False


def _read_host(url: str) -> str:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname or parts.query or parts.fragment:
        raise ConfigError(f"public_urls: {url!r} is not a base URL such as https://calls.example.com")
    return parts.hostname


def load(path: str | Path) -> SimulatorConfig:
    """The setup in a JSON file, keys as the fields above. Raises ConfigError, naming the file and the key."""
    try:
        values = read_settings(SimulatorConfig, json.loads(Path(path).read_text()), "")
        accounts = [read_settings(AccountConfig, each, "accounts.") for each in values.get("accounts", ())]
        values["accounts"] = tuple(AccountConfig(**account) for account in accounts)
        values["knobs"] = change_settings(KNOBS, values.get("knobs", {}))
        values["faults"] = change_settings(FAULTS, values.get("faults", {}))
        return SimulatorConfig(**values)
    except (OSError, ValueError) as error:
        raise ConfigError(f"{path}: {error}") from error


def build_network(config: SimulatorConfig, start: float) -> Network:
    """The network that the configuration describes. Raises ConfigError."""
    seed = secrets.randbits(64) if config.seed is None else config.seed
    network = Network(start=start, seed=seed, knobs=config.knobs, faults=config.faults)
    for account in config.accounts:
        _add_account(network, account)
    return network


def _add_account(network: Network, config: AccountConfig) -> None:
    account = network.add_account(
        config.sid,
        config.auth_token,
        friendly_name=config.friendly_name,
        status=config.status,
        type=config.type,
        blocked_countries=set(config.blocked_countries),
        high_risk_special_countries=set(config.high_risk_special_countries),
        high_risk_tollfraud_countries=set(config.high_risk_tollfraud_countries),
        cps=config.cps,
        max_calls=config.max_calls,
    )
    for sid, secret in config.keys.items():
        network.add_key(account.sid, sid, secret)
    for application in config.applications:
        network.add_application(account.sid, **_only(application, _NUMBER_FIELDS, "applications"))
    for number in config.numbers:
        values = _only(number, (*_NUMBER_FIELDS, "phone_number", "voice_application_sid"), "numbers")
        if "phone_number" not in values:
            raise ConfigError("accounts.numbers: each needs a phone_number")
        network.add_number(account.sid, **values)
    for phone_number in config.caller_ids:
        network.add_caller_id(account.sid, phone_number)
    for client in config.clients:
        _add_client(network, account.sid, client)


def _add_client(network: Network, account_sid: str, client: Mapping[str, Any]) -> None:
    names = ("identity", "answer_after", "hang_up_after", "hang_up_after_bridged")
    values = _only(client, names, "clients")
    if "identity" not in values:
        raise ConfigError("accounts.clients: each needs an identity")
    plan = AgentPlan(values.get("hang_up_after_bridged"), values.get("hang_up_after"))
    network.register(account_sid, values["identity"], values.get("answer_after", 1.0), plan)


def _only(values: Mapping[str, Any], names: tuple[str, ...], where: str) -> dict[str, Any]:
    for name in values:
        if name not in names:
            raise ConfigError(f"accounts.{where}.{name} is not a setting; there are {', '.join(names)}")
    return dict(values)
