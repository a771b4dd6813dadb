"""Log lines as an operator wants them: one line each, key=value or JSON, numbers masked, no secrets."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Mapping

from dialer.tables import one_line

_NUMBER = re.compile(r"(?<![0-9A-Za-z])\+(\d)(\d{2,10})(\d{4})(?!\d)")
_PERCENT_NUMBER = re.compile(r"%2B(\d)(\d{2,10})(\d{4})(?!\d)", re.IGNORECASE)


def mask(text: str) -> str:
    """Hide the middle of every phone number: +14155550101 becomes +1******0101."""
    if "+" not in text and "%2" not in text:
        return text
    for pattern in (_NUMBER, _PERCENT_NUMBER):
        text = pattern.sub(lambda found: f"+{found[1]}{'*' * len(found[2])}{found[3]}", text)
    return text


def log_line(log: logging.Logger, level: int, what: str, notes: Mapping[str, str], seconds: float) -> None:
    """One line for one webhook or job: what it was, its notes, how long it took."""
    if log.isEnabledFor(level):
        record = logging.LogRecord(log.name, level, "", 0, what, None, None)
        record.notes = {**notes, "ms": f"{seconds * 1000:.1f}"}
        log.handle(record)  # past the search for the calling line, which no line shows


class TextFormatter(logging.Formatter):
    """`2026-11-22T10:00:00Z INFO dialer.voice webhook /v1/voice/status call=… outcome=stored ms=1.2`"""

    def format(self, record: logging.LogRecord) -> str:
        notes = getattr(record, "notes", {})
        # Masked before it is quoted: an escaped character must not hide the start of a number.
        words = " ".join(f"{key}={_quoted(mask(value))}" for key, value in notes.items() if value)
        line = f"{_stamp(record)} {record.levelname} {record.name} {one_line(record.getMessage())} {words}".rstrip()
        return mask(line + (f"\n{self.formatException(record.exc_info)}" if record.exc_info else ""))


class JsonFormatter(logging.Formatter):
    """The same line as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {
            "at": _stamp(record),
            "level": record.levelname,
            "logger": record.name,
            "what": record.getMessage(),
        }
        fields |= getattr(record, "notes", {})
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        return json.dumps({name: mask(value) for name, value in fields.items()})


def configure(style: str, level: str) -> None:
    """Send our log to standard error in this style; a second call replaces the first."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    logger = logging.getLogger("dialer")
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


def _stamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _quoted(value: str) -> str:
    plain = value.isprintable() and " " not in value and '"' not in value
    return value if plain else json.dumps(value)
