"""Log lines: one each, masked, without what somebody else put between the lines."""

from __future__ import annotations

import json
import logging
import re
import sys
from urllib.parse import quote

import pytest
from hypothesis import assume, given
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
        ("CA+14155550101", "CA+1******0101"),
        ("tel=x+14155550101", "tel=x+1******0101"),
        ("To=%252B14155550101", "To=+1******0101"),
        ("+1 415 555 0101", "+1 *** *** 0101"),
        ("+1.415.555.0101", "+1.***.***.0101"),
        ("(+1) 415-555-0101", "(+1) ***-***-0101"),
        ("+44 (0)20 7946 0958", "+4* (*)** **** 0958"),
        ("+1415555 0101", "+1****** 0101"),
        ("To=%2B1+415+555+0101&x", "To=+1+***+***+0101&x"),
        ("To=%2B1%20415%20555%200101", "To=+1 *** *** 0101"),
        ("call (415) 555-0101 refused", "call (***) ***-0101 refused"),
        ("%28415%29%20555-0101", "(***) ***-0101"),
        ("(415)\u00a0555\u20110101", "(***)\u00a0***\u20110101"),
        ("(0)20 7946 0958", "(*)** **** 0958"),
        ("00442079460958", "004*******0958"),
        ("\u96fb\u8a7100442079460958", "\u96fb\u8a71004*******0958"),
        ("001.415.555.010", "001.***.**5.010"),
        ("%2B1%C2%A0415%C2%A0555%C2%A00101", "+1\u00a0***\u00a0***\u00a00101"),
        ("0044 20 7946 0958x", "004* ** **** 0958x"),
        ("415-555-0101", "***-***-0101"),
        ("1.415.555.0101", "*.***.***.0101"),
        ("415 5550101, 555-0101", "*** ***0101, ***-0101"),
        ("020 7946 0958", "*** **** 0958"),
        ("030/12345678", "***/****5678"),
        ("01.23.45.67.89", "**.**.**.67.89"),
        ("12 34 56 78", "** ** 56 78"),
        ("12 00 44 2079460958", "12 00 4* ******0958"),
        # what follows is not part of it
        ("+14155550101 200 1.5", "+1******0101 200 1.5"),
        ("+1 415 555 0101 2026-11-22T10:00:00Z", "+1 *** *** 0101 2026-11-22T10:00:00Z"),
        ("415 555 0101 2026-11-22", "*** *** 0101 2026-11-22"),
    ],
)
def test_the_middle_of_a_number_is_hidden(text: str, masked: str) -> None:
    assert mask(text) == masked


@pytest.mark.parametrize(
    "text",
    [
        "CA00112233445566778899001122334455 call_001122334455667788990011 di_00112233445566778899001122334455",
        "dk_001122334455_0011 ws_demo-00112233445566778899001122334455 answer%20%28no%29",
        "/2010-04-01/Accounts/AC00112233445566778899001122334455/Calls.json?limit=20",
        "2026-11-22T10:00:00.123456Z 2026-11-22 10:00:00,123 2026-11-22T10:00:00+0100 22.11.2026 11/22/2026",
        "Sun, 22 Nov 2026 10:00:00 +0000 (3) 2026-11-22 from 2026-11-22 to 2026-12-24",
        "1700000000 1700000000.123456 4155550101",
        "00123456-1234-1234-1234-001234567890 id=a0123456-1234-1234-1234-123456789012",
        "123-4567-ab 192.168.100.100 10.0.0.1:8080 2001:0db8:0000:0000:0000:ff00:0042:8329",
        "v1.26.4 141.0.7390.37 4.15.0-1051 Python/3.11.2 (Linux 6.1.0-28-amd64)",
        "12.345 s 100.5 ms (12345.678 ms) ms=1234567.8 0.00123456 00:00:00.1234567 1,234,567 rows",
        "error 21211 400: bad (3) 11200 of 00 and +12345",
    ],
)
def test_what_is_no_phone_number_stays_readable(text: str) -> None:
    assert mask(text) == text


def grouped(digits: str, size: int, separator: str) -> str:
    return separator.join(digits[at : at + size] for at in range(0, len(digits), size))


def quoted(text: str) -> str:
    return quote(text, safe="")


SEPARATORS = st.sampled_from(["", " ", "-", ".", "/", "\u00a0", " - ", "\u2011"])
E164_NUMBERS = st.from_regex(r"[1-9][0-9]{9,14}", fullmatch=True)


def loses_its_middle(before: str, spelled: str, after: str, digits: str) -> None:
    """No more than the first and the last four of these digits can be read behind the mask."""
    middle = digits[1:-4]
    assume(middle not in re.sub(r"\D", "", before) + digits[0])
    assume(middle not in digits[-4:] + re.sub(r"\D", "", after))
    masked = re.sub(r"%(25)*2[0-9a-f]", "", mask(before + spelled + after), flags=re.IGNORECASE)
    assert middle not in re.sub(r"[^0-9*]", "", masked)


@given(st.text(), E164_NUMBERS, st.integers(1, 3), st.integers(2, 5), SEPARATORS, st.integers(0, 2), st.text())
def test_every_number_in_any_text_loses_its_middle(
    before: str, number: str, country: int, size: int, separator: str, times_quoted: int, after: str
) -> None:
    spelled = f"+{number[:country]}{separator}{grouped(number[country:], size, separator)}"
    for _ in range(times_quoted):
        spelled = quoted(spelled)
    loses_its_middle(before, spelled, after, number)


@given(st.text(), E164_NUMBERS, st.integers(2, 5), SEPARATORS, st.integers(0, 2), st.text())
def test_every_number_with_an_area_code_in_parentheses_does(
    before: str, number: str, area: int, separator: str, times_quoted: int, after: str
) -> None:
    spelled = f"({number[:area]}){separator}{grouped(number[area:], 4, separator)}"
    for _ in range(times_quoted):
        spelled = quoted(spelled)
    loses_its_middle(before, spelled, after, number)


@given(
    st.text().map(lambda text: text + " ") | st.sampled_from(["", "to=", '"', "<", "\u96fb\u8a71"]),
    st.sampled_from(["00", "00 "]),
    E164_NUMBERS,
    st.integers(1, 3),
    st.integers(2, 5),
    SEPARATORS,
    st.text().map(lambda text: " " + text) | st.sampled_from(["", '"', ">", ";tag", "\u96fb\u8a71"]),
)
def test_every_number_with_00_does_where_it_stands_for_itself(
    before: str, zeros: str, number: str, country: int, size: int, separator: str, after: str
) -> None:
    spelled = f"{zeros}{number[:country]}{separator}{grouped(number[country:], size, separator)}"
    loses_its_middle(before, spelled, after, number)


@given(st.text())
def test_a_mask_over_a_mask_changes_nothing(text: str) -> None:
    assert mask(mask(text)) == mask(text)


@pytest.mark.parametrize("text", ["+1", "12-", "+1     ", "(12)", "00 ", "1 22 ", "%25", "/22", ".22", "01 ", "12-34-"])
def test_no_text_is_slow_to_mask(text: str) -> None:
    assert len(mask(f"01{text * 20_000}x")) > 20_000  # what looks back for each digit would take minutes


def test_most_lines_cost_no_search(monkeypatch: pytest.MonkeyPatch) -> None:
    for pattern in ("_MARKED", "_ZEROS", "_GROUPS"):
        monkeypatch.setattr(f"dialer.logs.{pattern}", None)
    for text in ("CA00112233445566778899001122334455", "call_1", "webhook /v1/voice/status", "failed: 404", "1.2"):
        assert mask(text) == text


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
