"""What is asked of Salesforce, through simple-salesforce; and what each of its refusals means for us."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, NoReturn

import requests
from simple_salesforce.api import Salesforce as Client
from simple_salesforce.exceptions import SalesforceAuthenticationFailed, SalesforceError
from simple_salesforce.format import format_soql

from dialer import GiveUp, RetryLater, Secret
from dialer_plugins import crm
from dialer_plugins.waiting import seconds_asked

#: Seconds to connect, and between two bytes of an answer: the library itself would wait for ever.
TIMEOUT = (5, 15)
#: Seconds to wait when the requests of 24 hours are used up.
MUCH_LATER = 3600.0
#: Seconds for which a sign-in that was refused is not tried again: Salesforce locks a user after a few.
LOCKED_OUT = 300.0
#: How many of each kind of record with a number are looked at.
MOST_RECORDS = 50

_RESERVED = re.compile(r"([?&|!{}\[\]()^~*:\\\"'+\-])")
#: Codes of errors that pass by themselves, and of those that mean that a record is not there (Salesforce docs, errors).
_PASSING = {
    "UNABLE_TO_LOCK_ROW", "SERVER_UNAVAILABLE", "QUERY_TIMEOUT", "UNKNOWN_EXCEPTION", "REQUEST_LIMIT_EXCEEDED",
    "unknown_error", "temporarily_unavailable",
}  # fmt: skip
_BAD_RECORD = {
    "MALFORMED_ID", "INVALID_CROSS_REFERENCE_KEY", "ENTITY_IS_DELETED", "INSUFFICIENT_ACCESS_ON_CROSS_REFERENCE_ENTITY",
}  # fmt: skip


class NotThere(RetryLater):
    """Salesforce has no such record."""


class BadRecord(GiveUp):
    """The Task's WhoId or WhatId is no record that it can be about."""


@dataclass(frozen=True, slots=True)
class Login:
    """How to sign in: as the connected app (client credentials), or as a user with a security token."""

    domain: str
    consumer_key: str = ""
    consumer_secret: Secret | None = None
    username: str = ""
    password: Secret | None = None
    security_token: Secret | None = None

    def sign_in(self, session: requests.Session) -> Client:
        if self.consumer_secret:
            secret = self.consumer_secret.reveal()
            return Client(
                consumer_key=self.consumer_key, consumer_secret=secret, domain=self.domain, session=session
            )
        assert self.password and self.security_token  # as the settings were checked
        return Client(
            username=self.username,
            password=self.password.reveal(),
            security_token=self.security_token.reveal(),
            domain=self.domain,
            session=session,
        )


class Session(requests.Session):
    """With a time-out on every request, no redirects, and an end to it where Salesforce wants to be left alone."""

    def __init__(self, clock: Callable[[], float]) -> None:
        super().__init__()
        self._clock = clock

    def request(self, method: str | bytes, url: str | bytes, *args: Any, **how: Any) -> requests.Response:
        answer = super().request(method, url, *args, **{**how, "timeout": TIMEOUT, "allow_redirects": False})
        if answer.status_code in (429, 503):
            asked = seconds_asked(answer.headers.get("Retry-After"), self._clock())
            raise RetryLater(min(asked, 86_400.0), f"Salesforce answered {answer.status_code}: {answer.text[:200]}")
        return answer


@dataclass(slots=True)
class Org:
    """One Salesforce org. Everything raises RetryLater or GiveUp."""

    login: Login
    clock: Callable[[], float]
    _client: Client | None = None
    _refused: tuple[float, str] = (0.0, "")
    _turn: threading.Lock = field(default_factory=threading.Lock)

    def records_with(self, number: str) -> list[tuple[str, str, list[str]]]:
        """Contacts, leads and accounts that may have a number (E.164): kind, id, and the numbers they have."""
        terms = " OR ".join(f'"{escape_sosl(form)}"' for form in crm.written_forms(number))
        query = (
            f"FIND {{{terms}}} IN PHONE FIELDS RETURNING "
            f"Contact(Id, Phone, MobilePhone, HomePhone, OtherPhone LIMIT {MOST_RECORDS}), "
            f"Lead(Id, Phone, MobilePhone WHERE IsConverted = false LIMIT {MOST_RECORDS}), "
            f"Account(Id, Phone LIMIT {MOST_RECORDS})"
        )
        with self._asking() as client:
            found = client.search(query)
        records = (found or {}).get("searchRecords", [])
        return [(one["attributes"]["type"], str(one["Id"]), _phones(one)) for one in records]

    def find_task(self, name: str, call_id: str) -> str:
        """The Task whose field of this name holds the call's id; empty if there is none."""
        query = format_soql(f"SELECT Id FROM Task WHERE {name} = {{}} ORDER BY CreatedDate LIMIT 1", call_id)
        with self._asking() as client:
            records = client.query(query)["records"]
        return str(records[0]["Id"]) if records else ""

    def create_task(self, fields: Mapping[str, object]) -> str:
        """Make a Task; gives its id. Raises BadRecord."""
        with self._asking() as client:
            return str(client.restful("sobjects/Task/", method="POST", json=dict(fields))["id"])

    def update_task(self, task: str, fields: Mapping[str, object]) -> None:
        """Bring a Task up to date; raises NotThere."""
        with self._asking() as client:
            client.restful(f"sobjects/Task/{task}", method="PATCH", json=dict(fields))

    @contextmanager
    def _asking(self) -> Iterator[Any]:
        """The client, signed in; what it raises becomes RetryLater or GiveUp."""
        try:
            yield self._signed_in()
        except SalesforceAuthenticationFailed as error:
            self._client = None
            self._refuse_login(error)
        except SalesforceError as error:
            if error.status == 401:
                self._client = None
            refuse(error)
        except requests.Timeout:
            raise RetryLater(0, f"Salesforce did not answer within {TIMEOUT[1]} s") from None
        except requests.RequestException as error:
            raise RetryLater(0, f"Salesforce cannot be reached: {type(error).__name__}") from None

    def _signed_in(self) -> Client:
        with self._turn:
            until, reason = self._refused
            if until > self.clock():
                raise GiveUp(reason)
            if self._client is None:
                self._client = self.login.sign_in(Session(self.clock))
            return self._client

    def _refuse_login(self, error: SalesforceAuthenticationFailed) -> NoReturn:
        code = str(error.code)
        if (code.isdigit() and int(code) >= 500) or code in _PASSING:
            raise RetryLater(0, f"Salesforce's sign-in answered {code}: {error.auth_message[:200]}") from None
        reason = (
            f"Salesforce refuses to sign in ({code}: {str(error.auth_message)[:200]}): mend [plugins.salesforce] "
            "consumer_key and consumer_secret, or username, password and security_token, then: "
            "dialer deliveries replay --plugin salesforce"
        )
        self._refused = (self.clock() + LOCKED_OUT, reason)
        raise GiveUp(reason) from None


def refuse(error: SalesforceError) -> NoReturn:
    """Raise what an answer means: not there, later, or never."""
    code, message = _said(error)
    text = f"{code}: {message}" if code else message
    if code == "REQUEST_LIMIT_EXCEEDED":
        raise RetryLater(MUCH_LATER, f"Salesforce's limit of requests is reached: {message}") from None
    if error.status == 404 or code == "NOT_FOUND":
        raise NotThere(0, f"Salesforce has no such record: {text}") from None
    if code in _BAD_RECORD:
        raise BadRecord(text) from None
    if error.status == 409 or error.status >= 500 or code in _PASSING:
        raise RetryLater(0, f"Salesforce answered {error.status}: {text}") from None
    if error.status == 401:
        raise RetryLater(0, f"Salesforce ended the session again and again: {text}") from None
    if error.status == 403:
        raise GiveUp(f"Salesforce forbids it (403): give the user what the README says; it says: {text}") from None
    raise GiveUp(f"Salesforce refuses it ({error.status}): {text}") from None


def escape_sosl(text: str) -> str:
    """A text without any meaning of its own within FIND {...} (Salesforce docs, SOSL reserved characters)."""
    return _RESERVED.sub(r"\\\1", text)


def _said(error: SalesforceError) -> tuple[str, str]:
    """The code and the message of an answer, which is a list of one error as a rule."""
    content: Any = error.content
    first = content[0] if isinstance(content, list) and content else content
    if isinstance(first, dict):
        return str(first.get("errorCode", "")), str(first.get("message", ""))[:300]
    return "", str(first)[:200]


def _phones(record: Mapping[str, Any]) -> list[str]:
    return [str(value) for name, value in record.items() if name.endswith("Phone") and value]
