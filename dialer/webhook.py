"""One request of Twilio's: read within bounds, its signature checked, its fields named, and one log line for it.

Webhooks are most of what a Dialer serves, so they are answered from the bare WSGI environment; `Answer` is theirs, and
Flask's routes (`route_in`) and the short way past them (`FastLane`) lead to the same functions.
"""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from email.utils import parsedate_to_datetime
from functools import update_wrapper
from http import HTTPStatus
from typing import Any
from urllib.parse import parse_qsl

from flask import Blueprint, Flask, Response, request

from dialer.logs import log_line
from dialer.metrics import count_refusal, count_webhook
from dialer.service import Service, service
from dialer.settings import Account
from dialer.signature import parse_form, verify
from dialer.store import StoreError

log = logging.getLogger("dialer.voice")

MAX_BODY = 64 * 1024
#: In the environment of an application inside a host's: what stands behind the prefix, as it came over the wire.
INNER_URI = "dialer.inner_uri"
_SID = re.compile(r"CA[0-9a-f]{32}")


class Refused(Exception):
    """This request is answered with an HTTP error: 400, 403, 404, 413 or 500, and a line that says why."""

    def __init__(self, http_status: int, reason: str) -> None:
        super().__init__(reason)
        self.http_status = http_status
        self.reason = reason


@dataclass(frozen=True, slots=True)
class Answer:
    """What Twilio gets: an HTTP status, a body and its type."""

    status: int
    body: str = ""
    content_type: str = "text/xml; charset=utf-8"


Environ = dict[str, Any]


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
            at += int(self.form.get("SequenceNumber") or 0) * 1e-6
            return at if 0 <= at < 1e11 else now  # beyond, no calendar could show it
        except (KeyError, ValueError, TypeError, OverflowError):
            return now


View = Callable[[Service, Webhook], Answer]


def answer(path: str, view: View, dialer: Service, environ: Environ) -> Answer:
    """Verify one request, let its view answer it, and log one line, whatever happens."""
    started = time.perf_counter()
    notes: dict[str, str] = {}
    try:
        hook = receive(dialer, environ)
        notes = hook.notes
        given = view(dialer, hook)
    except Refused as refused:
        given = plain(refused.http_status, refused.reason)
        notes = {**notes, "outcome": f"refused {refused.http_status}", "reason": refused.reason}
    except StoreError as error:
        given = plain(500, "the store is not available, try again")
        notes = {**notes, "outcome": "refused 500", "reason": str(error)}
    level, seconds = logging.INFO if given.status < 400 else logging.WARNING, time.perf_counter() - started
    log_line(log, level, f"webhook {path}", notes, seconds)
    count_webhook(path, given.status, seconds)
    return given


class Webhooks:
    """The webhooks by path, to be reached through a Flask blueprint or past Flask."""

    def __init__(self) -> None:
        self.views: dict[str, View] = {}

    def post(self, path: str) -> Callable[[View], View]:
        """Register the view of `POST path`."""

        def register(view: View) -> View:
            self.views[path] = view
            return view

        return register

    def blueprint(self) -> Blueprint:
        """The same webhooks as Flask routes, for an application that has its own way in."""
        blueprint = Blueprint("voice", __name__)
        for path, view in self.views.items():
            blueprint.add_url_rule(path, view.__name__, _flask_view(path, view), methods=["POST"])
        return blueprint


def _flask_view(path: str, view: View) -> Callable[[], Response]:
    def flask_view() -> Response:
        given = answer(path, view, service(), request.environ)
        return Response(given.body, given.status, content_type=given.content_type)

    return update_wrapper(flask_view, view)


class FastLane:
    """WSGI in front of Flask's: answers webhooks without its routing and request objects, a third of their cost."""

    def __init__(self, app: Flask, webhooks: Webhooks) -> None:
        self.dialer: Service = app.extensions["dialer"]
        self.views = webhooks.views
        self.rest = app.wsgi_app

    def __call__(self, environ: Environ, start_response: Callable[..., Any]) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        view = self.views.get(path)
        elsewhere = environ.get("SCRIPT_NAME") and INNER_URI not in environ
        if view is None or environ["REQUEST_METHOD"] != "POST" or elsewhere:
            return self.rest(environ, start_response)
        try:
            given = answer(path, view, self.dialer, environ)
        except Exception:
            log.exception("webhook %s failed", path)
            count_webhook(path, 500, 0.0)
            given = plain(500, "something went wrong, try again")
        body = given.body.encode()
        headers = [("Content-Type", given.content_type), ("Content-Length", str(len(body)))] if body else []
        start_response(f"{given.status} {HTTPStatus(given.status).phrase}", headers)
        return [body]


def receive(dialer: Service, environ: Environ) -> Webhook:
    """Read, verify and parse a request; raises Refused with 400, 403 or 413."""
    body = _read_body(environ)
    try:
        form = parse_form(body)
    except ValueError as error:
        count_refusal("not a form")
        raise Refused(403, f"the body is not form data: {error}") from None
    fields = dict(form)
    account = _account(dialer, fields.get("AccountSid", ""))
    verdict = verify(
        public_url=dialer.settings.server.public_url,
        raw_uri=_raw_uri(environ, dialer.settings.server.public_url),
        body=body,
        content_type=environ.get("CONTENT_TYPE", ""),
        signature=environ.get("HTTP_X_TWILIO_SIGNATURE"),
        tokens=account.reveal_tokens(),
        form=form,
    )
    if not verdict.ok:
        count_refusal(verdict.reason)
        raise Refused(403, f"{verdict.reason} (hashed {verdict.url})")
    if len(fields) < len(form):
        _refuse_repeats(form)
    if "AccountSid" not in fields:
        raise Refused(400, "field AccountSid is missing")
    query = environ.get("QUERY_STRING", "")
    return Webhook(account, fields, dict(parse_qsl(query)) if query else {})


def plain(http_status: int, text: str) -> Answer:
    return Answer(http_status, text + "\n", "text/plain; charset=utf-8")


def _account(dialer: Service, named: str) -> Account:
    """The account that the request says it is of; one that says none must be signed by the default account."""
    accounts = dialer.settings.accounts
    account = dialer.settings.account(named) if named else next(iter(accounts), None)
    if account is None:
        count_refusal("unknown account")
        raise Refused(403, "field AccountSid names no account of ours")
    return account


def _read_body(environ: Environ) -> bytes:
    try:
        length = int(environ.get("CONTENT_LENGTH") or 0)
    except ValueError:
        raise Refused(400, "header Content-Length is not a number") from None
    if length > MAX_BODY:
        raise Refused(413, f"the body is over {MAX_BODY // 1024} kB")
    if not length and environ.get("wsgi.input_terminated"):  # sent in chunks: the server knows where it ends
        length = MAX_BODY + 1
    try:
        body: bytes = environ["wsgi.input"].read(length) if length > 0 else b""
    except OSError:  # also what gunicorn raises for chunks that are none
        raise Refused(400, "the body broke off") from None
    if len(body) > MAX_BODY:
        raise Refused(413, f"the body is over {MAX_BODY // 1024} kB")
    return body


def _raw_uri(environ: Environ, public_url: str) -> str:
    """What follows the public URL, as it came over the wire: what Werkzeug rebuilds has some of it decoded.

    An application mounted under a prefix has the prefix in its public URL.
    """
    if INNER_URI in environ:
        return str(environ[INNER_URI])
    raw = str(environ.get("RAW_URI") or environ.get("REQUEST_URI") or "")
    prefix = str(environ.get("SCRIPT_NAME", ""))
    if raw:
        return raw.removeprefix(prefix) if public_url.endswith(prefix) else raw
    query = environ.get("QUERY_STRING", "")
    path = ("" if public_url.endswith(prefix) else prefix) + str(environ.get("PATH_INFO", ""))
    return path + (f"?{query}" if query else "")


#: Fields that decide something. The signature cannot tell a repeated name from a re-split value: these come once.
DECIDING = ("CallSid", "AccountSid", "Caller", "CallStatus", "FriendlyName", "StatusCallbackEvent")


def _refuse_repeats(form: list[tuple[str, str]]) -> None:
    for name in DECIDING:
        if sum(1 for other, _ in form if other == name) > 1:
            raise Refused(400, f"field {name} came more than once")
