"""A message after Standard Webhooks: its body, its id that no repetition changes, and its signatures."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from standardwebhooks import Webhook

from dialer import Call, CallEvent
from dialer_plugins.webhooks.endpoints import TEST


@dataclass(frozen=True, slots=True)
class Message:
    """One event on its way. `id` is the same however often it is sent, and another one for anything else."""

    id: str
    body: str

    def headers(self, secrets: Iterable[str], now: float) -> dict[str, str]:
        """The headers, signed with each secret; the time is that of this try."""
        at = datetime.fromtimestamp(int(now), UTC)
        return {
            "Content-Type": "application/json",
            "User-Agent": "Dialer-Webhooks",
            "webhook-id": self.id,
            "webhook-timestamp": str(int(now)),
            "webhook-signature": " ".join(Webhook(secret).sign(self.id, at, self.body) for secret in secrets),
        }


def of_call(kind: str, call: Call, at: float, event: CallEvent | None = None) -> Message:
    """The message about a call, as GET /v1/calls/{id} shows it when this is sent, and about the event, if it is one."""
    from dialer.api import call_json  # loads the web server, which no command needs

    told = None if event is None else _event(event)
    facts = [call.workspace, call.id, kind, told]
    digest = hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()
    return _message(f"msg_{digest[:32]}", kind, at, {"call": call_json(call), "event": told})


def of_test(now: float) -> Message:
    """A message that says nothing but that it was received."""
    return _message(f"msg_test_{int(now * 1000)}", TEST, now, {"call": None, "event": None})


def _message(message_id: str, kind: str, at: float, data: dict[str, Any]) -> Message:
    return Message(message_id, json.dumps({"type": kind, "timestamp": _iso(at), "data": data}, separators=(",", ":")))


def _event(event: CallEvent) -> dict[str, Any]:
    return {
        "name": event.name,
        "at": _iso(event.at),
        "callSid": event.call_sid,
        "role": event.role,
        "status": event.status,
        "detail": event.detail,
    }


def _iso(at: float) -> str:
    return datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
