"""Phone numbers: E.164 or nothing."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialer.numbers import E164, to_e164


@pytest.mark.parametrize(
    ("typed", "region", "number"),
    [
        ("+14155550101", "", "+14155550101"),
        (" +1 (415) 555-0101 ", "", "+14155550101"),
        ("+49/151.2345\u00a06789", "", "+4915123456789"),
        ("4155550101", "US", "+14155550101"),
        ("(415) 555-0101", "US", "+14155550101"),
        ("020 7946 0000", "GB", "+442079460000"),
        ("+442079460000", "US", "+442079460000"),
        ("4155550101", "", None),
        ("0014155550101", "", None),
        ("", "US", None),
        ("+", "", None),
        ("+0123456789", "", None),
        ("+123456", "", None),
        ("+1234567890123456", "", None),
        ("++14155550101", "", None),
        ("+1415555010x", "", None),
        ("+1415555010\u0661", "", None),
        ("+14155550101\n", "", "+14155550101"),
        ("911", "US", None),
        ("1", "GB", None),
        ("*67", "US", None),
        ("client:bob", "US", None),
        ("sip:bob@example.com", "US", None),
        ("1-800-FLOWERS", "US", None),
        ("\u0664155550101", "US", None),
    ],
)
def test_what_was_typed_is_a_number_or_nothing(typed: str, region: str, number: str | None) -> None:
    assert to_e164(typed, region) == number


@given(st.text(st.sampled_from("+0123456789 -().*#abc\u0661\n")) | st.text(), st.sampled_from(["", "US", "DE", "GB"]))
def test_it_is_always_e164_or_none_and_the_same_again(typed: str, region: str) -> None:
    number = to_e164(typed, region)
    assert number is None or (E164.fullmatch(number) and number.isascii())
    if number:
        assert to_e164(number, region) == to_e164(number) == number


@pytest.mark.parametrize(
    ("typed", "number"),
    [
        ("+44 (0)20 7183 8750", "+442071838750"),
        ("+4402071838750", "+442071838750"),
        ("+49 (0) 30 901820", "+4930901820"),
        ("+39 06 1234567", "+39061234567"),
        ("+14155550101", "+14155550101"),
    ],
)
def test_a_number_has_one_spelling_however_its_trunk_prefix_is_written(typed: str, number: str) -> None:
    assert to_e164(typed) == number
