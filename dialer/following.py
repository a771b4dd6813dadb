"""A call placed from a simulated browser and followed to its end, all through the running servers."""

from __future__ import annotations

import time
from collections.abc import Iterator
from typing import Any

from dialer.errors import DialerError
from dialer.ladder import Ladder, Rung
from dialer.loopback import NotReachable, ask

#: Seconds between looks at the call.
LOOK = 0.5
#: Seconds without any answer after which the server is gone, and not just being restarted.
SILENCE = 15.0


def require_server(server: str, simulator: str) -> None:
    """Raise NotReachable, with what to do about it, unless both servers answer."""
    for name, url in (("Dialer", f"{server}/healthz"), ("the simulator", f"{simulator}/_simulator/health")):
        try:
            ask(url, seconds=5.0)
        except DialerError as error:
            raise NotReachable(f"{name} is not running here: start it with dialer run ({error})") from None


def connect(server: str, simulator: str, key: str, params: dict[str, str], talk: float) -> str:
    """Do as an agent's browser does, `device.connect` with these params; gives the CallSid of its leg."""
    token = ask(f"{server}/v1/voice/token", key=key)["token"]
    body = {"token": token, "params": params, "hangUpAfterBridged": talk}
    return str(ask(f"{simulator}/_simulator/connect", body)["callSid"])


class Follower:
    """Looks at the call of one agent's leg until it is settled, or `patience` seconds have passed."""

    def __init__(self, server: str, key: str, call_sid: str, patience: float) -> None:
        self.calls_url = f"{server}/v1/calls"
        self.key = key
        self.call_sid = call_sid
        self.until = time.monotonic() + patience
        self.heard = time.monotonic()
        self.call: dict[str, Any] | None = None
        self.events: list[dict[str, Any]] = []
        self.told: list[Rung] = []

    @property
    def settled(self) -> bool:
        return self.call is not None and bool(self.call["settled"])

    def rungs(self) -> Iterator[Rung]:
        """What happens, as it happens."""
        ladder: Ladder | None = None
        last_look = False
        while not last_look and time.monotonic() < self.until:
            last_look = self.settled  # Twilio's last words on a call may come after its end
            fresh = self._look()
            if self.call:
                ladder = ladder or Ladder(self.call)
                ladder.call = self.call
                for rung in ladder.rungs(fresh):
                    self.told.append(rung)
                    yield rung
            if not last_look:
                time.sleep(LOOK)

    def _look(self) -> list[dict[str, Any]]:
        """Bring the call up to date and give its new events; a server that is being restarted is asked again later."""
        try:
            if self.call is None:
                self.call = self._find()
                if self.call is None:
                    return []
            call = ask(f"{self.calls_url}/{self.call['id']}", key=self.key)
            after = self.events[-1]["id"] if self.events else 0
            fresh: list[dict[str, Any]] = ask(f"{self.calls_url}/{self.call['id']}/events?after={after}", key=self.key)[
                "events"
            ]
        except NotReachable as error:
            if time.monotonic() - self.heard > SILENCE:
                raise NotReachable(f"the server no longer answers: see its log, then dialer calls ({error})") from None
            return []
        self.call, self.heard = call, time.monotonic()
        self.events += fresh
        return fresh

    def _find(self) -> dict[str, Any] | None:
        newest: list[dict[str, Any]] = ask(f"{self.calls_url}?limit=20", key=self.key)["calls"]
        ours = (call for call in newest if any(leg["callSid"] == self.call_sid for leg in call["legs"]))
        return next(ours, None)
