"""Log calls in HubSpot, on the contact that was called."""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Annotated, Literal

try:
    import hubspot  # noqa: F401  # what the modules below call HubSpot with
except ImportError:
    raise ImportError("the library hubspot-api-client is missing: pip install 'dialer[hubspot]'") from None

from dialer import Call, CallEvent, Host, Secret, Setting, hookimpl
from dialer_plugins import crm, crm_records
from dialer_plugins.hubspot.contacts import Match, match
from dialer_plugins.hubspot.engagement import dispositions_of, properties
from dialer_plugins.hubspot.portal import NotThere, Portal

_ID = re.compile(r"[0-9]{1,20}")


@dataclass(frozen=True, eq=False)
class HubSpot:
    """Log every call in HubSpot, on the contact that the browser names, or else on the one with the number."""

    access_token: Annotated[Secret, Setting("of a private app")]
    contact_param: Annotated[
        str, Setting("what the browser's connect parameter with the contact's id is called")
    ] = "hubspotId"
    without_contact: Annotated[
        Literal["log", "skip"], Setting("a call whose contact is not found, or not for sure")
    ] = "log"
    rejected: Annotated[bool, Setting("whether calls that were refused before dialling are logged")] = False
    owners: Annotated[tuple[str, ...], Setting("whose call it is in HubSpot: agent = owner id")] = ()
    dispositions: Annotated[tuple[str, ...], Setting("outcomes of your own: name = id in HubSpot")] = ()
    recording_url: Annotated[str, Setting("the recording's link, with {url}, {recording}, {call}; empty: none")] = ""
    host: Host = field(default_factory=Host)
    portal: Portal = field(init=False)

    def __post_init__(self) -> None:
        crm.check_link(self.recording_url)
        for agent, owner in crm.pairs("owners", self.owners).items():
            if not _ID.fullmatch(owner):
                raise ValueError(f"owners {agent!r:.60} needs the number of an owner, not {owner!r:.60}")
        dispositions_of(self.dispositions)
        if not re.fullmatch(r"\w{1,60}", self.contact_param):
            raise ValueError("contact_param must be letters, digits and _, 60 at most")
        object.__setattr__(self, "portal", Portal(self.access_token, lambda: self.host.clock()))

    @hookimpl
    def call_ended(self, call: Call) -> None:
        self._log(call)

    @hookimpl
    def recording_ready(self, call: Call, event: CallEvent) -> None:
        if self.recording_url and call.over:
            self._log(call)

    @hookimpl
    def call_status(self, call: Call, event: CallEvent) -> None:
        if event.name == "disposition" and call.over:
            self._log(call)

    def _log(self, call: Call) -> None:
        """Make the engagement of a call, or bring it up to date."""
        if call.status == "rejected" and not self.rejected:
            return
        record, begun = crm_records.begin(self.host, call)
        kept = record
        try:
            facts = crm.facts_of(self.host, call)
            if not record and begun:
                record = self.portal.find_call(call.id)
            kept = self._update(call, facts, record) if record else self._create(call, facts)
        finally:
            crm_records.end(self.host, call, kept)

    def _create(self, call: Call, facts: crm.Facts) -> str:
        found = match(self.portal, call, facts.sent.get(self.contact_param, ""))
        self._tell(call, found)
        if not found.contact and self.without_contact == "skip":
            return ""
        record: str = self.portal.create_call(self._properties(call, facts), found.contact)
        detail = {"engagement": record, "contact": found.contact, "by": found.how}
        self.host.add_event(call, "logged", detail)
        return record

    def _update(self, call: Call, facts: crm.Facts, record: str) -> str:
        if record == crm_records.DELETED:
            return record
        try:
            self.portal.update_call(record, self._properties(call, facts))
        except NotThere:
            self.host.add_event(call, "deleted", {"engagement": record, "note": "somebody deleted it in HubSpot"})
            record = crm_records.DELETED
        return record

    def _tell(self, call: Call, found: Match) -> None:
        """Put on the call's record what an admin should know of the match."""
        add: Callable[..., bool] = self.host.add_event
        if found.missing:
            add(call, "unknown-contact", {"contact": found.missing, "note": "HubSpot has no contact with this id"})
        if len(found.candidates) > 1:
            several = ", ".join(found.candidates[:20])
            add(call, "ambiguous", {"number": call.to, "contacts": several, "count": str(len(found.candidates))})
        elif not found.contact:
            add(call, "no-contact", {"number": call.to})

    def _properties(self, call: Call, facts: crm.Facts) -> dict[str, str]:
        owner = crm.pairs("owners", self.owners).get(call.agent.lower(), "")
        link = crm.recording_link(self.recording_url, call, facts)
        found: dict[str, str] = properties(call, facts, owner, link, dispositions_of(self.dispositions))
        return found
