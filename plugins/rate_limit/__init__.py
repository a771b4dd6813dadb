"""Refuse calls over an agent's or a workspace's limits, and stop all calls at once."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Annotated

import click

from dialer import Call, Host, Refusal, Remark, Setting, hookimpl
from dialer_plugins.rate_limit import commands, places
from dialer_plugins.rate_limit.limits import Limits, over, remark
from dialer_plugins.rate_limit.prices import Prices, start_of_day, zone

_COUNT, _MONEY = (0, 1_000_000), (0, 10_000_000)


def _limit(meaning: str, numbers: tuple[float, float] = _COUNT) -> Setting:
    return Setting(f"{meaning}; 0: no limit", numbers=numbers)


@dataclass(frozen=True, eq=False)
class RateLimit:
    """Limit how often, how many at once, how long and for how much agents and workspaces call; stop them all."""

    stopped: Annotated[bool, Setting("refuse every call")] = False
    agent_calls_per_minute: Annotated[int, _limit("calls an agent may start within 60 seconds")] = 10
    agent_calls_at_once: Annotated[int, _limit("calls an agent may have at once")] = 2
    agent_minutes_per_day: Annotated[int, _limit("minutes an agent may talk in a day")] = 0
    agent_spend_per_day: Annotated[float, _limit("what an agent's calls may cost in a day", _MONEY)] = 0.0
    workspace_calls_per_minute: Annotated[int, _limit("calls all agents may start within 60 seconds")] = 0
    workspace_calls_at_once: Annotated[int, _limit("calls all agents may have at once")] = 0
    workspace_minutes_per_day: Annotated[int, _limit("minutes all agents may talk in a day")] = 0
    workspace_spend_per_day: Annotated[float, _limit("what all calls may cost in a day", _MONEY)] = 0.0
    prices: Annotated[tuple[str, ...], Setting("price of a minute by prefix, such as +44=0.0158")] = ()
    default_price: Annotated[float, Setting("price of a minute to all other numbers", numbers=_MONEY)] = 0.0
    time_zone: Annotated[str, Setting("where a day begins at midnight")] = "UTC"
    host: Host = field(default_factory=Host)

    # A write to its own database, which may wait for another worker's.
    budget_seconds = 1.0

    def __post_init__(self) -> None:
        known = self._prices.all()
        if (self.agent_spend_per_day or self.workspace_spend_per_day) and not any(known):
            raise ValueError("prices is empty and default_price is 0, so no call would cost anything; set one")
        zone(self.time_zone)

    @hookimpl
    def validate_call(self, call: Call) -> Refusal | Remark | None:
        if self.stopped:
            return _refusal("stopped", "Calls are stopped. Please ask your administrator.")
        if (stop := places.find_stop(self.host, call.workspace)) is not None:
            return _refusal("stopped", stop.reason or "Calls are stopped. Please ask your administrator.")
        refused, used = self._reserve(call)
        if refused and places.heal(self.host, call.workspace, self._prices.price):
            refused, used = self._reserve(call)
        return _refusal(*refused) if refused else Remark(remark(self._limits, used))

    @hookimpl
    def call_started(self, call: Call) -> None:
        if call.status == "rejected":
            places.drop(self.host, call)

    @hookimpl
    def call_ended(self, call: Call) -> None:
        if call.status == "rejected":
            places.drop(self.host, call)
        else:
            places.release(self.host, call, self._prices.price(call.to))

    @hookimpl
    def register_commands(self) -> click.Group:
        group: click.Group = commands.group(self.host)
        return group

    def _reserve(self, call: Call) -> tuple[tuple[str, str] | None, places.Used]:
        """Take a place if no limit forbids it: (rule and sentence, or None; what was used before)."""
        now, price = self.host.clock(), self._prices.price(call.to)
        day = start_of_day(now, self.time_zone)
        with places.counting(self.host, call, now, day) as (used, take):
            refused = over(self._limits, used, price)
            if refused is None:
                take(price)
        return refused, used

    @functools.cached_property
    def _prices(self) -> Prices:
        return Prices.of(self.prices, self.default_price)

    @functools.cached_property
    def _limits(self) -> Limits:
        return Limits.of(self)


def _refusal(rule: str, reason: str) -> Refusal:
    return Refusal(reason, f"rate_limit:{rule}")
