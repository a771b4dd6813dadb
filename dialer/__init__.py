"""Dialer: a browser and a phone in one call, over Twilio, with every step open to plugins."""

from __future__ import annotations

from importlib import import_module
from typing import TYPE_CHECKING, Any

from dialer.calls import Call, Leg
from dialer.errors import ConfigError, DialerError, GiveUp, PluginError, RetryLater
from dialer.hookspecs import CallEvent, Refusal, Remark, Route, Unanswered, hookimpl
from dialer.host import Host
from dialer.tables import Secret, Setting

if TYPE_CHECKING:
    from dialer.app import create_app
    from dialer.auth import SignedIn
    from dialer.extension import Dialer
    from dialer.plugin_routes import principal, public

__all__ = [
    "Call",
    "CallEvent",
    "ConfigError",
    "Dialer",
    "DialerError",
    "GiveUp",
    "Host",
    "Leg",
    "PluginError",
    "Refusal",
    "Remark",
    "RetryLater",
    "Route",
    "Secret",
    "Setting",
    "SignedIn",
    "Unanswered",
    "create_app",
    "hookimpl",
    "principal",
    "public",
]


#: What needs the web server, by the module that it is loaded from on first use: plugins import our other names.
_LATER = {
    "Dialer": "dialer.extension",
    "SignedIn": "dialer.auth",
    "create_app": "dialer.app",
    "principal": "dialer.plugin_routes",
    "public": "dialer.plugin_routes",
}


def __getattr__(name: str) -> Any:
    if name not in _LATER:
        raise AttributeError(f"module 'dialer' has no attribute {name!r}")
    return getattr(import_module(_LATER[name]), name)
