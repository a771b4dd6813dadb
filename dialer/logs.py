"""Log lines as an operator wants them: one line each, key=value or JSON, numbers masked, no secrets."""

from __future__ import annotations

import json
import logging
import re
import sys
import time
from collections.abc import Mapping
from copy import copy
from urllib.parse import unquote

from dialer.tables import one_line

_SPACES_AND_DASHES = r" \t\u00a0\u2009\u202f\u2010-\u2015-"
# What stands between the digits of a number, as people write it and as a URL carries it.
_BETWEEN = rf"(?:[().+/{_SPACES_AND_DASHES}]|%(?:25)*(?:2[089BDEF]|[89A-F][0-9A-F]))"
_NO_DATE = r"(?!(?:19|20)\d\d-[01]\d-[0-3]\d(?!\d))"
# Eleven digits in one piece are a whole number; with less, what follows a separator belongs to it: rather too
# many digits hidden than too few.
_DIGITS = rf"(?:\d{{11,}}|\d(?:{_BETWEEN}{{0,4}}{_NO_DATE}\d){{6,}})"
# Behind a +, or an area code in parentheses: a number wherever it stands.
_MARKED = re.compile(
    rf"(?:\+|%(?:25)*2B)\(?(?=[1-9]|\d{{7}}){_DIGITS}"
    rf"|(?:\(|%(?:25)*28)(?:0|\d{{2,5}})(?:\)|%(?:25)*29)(?:{_BETWEEN}{{0,4}}{_NO_DATE}\d){{2,}}",
    re.IGNORECASE,
)
# Other numbers stand for themselves: not within a word, a decimal, a time or a longer chain of digits.
_STARTS = r"(?<![0-9A-Za-z_*])(?<![0-9][.,:/-])"
_ENDS = r"(?![0-9A-Za-z_])"
_UUID = r"(?P<kept>[0-9a-f]{8}-(?:[0-9a-f]{4}-){3}[0-9a-f]{12}"
# 00 in place of the +.
_ZEROS = re.compile(
    rf"{_UUID})|{_STARTS}00[ (]{{0,2}}{_NO_DATE}(?:(?=\d{{1,10}}{_BETWEEN}){_DIGITS}|\d{{7,15}}+{_ENDS})",
    re.IGNORECASE,
)
# A national number in groups: the first with a 0 in front; or at least three; or three and seven digits, and the like.
_GAP = f"[{_SPACES_AND_DASHES}]"
_GROUPS = re.compile(
    rf"{_UUID}|{_STARTS}(?:(?:19|20)\d\d([./-])\d\d?\2\d\d?|\d\d?([./-])\d\d?\3(?:19|20)\d\d"  # a date
    r"|\d{1,3}(?:\.\d{1,3}){3})(?!\.?\d))"  # an IP address
    rf"|{_STARTS}(?:0\d{{1,4}}(?:(?:/|{_GAP}){_NO_DATE}\d{{2,8}})+|0\d{{1,4}}(?:\.\d{{2,8}}){{2,}}"
    rf"|\d{{1,4}}(?:{_GAP}{_NO_DATE}\d{{2,4}}){{2,}}|(?:1\.)?\d{{3}}\.\d{{3}}\.\d{{4}}"
    rf"|\d{{3}} \d{{7}}|\d{{2,5}}-\d{{6,8}}|\d{{3}}-\d{{4}}){_ENDS}(?![./-][0-9A-Za-z_])",
    re.IGNORECASE,
)
# What the last two have and few lines do: quick to look for.
_TWO_ZEROS = re.compile(r"00(?<![0-9A-Za-z_]00)")
_TWO_GROUPS = re.compile(rf"[./{_SPACES_AND_DASHES}](?<=[0-9].)[0-9][0-9]")


def mask(text: str) -> str:
    """Hide the middle of every phone number: +14155550101 becomes +1******0101, (415) 555-0101 (***) ***-0101.

    A number is known by its +, 00, parentheses or groups; bare digits could be anything and are left.
    """
    if text.isascii() and text.isidentifier():  # as SIDs and ids are, the most of what is logged
        return text
    if "+" in text or "(" in text or "%2" in text:
        text = _MARKED.sub(_hidden, text)
    if "00" in text and _TWO_ZEROS.search(text):
        text = _ZEROS.sub(_hidden, text)
    if _TWO_GROUPS.search(text):
        text = _GROUPS.sub(_hidden, text)
    return text


def _hidden(found: re.Match[str]) -> str:
    """Its last four digits, and the first of the country's code, if it has one."""
    text = found[0]
    while "%" in text:  # only as whole escapes: they all come apart
        text = unquote(text)
    digits = [place for place, char in enumerate(text) if char.isdecimal()]
    if len(digits) < 7 or found.groupdict().get("kept"):
        return found[0]
    shown = 1 if text[0] == "+" else 3 if text.startswith("00") else 0
    hidden = set(digits[shown:-4])
    return "".join("*" if place in hidden else char for place, char in enumerate(text))


def log_line(log: logging.Logger, level: int, what: str, notes: Mapping[str, str], seconds: float) -> None:
    """One line for one webhook or job: what it was, its notes, how long it took."""
    if log.isEnabledFor(level):
        record = logging.LogRecord(log.name, level, "", 0, what, None, None)
        record.notes = {**notes, "ms": f"{seconds * 1000:.1f}"}
        log.handle(record)  # past the search for the calling line, which no line shows


class TextFormatter(logging.Formatter):
    """`2026-11-22T10:00:00Z INFO dialer.voice webhook /v1/voice/status call=… outcome=stored ms=1.2`"""

    def format(self, record: logging.LogRecord) -> str:
        return f"{_stamp(record)} {record.levelname} {record.name} {self.said(record)}"

    def said(self, record: logging.LogRecord) -> str:
        """What follows the origin of a line."""
        notes = getattr(record, "notes", {})
        # Masked before it is quoted: an escaped character must not hide the start of a number.
        words = " ".join(f"{key}={_quoted(mask(value))}" for key, value in notes.items() if value)
        line = f"{mask(one_line(record.getMessage()))} {words}".rstrip()
        return line + (f"\n{mask(self.formatException(record.exc_info))}" if record.exc_info else "")


class JsonFormatter(logging.Formatter):
    """The same line as one JSON object."""

    def format(self, record: logging.LogRecord) -> str:
        fields = {"what": record.getMessage(), **getattr(record, "notes", {})}
        if record.exc_info:
            fields["error"] = self.formatException(record.exc_info)
        origin = {"at": _stamp(record), "level": record.levelname, "logger": record.name}
        return json.dumps({**origin, **{name: mask(value) for name, value in fields.items()}})


class Flood(logging.Filter):
    """Of what one plugin logs, so many lines in so many seconds are shown, each up to a length, and no more."""

    lines, seconds, length = 100, 10.0, 4000

    def __init__(self) -> None:
        super().__init__()
        self._windows: dict[str, tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        if not record.name.startswith("dialer.plugins."):
            return True
        began, count = self._windows.get(record.name, (0.0, 0))
        if not 0 <= record.created - began < self.seconds:
            began, count = record.created, 0
        self._windows[record.name] = began, count + 1
        text = record.getMessage()[: self.length]
        if count == self.lines:
            text = f"over {self.lines} lines in {self.seconds:g} s: the rest of them is left out"
        record.msg, record.args = text, ()
        return count <= self.lines


class HostHandler(logging.Handler):
    """Hands our lines to the handlers of the host application: notes in the text, numbers masked."""

    def emit(self, record: logging.LogRecord) -> None:
        line = copy(record)
        line.msg, line.args, line.exc_info, line.exc_text = TextFormatter().said(record), (), None, None
        logging.getLogger().handle(line)


def join_host() -> None:
    """Leave level, form and place of our lines to the host application, unless it has set up `dialer` by itself."""
    logger = logging.getLogger("dialer")
    if not logger.handlers:
        logger.addHandler(HostHandler())
        logger.handlers[0].addFilter(Flood())
        logger.propagate = False


def configure(style: str, level: str) -> None:
    """Send our log to standard error in this style; a second call replaces the first."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonFormatter() if style == "json" else TextFormatter())
    handler.addFilter(Flood())
    logger = logging.getLogger("dialer")
    logger.handlers = [handler]
    logger.setLevel(level.upper())
    logger.propagate = False


def _stamp(record: logging.LogRecord) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created)) + f".{int(record.msecs):03d}Z"


def _quoted(value: str) -> str:
    plain = value.isprintable() and " " not in value and '"' not in value
    return value if plain else json.dumps(value)
