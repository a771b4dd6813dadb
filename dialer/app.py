"""create_app: settings, store, plugins, blueprints, in this order."""

from __future__ import annotations

import logging
import secrets
import time
from collections.abc import Callable, Iterable

from flask import Flask

from dialer import admin, api, logs, voice
from dialer.config import load, load_last_good, write_first
from dialer.errors import ConfigError
from dialer.plugins import FixedPlugins, Plugins, PluginSet
from dialer.service import Service
from dialer.settings import Settings
from dialer.store import Store, open_store
from dialer.webhook import FastLane

log = logging.getLogger("dialer.app")


def create_app(
    config: Settings | None = None,
    *,
    plugins: Iterable[object] | Plugins | None = None,
    store: Store | None = None,
    clock: Callable[[], float] = time.time,
    random_hex: Callable[[int], str] = secrets.token_hex,
) -> Flask:
    """A Flask application that is a Dialer; raises ConfigError or StoreError with one line that names the fix.

    Without arguments everything comes from dialer.toml and the environment. `plugins` takes plugin objects, as tests
    have them, in place of those that are configured.
    """
    app = Flask("dialer", static_folder=None)
    app.extensions["dialer"] = create_service(config, plugins=plugins, store=store, clock=clock, random_hex=random_hex)
    for blueprint in (voice.webhooks.blueprint(), api.blueprint, admin.blueprint):
        app.register_blueprint(blueprint)
    app.wsgi_app = FastLane(app, voice.webhooks)  # type: ignore[method-assign]  # as Flask's documents do it
    return app


def create_service(
    config: Settings | None = None,
    *,
    plugins: Iterable[object] | Plugins | None = None,
    store: Store | None = None,
    clock: Callable[[], float] = time.time,
    random_hex: Callable[[int], str] = secrets.token_hex,
) -> Service:
    """What the application and the dispatcher work with, made the same way for both."""
    if config is None:
        write_first()

    def build(settings: Settings) -> Plugins:
        if plugins is None:
            return Plugins(settings)
        return plugins if isinstance(plugins, Plugins) else FixedPlugins(PluginSet.of(plugins))

    settings, used = _in_use(config, build)
    logs.configure(settings.server.log, settings.server.log_level)
    return Service(settings, store or open_store(settings.store.url), used, clock, random_hex)


def _in_use(config: Settings | None, build: Callable[[Settings], Plugins]) -> tuple[Settings, Plugins]:
    """The settings and their plugins; under `dialer run` those last in use, where dialer.toml is broken now."""
    try:
        settings = config or load()
        return settings, build(settings)
    except ConfigError as error:
        if config:
            raise
        settings = load_last_good(error)
        logs.configure(settings.server.log, settings.server.log_level)
        log.error("dialer.toml cannot be used, going on with %s: %s", settings.source.file, error)
        used = build(settings)
        used.problem = str(error)
        return settings, used
