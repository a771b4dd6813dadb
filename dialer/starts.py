"""Which plugins broke a start of this instance: who breaks two in a row is set aside, and the rest starts.

Kept in a file beside the plugins' folders, since a process that a plugin takes down cannot tell anybody else.
"""

from __future__ import annotations

import fcntl
import json
import logging
import os
import re
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from dialer.settings import Settings

log = logging.getLogger("dialer.plugins")

#: Broken starts in a row after which a plugin is set aside.
MOST_BROKEN = 2
#: Seconds that an import may take.
IMPORT_SECONDS = 20.0
#: Seconds until a plugin that hung or took its process down is imported once more by a process that starts.
TRY_AGAIN = 600.0
#: How the reasons of those begin.
HANGS, KILLS = "it is still not imported after", "it ends the process that imports it, with"

_PROBE = """
import importlib.metadata, sys
for entry_point in importlib.metadata.entry_points(group="dialer.plugins", name=sys.argv[1]):
    try:
        entry_point.load()
    except (Exception, SystemExit):
        pass  # told better by an ordinary import
"""

Notes = dict[str, dict[str, Any]]


class Starts:
    """What is known of the plugins' starts in this folder.

    `given_up`: whom this process tries no more, and why; `deaths`: whose import hung or took a process down, and how.
    """

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.given_up: dict[str, str] = {}
        self.deaths: dict[str, str] = {}
        self._counts: dict[str, int] = {}

    @classmethod
    def of(cls, settings: Settings) -> Starts:
        """The starts of the instance that these settings are for."""
        return cls(settings.instance / "plugins")

    def notes(self) -> Notes:
        """By plugin: `broken` starts in a row; of the last one `reason`, `death` and time (`at`); its last `hooks`."""
        try:
            found = json.loads((self.folder / "starts.json").read_text())
        except (OSError, ValueError):
            return {}
        return found if isinstance(found, dict) else {}

    def hooks(self, name: str) -> tuple[str, ...]:
        """The hooks of a plugin's last good start; of one that had none, the one that must not be left out."""
        return tuple(self.notes().get(name, {}).get("hooks", ("validate_call",)))

    def has_worked(self, name: str) -> bool:
        return "hooks" in self.notes().get(name, {})

    def set_aside(self) -> dict[str, str]:
        """The plugins that are set aside, and why."""
        return {name: str(one["reason"]) for name, one in self.notes().items() if one.get("broken", 0) >= MOST_BROKEN}

    def refuses(self, name: str) -> str:
        """Why a plugin is not even imported here, after it hung or took a process down; empty when it may be."""
        note, died = self.notes().get(name, {}), self._has_died(name)
        if not died and not note.get("death"):
            return ""
        if not died and note["broken"] >= MOST_BROKEN and time.time() - note["at"] < TRY_AGAIN:
            self._counts[name] = 0
            return str(note["death"])
        self._counts[name] = 2 if died else 1
        self.deaths[name] = _probe(name)
        return self.deaths[name]

    @contextmanager
    def importing(self, name: str, doing: str = "importing") -> Iterator[None]:
        """Leave a trace that a process which ends inside cannot take away."""
        path = self.folder / f".{doing}-{name}-{os.getpid()}{time.time_ns()}"  # in a container, pids come again
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            trace = path.open("w")
        except OSError:  # no folder of ours: then nothing is known of starts
            yield
            return
        with trace:
            fcntl.flock(trace, fcntl.LOCK_EX)
            try:
                yield
            finally:
                path.unlink(missing_ok=True)

    def note_broken(self, broken: Mapping[str, str]) -> None:
        """Count a broken start of each of these, with the reason."""

        def note(notes: Notes) -> None:
            for name, reason in broken.items():
                known, count = notes.setdefault(name, {}), self._counts.get(name, 1)
                if count:
                    broken_so_often = known.get("broken", 0) + count
                    known |= {"broken": broken_so_often, "reason": reason, "at": time.time()}
                    known["death"] = self.deaths.get(name, "")

        self.given_up |= broken
        self._change(note)

    def note_good(self, hooks: Mapping[str, Iterable[str]]) -> None:
        """These plugins started, with these hooks."""
        good = {name: {"hooks": sorted(found)} for name, found in hooks.items()}
        if any(self.notes().get(name) != note for name, note in good.items()):
            self._change(lambda notes: notes.update(good))

    def forget(self, name: str) -> None:
        """Count anew: somebody says that the plugin is mended."""
        self.given_up.pop(name, None)
        self.forget_routes(name)
        if name in self.notes():
            known = {"hooks": self.hooks(name)} if self.has_worked(name) else {}
            self._change(lambda notes: notes.update({name: known}))

    def _change(self, change: Callable[[Notes], None]) -> None:
        """Change the notes and write them back as a whole, one process at a time."""
        try:
            self.folder.mkdir(mode=0o700, parents=True, exist_ok=True)
            with (self.folder / "starts.lock").open("w") as lock:
                fcntl.flock(lock, fcntl.LOCK_EX)
                notes = self.notes()
                change(notes)
                beside = self.folder / "starts.json.new"
                beside.write_text(json.dumps(notes, indent=1) + "\n")
                beside.replace(self.folder / "starts.json")
        except OSError as error:
            log.error("how plugins started cannot be kept in %s: %s", self.folder, error.strerror)

    def kills_routes(self, name: str) -> bool:
        """Whether processes keep ending while the plugin makes its routes; after a while it may try again."""
        traces = self._left(name, "routes")
        late = [path for path, at in traces.items() if not 0 <= time.time() - at < TRY_AGAIN]
        for path in late:
            path.unlink(missing_ok=True)
        return len(traces) - len(late) >= MOST_BROKEN

    def forget_routes(self, name: str) -> None:
        """The plugin's routes are made, or somebody says that they can be."""
        for path in self._left(name, "routes"):
            path.unlink(missing_ok=True)

    def _has_died(self, name: str) -> bool:
        """Whether a process ended while it imported the plugin; its traces are taken away."""
        left = self._left(name, "importing")
        for path in left:
            path.unlink(missing_ok=True)
        return bool(left)

    def _left(self, name: str, doing: str) -> dict[Path, float]:
        """The traces of processes that ended while they did this, and since when those are there."""
        left = {}
        ours = re.compile(rf"\.{doing}-{re.escape(name)}-[0-9]+")  # not those of a plugin whose name begins like this
        for path in self.folder.glob(f".{doing}-*"):
            if ours.fullmatch(path.name):
                with suppress(OSError), path.open("r+") as trace:
                    fcntl.flock(trace, fcntl.LOCK_EX | fcntl.LOCK_NB)  # fails while its process lives
                    left[path] = path.stat().st_mtime
        return left


def _probe(name: str) -> str:
    """Import the plugin in a process of its own, and say what becomes of that; empty when it lives."""
    command = (sys.executable, "-P", "-c", _PROBE, name)
    try:
        code = subprocess.run(command, capture_output=True, timeout=IMPORT_SECONDS, check=False).returncode
    except subprocess.TimeoutExpired:
        return f"{HANGS} {IMPORT_SECONDS:g} s"
    return f"{KILLS} {f'signal {-code}' if code < 0 else f'exit code {code}'}" if code else ""
