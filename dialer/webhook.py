"""One request of Twilio's: read within bounds, its signature checked, its fields named, and one log line for it."""

from __future__ import annotations

import functools
import logging
import re
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from urllib.parse import parse_qsl

from flask import Response, request

from dialer.logs import log_line
from dialer.service import Service, service
from dialer.settings import Account
from dialer.signature import parse_form, verify
from dialer.store import StoreError

log = logging.getLogger("dialer.voice")

MAX_BODY = 64 * 1024
_SID = re.compile(r"CA[0-9a-f]{32}")


class Refused(Exception):
    """This request is answered with an HTTP error: 400, 403, 404, 413 or 500, and a line that says why."""

    def __init__(self, http_status: int, reason: str) -> None:
        super().__init__(reason)
        self.http_status = http_status
        self.reason = reason


@dataclass(slots=True)
class Webhook:
    """A verified request. `notes` becomes its log line."""

    account: Account
    form: dict[str, str]
    query: dict[str, str]
    notes: dict[str, str] = field(default_factory=dict)

    def field(self, name: str) -> str:
        """A field that must be there (it may be empty); 400 with its name otherwise."""
        if name not in self.form:
            raise Refused(400, f"field {name} is missing")
        return self.form[name]

    def sid(self) -> str:
        """The CallSid, in Twilio's shape."""
        value = self.field("CallSid")
        if not _SID.fullmatch(value):
            raise Refused(400, "field CallSid is not a call sid (CA and 32 hex digits)")
        self.notes["leg"] = value
        return value

    def get(self, *names: str) -> str:
        """The first of these fields that says anything."""
        return next((self.form[name].strip() for name in names if self.form.get(name, "").strip()), "")

    def happened_at(self, now: float) -> float:
        """When it happened by Twilio's clock (RFC 2822, whole seconds), else now.

        SequenceNumber orders what one series reports within a second.
        """
        try:
            at = parsedate_to_datetime(self.form["Timestamp"]).timestamp()
            return at + int(self.form.get("SequenceNumber") or 0) * 1e-6
        except (KeyError, ValueError, TypeError, OverflowError):
            return now


def webhook(view: Callable[[Service, Webhook], Response]) -> Callable[[], Response]:
    """Turn a view of (service, verified webhook) into a Flask view that logs one line, whatever happens."""

    @functools.wraps(view)
    def answer() -> Response:
        started = time.perf_counter()
        notes: dict[str, str] = {}
        try:
            hook = receive(service())
            notes = hook.notes
            response = view(service(), hook)
        except Refused as refused:
            response = plain(refused.http_status, refused.reason)
            notes = {**notes, "outcome": f"refused {refused.http_status}", "reason": refused.reason}
        except StoreError as error:
            response = plain(500, "the store is not available, try again")
            notes = {**notes, "outcome": "refused 500", "reason": str(error)}
        level = logging.INFO if response.status_code < 400 else logging.WARNING
        log_line(log, level, f"webhook {request.path}", notes, time.perf_counter() - started)
        return response

    return answer


def receive(dialer: Service) -> Webhook:
    """Read, verify and parse the current request; raises Refused with 400, 403 or 413."""
    body = _read_body()
    content_type = request.environ.get("CONTENT_TYPE", "")
    try:
        form = parse_form(body)
    except ValueError as error:
        raise Refused(403, f"the body is not form data: {error}") from None
    named = dict(form).get("AccountSid", "")
    account = dialer.settings.account(named) if named else next(iter(dialer.settings.accounts), None)
    if account is None:
        raise Refused(403, "field AccountSid names no account of ours")
    verdict = verify(
        public_url=dialer.settings.server.public_url,
        raw_uri=_raw_uri(),
        body=body,
        content_type=content_type,
        signature=request.environ.get("HTTP_X_TWILIO_SIGNATURE"),
        tokens=account.reveal_tokens(),
        form=form,
    )
    if not verdict.ok:
        raise Refused(403, f"{verdict.reason} (hashed {verdict.url})")
    _refuse_repeats(form)
    if not named:
        raise Refused(400, "field AccountSid is missing")
    return Webhook(account, dict(form), dict(parse_qsl(request.environ.get("QUERY_STRING", ""))))


def plain(http_status: int, text: str) -> Response:
    return Response(text + "\n", http_status, content_type="text/plain; charset=utf-8")


def _read_body() -> bytes:
    if (request.content_length or 0) > MAX_BODY:
        raise Refused(413, f"the body is over {MAX_BODY // 1024} kB")
    body: bytes = request.environ["wsgi.input"].read(MAX_BODY + 1) if request.content_length else b""
    if len(body) > MAX_BODY:
        raise Refused(413, f"the body is over {MAX_BODY // 1024} kB")
    return body


def _raw_uri() -> str:
    """Path and query as they came over the wire: Werkzeug's own `request.url` decodes some of it."""
    environ = request.environ
    raw = environ.get("RAW_URI") or environ.get("REQUEST_URI")
    if raw:
        return str(raw)
    query = environ.get("QUERY_STRING", "")
    return f"{environ.get('SCRIPT_NAME', '')}{environ.get('PATH_INFO', '')}" + (f"?{query}" if query else "")


def _refuse_repeats(form: list[tuple[str, str]]) -> None:
    """The signature cannot tell a repeated name from a re-split one: what decides must come once."""
    for name in ("CallSid", "AccountSid", "Caller", "CallStatus", "FriendlyName", "StatusCallbackEvent"):
        if sum(1 for other, _ in form if other == name) > 1:
            raise Refused(400, f"field {name} came more than once")
