"""Is it alive, is it ready: for load balancers and for `dialer run`."""

from __future__ import annotations

from flask import Blueprint, Response, jsonify

from dialer.service import service
from dialer.store import StoreError

blueprint = Blueprint("admin", __name__)

#: Seconds after which a job that is due and not taken shows that no dispatcher works.
LATE = 10.0


@blueprint.get("/healthz")
def healthy() -> Response:
    """The process answers."""
    return jsonify(ok=True)


@blueprint.get("/readyz")
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
