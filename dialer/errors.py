"""The errors of Dialer: somebody must act, a plugin failed, or anything else of ours; and what plugins raise."""

from __future__ import annotations


class DialerError(Exception):
    """Something went wrong that is already explained in one line: shown without a traceback."""


class ConfigError(DialerError):
    """The admin must act: says the file, the key, the fault and the choices."""


class PluginError(DialerError):
    """A plugin raised, ran over its time or answered nonsense; names the plugin and the hook."""


class RetryLater(PluginError):
    """For a plugin to raise where it is told something: not now; again after so many seconds, or after more."""

    def __init__(self, seconds: float, reason: str) -> None:
        super().__init__(reason)
        self.seconds = seconds


class GiveUp(PluginError):
    """For a plugin to raise where it is told something: never again, unless somebody replays it; says what to mend."""
