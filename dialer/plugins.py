"""The plugins of a running Dialer: started from dialer.toml, and swapped as a whole when the file changes."""

from __future__ import annotations

import contextlib
import logging
import threading
import time
from collections.abc import Iterable
from dataclasses import replace
from typing import TYPE_CHECKING

from dialer import audit
from dialer.config import keep_good, load_last_good, mark, reload
from dialer.errors import ConfigError
from dialer.plugin_set import Broken, PluginSet, Verdict, look_over
from dialer.settings import Settings
from dialer.starts import Starts
from dialer.tables import Mark

if TYPE_CHECKING:
    from dialer.service import Service

__all__ = ["Broken", "FixedPlugins", "PluginSet", "Plugins", "Verdict", "check"]

log = logging.getLogger("dialer.plugins")

#: Seconds that the request which sees a change waits for it; what takes longer goes on behind the requests.
PATIENCE = 2.0


class Plugins:
    """The set that is on now: built from dialer.toml, and built anew when the file has changed.

    `current` costs one look at the file; take it once per request. A change that cannot be used leaves the set
    as it was and stands in `problem`.
    """

    def __init__(
        self, settings: Settings, *, inline: bool = False, starts: Starts | None = None, aside: Iterable[str] = ()
    ) -> None:
        self._inline = inline
        self._starts = starts
        self._busy = threading.Lock()
        self._service: Service | None = None
        self.problem = ""
        self._use(settings, aside)

    @property
    def starts(self) -> Starts | None:
        """What is known of the plugins' starts here, if anything is."""
        return self._starts

    def current(self) -> PluginSet:
        """The set to use for one whole request."""
        seen = mark(self._settings.source.file)
        if seen != self._seen or self._young:
            self._refresh(seen)
        return self._set

    def attach(self, service: Service) -> None:
        """Lend the plugins, those of now and of later, their part of this Dialer."""
        self._service = service
        self._set.attach(service.settings.instance, lambda: service)
        audit.note(service, self._settings, self._set)

    def _use(self, settings: Settings, aside: Iterable[str]) -> None:
        new = PluginSet.build(settings, inline=self._inline, starts=self._starts, aside=aside)
        if (service := self._service) is not None:
            new.attach(service.settings.instance, lambda: service)
        self._set = new
        self._settings = settings
        self._note(settings.source.mark)
        if self._starts:
            self._starts.note_good({name: new.hooks_of(name) for name in new.names if new.on(name)})

    def _note(self, seen: Mark) -> None:
        # Two changes within one tick of the file system's clock (up to 10 ms) can bear the same mark.
        self._seen = seen
        self._young = seen is not None and abs(time.time_ns() - seen[0]) < 20_000_000

    def _refresh(self, seen: Mark) -> None:
        """Build and swap, in one thread at a time; the others go on with the set they know."""
        if not self._busy.acquire(blocking=False):
            return
        swapped = threading.Event()
        if self._inline:
            self._rebuild(seen, swapped)
        else:
            threading.Thread(target=self._rebuild, args=(seen, swapped), name="plugins", daemon=True).start()
            swapped.wait(PATIENCE)

    def _rebuild(self, seen: Mark, swapped: threading.Event) -> None:
        try:
            if seen is None or seen[1] == 0:  # as some editors leave it for a moment
                raise ConfigError(f"{self._settings.source.file}: the file is gone or empty")
            settings = reload(self._settings)
            changed = seen != self._seen or _asks_for_other(settings, self._settings)
            if changed:
                if self._starts:
                    self._starts.given_up.clear()
                self._use(settings, tuple(self._set.aside))
            self._note(settings.source.mark)
            self.problem = ""
            if changed:
                keep_good(settings)
                log.info("plugins now: %s", self._set.label or "none")
            swapped.set()
            if changed and self._service:
                audit.note(self._service, settings, self._set)
        except Exception as error:  # anything else would be a fault of ours, and no reason to stop calls
            self._return_to_good()
            self._note(seen)
            if self.problem != str(error):
                self.problem = str(error)
                log.error("change of plugins ignored, still on: %s: %s", self._set.label or "none", error)
        finally:
            swapped.set()
            self._busy.release()


    def _return_to_good(self) -> None:
        """Use what was last good for any process: this one may have had no request while that was written."""
        with contextlib.suppress(Exception):
            good = load_last_good(ConfigError("there is no last good copy"))
            if _asks_for_other(good, self._settings):
                self._use(replace(good, source=self._settings.source), tuple(self._set.aside))


class FixedPlugins(Plugins):
    """A set that never changes, such as one made of plugin objects."""

    def __init__(self, plugins: PluginSet) -> None:
        self.problem = ""
        self._starts = None
        self._set = plugins

    def attach(self, service: Service) -> None:
        self._set.attach(service.settings.instance, lambda: service)

    def current(self) -> PluginSet:
        return self._set


def check(settings: Settings) -> list[str]:
    """Every fault of the listed plugins and their settings, one line each."""
    return [fault.text for fault in look_over(settings).faults]


def _asks_for_other(new: Settings, old: Settings) -> bool:
    def wanted(settings: Settings) -> tuple[object, ...]:
        tables, differing = settings.plugin_tables, settings.workspace_tables
        return settings.plugins, settings.workspace_plugins, tables, differing

    return wanted(new) != wanted(old)
