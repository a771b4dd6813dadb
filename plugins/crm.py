"""What a CRM is told of a call: whom it was with, how it went, what was recorded; and numbers as people write them."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field

import phonenumbers

from dialer import Call, Host

#: Of a recording's link: what may stand in braces.
_PLACES = re.compile(r"\{(url|call|recording)\}")


@dataclass(frozen=True, slots=True)
class Facts:
    """What the events of a call say. `sent` is what the browser sent along when it called."""

    sent: Mapping[str, str] = field(default_factory=dict)
    recordings: tuple[Mapping[str, str], ...] = ()
    answered_by: str = ""
    disposition: str = ""
    notes: str = ""


def facts_of(host: Host, call: Call) -> Facts:
    """What is known of a call by now; the last disposition and the last notes count."""
    sent: Mapping[str, str] = {}
    recordings, answered_by, disposition, notes = [], "", "", ""
    for event in host.events(call):
        if event.name == "call-started":
            sent = event.detail
        elif event.name == "recording-completed":
            recordings.append(event.detail)
        elif event.name == "machine-detection":
            answered_by = event.status
        elif event.name == "disposition":
            disposition = event.detail.get("disposition", disposition)
            notes = event.detail.get("notes", notes)
    return Facts(sent, tuple(recordings), answered_by, disposition, notes)


def recording_link(template: str, call: Call, facts: Facts) -> str:
    """Where the last recording can be heard; empty if there is none."""
    if not template or not facts.recordings:
        return ""
    last = facts.recordings[-1]
    values = {"url": last.get("RecordingUrl", ""), "recording": last.get("RecordingSid", ""), "call": call.id}
    return _PLACES.sub(lambda found: values[found[1]], template)


def check_link(template: str) -> None:
    """Raises ValueError unless the template of a recording's link is one."""
    rest = _PLACES.sub("", template)
    if template and ("{" in rest or "}" in rest or not template.startswith(("https://", "{url}"))):
        raise ValueError('recording_url must be "{url}" or a link with https://, and {url}, {recording}, {call} in it')


def pairs(setting: str, texts: Iterable[str]) -> dict[str, str]:
    """A setting such as ["alice = 123"] by name, in lower case; raises ValueError."""
    found = {}
    for text in texts:
        name, equals, value = (part.strip() for part in text.partition("="))
        if not (name and equals and value):
            raise ValueError(f'{setting} {text!r:.60} must be "name = id"')
        found[name.lower()] = value
    return found


def written_forms(number: str) -> list[str]:
    """How people write a number (E.164): without spaces, in its own country's form, in the international one."""
    parsed = phonenumbers.parse(number)
    national = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.NATIONAL)
    abroad = phonenumbers.format_number(parsed, phonenumbers.PhoneNumberFormat.INTERNATIONAL)
    own = phonenumbers.national_significant_number(parsed)
    forms = [number, number[1:], own, _digits(national), national, abroad]
    return list(dict.fromkeys(forms))


def is_same_number(text: str, number: str) -> bool:
    """Whether what somebody wrote down is this number (E.164); without a country, it is of the number's own."""
    country = phonenumbers.region_code_for_country_code(phonenumbers.parse(number).country_code or 0)
    try:
        written = phonenumbers.parse(text, country)
    except phonenumbers.NumberParseException:
        return False
    return bool(phonenumbers.format_number(written, phonenumbers.PhoneNumberFormat.E164) == number)


def own_digits(number: str) -> str:
    """The digits of a number (E.164) without its country's."""
    return str(phonenumbers.national_significant_number(phonenumbers.parse(number)))


def _digits(text: str) -> str:
    return "".join(char for char in text if char in "0123456789")
