from datetime import UTC, datetime
from typing import Any
from urllib.parse import parse_qsl, urlsplit

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialer.simulator.model import Params, TwilioError
from dialer.simulator.rest_pages import list_resources, list_v1, matches_time


def page_of(rows: list[str], **values: str) -> dict[str, Any]:
    return list_resources("calls", "/Calls.json", Params(values), rows, str, lambda row: {"sid": row})


def follow(rows: list[str], uri: str) -> dict[str, Any]:
    return page_of(rows, **dict(parse_qsl(urlsplit(uri).query)))


@given(st.integers(0, 40), st.integers(1, 12))
def test_the_pages_hold_every_row_once_and_in_order(count: int, size: int) -> None:
    rows = [f"CA{number:032d}" for number in range(count)]
    page = page_of(rows, PageSize=str(size))
    seen = [row["sid"] for row in page["calls"]]
    while page["next_page_uri"]:
        page = follow(rows, page["next_page_uri"])
        seen += [row["sid"] for row in page["calls"]]
    assert seen == rows


def test_a_row_added_between_two_pages_repeats_nothing() -> None:
    rows = [f"CA{number:032d}" for number in range(4)]
    page = page_of(rows, PageSize="2")
    later = follow(["CAnew", *rows], page["next_page_uri"])
    assert [row["sid"] for row in later["calls"]] == rows[2:]


def test_a_page_whose_anchor_is_gone_goes_by_number() -> None:
    rows = [f"CA{number:032d}" for number in range(5)]
    page = page_of(rows, PageSize="2")
    later = follow([rows[0], *rows[2:]], page["next_page_uri"])
    assert [row["sid"] for row in later["calls"]] == rows[3:]


def test_the_links_keep_the_filters() -> None:
    page = page_of(["CA1", "CA2", "CA3"], PageSize="1", To="+14155550101", **{"StartTime>": "2026-01-01"})
    query = dict(parse_qsl(urlsplit(page["next_page_uri"]).query))
    assert query["To"] == "+14155550101"
    assert query["StartTime>"] == "2026-01-01"
    assert (query["Page"], query["PageSize"]) == ("1", "1")


def test_the_numbers_of_a_page() -> None:
    page = page_of(["CA1", "CA2", "CA3"], PageSize="2", Page="1")
    assert (page["page"], page["page_size"], page["start"], page["end"]) == (1, 2, 2, 2)
    assert page["next_page_uri"] is None
    assert page["previous_page_uri"] == "/Calls.json?PageSize=2&Page=0"
    assert page["first_page_uri"] == "/Calls.json?PageSize=2&Page=0"


def test_a_page_that_is_just_full_is_the_last() -> None:
    page = page_of(["CA1", "CA2"], PageSize="2")
    assert (page["page"], page["end"], page["next_page_uri"]) == (0, 1, None)


def test_an_empty_list_is_a_page_of_nothing() -> None:
    page = page_of([])
    assert (page["calls"], page["page_size"], page["start"], page["end"]) == ([], 50, 0, 0)


@pytest.mark.parametrize(
    ("name", "value", "code"),
    [("PageSize", "0", 20422), ("PageSize", "x", 20422), ("PageSize", "1001", 20007), ("Page", "-1", 20422)],
)
def test_bad_paging_is_refused(name: str, value: str, code: int) -> None:
    with pytest.raises(TwilioError) as caught:
        page_of([], **{name: value})
    assert (caught.value.http_status, caught.value.code) == (400, code)


def test_the_newer_lists_have_their_links_in_meta() -> None:
    query, rows = Params({"PageSize": "1"}), ["US", "CA"]
    listed = list_v1("content", "https://x/Countries", query, rows, str, lambda row: {"iso_code": row})
    assert listed["content"] == [{"iso_code": "US"}]
    assert listed["meta"]["key"] == "content"
    assert listed["meta"]["next_page_url"] == "https://x/Countries?PageSize=1&Page=1&PageToken=PAUS"


NOON = datetime(2026, 11, 22, 12, tzinfo=UTC).timestamp()


@pytest.mark.parametrize(
    ("filters", "expected"),
    [
        ({}, True),
        ({"StartTime": "2026-11-22"}, True),
        ({"StartTime": "2026-11-21"}, False),
        ({"StartTime": "2026-11-22T00:00:00Z"}, True),
        ({"StartTime>": "2026-11-22"}, True),
        ({"StartTime>": "2026-11-22T12:00:00Z"}, True),
        ({"StartTime>": "2026-11-22T12:00:01Z"}, False),
        ({"StartTime<": "2026-11-22T12:00:00Z"}, False),
        ({"StartTime<": "2026-11-22T13:30:00+01:00"}, True),
        ({"StartTime>": "2026-11-21", "StartTime<": "2026-11-23"}, True),
        ({"StartTime>": "2026-11-23", "StartTime<": "2026-11-24"}, False),
        ({"EndTime": "2020-01-01"}, True),
    ],
)
def test_filters_by_time(filters: dict[str, str], expected: bool) -> None:
    assert matches_time(Params(filters), "StartTime", NOON) is expected


def test_what_never_started_matches_no_time() -> None:
    assert matches_time(Params(), "StartTime", None)
    assert not matches_time(Params({"StartTime>": "2026-01-01"}), "StartTime", None)


def test_an_unreadable_date_is_refused() -> None:
    with pytest.raises(TwilioError) as caught:
        matches_time(Params({"StartTime": "yesterday"}), "StartTime", NOON)
    assert (caught.value.http_status, caught.value.code) == (400, 20422)
