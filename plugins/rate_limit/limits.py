"""The limits, what they say to what is used, and how both read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dialer_plugins.rate_limit import RateLimit
    from dialer_plugins.rate_limit.places import Usage, Used


@dataclass(frozen=True, slots=True)
class Limit:
    """The limits of an agent or of a workspace; 0 is none."""

    calls_per_minute: int
    calls_at_once: int
    minutes_per_day: int
    spend_per_day: float


@dataclass(frozen=True, slots=True)
class Limits:
    agent: Limit
    workspace: Limit

    @classmethod
    def of(cls, settings: RateLimit) -> Limits:
        names = ("calls_per_minute", "calls_at_once", "minutes_per_day", "spend_per_day")
        both = ([getattr(settings, f"{whose}_{name}") for name in names] for whose in ("agent", "workspace"))
        return cls(*(Limit(*values) for values in both))


#: What the agent hears: of his own limits and of everybody's.
_SENTENCES = {
    "agent": {
        "at-once": "You have as many calls at once as you may. Please end one first.",
        "per-minute": "You are calling too often. Please wait a minute.",
        "minutes": "You have used up your minutes for today.",
        "spend": "You have used up your budget for today.",
    },
    "workspace": {
        "at-once": "All lines of your company are busy. Please try again in a moment.",
        "per-minute": "Your company is calling too often. Please wait a minute.",
        "minutes": "Your company has used up its minutes for today.",
        "spend": "Your company has used up its budget for today.",
    },
}


def over(limits: Limits, used: Used, price: float) -> tuple[str, str] | None:
    """The first limit that one more call, at this price a minute, would break: its rule and its sentence."""
    for whose, limit, usage in _both(limits, used):
        if word := _broken(limit, usage, price):
            return f"{whose}-{word}", _SENTENCES[whose][word]
    return None


def remark(limits: Limits, used: Used) -> str:
    """What was used before this call, of what is limited."""
    parts = []
    for whose, limit, usage in _both(limits, used):
        known = [text for most, text in _counted(limit, usage) if most]
        if known:
            parts.append(f"{whose}: {', '.join(known)}")
    return "used before this call: " + ("; ".join(parts) or "nothing is limited")


def _both(limits: Limits, used: Used) -> tuple[tuple[str, Limit, Usage], ...]:
    return ("agent", limits.agent, used.agent), ("workspace", limits.workspace, used.workspace)


def _broken(limit: Limit, usage: Usage, price: float) -> str:
    if limit.calls_at_once and usage.at_once >= limit.calls_at_once:
        return "at-once"
    if limit.calls_per_minute and usage.last_minute >= limit.calls_per_minute:
        return "per-minute"
    if limit.minutes_per_day and usage.minutes >= limit.minutes_per_day:
        return "minutes"
    # A call lasts a minute at least; a cent's millionth is rounding.
    if limit.spend_per_day and usage.spend + price > limit.spend_per_day + 1e-6:
        return "spend"
    return ""


def _counted(limit: Limit, usage: Usage) -> tuple[tuple[float, str], ...]:
    return (
        (limit.calls_at_once, f"{usage.at_once} of {limit.calls_at_once} calls at once"),
        (limit.calls_per_minute, f"{usage.last_minute} of {limit.calls_per_minute} calls a minute"),
        (limit.minutes_per_day, f"{usage.minutes} of {limit.minutes_per_day} minutes a day"),
        (limit.spend_per_day, f"{usage.spend:.2f} of {limit.spend_per_day:.2f} a day"),
    )
