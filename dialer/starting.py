"""From dialer.toml to settings and plugins at a start, whatever is broken that can be done without."""

from __future__ import annotations

import logging
from contextlib import suppress

from dialer import logs
from dialer.config import load, load_last_good
from dialer.errors import ConfigError
from dialer.plugins import Broken, Plugins
from dialer.settings import Settings
from dialer.starts import MOST_BROKEN, Starts

log = logging.getLogger("dialer.app")


def start(config: Settings | None = None) -> tuple[Settings, Plugins]:
    """The settings and their plugins; raises ConfigError.

    Under `dialer run` those last in use count where dialer.toml is broken now. A plugin that broke the last start and
    breaks this one too is set aside; the first time it refuses the start, so that somebody at a keyboard sees it.
    """
    settings = config
    try:
        settings = settings or load()
        starts = Starts.of(settings)
        return settings, Plugins(settings, starts=starts)
    except ConfigError as error:
        if config is None:
            with suppress(Broken):
                return _start_last_good(error)
        if settings is None or not isinstance(error, Broken):
            raise
        return settings, start_without(settings, starts, error)


def start_without(settings: Settings, starts: Starts, error: Broken) -> Plugins:
    """The same start without those that broke the last one too; raises the error for those that did not."""
    starts.note_broken(error.broken)
    aside = starts.set_aside()
    if not error.broken.keys() <= aside.keys():
        raise error
    plugins = Plugins(settings, starts=starts, aside=aside)
    for name in error.broken:
        log.error("plugin %s is set aside, it broke %d starts in a row: %s", name, MOST_BROKEN, aside[name])
    return plugins


def _start_last_good(error: ConfigError) -> tuple[Settings, Plugins]:
    settings = load_last_good(error)
    plugins = Plugins(settings, starts=Starts.of(settings))
    plugins.problem = str(error)
    logs.configure(settings.server.log, settings.server.log_level)
    log.error("dialer.toml cannot be used, going on with %s: %s", settings.source.file, error)
    return settings, plugins
