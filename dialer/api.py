"""The REST API: browser tokens, and calls to read and to end. Every answer is of the key's own workspace."""

from __future__ import annotations

import json
import logging
import re
import time
from collections.abc import Mapping
from typing import Any

from flask import Blueprint, Response, current_app, jsonify, request
from werkzeug.exceptions import HTTPException

from dialer import schemas
from dialer.auth import ApiError, Principal, authenticate, require_agent
from dialer.calls import Call
from dialer.errors import ConfigError, DialerError
from dialer.logs import log_line
from dialer.openapi import Operation, describe, description
from dialer.records import find_call
from dialer.service import service
from dialer.store import Row, StoreError
from dialer.twilio import browser_token

log = logging.getLogger("dialer.api")
blueprint = Blueprint("api", __name__, url_prefix="/v1")

MAX_TTL = 3600
#: Options for `new Device(token, deviceOptions)`: wideband first, and a question before a tab in a call is closed.
DEVICE_OPTIONS = {"codecPreferences": ["opus", "pcmu"], "closeProtection": True}


@blueprint.route("/voice/token", methods=["GET", "POST"])
@describe(
    Operation(
        "Tokens",
        {200: schemas.TOKEN},
        scope="token",
        query=schemas.TOKEN_FIELDS,
        body=schemas.TOKEN_FIELDS,
        errors=(400, 413),
    )
)
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
@describe(Operation("Calls", {200: schemas.CALLS}, scope="calls:read", query=schemas.CALL_FILTERS, errors=(400,)))
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
@describe(Operation("Calls", {200: schemas.CALL}, scope="calls:read", errors=(404,)))
def show_call(call_id: str) -> Response:
    """One call, with its legs."""
    call, _ = own_call(call_id, "calls:read")
    return jsonify(call_json(call))


@blueprint.get("/calls/<call_id>/events")
@describe(
    Operation("Calls", {200: schemas.EVENTS}, scope="calls:read", query=schemas.EVENT_FILTERS, errors=(400, 404))
)
def call_events(call_id: str) -> Response:
    """What happened to a call, in the order in which it was stored: `{events: […]}`; `?after=` the last id seen."""
    call, _ = own_call(call_id, "calls:read")
    after = _number("after", 0, lowest=0, highest=2**53)
    with service().store.read() as tx:
        rows = tx.all("events_of_call", call_id=call.id, workspace=call.workspace, after=after)
    return jsonify(events=[event_json(row) for row in rows])


@blueprint.get("/openapi.json")
@describe(Operation("Health", {200: {"type": "object"}}))
def openapi() -> Response:
    """This description."""
    return jsonify(description(current_app, service().settings.server.public_url))


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
    try:
        request.query_string.decode()
    except UnicodeDecodeError:
        raise ApiError(400, "bad-field", "the query is not UTF-8: escape its bytes with %") from None
    if not (request.is_json and request.get_data()):
        return request.values
    try:
        body = request.get_json(silent=True)
        given = {name: str(value) for name, value in body.items()} if isinstance(body, dict) else None
        json.dumps(given, ensure_ascii=False).encode()
    except (RecursionError, UnicodeEncodeError):  # nested too deeply; half a character, which no store takes
        given = None
    if given is None:
        raise ApiError(400, "bad-field", "the body must be a JSON object of plain values")
    return {**request.args, **given}


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
    if not re.fullmatch(schemas.CURSOR, text, re.ASCII):
        raise ApiError(400, "bad-field", "field before must be what an earlier answer gave as before")
    seconds, _, call_id = text.partition("~")
    return float(seconds), call_id


def _iso(at: float | None) -> str | None:
    if at is None:
        return None
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at)) + f".{int(at % 1 * 1000):03d}Z"
