"""The REST API's view of the plugins, as one workspace has them."""

from __future__ import annotations

from flask import Response, jsonify

from dialer import schemas
from dialer.api import blueprint
from dialer.auth import authenticate
from dialer.openapi import Operation, describe
from dialer.plugin_view import overview
from dialer.service import service
from dialer.starts import Starts


@blueprint.get("/plugins")
@describe(Operation("Plugins", {200: schemas.PLUGINS}, scope="admin"))
def list_plugins() -> Response:
    """The plugins as this workspace has them, in the order in which they are asked, and how they do."""
    dialer = service()
    principal = authenticate(dialer, "admin")
    used = dialer.plugins.current()
    rows = overview(used, Starts.of(dialer.settings), dialer.store, dialer.clock(), principal.workspace)
    return jsonify(plugins=rows, config="last change ignored" if dialer.plugins.problem else "current")
