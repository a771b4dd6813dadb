"""Log calls in Salesforce, on the Lead, Contact or Account that was called."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from typing import Annotated, Literal

try:
    import simple_salesforce  # noqa: F401  # what the modules below call Salesforce with
except ImportError:
    raise ImportError("the library simple-salesforce is missing: pip install 'dialer[salesforce]'") from None

from dialer import Call, CallEvent, Host, Secret, Setting, hookimpl
from dialer_plugins import crm, crm_records
from dialer_plugins.salesforce.org import BadRecord, Login, NotThere, Org
from dialer_plugins.salesforce.people import ID, Match, match
from dialer_plugins.salesforce.task import check_text, task_of

_FIELD = re.compile(r"[A-Za-z][A-Za-z0-9_]{0,60}__c")
_DOMAIN = re.compile(r"[a-z0-9-]+(\.[a-z0-9-]+)*")


@dataclass(frozen=True, eq=False)
class Salesforce:
    """Log every call as a Task, on the record that the browser names, or else on the one with the number."""

    domain: Annotated[str, Setting("acme.my for https://acme.my.salesforce.com; login or test with a password")]
    consumer_key: Annotated[str, Setting("of the connected app")] = ""
    consumer_secret: Annotated[Secret | None, Setting("of the connected app")] = None
    username: Annotated[str, Setting("in place of the app's own: a user with a password and a security token")] = ""
    password: Annotated[Secret | None, Setting("the user's")] = None
    security_token: Annotated[Secret | None, Setting("the user's")] = None
    record_param: Annotated[
        str, Setting("what the browser's connect parameter with the record's id is called")
    ] = "salesforceId"
    without_record: Annotated[
        Literal["log", "skip"], Setting("a call whose record is not found, or not for sure")
    ] = "log"
    rejected: Annotated[bool, Setting("whether calls that were refused before dialling are logged")] = False
    subject: Annotated[str, Setting("the Task's subject, with {to}, {from}, {agent}, {status}")] = "Call to {to}"
    status: Annotated[str, Setting("the Task's status")] = "Completed"
    description: Annotated[
        str, Setting("the Task's comments, with the same and {notes}, {reason}, {recording}, {call}")
    ] = "{notes}"
    external_id_field: Annotated[
        str, Setting("a unique external-id field of Task for Dialer's call id; empty: CallObject")
    ] = ""
    owners: Annotated[tuple[str, ...], Setting("whose Task it is: agent = user id")] = ()
    recording_url: Annotated[str, Setting("the recording's link, with {url}, {recording}, {call}; empty: none")] = ""
    host: Host = field(default_factory=Host)
    org: Org = field(init=False)

    def __post_init__(self) -> None:
        if not _DOMAIN.fullmatch(self.domain) or self.domain.endswith("salesforce.com"):
            raise ValueError("domain must be what stands before .salesforce.com, such as acme.my, or login, or test")
        by_user = (self.username, self.password, self.security_token)
        by_app = (self.consumer_key, self.consumer_secret)
        if not (all(by_app) and not any(by_user)) and not (all(by_user) and not any(by_app)):
            raise ValueError(
                "consumer_key and consumer_secret must be given; or username, password and security_token instead"
            )
        if all(by_app) and self.domain in ("login", "test"):
            raise ValueError("domain must be your own, such as acme.my: an app cannot sign in at login or test")
        if self.external_id_field and not _FIELD.fullmatch(self.external_id_field):
            raise ValueError("external_id_field must be the name of a field of your own, ending with __c")
        if not re.fullmatch(r"\w{1,60}", self.record_param):
            raise ValueError("record_param must be letters, digits and _, 60 at most")
        for agent, user in crm.pairs("owners", self.owners).items():
            if not ID.fullmatch(user):
                raise ValueError(f"owners {agent!r:.60} needs the id of a user (005...), not {user!r:.60}")
        check_text("subject", self.subject)
        check_text("description", self.description)
        crm.check_link(self.recording_url)
        login = Login(
            self.domain, self.consumer_key, self.consumer_secret, self.username, self.password, self.security_token
        )
        object.__setattr__(self, "org", Org(login, lambda: self.host.clock()))

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
        """Make the Task of a call, or bring it up to date."""
        if call.status == "rejected" and not self.rejected:
            return
        record, _ = crm_records.begin(self.host, call)
        kept = record
        try:
            facts = crm.facts_of(self.host, call)
            if not record:
                record = self.org.find_task(self.external_id_field or "CallObject", call.id)
            kept = self._update(call, facts, record) if record else self._create(call, facts)
        finally:
            crm_records.end(self.host, call, kept)

    def _create(self, call: Call, facts: crm.Facts) -> str:
        sent = facts.sent.get(self.record_param, "")
        found = match(self.org, call, sent)
        try:
            return self._create_for(call, facts, found)
        except BadRecord:  # what the browser named was deleted, or never was
            if found.how != "id":
                raise
            found = match(self.org, call, "")
            self.host.add_event(call, "unknown-record", {"record": sent, "note": "Salesforce has no such record"})
            return self._create_for(call, facts, found)

    def _create_for(self, call: Call, facts: crm.Facts, found: Match) -> str:
        record = ""
        if found.sure or self.without_record == "log":
            record = self.org.create_task({**self._task(call, facts), **found.links})
        self._tell(call, found, record)
        return record

    def _update(self, call: Call, facts: crm.Facts, record: str) -> str:
        if record == crm_records.DELETED:
            return record
        try:
            self.org.update_task(record, self._task(call, facts))
        except NotThere:
            self.host.add_event(call, "deleted", {"task": record, "note": "somebody deleted it in Salesforce"})
            record = crm_records.DELETED
        return record

    def _tell(self, call: Call, found: Match, record: str) -> None:
        """Put on the call's record what an admin should know of the match."""
        if found.unusable:
            self.host.add_event(call, "unknown-record", {"record": found.unusable, "note": "that is no record's id"})
        if found.candidates and not found.sure:
            several = ", ".join(found.candidates[:20])
            detail = {"number": call.to, "records": several, "count": str(len(found.candidates))}
            self.host.add_event(call, "ambiguous", detail)
        elif not found.sure:
            self.host.add_event(call, "no-record", {"number": call.to})
        if record:
            self.host.add_event(call, "logged", {"task": record, **found.links, "by": found.how})

    def _task(self, call: Call, facts: crm.Facts) -> dict[str, object]:
        owner = crm.pairs("owners", self.owners).get(call.agent.lower(), "")
        link = crm.recording_link(self.recording_url, call, facts)
        texts = (self.subject, self.status, self.description)
        return {**task_of(call, facts, texts, owner, link), (self.external_id_field or "CallObject"): call.id}
