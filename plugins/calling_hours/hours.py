"""Hours of a week, by prefix and country, from texts such as `mon-fri 08:00-12:00,13:00-21:00`."""

from __future__ import annotations

import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date

import phonenumbers

DAYS = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
DAY_NAMES = ("Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday")
_WINDOW = re.compile(r"([01][0-9]|2[0-3]):([0-5][0-9])-(?:([01][0-9]|2[0-3]):([0-5][0-9])|(24):(00))")
_PREFIX = re.compile(r"\+[1-9][0-9]{0,14}")

#: From a minute of the day until before another one.
Window = tuple[int, int]
#: The windows of each day, Monday first.
Week = tuple[tuple[Window, ...], ...]
NEVER: Week = ((),) * 7


@dataclass(frozen=True, slots=True)
class Local:
    """What the clock shows in a time zone."""

    zone: str
    day: date
    minute: int

    def __str__(self) -> str:
        return f"{_clock(self.minute)} on {DAY_NAMES[self.day.weekday()]}, {self.day.isoformat()}, in {self.zone}"


@dataclass(frozen=True, slots=True)
class Hours:
    """The week of everybody, and those of prefixes and countries."""

    everybody: Week
    others: dict[str, Week]

    @classmethod
    def of(cls, hours: Iterable[str], overrides: Iterable[str]) -> Hours:
        """Read both settings; raises ValueError."""
        everybody = NEVER
        for text in hours:
            everybody = _with(everybody, text, "hours", text)
        if everybody == NEVER and not overrides:
            raise ValueError("hours allow no call at all; name a day and a time such as mon-fri 08:00-21:00")
        others: dict[str, Week] = {}
        for text in overrides:
            whose, _, rest = text.strip().partition(" ")
            if not (_PREFIX.fullmatch(whose) or whose in phonenumbers.SUPPORTED_REGIONS):
                raise ValueError(f"overrides {text!r:.60} must begin with a prefix such as +1205 or an ISO country")
            others[whose] = _with(others.get(whose, everybody), rest, "overrides", text)
        return cls(everybody, others)

    def week(self, number: str, country: str) -> Week:
        """The week of a number: that of its longest prefix, else of its country, else everybody's."""
        for length in range(len(number), 1, -1):
            if (found := self.others.get(number[:length])) is not None:
                return found
        return self.others.get(country, self.everybody)


def in_words(windows: Sequence[Window]) -> str:
    """When calls are allowed on a day, as one says it."""
    if not windows:
        return "on other days only"
    return " and ".join(f"from {_clock(start)} to {_clock(end)}" for start, end in windows)


def _with(week: Week, text: str, setting: str, whole: str) -> Week:
    """The week in which the days that a text names have the text's windows."""
    days, _, windows = text.strip().lower().partition(" ")
    try:
        named, given = _read_days(days), _read_windows(windows.strip())
    except ValueError:
        raise ValueError(
            f"{setting} {whole!r:.80} is not days and times such as mon-fri 08:00-12:00,13:00-21:00 or sun closed"
        ) from None
    return tuple(given if day in named else week[day] for day in range(7))


def _read_days(text: str) -> set[int]:
    days: set[int] = set()
    for part in text.split(","):
        first, dash, last = part.partition("-")
        start = DAYS.index(first)
        length = (DAYS.index(last) - start) % 7 if dash else 0
        days |= {(start + step) % 7 for step in range(length + 1)}
    return days


def _read_windows(text: str) -> tuple[Window, ...]:
    return () if text == "closed" else tuple(sorted(map(_read_window, text.split(","))))


def _read_window(text: str) -> Window:
    found = _WINDOW.fullmatch(text.strip())
    if found is None:
        raise ValueError
    start_hour, start_minute, end_hour, end_minute = (int(part) for part in found.groups() if part is not None)
    start, end = start_hour * 60 + start_minute, end_hour * 60 + end_minute
    if start >= end:
        raise ValueError
    return start, end


def _clock(minute: int) -> str:
    return f"{minute // 60:02}:{minute % 60:02}"
