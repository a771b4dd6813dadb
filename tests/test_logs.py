"""Log lines: one each, masked, without what somebody else put between the lines."""

from __future__ import annotations

import json
import logging
import sys

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialer.logs import JsonFormatter, TextFormatter, configure, log_line, mask

NUMBER = "+14155550101"


def line(what: str, error: Exception | None = None, **notes: str) -> logging.LogRecord:
    info = (type(error), error, None) if error else None
    record = logging.LogRecord("dialer.x", logging.INFO, __file__, 1, what, None, info)
    record.notes = notes
    return record


@pytest.mark.parametrize(
    ("text", "masked"),
    [
        (NUMBER, "+1******0101"),
        ("To=%2B14155550101&x", "To=+1******0101&x"),
        ("to=%2b14155550101", "to=+1******0101"),
        ("(+4915123456789)", "(+4********6789)"),
        ("+1234567", "+1**4567"),
        ("+123456789012345", "+1**********2345"),
        ("+12345", "+12345"),
        ("CA+14155550101", "CA+14155550101"),
    ],
)
def test_the_middle_of_a_number_is_hidden(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize("before", ["", " ", "\n", "\t", "é", '"', "\\", "="])
def test_no_number_gets_through_either_formatter(before: str) -> None:
    record = line(f"failed {before}{NUMBER}", RuntimeError(f"bad{before}\n{NUMBER}"), reason=f"x {before}{NUMBER}")
    for formatter in (TextFormatter(), JsonFormatter()):
        assert "55501" not in formatter.format(record).replace("é", "")


@given(st.text(), st.text())
def test_a_text_line_is_one_line_that_says_no_more_than_its_notes(what: str, note: str) -> None:
    assert len(TextFormatter().format(line(what, note=note)).splitlines()) == 1


@given(st.text(), st.text())
def test_a_json_line_is_one_object_with_the_note_in_it(what: str, note: str) -> None:
    written = JsonFormatter().format(line(what, note=note))
    assert len(written.splitlines()) == 1
    assert json.loads(written)["note"] == mask(note)


def test_what_has_no_value_is_left_out_and_what_has_spaces_is_quoted() -> None:
    written = TextFormatter().format(line("webhook /x", call="call_1", leg="", reason='say "no"'))
    assert written.endswith(r'INFO dialer.x webhook /x call=call_1 reason="say \"no\""')


def test_a_json_line_has_the_same_words(capsys: pytest.CaptureFixture[str]) -> None:
    configure("json", "info")
    log_line(logging.getLogger("dialer.voice"), logging.INFO, "webhook /x", {"call": "call_1"}, 0.0123)
    found = json.loads(capsys.readouterr().err)
    assert (found["level"], found["logger"], found["what"], found["call"]) == (
        "INFO",
        "dialer.voice",
        "webhook /x",
        "call_1",
    )
    assert found["ms"] == "12.3"


def test_an_exception_is_told_with_its_line() -> None:
    try:
        raise ValueError(f"what {NUMBER}")
    except ValueError:
        record = logging.LogRecord("dialer", logging.ERROR, __file__, 1, "broken", None, sys.exc_info())
    assert "ValueError: what +1******0101" in TextFormatter().format(record)
    assert "ValueError: what +1******0101" in json.loads(JsonFormatter().format(record))["error"]


def test_a_second_configuration_replaces_the_first(capsys: pytest.CaptureFixture[str]) -> None:
    configure("text", "info")
    configure("text", "warning")
    log_line(logging.getLogger("dialer.voice"), logging.INFO, "quiet", {}, 0.0)
    log_line(logging.getLogger("dialer.voice"), logging.WARNING, "loud", {}, 0.0)
    written = capsys.readouterr().err
    assert written.count("loud") == 1
    assert "quiet" not in written
