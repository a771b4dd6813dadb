"""Times as admins write and read them: UTC, to the second, or days."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta

_DAYS = re.compile(r"([0-9]{1,5})d")


def moment(at: float | None) -> str:
    """A time in ISO 8601; empty for none."""
    return "" if at is None else datetime.fromtimestamp(at, UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def read_expiry(text: str, now: float) -> float | None:
    """When an entry ends: `90d` from now, or the end of a day such as 2027-01-31 in UTC; empty: never.

    Raises ValueError for anything else and for what is over already.
    """
    text = text.strip()
    if not text:
        return None
    found = _DAYS.fullmatch(text)
    at = now + int(found[1]) * 86_400 if found else (_day(text) + timedelta(days=1)).timestamp()
    if at <= now:
        raise ValueError(f"{text!r:.30} is over already")
    return at


def read_day(text: str) -> float:
    """The beginning of a day in UTC; raises ValueError."""
    return _day(text).timestamp()


def _day(text: str) -> datetime:
    try:
        return datetime.strptime(text, "%Y-%m-%d").replace(tzinfo=UTC)
    except ValueError:
        raise ValueError(f"{text!r:.30} is not a day such as 2027-01-31, or 90d") from None
