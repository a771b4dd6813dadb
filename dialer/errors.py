"""The three errors of Dialer: somebody must act, a plugin failed, or anything else of ours."""

from __future__ import annotations


class DialerError(Exception):
    """Something went wrong that is already explained in one line: shown without a traceback."""


class ConfigError(DialerError):
    """The admin must act: says the file, the key, the fault and the choices."""


class PluginError(DialerError):
    """A plugin raised, ran over its time or answered nonsense; names the plugin and the hook."""
