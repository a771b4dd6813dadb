"""Whom a call is about: the contact whose id the browser sent, else the only one with the number."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dialer import Call
from dialer_plugins import crm
from dialer_plugins.hubspot.portal import NotThere, Portal

_ID = re.compile(r"[0-9]{1,20}")


@dataclass(frozen=True, slots=True)
class Match:
    """`contact` is empty unless it is sure; `candidates` all that have the number; `missing` an id that is nobody's."""

    contact: str = ""
    how: str = ""
    candidates: tuple[str, ...] = ()
    missing: str = ""


def match(portal: Portal, call: Call, sent: str) -> Match:
    """The contact of a call; what the browser sent is asked for first, and is not believed."""
    missing = ""
    if _ID.fullmatch(sent):
        try:
            return Match(portal.find_contact(sent), "id")
        except NotThere:
            missing = sent
    elif sent:
        missing = sent[:60]
    found = tuple(
        contact
        for contact, phones in portal.contacts_with(call.to)
        if any(crm.is_same_number(phone, call.to) for phone in phones)
    )
    sure = found[0] if len(found) == 1 else ""
    return Match(sure, "number" if sure else "", found, missing)
