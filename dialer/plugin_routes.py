"""The plugins' own pages and endpoints, under /plugins/<name>/: closed to all without a key, unless a view says so."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from flask import Blueprint, Flask, current_app, g, request

from dialer.answers import said
from dialer.api import answer_error
from dialer.auth import ApiError, Principal, authenticate
from dialer.errors import PluginError
from dialer.service import Service, service
from dialer.store import StoreError

V = TypeVar("V", bound=Callable[..., Any])

log = logging.getLogger("dialer.plugins")

PREFIX = "/plugins/"
#: Bytes of a request to a plugin.
MAX_BODY = 1024 * 1024
_READING = ("GET", "HEAD", "OPTIONS")


def public(view: V) -> V:
    """Mark a view of a plugin's blueprint: it is answered without a key, for everybody. Write it below @route."""
    view.dialer_public = True  # type: ignore[attr-defined]
    return view


def principal() -> Principal:
    """Who asks a plugin's view: the workspace (and the agent) of the key. Raises PluginError in a public view."""
    found: Principal | None = g.get("dialer_principal")
    if found is None:
        raise PluginError("nobody is known to ask: the view is public")
    return found


def mount(app: Flask, dialer: Service) -> list[str]:
    """Give the plugins that are on their routes; one that cannot make them goes without. Gives who has some."""
    mounted = []
    for name, function in dialer.plugins.current().set_up_hooks("register_blueprint"):
        try:
            blueprint = function()
            if blueprint is None:
                continue
            if not isinstance(blueprint, Blueprint):
                raise TypeError(f"register_blueprint gave a {type(blueprint).__name__}, not a flask.Blueprint")
            app.register_blueprint(blueprint, name=f"plugin-{name.replace('.', '-')}", url_prefix=f"{PREFIX}{name}")
        except (Exception, SystemExit) as error:
            log.error("plugin %s has no routes: %s", name, said(error))
            continue
        mounted.append(name)
    _note_routes(dialer, mounted)
    app.before_request(_gate)
    app.register_error_handler(ApiError, answer_error)
    return mounted


def _note_routes(dialer: Service, mounted: list[str]) -> None:
    """Keep who has routes, so that `dialer plugins` can say for whom a restart is due."""
    try:
        with dialer.store.read() as tx:
            row = tx.one("plugin_note", name="routes")
        if json.loads(row["note"] if row else "[]") != mounted:
            with dialer.store.write() as tx:
                tx.run("save_plugin_note", name="routes", note=json.dumps(mounted))
    except StoreError as error:
        log.error("which plugins have routes could not be kept: %s", error)


def _gate() -> None:
    """Before all else of a request to a plugin: it is on, in this workspace too, and the key is good."""
    if not request.path.startswith(PREFIX):
        return
    name, dialer = request.path.removeprefix(PREFIX).partition("/")[0], service()
    plugins = dialer.plugins.current()
    request.max_content_length = MAX_BODY
    if not plugins.on(name) or request.endpoint is None:
        raise _not_found()
    if getattr(current_app.view_functions[request.endpoint], "dialer_public", False):
        return
    asks = authenticate(dialer, "calls:read" if request.method in _READING else "calls:write")
    if not plugins.in_workspace(asks.workspace).on(name):
        raise _not_found()
    g.dialer_principal = asks


def _not_found() -> ApiError:
    return ApiError(404, "not-found", "there is nothing here")
