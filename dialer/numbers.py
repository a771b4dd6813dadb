"""Phone numbers as Dialer needs them: E.164 or nothing."""

from __future__ import annotations

import re

E164 = re.compile(r"\+[1-9][0-9]{6,14}")
_FORMATTING = re.compile(r"[\s().\-/\u00a0]+")


def to_e164(text: str, region: str = "") -> str | None:
    """The number in E.164, from one typed with + or, given an ISO country, in that country's own form.

    None for anything else, `client:` and `sip:` addresses included.
    """
    typed = _FORMATTING.sub("", text)
    if typed.startswith("+"):
        return _without_trunk_prefix(typed) if E164.fullmatch(typed) else None
    return _in_region(typed, region) if region and re.fullmatch(r"[0-9*#]+", typed) else None


def _without_trunk_prefix(typed: str) -> str:
    """The one spelling of a number: +44 (0)20 7183 8750 is +442071838750, or a list would not find it."""
    import phonenumbers  # loaded where it is needed: its data is large

    try:
        number = phonenumbers.parse(typed, None)
    except phonenumbers.NumberParseException:
        return typed
    formatted: str = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return formatted if E164.fullmatch(formatted) else typed


def _in_region(typed: str, region: str) -> str | None:
    import phonenumbers

    try:
        number = phonenumbers.parse(typed, region)
    except phonenumbers.NumberParseException:
        return None
    if not phonenumbers.is_possible_number(number):
        return None
    formatted: str = phonenumbers.format_number(number, phonenumbers.PhoneNumberFormat.E164)
    return formatted if E164.fullmatch(formatted) else None
