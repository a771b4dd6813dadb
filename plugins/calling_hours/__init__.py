"""Refuse calls outside the hours at the called number, by its own clock."""

from __future__ import annotations

import functools
from dataclasses import dataclass, field
from typing import Annotated, Literal

from dialer import Call, Host, Refusal, Remark, Setting, hookimpl
from dialer_plugins.calling_hours.closed_days import ClosedDays
from dialer_plugins.calling_hours.hours import Hours, Local, in_words
from dialer_plugins.calling_hours.zones import Zones, local_time

#: Zones named in a remark; a toll-free number can be in forty.
NAMED = 4


@dataclass(frozen=True, eq=False)
class CallingHours:
    """Allow calls between 8 and 21 o'clock where the called number is; in all of its time zones, if it has several."""

    hours: Annotated[tuple[str, ...], Setting("when calls are allowed, such as mon-fri 08:00-21:00")] = (
        "mon-sun 08:00-21:00",
    )
    overrides: Annotated[
        tuple[str, ...], Setting("other hours by prefix or ISO country, such as +1205 sun closed")
    ] = ()
    holidays: Annotated[
        tuple[str, ...], Setting("countries, and parts of them (DE-BY), whose holidays are closed there")
    ] = ()
    closed_dates: Annotated[tuple[str, ...], Setting("further closed days: 2026-12-24, or 12-24 for each year")] = ()
    zones: Annotated[tuple[str, ...], Setting("time zones by prefix, such as +1800 America/New_York")] = ()
    unknown_zone: Annotated[Literal["refuse", "allow"], Setting("what to do where no time zone is known")] = "refuse"
    host: Host = field(default_factory=Host)

    def __post_init__(self) -> None:
        # Reads the settings, and the data of phonenumbers and holidays, before the first call and not within it.
        self._hours.week("+10000000", "US")
        self._zones.find("+14155550100")
        self._closed.why("US", local_time(0, "UTC").day)

    @hookimpl
    def validate_call(self, call: Call) -> Refusal | Remark | None:
        country, zones = self._zones.find(call.to)
        now = self.host.clock()
        if not zones:
            return self._unknown()
        times = [local_time(now, zone) for zone in zones]
        for local in times:
            if refusal := self._refuse(call.to, country, local):
                return refusal
        return Remark(_remark(times))

    def _unknown(self) -> Refusal | Remark:
        if self.unknown_zone == "allow":
            return Remark("the time zone of this number is not known, and calls to such numbers are allowed")
        return _refusal("unknown-zone", "It is not known what time it is at that number, so it cannot be called.")

    def _refuse(self, number: str, country: str, local: Local) -> Refusal | None:
        if why := self._closed.why(country, local.day):
            return _refusal("holiday", f"Calls are not allowed there today: {why}. It is {local}.")
        windows = self._hours.week(number, country)[local.day.weekday()]
        if any(start <= local.minute < end for start, end in windows):
            return None
        return _refusal("hours", f"It is {local}. Calls are allowed there {in_words(windows)}.")

    @functools.cached_property
    def _hours(self) -> Hours:
        return Hours.of(self.hours, self.overrides)

    @functools.cached_property
    def _zones(self) -> Zones:
        return Zones.of(self.zones)

    @functools.cached_property
    def _closed(self) -> ClosedDays:
        return ClosedDays.of(self.holidays, self.closed_dates)


def _remark(times: list[Local]) -> str:
    more = f"; and in {len(times) - NAMED} more time zones" if len(times) > NAMED else ""
    return "; ".join(map(str, times[:NAMED])) + more


def _refusal(rule: str, reason: str) -> Refusal:
    return Refusal(reason, f"calling_hours:{rule}")
