"""Rows of a CSV file become numbers, or a line that says what is wrong with them."""

from __future__ import annotations

import csv
import functools
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TextIO

import phonenumbers

from dialer.numbers import to_e164
from dialer_plugins.do_not_call.lists import Incoming
from dialer_plugins.do_not_call.moments import read_expiry

#: Heads of columns, without case, spaces and signs.
_PHONE_HEADS = (
    *("phone", "phonenumber", "number", "telephone", "telephonenumber", "tel", "e164", "msisdn", "callerid"),
    *("mobile", "mobilephone", "mobilenumber", "cell", "cellphone", "contactnumber"),
)
_REASON_HEADS = ("reason", "note", "comment")
_EXPIRY_HEADS = ("expires", "expiresat", "expiry", "expirydate", "validuntil")


@dataclass(frozen=True, slots=True)
class Bad:
    """A row that cannot be used: its line in the file, and why."""

    line: int
    why: str


@dataclass(frozen=True, slots=True)
class Defaults:
    """What holds for rows that do not say: the country of numbers without +, the reason, the expiry; and the time."""

    region: str
    reason: str
    expires_at: float | None
    now: float


@dataclass(frozen=True, slots=True)
class _Layout:
    """Which columns hold what (-1: none); the parts of a number are joined."""

    number: tuple[int, ...]
    reason: int
    expiry: int
    has_head: bool


class UnknownLayout(ValueError):
    """It cannot be told which column holds the numbers, or what was said about it is wrong."""


def read_rows(file: TextIO, columns: Sequence[str], defaults: Defaults) -> Iterator[Incoming | Bad]:
    """Each row, in order; raises UnknownLayout, csv.Error or UnicodeDecodeError."""
    first = file.readline()
    delimiter = max(",;\t|", key=first.count)
    file.seek(0)
    reader = csv.reader(file, delimiter=delimiter)
    layout: _Layout | None = None
    for row in reader:
        if not any(cell.strip() for cell in row):
            continue
        if layout is None:
            layout = _layout(row, columns, defaults.region)
            if layout.has_head:
                continue
        yield _read(row, layout, defaults, reader.line_num)


def read_number(text: str, region: str) -> str:
    """The number in E.164; raises ValueError with why it is none."""
    number = to_e164(text, region)
    if number is None:
        typed = re.search(r"[0-9]", text) and not text.strip().startswith("+")
        hint = "; a number without + needs --region" if typed and not region else ""
        raise ValueError(f"{text[:40]!r} is not a phone number{hint}")
    # Seven digits are a number within a town, and would become one that nobody has.
    if not text.strip().startswith("+") and _is_local(number[:4], len(number)):
        raise ValueError(f"{text[:40]!r} has no area code")
    return number


@functools.cache
def _is_local(beginning: str, length: int) -> bool:
    """Whether numbers of this length lack their area code: phonenumbers asks for country code and length alone."""
    example = phonenumbers.parse(beginning.ljust(length, "2"), None)
    return bool(phonenumbers.is_possible_number_with_reason(example) != phonenumbers.ValidationResult.IS_POSSIBLE)


def _read(row: Sequence[str], layout: _Layout, defaults: Defaults, line: int) -> Incoming | Bad:
    if len(row) <= max(layout.number):
        return Bad(line, f"has {len(row)} columns, and the number is in column {max(layout.number) + 1}")
    try:
        number = read_number("".join(row[index] for index in layout.number), defaults.region)
        expiry = _cell(row, layout.expiry)
        expires_at = read_expiry(expiry, defaults.now) if expiry else defaults.expires_at
    except ValueError as error:
        return Bad(line, str(error))
    return Incoming(number, (_cell(row, layout.reason) or defaults.reason)[:200], expires_at)


def _cell(row: Sequence[str], index: int) -> str:
    return row[index].strip() if 0 <= index < len(row) else ""


def _layout(first: Sequence[str], columns: Sequence[str], region: str) -> _Layout:
    """Which columns hold what, told by the first row and by the columns that were named."""
    heads = [re.sub(r"[^a-z0-9]", "", cell.lower()) for cell in first]
    number = _named(first, heads, columns) if columns else _guessed(first, heads, region)
    has_head = not _is_number("".join(first[index] for index in number), region)
    return _Layout(number, _among(heads, _REASON_HEADS, has_head), _among(heads, _EXPIRY_HEADS, has_head), has_head)


def _named(first: Sequence[str], heads: list[str], columns: Sequence[str]) -> tuple[int, ...]:
    found = []
    for column in columns:
        key = re.sub(r"[^a-z0-9]", "", column.lower())
        if column.isdecimal() and 1 <= int(column) <= len(first):
            found.append(int(column) - 1)
        elif key and key in heads:
            found.append(heads.index(key))
        else:
            raise UnknownLayout(f"there is no column {column!r:.40} (columns: {_shown(first)})")
    return tuple(found)


def _guessed(first: Sequence[str], heads: list[str], region: str) -> tuple[int, ...]:
    named = [index for index, head in enumerate(heads) if head in _PHONE_HEADS]
    numbers = [index for index, cell in enumerate(first) if _is_number(cell, region)]
    only = range(1) if len(first) == 1 else ()
    for candidates in (named, numbers, only):
        if len(candidates) == 1:
            return (candidates[0],)
    raise UnknownLayout(f"which column holds the numbers? Give --column NAME or its place (columns: {_shown(first)})")


def _among(heads: list[str], known: Sequence[str], has_head: bool) -> int:
    return next((index for index, head in enumerate(heads) if has_head and head in known), -1)


def _is_number(text: str, region: str) -> bool:
    try:
        return bool(read_number(text, region))
    except ValueError:
        return False


def _shown(first: Sequence[str]) -> str:
    return ", ".join(repr(cell[:30]) for cell in first[:12])
