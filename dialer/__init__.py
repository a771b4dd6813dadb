"""Dialer: a browser and a phone in one call, over Twilio, with every step open to plugins."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dialer.calls import Call, Leg
from dialer.errors import ConfigError, DialerError, PluginError
from dialer.hookspecs import CallEvent, Refusal, Route, hookimpl
from dialer.tables import Secret, Setting

if TYPE_CHECKING:
    from dialer.app import create_app

__all__ = [
    "Call",
    "CallEvent",
    "ConfigError",
    "DialerError",
    "Leg",
    "PluginError",
    "Refusal",
    "Route",
    "Secret",
    "Setting",
    "create_app",
    "hookimpl",
]


def __getattr__(name: str) -> Any:
    """`create_app`, loaded on first use: a plugin that imports our names needs no web server."""
    if name == "create_app":
        from dialer.app import create_app

        return create_app
    raise AttributeError(f"module 'dialer' has no attribute {name!r}")
