"""The plugins' own pages and endpoints, under /plugins/<name>/: closed to all without a key, unless a view says so."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, TypeVar

from flask import Blueprint, Flask, current_app, g, request

from dialer.answers import said
from dialer.api import answer_error
from dialer.auth import ApiError, Principal, authenticate
from dialer.discovery import within
from dialer.errors import PluginError
from dialer.service import Service, service
from dialer.starts import TRY_AGAIN, Starts
from dialer.store import StoreError

V = TypeVar("V", bound=Callable[..., Any])

log = logging.getLogger("dialer.plugins")

PREFIX = "/plugins/"
#: Bytes of a request to a plugin.
MAX_BODY = 1024 * 1024
#: Seconds that making the routes of one plugin may take.
ROUTES_SECONDS = 5.0
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
    mounted, starts = [], dialer.plugins.starts
    for name, function in dialer.plugins.current().set_up_hooks("register_blueprint"):
        try:
            blueprint = _made(app, name, function, starts)
            if blueprint is None:
                continue
            _add(app, name, blueprint)
        except (Exception, SystemExit) as error:
            log.error("plugin %s has no routes: %s", name, error if isinstance(error, PluginError) else said(error))
            continue
        mounted.append(name)
    _note_routes(dialer, mounted)
    app.before_request(_gate)
    app.register_error_handler(ApiError, answer_error)
    return mounted


def _made(app: Flask, name: str, function: Callable[[], Any], starts: Starts | None) -> Blueprint | None:
    """The plugin's blueprint, tried; raises PluginError. One that hangs or ends the process must stop no start."""
    if starts and starts.kills_routes(name):
        raise PluginError(f"processes end while it makes them; it is tried again after {TRY_AGAIN / 60:.0f} minutes")

    def made() -> Any:
        given = function()
        if given is not None:
            _try(app, name, given)
        return given

    blueprint: Blueprint | None

    with starts.importing(name, "routes") if starts else nullcontext():
        blueprint, told = within(ROUTES_SECONDS, made, "register_blueprint is still at work after")
    if told:
        raise PluginError(told)
    if starts:
        starts.forget_routes(name)
    return blueprint


def _try(app: Flask, name: str, blueprint: object) -> None:
    """Add the blueprint to an application of its own; raises TypeError if it reaches beyond the plugin's pages."""
    if not isinstance(blueprint, Blueprint):
        raise TypeError(f"register_blueprint gave a {type(blueprint).__name__}, not a flask.Blueprint")
    trial = Flask("trial", static_folder=None)
    trial.config.update(app.config)
    trial.extensions.update(app.extensions)
    before, own = _reach(trial), f"{PREFIX}{name}"
    _add(trial, name, blueprint)
    beyond = sorted(kind for kind, count in _reach(trial).items() if count != before[kind])
    beyond += [rule.rule for rule in trial.url_map.iter_rules() if not f"{rule.rule}/".startswith(f"{own}/")]
    if beyond:
        raise TypeError(f"its blueprint would change all of Dialer ({', '.join(beyond)}); have it keep to {own}/")


def _reach(app: Flask) -> dict[str, int]:
    """How many functions an application has of each kind that all its requests go through."""
    by_blueprint: dict[str, Any] = {
        "before_app_request": app.before_request_funcs,
        "after_app_request": app.after_request_funcs,
        "teardown_app_request": app.teardown_request_funcs,
        "app_url_value_preprocessor": app.url_value_preprocessors,
        "app_url_defaults": app.url_default_functions,
        "app_context_processor": app.template_context_processors,
    }
    errors = app.error_handler_spec.get(None, {})
    return {kind: len(functions.get(None, ())) for kind, functions in by_blueprint.items()} | {
        "app_errorhandler": sum(map(len, errors.values())),
        "teardown_appcontext": len(app.teardown_appcontext_funcs),
        "wsgi_app": int("wsgi_app" in vars(app)),
    }


def _add(app: Flask, name: str, blueprint: Blueprint) -> None:
    app.register_blueprint(blueprint, name=f"plugin-{name.replace('.', '-')}", url_prefix=f"{PREFIX}{name}")


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
