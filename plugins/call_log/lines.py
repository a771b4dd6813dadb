"""A finished call as one line of JSON."""

from __future__ import annotations

import json
from collections.abc import Container
from datetime import UTC, datetime
from typing import Any

from dialer import Call
from dialer.logs import mask

FIELDS = (
    "id",
    "workspace",
    "agent",
    "direction",
    "to",
    "from",
    "status",
    "ended_by",
    "reason",
    "rule",
    "requested_at",
    "answered_at",
    "ended_at",
    "duration",
    "legs",
    "conference",
    "conference_sid",
    "account_sid",
    "plugins",
)


def line(call: Call, numbers: str, leave_out: Container[str] = ()) -> str:
    """The call in JSON, with its line feed. `numbers` is full, masked or none."""
    values = _values(call)
    if numbers == "masked":
        values |= {name: mask(values[name]) for name in ("to", "from", "reason")}
    elif numbers == "none":
        values |= {"to": "", "from": "", "reason": mask(values["reason"])}
    kept = {name: values[name] for name in FIELDS if name not in leave_out}
    return json.dumps(kept, separators=(",", ":")) + "\n"


def _values(call: Call) -> dict[str, Any]:
    own = {name: getattr(call, name) for name in FIELDS if hasattr(call, name)}
    return own | {
        "from": call.from_,
        "requested_at": _moment(call.requested_at),
        "answered_at": _moment(call.answered_at),
        "ended_at": _moment(call.ended_at),
        "legs": [{"call_sid": leg.call_sid, "role": leg.role, "status": leg.status} for leg in call.legs],
    }


def _moment(at: float | None) -> str | None:
    """A time in ISO 8601, in UTC, to the millisecond."""
    return None if at is None else datetime.fromtimestamp(at, UTC).isoformat(timespec="milliseconds")
