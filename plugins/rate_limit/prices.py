"""What a minute costs by prefix, and when a day begins."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime
from zoneinfo import ZoneInfo

_PRICE = re.compile(r"(\+[1-9][0-9]{0,14})=([0-9]{1,6}(?:\.[0-9]{1,6})?)")


@dataclass(frozen=True, slots=True)
class Prices:
    """The price of a minute: that of the longest prefix, else the default."""

    by_prefix: dict[str, float]
    default: float

    @classmethod
    def of(cls, texts: Iterable[str], default: float) -> Prices:
        """Read `+44=0.0158`; raises ValueError."""
        by_prefix: dict[str, float] = {}
        for text in texts:
            found = _PRICE.fullmatch(text)
            if found is None:
                raise ValueError(f"prices {text!r:.60} is not a prefix and a price such as +44=0.0158")
            if found[1] in by_prefix:
                raise ValueError(f"prices {found[1]} has two prices; keep one")
            by_prefix[found[1]] = float(found[2])
        return cls(by_prefix, default)

    def price(self, number: str) -> float:
        for length in range(len(number), 1, -1):
            if (found := self.by_prefix.get(number[:length])) is not None:
                return found
        return self.default

    def all(self) -> list[float]:
        return [*self.by_prefix.values(), self.default]


def zone(name: str) -> ZoneInfo:
    """A time zone by its name; raises ValueError."""
    try:
        return ZoneInfo(name)
    except Exception:  # a bad name fails as a missing key, a bad path or an unreadable file
        raise ValueError(f"time_zone {name!r:.60} is not a time zone such as Europe/Berlin or UTC") from None


def start_of_day(now: float, time_zone: str) -> float:
    """Midnight before this moment, in epoch seconds."""
    local = datetime.fromtimestamp(now, zone(time_zone))
    return local.replace(hour=0, minute=0, second=0, microsecond=0, fold=0).timestamp()
