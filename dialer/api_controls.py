"""The REST API's requests that change a running call."""

from __future__ import annotations

from flask import Response, jsonify, request

from dialer import controls, schemas
from dialer.api import blueprint, call_json, own_call
from dialer.auth import ApiError, Principal
from dialer.openapi import Operation, describe
from dialer.service import service


@blueprint.post("/calls/<call_id>/hangup")
@describe(Operation("Calls", {200: schemas.CALL}, scope="calls:write", errors=(404, 409)))
def hang_up(call_id: str) -> Response:
    """End a call for everybody. Repeating it is safe; 409 when it has ended already."""
    call, principal = own_call(call_id, "calls:write")
    by = "agent" if principal.agent else "system"
    try:
        after = controls.hang_up(service(), call, by=by, payload={"key": principal.key_id})
    except controls.NotNow as refusal:
        raise ApiError(409, "ended", str(refusal)) from None
    return jsonify(call_json(after))


@blueprint.post("/calls/<call_id>/recording/pause")
@describe(Operation("Calls", {202: schemas.CALL}, scope="calls:write", errors=(404, 409)))
def pause_recording(call_id: str) -> Response:
    """Pause the recording of a call (silence takes its place); an event tells when it is done."""
    return _ask_for(call_id, "recording-pause")


@blueprint.post("/calls/<call_id>/recording/resume")
@describe(Operation("Calls", {202: schemas.CALL}, scope="calls:write", errors=(404, 409)))
def resume_recording(call_id: str) -> Response:
    """Go on recording a call; an event tells when it is done."""
    return _ask_for(call_id, "recording-resume")


def _ask_for(call_id: str, control: str, **detail: str) -> Response:
    """Ask for a control; a request repeated under the same Idempotency-Key is done once."""
    call, principal = own_call(call_id, "calls:write")
    try:
        controls.ask_for(service(), call, control, by="api", key=_key(principal), detail=detail)
    except controls.NotNow as refusal:
        raise ApiError(409, "not-now", str(refusal)) from None
    response = jsonify(call_json(call))
    response.status_code = 202
    return response


def _key(principal: Principal) -> str:
    given = request.headers.get("Idempotency-Key", "")
    if len(given) > 100:
        raise ApiError(400, "bad-field", "header Idempotency-Key may have 100 characters at most")
    return f"{principal.key_id}:{given or service().random_hex(8)}"
