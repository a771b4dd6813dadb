"""Is it alive, is it ready: for load balancers and for `dialer run`."""

from __future__ import annotations

from urllib.parse import urlsplit

from flask import Blueprint, Response, jsonify, request

from dialer.auth import ApiError, authenticate
from dialer.metrics import CONTENT_TYPE, exposition
from dialer.openapi import PLAIN, WITH_KEY, Operation, describe
from dialer.schemas import HEALTHY, NOT_READY, READY
from dialer.service import service
from dialer.settings import is_loopback
from dialer.store import StoreError

blueprint = Blueprint("admin", __name__)

#: Seconds after which a job that is due and not taken shows that no dispatcher works.
LATE = 10.0


@blueprint.get("/healthz")
@describe(Operation("Health", {200: HEALTHY}))
def healthy() -> Response:
    """The process answers."""
    return jsonify(ok=True)


@blueprint.get("/readyz")
@describe(Operation("Health", {200: READY, 503: NOT_READY}))
def ready() -> tuple[Response, int]:
    """The store answers too; says whether a change of the configuration was ignored and whether jobs are done."""
    dialer = service()
    try:
        with dialer.store.read() as tx:
            row = tx.one("next_job")
    except StoreError:
        return jsonify(ok=False, store="does not answer"), 503
    dialer.plugins.current()
    late = row is not None and row["run_at"] is not None and row["run_at"] < dialer.clock() - LATE
    return jsonify(
        ok=True,
        config="last change ignored" if dialer.plugins.problem else "current",
        dispatcher="late" if late else "in time",
    ), 200


@blueprint.get("/metrics")
@describe(Operation("Health", dict.fromkeys((200, *WITH_KEY), PLAIN), scope="metrics", keyless=True))
def metrics() -> Response:
    """Figures for Prometheus, of all tenants: for this machine itself, or a key of the operator's."""
    dialer = service()
    try:
        if not from_this_machine():
            authenticate(dialer, "metrics")
        return Response(exposition(dialer), content_type=CONTENT_TYPE)
    except ApiError as error:
        return Response(f"{error.message}\n", error.http_status, content_type="text/plain; charset=utf-8")
    except StoreError:
        return Response("the store does not answer\n", 503, content_type="text/plain; charset=utf-8")


def from_this_machine() -> bool:
    """Whether the request was made here, and not only handed on by a proxy that runs here."""
    if any(name in request.headers for name in ("Forwarded", "Via", "X-Forwarded-For", "X-Real-Ip")):
        return False
    return is_loopback(request.remote_addr or "") and is_loopback(urlsplit(request.host_url).hostname or "")
