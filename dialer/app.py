"""create_app: settings, store, plugins, blueprints, in this order."""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Iterable

from flask import Flask

from dialer import admin, api, logs, plugin_routes, voice
from dialer import api_controls as _controls  # noqa: F401  # more routes of the same blueprint
from dialer import api_plugins as _plugins  # noqa: F401
from dialer.clock import steady_seconds
from dialer.config import load, write_first
from dialer.plugins import FixedPlugins, Plugins, PluginSet
from dialer.service import Service
from dialer.settings import Settings
from dialer.starting import start
from dialer.store import Store, open_store
from dialer.twilio import Carrier
from dialer.webhook import MAX_BODY, FastLane


def create_app(
    config: Settings | None = None,
    *,
    plugins: Iterable[object] | Plugins | None = None,
    store: Store | None = None,
    clock: Callable[[], float] = time.time,
    random_hex: Callable[[int], str] = secrets.token_hex,
    steady: Callable[[], float] | None = None,
    carriers: Callable[[str], Carrier] | None = None,
    hosted: bool = False,
) -> Flask:
    """A Flask application that is a Dialer; raises ConfigError or StoreError with one line that names the fix.

    Without arguments everything comes from dialer.toml and the environment. `plugins` takes plugin objects, as tests
    have them, in place of those that are configured. `hosted`: another application has it inside, and the log.
    """
    app = Flask("dialer", static_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = MAX_BODY
    app.url_map.merge_slashes = False  # a redirect would be answered under whatever host the request names
    app.extensions["dialer"] = create_service(
        config,
        plugins=plugins,
        store=store,
        clock=clock,
        random_hex=random_hex,
        steady=steady,
        carriers=carriers,
        hosted=hosted,
    )
    for blueprint in (voice.webhooks.blueprint(), api.blueprint, admin.blueprint):
        app.register_blueprint(blueprint)
    plugin_routes.mount(app, app.extensions["dialer"])
    app.wsgi_app = FastLane(app, voice.webhooks)  # type: ignore[method-assign]  # as Flask's documents do it
    return app


def create_service(
    config: Settings | None = None,
    *,
    plugins: Iterable[object] | Plugins | None = None,
    store: Store | None = None,
    clock: Callable[[], float] = time.time,
    random_hex: Callable[[int], str] = secrets.token_hex,
    steady: Callable[[], float] | None = None,
    carriers: Callable[[str], Carrier] | None = None,
    hosted: bool = False,
) -> Service:
    """What the application and the dispatcher work with, made the same way for both.

    A `clock` that comes without a `steady` one counts as one that nobody sets.
    """
    if config is None:
        write_first()

    settings, used = start(config) if plugins is None else (config or load(), _fixed(plugins))
    if hosted:
        logs.join_host()
    else:
        logs.configure(settings.server.log, settings.server.log_level)
    steady = steady or (steady_seconds if clock is time.time else clock)
    made = Service(settings, store or open_store(settings.store.url), used, clock, random_hex, steady, carriers)
    used.attach(made)
    return made


def _fixed(plugins: Iterable[object] | Plugins) -> Plugins:
    return plugins if isinstance(plugins, Plugins) else FixedPlugins(PluginSet.of(plugins))
