"""Lists as the REST API gives them: filters by date, pages, links to the next page."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from operator import attrgetter
from typing import Any, TypeVar
from urllib.parse import urlencode

from dialer.simulator.model import Params, TwilioError
from dialer.simulator.rest_routes import Asked, RestResponse

DEFAULT_PAGE_SIZE = 50
MAX_PAGE_SIZE = 1000
PAGING = ("Page", "PageSize", "PageToken")

Row = TypeVar("Row")


@dataclass(frozen=True)
class Page:
    """Which rows a request asks for; `size` 1 to 1000."""

    number: int
    size: int
    token: str

    def start(self, sids: Sequence[str]) -> int:
        """Where this page begins: after the row its token names, or by number if that row is gone."""
        after = self.token[2:]
        if after in sids:
            return sids.index(after) + 1
        return self.number * self.size


def read_page(query: Params) -> Page:
    """Page, PageSize and PageToken of a request. Raises TwilioError."""
    size = _read_number(query, "PageSize", DEFAULT_PAGE_SIZE, lowest=1)
    if size > MAX_PAGE_SIZE:
        raise TwilioError(400, 20007, f"Page size too large: {size}, at most {MAX_PAGE_SIZE}")
    return Page(_read_number(query, "Page", 0, lowest=0), size, query.get("PageToken"))


def _read_number(query: Params, name: str, default: int, lowest: int) -> int:
    text = query.get(name)
    if not text:
        return default
    if not re.fullmatch(r"[0-9]{1,9}", text) or int(text) < lowest:
        raise TwilioError(400, 20422, f"{name} must be a whole number from {lowest}, not {text!r}")
    return int(text)


def list_resources(
    key: str,
    path: str,
    query: Params,
    rows: Sequence[Row],
    sid_of: Callable[[Row], str],
    render: Callable[[Row], dict[str, Any]],
) -> dict[str, Any]:
    """One page of `rows` (newest first) in the shape of the 2010 API. Raises TwilioError."""
    page = read_page(query)
    sids = [sid_of(row) for row in rows]
    start = page.start(sids)
    shown = rows[start : start + page.size]
    more = start + page.size < len(rows)
    token = f"PA{sids[start + page.size - 1]}" if more else ""
    return {
        key: [render(row) for row in shown],
        "first_page_uri": _link(path, query, 0, page.size),
        "next_page_uri": _link(path, query, page.number + 1, page.size, token) if more else None,
        "previous_page_uri": _link(path, query, page.number - 1, page.size) if page.number else None,
        "uri": _link(path, query, page.number, page.size, page.token),
        "page": page.number,
        "page_size": page.size,
        "start": start,
        "end": start + len(shown) - 1 if shown else start,
    }


def list_response(
    asked: Asked,
    key: str,
    rows: Sequence[Row],
    render: Callable[[Row], dict[str, Any]],
    sid_of: Callable[[Row], str] = attrgetter("sid"),
) -> RestResponse:
    """The page of `rows` that the request asks for, as the 2010 API answers it. Raises TwilioError."""
    path, query = asked.request.path, asked.request.query
    return RestResponse.json(list_resources(key, path, query, rows, sid_of, render))


def list_v1(
    key: str,
    base: str,
    query: Params,
    rows: Sequence[Row],
    sid_of: Callable[[Row], str],
    render: Callable[[Row], dict[str, Any]],
) -> dict[str, Any]:
    """One page in the shape of the newer APIs: absolute links, in `meta`. Raises TwilioError."""
    listed = list_resources(key, base, query, rows, sid_of, render)
    meta = {
        "key": key,
        "page": listed["page"],
        "page_size": listed["page_size"],
        "first_page_url": listed["first_page_uri"],
        "next_page_url": listed["next_page_uri"],
        "previous_page_url": listed["previous_page_uri"],
        "url": listed["uri"],
    }
    return {key: listed[key], "meta": meta}


def _link(path: str, query: Params, number: int, size: int, token: str = "") -> str:
    filters = [(name, value) for name, value in query.pairs() if name not in PAGING]
    paging = [("PageSize", str(size)), ("Page", str(number))]
    return f"{path}?{urlencode([*filters, *paging, *([('PageToken', token)] if token else [])])}"


def matches_time(query: Params, name: str, at: float | None) -> bool:
    """Whether `at` passes NAME (that day, UTC), `NAME<` (before) and `NAME>` (from). Raises TwilioError."""
    day, before, since = query.get(name), query.get(name + "<"), query.get(name + ">")
    if not (day or before or since):
        return True
    if at is None:
        return False
    moment = datetime.fromtimestamp(at, UTC)
    return (
        (not day or _read_time(name, day).date() == moment.date())
        and (not before or moment < _read_time(name, before))
        and (not since or moment >= _read_time(name, since))
    )


def _read_time(name: str, text: str) -> datetime:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError as error:
        raise TwilioError(400, 20422, f"{name} must be a date such as 2026-11-22, not {text!r}") from error
    return moment.replace(tzinfo=UTC) if moment.utcoffset() is None else moment.astimezone(UTC)
