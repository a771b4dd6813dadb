"""Is it alive, is it ready: for load balancers and for `dialer run`."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from dialer.service import service
from dialer.store import StoreError

blueprint = Blueprint("admin", __name__)


@blueprint.get("/healthz")
def healthy() -> Response:
    """The process answers."""
    return jsonify(ok=True)


@blueprint.get("/readyz")
def ready() -> tuple[Response, int]:
    """The store answers too; says whether a broken change of the configuration was ignored, and nothing else."""
    dialer = service()
    try:
        with dialer.store.read() as tx:
            tx.one("open_calls")
    except StoreError:
        return jsonify(ok=False, store="does not answer"), 503
    dialer.plugins.current()
    return jsonify(ok=True, config="last change ignored" if dialer.plugins.problem else "current"), 200
