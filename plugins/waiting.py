"""What a server's Retry-After asks for."""

from __future__ import annotations

from email.utils import parsedate_to_datetime


def seconds_asked(retry_after: str | None, now: float) -> float:
    """Seconds from now, of a number of them or of a date (RFC 9110, 10.2.3); 0 for anything else."""
    text = (retry_after or "").strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(text)
    try:
        return max(0.0, parsedate_to_datetime(text).timestamp() - now)
    except (ValueError, OverflowError, TypeError):
        return 0.0
