"""What every request and job works with: settings, store, plugins, and what a simulation replaces."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import urlencode

from flask import current_app

from dialer.clock import steady_seconds
from dialer.errors import DialerError
from dialer.plugins import Plugins
from dialer.settings import Settings
from dialer.store import Store
from dialer.twilio import Carrier

TWIML_PATH = "/v1/voice/twiml"
STATUS_PATH = "/v1/voice/status"
JOIN_PATH = "/v1/voice/conference-join"
FALLBACK_PATH = "/v1/voice/fallback"
CONFERENCE_STATUS_PATH = "/v1/voice/conference-status"
RECORDING_PATH = "/v1/voice/recording"
DETECTION_PATH = "/v1/voice/machine-detection"
#: Every retry that Twilio offers, and time-outs that leave room for them: its 15 s are for all attempts together, so
#: that one answer that never comes would use them up by default (Twilio docs, webhook connection overrides).
OVERRIDES = "#ct=2000&rt=4000&rc=5&rp=all"


@dataclass(frozen=True, slots=True)
class Service:
    """One Dialer. `clock` gives epoch seconds, `random_hex(n)` 2n unguessable hex digits.

    `steady` gives the seconds of a clock that nobody sets; what the other one moves against it is a step. `carriers`
    stands in for Twilio's accounts, where a simulation has its own.
    """

    settings: Settings
    store: Store
    plugins: Plugins
    clock: Callable[[], float] = field(default=time.time)
    random_hex: Callable[[int], str] = field(default=secrets.token_hex)
    steady: Callable[[], float] = field(default=steady_seconds)
    carriers: Callable[[str], Carrier] | None = None

    def carrier(self, account_sid: str) -> Carrier:
        """The Twilio account of a call; raises DialerError for one that is no longer configured."""
        if self.carriers:
            return self.carriers(account_sid)
        account = self.settings.account(account_sid)
        if account is None:
            raise DialerError(f"account {account_sid} is no longer configured")
        return Carrier(account, self.settings.twilio.api_base)

    def url(self, path: str, **query: str) -> str:
        """Our public URL for Twilio to call, with what it shall do when we fail."""
        return f"{self.settings.server.public_url}{path}{'?' if query else ''}{urlencode(query)}{OVERRIDES}"


def service() -> Service:
    """The Dialer of the current application."""
    found: Service = current_app.extensions["dialer"]
    return found
