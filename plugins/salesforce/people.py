"""Whom a call is about: the record whose id the browser sent, else the only one with the number."""

from __future__ import annotations

import re
from dataclasses import dataclass, field

from dialer import Call
from dialer_plugins import crm
from dialer_plugins.salesforce.org import Org

ID = re.compile(r"[A-Za-z0-9]{15}([A-Za-z0-9]{3})?")
#: People stand in WhoId, what else a call may be about in WhatId; by how ids begin (Salesforce docs, key prefixes).
_PEOPLE, _OTHERS = ("003", "00Q"), ("001", "006", "500")


@dataclass(frozen=True, slots=True)
class Match:
    """`links` is empty unless it is sure; `candidates` all that have the number; `unusable` what is no id."""

    links: dict[str, str] = field(default_factory=dict)
    how: str = ""
    candidates: tuple[str, ...] = ()
    unusable: str = ""

    @property
    def sure(self) -> bool:
        return bool(self.links)


def match(org: Org, call: Call, sent: str) -> Match:
    """The record of a call; a person goes before the account that has the same number."""
    if links := _links(sent):
        return Match(links, "id")
    unusable = sent[:60]
    found = [
        (kind, record)
        for kind, record, phones in org.records_with(call.to)
        if any(crm.is_same_number(phone, call.to) for phone in phones)
    ]
    people = [record for kind, record in found if kind != "Account"]
    candidates = tuple(people or [record for _, record in found])
    if len(candidates) != 1:
        return Match({}, "", candidates, unusable)
    return Match(_links(candidates[0]), "number", candidates, unusable)


def _links(record: str) -> dict[str, str]:
    """The fields of a Task that name this record; empty if a Task cannot be about it."""
    if not ID.fullmatch(record):
        return {}
    if record.startswith(_PEOPLE):
        return {"WhoId": record}
    return {"WhatId": record} if record.startswith(_OTHERS) else {}
