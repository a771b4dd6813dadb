"""The fields that webhooks about a call have in common."""

from __future__ import annotations

import time
from functools import lru_cache

from dialer.simulator.geography import is_number, place_of
from dialer.simulator.model import API_VERSION, Call

Fields = list[tuple[str, str]]
DAYS = ("Mon", "Tue", "Wed", "Thu", "Fri", "Sat", "Sun")
MONTHS = ("Jan", "Feb", "Mar", "Apr", "May", "Jun", "Jul", "Aug", "Sep", "Oct", "Nov", "Dec")


def call_fields(call: Call) -> Fields:
    """Fields of every webhook of a call (Twilio docs, twiml): who calls whom, and its status."""
    if not call.fields:
        call.fields = fixed_fields(call)
    status = "initiated" if call.phase == "initiated" else call.status
    return [*call.fields, ("CallStatus", status)]


def fixed_fields(call: Call) -> Fields:
    """The part that never changes in the life of a call."""
    is_browser = call.caller.startswith("client:")
    fields = [
        ("AccountSid", call.account_sid),
        ("ApiVersion", API_VERSION),
        ("CallSid", call.sid),
        ("Direction", call.direction),
        ("From", call.from_),
        ("Caller", call.caller or call.from_),
        ("To", call.to),
        ("Called", "" if is_browser else call.to),
    ]
    if call.application_sid:
        fields.append(("ApplicationSid", call.application_sid))
    if call.parent_call_sid:
        fields.append(("ParentCallSid", call.parent_call_sid))
    if not is_browser:
        fields += place_fields(call.from_, "From", "Caller") + place_fields(call.to, "To", "Called")
    return fields


def place_fields(address: str, *prefixes: str) -> Fields:
    """City, state, zip and country of a telephone number, under each prefix."""
    if not is_number(address):
        return []
    parts = tuple(zip(("City", "State", "Zip", "Country"), place_of(address), strict=True))
    return [(prefix + part, value) for prefix in prefixes for part, value in parts]


@lru_cache(maxsize=256)
def rfc2822(second: int) -> str:
    """A Timestamp field, in UTC."""
    t = time.gmtime(second)
    day, month = DAYS[t.tm_wday], MONTHS[t.tm_mon - 1]
    return f"{day}, {t.tm_mday:02d} {month} {t.tm_year} {t.tm_hour:02d}:{t.tm_min:02d}:{t.tm_sec:02d} +0000"
