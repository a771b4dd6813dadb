"""Every setting of Dialer's: its name, type, default, meaning and what it takes, section by section."""

from __future__ import annotations

import ipaddress
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any, Literal
from urllib.parse import SplitResult, urlsplit

from dialer.errors import ConfigError
from dialer.tables import Secret, Setting, Source, shown

LogLevel = Literal["debug", "info", "warning", "error"]
_LANGUAGE = re.compile(r"[a-z]{2,3}(-[A-Za-z0-9]{2,8})*")


def is_loopback(host: str) -> bool:
    """Whether a host name or address is this machine's own."""
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


def _url(text: str) -> SplitResult:
    """An absolute http(s) URL; the text of its ValueError does not repeat it: it may hold a password."""
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or url.port == 0 or re.search(r"\s", text):
        raise ValueError("must be a URL such as https://calls.example.com")
    if url.username or url.password or url.fragment:
        raise ValueError("must be a URL without user, password and fragment")
    return url


def _base_url(text: str) -> str:
    if _url(text).query:
        raise ValueError("must be a URL without a query")
    return text.rstrip("/")


def _public_url(text: str) -> str:
    if text and "_" in (_url(text).hostname or ""):
        raise ValueError("must be a URL whose host name has no _, which Twilio refuses")
    return _base_url(text) if text else ""


def _api_base(text: str) -> str:
    url = _url(text)
    if url.scheme != "https" and not is_loopback(url.hostname or ""):
        raise ValueError("must start with https://, or be a simulator's on this machine (http://127.0.0.1:8100)")
    return _base_url(text)


def _wait_url(text: str) -> str:
    if text:
        _url(text)
    return text


def _store_url(text: str) -> str:
    if text and not re.fullmatch(r"(sqlite:///|postgres(ql)?://)\S+", text):
        raise ValueError("must be sqlite:///path or postgresql://user@host/database")
    return text


def _bind(text: str) -> str:
    host, _, port = text.rpartition(":")
    if not host or re.search(r"[\s/]", host) or not re.fullmatch(r"[0-9]{1,5}", port) or not 0 < int(port) < 65536:
        raise ValueError(f"must be host:port such as 127.0.0.1:8000, not {shown(text)}")
    return text


def _country(text: str) -> str:
    from phonenumbers import SUPPORTED_REGIONS  # only where it is set: its data is large

    if text and text not in SUPPORTED_REGIONS:
        raise ValueError(f"must be an ISO country such as US or GB, not {shown(text)}")
    return text


def _language(text: str) -> str:
    if not _LANGUAGE.fullmatch(text):
        raise ValueError(f"must be a language such as en-US, not {shown(text)}")
    return text


def _dial_via(text: str) -> str:
    if text in ("participant", "number"):
        raise ValueError(f'"{text}" is planned and not there yet; use "call"')
    if text != "call":
        raise ValueError(f'must be "call", not {shown(text)}')
    return text


def _sid(prefix: str) -> Callable[[str], str]:
    def parse(text: str) -> str:
        # Not repeated in the error: a token pasted into the wrong line would end up in a log.
        if text and not re.fullmatch(prefix + "[0-9a-fA-F]{32}", text):
            raise ValueError(f"must be {prefix} and 32 hex digits, not these {len(text)} characters")
        return text

    return parse


@dataclass(frozen=True, kw_only=True)
class Server:
    """How Dialer is reached, and what it writes to its log."""

    bind: Annotated[str, Setting("host:port to listen on", "DIALER_BIND", parse=_bind)] = "127.0.0.1:8000"
    public_url: Annotated[
        str, Setting("the URL under which Twilio reaches Dialer", "DIALER_PUBLIC_URL", parse=_public_url)
    ] = ""
    log: Annotated[Literal["text", "json"], Setting("the form of log lines")] = "text"
    log_level: Annotated[LogLevel, Setting("the least that is logged")] = "info"


@dataclass(frozen=True, kw_only=True)
class StoreSettings:
    """Where calls, events and jobs are kept."""

    url: Annotated[
        str, Setting("sqlite:///path; empty: dialer.db in the instance", "DIALER_STORE", parse=_store_url)
    ] = field(default="", repr=False)  # it may hold a password


@dataclass(frozen=True, kw_only=True)
class WorkspaceTwilio:
    """A workspace's own Twilio account."""

    account_sid: Annotated[str, Setting("AC and 32 hex digits", "TWILIO_ACCOUNT_SID", parse=_sid("AC"))] = ""
    auth_token: Annotated[Secret | None, Setting("checks signatures", "TWILIO_AUTH_TOKEN")] = None
    previous_auth_token: Annotated[Secret | None, Setting("still good while tokens are rotated")] = None
    api_key: Annotated[str, Setting("signs browser tokens", "TWILIO_API_KEY", parse=_sid("SK"))] = ""
    api_secret: Annotated[Secret | None, Setting("the secret of the API key", "TWILIO_API_SECRET")] = None
    app_sid: Annotated[str, Setting("the TwiML App of the browsers", "TWILIO_APP_SID", parse=_sid("AP"))] = ""
    calls_per_second: Annotated[float, Setting("calls started a second", numbers=(0.1, 1000))] = 1.0


@dataclass(frozen=True, kw_only=True)
class Twilio(WorkspaceTwilio):
    """The Twilio account of all workspaces without their own."""

    api_base: Annotated[str, Setting("the REST API or a simulator", "TWILIO_API_BASE", parse=_api_base)] = (
        "https://api.twilio.com"
    )


@dataclass(frozen=True, kw_only=True)
class Calls:
    """How calls are placed."""

    dial_when: Annotated[
        Literal["agent-joined", "requested"], Setting("when the customer is dialled")
    ] = "agent-joined"
    dial_via: Annotated[str, Setting("how; participant and number are planned", parse=_dial_via)] = "call"
    ring_seconds: Annotated[int, Setting("how long the customer's phone rings", numbers=(5, 600))] = 30
    time_limit_seconds: Annotated[int, Setting("after how long a call is ended", numbers=(10, 86_400))] = 7200
    wait_url: Annotated[str, Setting("what a lonely agent hears; empty: silence", parse=_wait_url)] = ""
    default_region: Annotated[str, Setting("ISO country of numbers typed without +", parse=_country)] = ""
    language: Annotated[str, Setting("the language of spoken sentences", parse=_language)] = "en-US"


@dataclass(frozen=True, kw_only=True)
class Workspace:
    """What differs for one workspace."""

    default_region: Annotated[str, Setting("in place of the one in [calls]", parse=_country)] = ""


@dataclass(frozen=True, kw_only=True)
class PluginList:
    """Which plugins run; each has its own settings in [plugins.NAME]."""

    enabled: Annotated[tuple[str, ...], Setting("the plugins that are on, in the order they are asked")] = ()


@dataclass(frozen=True, kw_only=True)
class WorkspacePlugins:
    """Plugins that differ for one workspace; settings that do stand in [workspaces.NAME.plugins.PLUGIN].

    All other settings are those of [plugins.PLUGIN], and the order is that of [plugins] enabled.
    """

    disabled: Annotated[tuple[str, ...], Setting("plugins of [plugins] enabled that are off here")] = ()


@dataclass(frozen=True)
class Account:
    """A Twilio account that Dialer serves; `tokens` are the current auth token and the previous one."""

    sid: str
    tokens: tuple[Secret, ...]
    api_key: str = ""
    api_secret: Secret | None = None
    app_sid: str = ""
    workspace: str | None = None
    calls_per_second: float = 1.0

    def reveal_tokens(self) -> tuple[str, ...]:
        """The auth tokens in clear, the current one first."""
        return tuple(token.reveal() for token in self.tokens)


@dataclass(frozen=True, kw_only=True)
class Settings:
    """All of dialer.toml and the environment. `plugin_tables` and `workspace_tables` are raw: plugins check their own.

    `plugins_in_file` is the list that DIALER_PLUGINS may have taken the place of.
    """

    source: Source
    instance: Path
    server: Server = field(default_factory=Server)
    store: StoreSettings = field(default_factory=StoreSettings)
    twilio: Twilio = field(default_factory=Twilio)
    calls: Calls = field(default_factory=Calls)
    plugins: PluginList = field(default_factory=PluginList)
    plugins_in_file: PluginList = field(default_factory=PluginList)
    plugin_tables: Mapping[str, Mapping[str, Any]] = field(default_factory=dict, repr=False)
    workspace_plugins: Mapping[str, WorkspacePlugins] = field(default_factory=dict)
    workspace_tables: Mapping[str, Mapping[str, Mapping[str, Any]]] = field(default_factory=dict, repr=False)
    workspaces: Mapping[str, Workspace] = field(default_factory=dict)
    accounts: tuple[Account, ...] = ()

    @property
    def simulated(self) -> bool:
        """Whether Twilio's place is taken by a simulator on this machine."""
        return is_loopback(urlsplit(self.twilio.api_base).hostname or "")

    def account(self, sid: str) -> Account | None:
        """The account with this sid, if it is one of ours."""
        return next((account for account in self.accounts if account.sid == sid), None)

    def account_of(self, workspace: str) -> Account:
        """The account that a workspace calls through: its own or the default one."""
        for wanted in (workspace, None):
            for account in self.accounts:
                if account.workspace == wanted:
                    return account
        raise ConfigError(
            f"{self.source.file}: workspace {shown(workspace)} has no Twilio account;"
            " set [twilio] account_sid and auth_token (TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN)"
        )

    def default_region(self, workspace: str) -> str:
        """The country of numbers that are typed without +; empty when they are refused."""
        own = self.workspaces.get(workspace)
        return (own and own.default_region) or self.calls.default_region
