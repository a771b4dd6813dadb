"""What a control finds in its JSON body."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from dialer.simulator.model import AgentPlan

Body = Mapping[str, Any]


class BadControl(ValueError):
    """A control used wrongly; the message says how it is used."""


def read_text(body: Body, name: str) -> str:
    """A text that must be there. Raises BadControl, as the others do."""
    value = body.get(name)
    if not isinstance(value, str) or not value:
        raise BadControl(f"{name} is required, as a text")
    return value


def read_digits(body: Body) -> str:
    """Keys to press."""
    digits = body.get("digits")
    if not isinstance(digits, str) or not re.fullmatch(r"[0-9*#]{1,64}", digits):
        raise BadControl("digits must be a text of 1 to 64 keys: 0 to 9, * and #")
    return digits


def read_seconds(body: Body, name: str, default: float | None = None) -> float | None:
    """A number of seconds, or null."""
    value = body.get(name, default)
    if value is not None and (isinstance(value, bool) or not isinstance(value, int | float) or value < 0):
        raise BadControl(f"{name} must be a number of seconds")
    return value


def read_params(body: Body, name: str = "params") -> dict[str, str]:
    """Names and texts; none when absent."""
    value = body.get(name, {})
    if not isinstance(value, dict) or not all(isinstance(each, str) for each in value.values()):
        raise BadControl(f"{name} must be an object of texts")
    return value


def read_plan(body: Body) -> AgentPlan:
    """What the person at a browser does."""
    return AgentPlan(read_seconds(body, "hangUpAfterBridged"), read_seconds(body, "hangUpAfter"))
