"""Days on which nobody is called: public holidays of the number's country, and dates of the admin's own."""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import date

_CALENDAR = re.compile(r"([A-Z]{2})(?:-([A-Z0-9]{1,4}))?")


@dataclass(frozen=True, slots=True)
class ClosedDays:
    """Calendars by country, and dates: of one year (2026-12-24) or of each (12-24)."""

    calendars: dict[str, tuple[str, ...]]
    dates: frozenset[str]

    @classmethod
    def of(cls, calendars: Iterable[str], dates: Iterable[str]) -> ClosedDays:
        """Read both settings; raises ValueError."""
        by_country: dict[str, tuple[str, ...]] = {}
        for text in calendars:
            found = _CALENDAR.fullmatch(text)
            if found is None or not _there(text):
                raise ValueError(f"holidays {text!r:.60} has no calendar; write a country or a part: US, US-CA")
            by_country[found[1]] = (*by_country.get(found[1], ()), text)
        return cls(by_country, frozenset(map(_read_date, dates)))

    def why(self, country: str, day: date) -> str:
        """Why this day is closed for numbers of a country; empty when it is not."""
        if day.isoformat() in self.dates or day.strftime("%m-%d") in self.dates:
            return "a closed day"
        names = (_holidays(calendar, day.year).get(day, "") for calendar in self.calendars.get(country, ()))
        return next(filter(None, names), "")


def _read_date(text: str) -> str:
    try:
        date.fromisoformat(text if len(text) == 10 else f"2024-{text}")  # a leap year has every day
    except ValueError:
        raise ValueError(f"closed_dates {text!r:.60} is not a date: 2026-12-24, or 12-24 for each year") from None
    return text


def _there(calendar: str) -> bool:
    try:
        _holidays(calendar, 2000)
    except NotImplementedError:
        return False
    return True


@functools.lru_cache(maxsize=500)
def _holidays(calendar: str, year: int) -> Mapping[date, str]:
    import holidays  # only where it is asked for: a calendar of every country takes its time to load

    country, _, part = calendar.partition("-")
    return dict(holidays.country_holidays(country, subdiv=part or None, years=year))
