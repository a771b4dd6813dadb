"""Where a number may be, by time zone, and what the clock shows there."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

import phonenumbers
from phonenumbers import timezone

from dialer_plugins.calling_hours.hours import Local

_OVERRIDE = re.compile(r"(\+[1-9][0-9]{0,14})\s+(\S+)")


@dataclass(frozen=True, slots=True)
class Zones:
    """Time zones of numbers: those of the admin's prefixes first, then those that phonenumbers knows."""

    by_prefix: dict[str, str]

    @classmethod
    def of(cls, texts: Iterable[str]) -> Zones:
        """Read `+1800 America/New_York`; raises ValueError."""
        by_prefix: dict[str, str] = {}
        for text in texts:
            found = _OVERRIDE.fullmatch(text.strip())
            if found is None or not exists(found[2]):
                raise ValueError(f"zones {text!r:.80} is not a prefix and a time zone such as +1800 America/New_York")
            by_prefix[found[1]] = found[2]
        return cls(by_prefix)

    def of_prefix(self, number: str) -> str:
        prefixes = (number[:length] for length in range(len(number), 1, -1))
        return next((self.by_prefix[prefix] for prefix in prefixes if prefix in self.by_prefix), "")

    def find(self, number: str) -> tuple[str, tuple[str, ...]]:
        """The ISO country of a number (empty: unknown), and every time zone it may be in; none when one is unknown."""
        try:
            parsed = phonenumbers.parse(number, None)
        except phonenumbers.NumberParseException:
            return "", ()
        country = phonenumbers.region_code_for_number(parsed) or ""
        if own := self.of_prefix(number):
            return country, (own,)
        zones = tuple(timezone.time_zones_for_number(parsed))
        return country, zones if all(map(exists, zones)) else ()


def exists(zone: str) -> bool:
    """Whether this is a time zone, and its rules are there."""
    try:
        return zone != "Etc/Unknown" and bool(ZoneInfo(zone))
    except Exception:  # a bad name fails as a missing key, a bad path or an unreadable file
        return False


def local_time(now: float, zone: str) -> Local:
    """What the clock shows in a zone at a moment in epoch seconds."""
    local = datetime.fromtimestamp(now, ZoneInfo(zone))
    return Local(zone, local.date(), local.hour * 60 + local.minute)
