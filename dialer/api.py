"""The REST API: browser tokens, and calls to read and to end. Every answer is of the key's own workspace."""

from __future__ import annotations

import json
import logging
import math
import time
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, jsonify, request
from werkzeug.exceptions import HTTPException

from dialer.auth import ApiError, Principal, authenticate, require_agent
from dialer.calls import Call, Event
from dialer.errors import ConfigError, DialerError
from dialer.logs import log_line
from dialer.records import Fact, find_call, record
from dialer.service import service
from dialer.store import Row, StoreError
from dialer.twilio import browser_token

log = logging.getLogger("dialer.api")
blueprint = Blueprint("api", __name__, url_prefix="/v1")

MAX_TTL = 3600
#: Options for `new Device(token, deviceOptions)`: wideband first, and a question before a tab in a call is closed.
DEVICE_OPTIONS = {"codecPreferences": ["opus", "pcmu"], "closeProtection": True}


@blueprint.route("/voice/token", methods=["GET", "POST"])
def token() -> Response:
    """A token for the Voice SDK: `{token, identity, workspace, expiresAt, deviceOptions}`; at most an hour."""
    dialer = service()
    principal = authenticate(dialer, "token")
    identity = principal.agent or _fields().get("identity", "")
    if principal.agent and _fields().get("identity", principal.agent) != principal.agent:
        raise ApiError(403, "foreign-agent", "this key is of another agent")
    if not identity:
        raise ApiError(400, "missing-field", "field identity is missing (this key is of a workspace, not of one agent)")
    with dialer.store.read() as tx:
        try:
            require_agent(tx, principal.workspace, identity)
        except DialerError as error:
            raise ApiError(403, "unknown-agent", str(error)) from None
    ttl, now = _number("ttl", MAX_TTL, lowest=60, highest=MAX_TTL), dialer.clock()
    signed = browser_token(dialer.settings.account_of(principal.workspace), identity, ttl, now=now)
    return jsonify(
        token=signed,
        identity=identity,
        workspace=principal.workspace,
        expiresAt=_iso(int(now) + ttl),
        deviceOptions=DEVICE_OPTIONS,
    )


@blueprint.get("/calls")
def list_calls() -> Response:
    """The newest calls: `{calls: […], before}`; `?status=`, `?limit=` (100 at most), `?before=` to page on."""
    dialer = service()
    principal = authenticate(dialer, "calls:read")
    limit = _number("limit", 50, lowest=1, highest=100)
    before, before_id = _cursor(request.args.get("before"))
    with dialer.store.read() as tx:
        rows = tx.all(
            "calls",
            workspace=principal.workspace,
            agent=principal.agent,
            status=request.args.get("status", ""),
            before=before,
            before_id=before_id,
            limit=limit,
        )
        found = [find_call(tx, "call", call_id=row["id"], workspace=principal.workspace) for row in rows]
    more = f"{rows[-1]['requested_at']!r}~{rows[-1]['id']}" if len(rows) == limit else None
    return jsonify(calls=[call_json(call) for call in found if call], before=more)


@blueprint.get("/calls/<call_id>")
def show_call(call_id: str) -> Response:
    """One call, with its legs."""
    call, _ = own_call(call_id, "calls:read")
    return jsonify(call_json(call))


@blueprint.get("/calls/<call_id>/events")
def call_events(call_id: str) -> Response:
    """What happened to a call, in the order in which it was stored: `{events: […]}`; `?after=` the last id seen."""
    call, _ = own_call(call_id, "calls:read")
    after = _number("after", 0, lowest=0, highest=2**53)
    with service().store.read() as tx:
        rows = tx.all("events_of_call", call_id=call.id, workspace=call.workspace, after=after)
    return jsonify(events=[event_json(row) for row in rows])


@blueprint.post("/calls/<call_id>/hangup")
def hang_up(call_id: str) -> Response:
    """End a call for everybody. Repeating it is safe; 409 when it has ended already."""
    call, principal = own_call(call_id, "calls:write")
    dialer = service()
    plugins = dialer.plugins.current()
    with dialer.store.write() as tx:
        current, now = find_call(tx, "call", call_id=call.id, workspace=call.workspace) or call, dialer.clock()
        if current.over:
            raise ApiError(409, "ended", f"the call has ended: {current.status}")
        event = Event("hang-up", now, by="agent" if principal.agent else "system")
        fact = Fact(f"hang-up:{call.id}", "hang-up-requested", "api", event, {"key": principal.key_id})
        after = record(tx, current, fact, now=now, plugins=plugins)
    return jsonify(call_json(after or current))


def own_call(call_id: str, scope: str) -> tuple[Call, Principal]:
    """The call, if it is of the key's workspace (and agent); raises ApiError 404 otherwise."""
    dialer = service()
    principal = authenticate(dialer, scope)
    with dialer.store.read() as tx:
        call = find_call(tx, "call", call_id=call_id, workspace=principal.workspace)
    if call is None or (principal.agent and call.agent != principal.agent):
        raise ApiError(404, "not-found", f"there is no call {call_id[:64]}")
    return call, principal


def call_json(call: Call) -> dict[str, Any]:
    """A call as the API shows it; times are ISO 8601 in UTC, lengths are seconds."""
    return {
        "id": call.id,
        "workspace": call.workspace,
        "agent": call.agent,
        "direction": call.direction,
        "to": call.to,
        "from": call.from_,
        "status": call.status,
        "endedBy": call.ended_by if call.over else "",
        "reason": call.reason,
        "rule": call.rule,
        "conference": call.conference,
        "requestedAt": _iso(call.requested_at),
        "answeredAt": _iso(call.answered_at),
        "endedAt": _iso(call.ended_at) if call.over else None,
        "duration": call.duration,
        "settled": call.settled,
        "plugins": call.plugins,
        "legs": [
            {
                "callSid": leg.call_sid,
                "role": leg.role,
                "status": leg.status,
                "inConference": leg.joined and not leg.left,
            }
            for leg in call.legs
        ],
    }


def event_json(row: Row) -> dict[str, Any]:
    return {
        "id": row["id"],
        "name": row["name"],
        "source": row["source"],
        "callSid": row["call_sid"],
        "role": row["role"],
        "status": row["status"],
        "at": _iso(row["at"]),
        "receivedAt": _iso(row["received_at"]),
        "detail": json.loads(row["payload"]),
    }


@blueprint.errorhandler(ApiError)
def answer_error(error: ApiError) -> Response:
    """Every error of the API has one shape: `{error: {code, message}}`."""
    response = jsonify(error={"code": error.code, "message": error.message})
    response.status_code = error.http_status
    if error.retry_after:
        response.headers["Retry-After"] = str(error.retry_after)
    notes = {"outcome": f"refused {error.http_status}", "reason": error.message}
    log_line(log, logging.WARNING, f"api {request.method} {request.path}", notes, 0.0)
    return response


@blueprint.errorhandler(StoreError)
def answer_store_error(error: StoreError) -> Response:
    return answer_error(ApiError(503, "store", "the store is not available, try again"))


@blueprint.errorhandler(ConfigError)
def answer_config_error(error: ConfigError) -> Response:
    return answer_error(ApiError(503, "configuration", str(error)))


@blueprint.app_errorhandler(HTTPException)
def answer_http_error(error: HTTPException) -> HTTPException | Response:
    """What Flask itself refuses (404, 405, 413, 500), in the same shape below our prefix."""
    if not request.path.startswith(f"{blueprint.url_prefix}/"):
        return error
    code = error.name.lower().replace(" ", "-")
    response = answer_error(ApiError(error.code or 500, code, error.description or error.name))
    response.headers.extend({name: value for name, value in error.get_headers() if name == "Allow"})
    return never_cache(response)


@blueprint.after_request
def never_cache(response: Response) -> Response:
    response.headers["Cache-Control"] = "no-store"
    return response


def _fields() -> Mapping[str, str]:
    """The request's fields, however they came: query, form or a JSON object."""
    if not request.is_json or not request.content_length:
        return request.values
    body = request.get_json(silent=True)
    if not isinstance(body, dict):
        raise ApiError(400, "bad-field", "the body must be a JSON object")
    return {**request.args, **{name: str(value) for name, value in body.items()}}


def _number(name: str, default: int, *, lowest: int, highest: int) -> int:
    text = _fields().get(name)
    if text is None:
        return default
    if not (text.isascii() and text.isdigit() and len(text) <= 16 and lowest <= int(text) <= highest):
        raise ApiError(400, "bad-field", f"field {name} must be a whole number from {lowest} to {highest}")
    return int(text)


def _cursor(text: str | None) -> tuple[float, str]:
    """Where a page starts: the time and id of the last call of the page before."""
    if text is None:
        return 1e12, ""
    seconds, _, call_id = text.partition("~")
    try:
        at = float(seconds)
    except ValueError:
        at = math.nan
    if not math.isfinite(at) or not call_id:
        raise ApiError(400, "bad-field", "field before must be what an earlier answer gave as before")
    return at, call_id


def _iso(at: float | None) -> str | None:
    if at is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03d}Z"
