"""What a plugin does when it is imported and made, seen in a process of its own.

It is run by `conformance`, told what to import as JSON, and writes what it saw as JSON to a file. Python's audit events
show everything that goes through the interpreter (Python docs, audit events table).
"""

from __future__ import annotations

import importlib
import importlib.util
import json
import os
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

from dialer.answers import said
from dialer.errors import ConfigError
from dialer.offline import NOWHERE, home, place
from dialer.rehearsal import made
from dialer.settings import is_loopback

#: What is no business of an import, by Python's audit events.
NETWORK = {"socket.connect", "socket.getaddrinfo", "socket.gethostbyname", "socket.sendto"}
WORK = {
    "_thread.start_new_thread": "starts a thread",
    "_thread.start_joinable_thread": "starts a thread",
    "subprocess.Popen": "starts a program",
    "os.system": "starts a program",
    "os.posix_spawn": "starts a program",
    "os.fork": "forks",
    "time.sleep": "sleeps",
    "sqlite3.connect": "opens a database",
    "os.mkdir": "makes a folder",
    "os.remove": "removes a file",
    "os.rename": "renames a file",
}
_WRITING = os.O_WRONLY | os.O_RDWR | os.O_CREAT


class Watch:
    """Notes what happens while it is on; the network is refused."""

    def __init__(self, own: Path) -> None:
        self.own = own
        self.on = True
        self.found: dict[str, dict[str, str]] = {}

    def hear(self, event: str, arguments: tuple[Any, ...]) -> None:
        if not self.on or event not in NETWORK | WORK.keys() | {"open"}:
            return
        self.on = False  # what is done to look around is our own
        try:
            self._judge(event, arguments)
        finally:
            self.on = True

    def _judge(self, event: str, arguments: tuple[Any, ...]) -> None:
        if event in NETWORK:
            peer = _peer(arguments)
            if peer is not None:
                self._note("network", f"asks the network for {peer}", place([self.own]))
                raise ConnectionRefusedError(f"a plugin asks nobody while it is imported or made, but {peer}")
        elif frame := self._own_frame():
            if event != "open":
                self._note("work", WORK[event], place([self.own], frame))
            elif _writes(arguments):
                self._note("work", f"writes {arguments[0]}", place([self.own], frame))

    def _note(self, kind: str, what: str, where: str) -> None:
        self.found.setdefault(where, {"kind": kind, "what": what, "where": where})

    def _own_frame(self) -> FrameType | None:
        """The plugin's own frame, if it is at work itself and not importing somebody else's module."""
        frame: FrameType | None = sys._getframe(3)
        while frame is not None:
            file = frame.f_code.co_filename
            if file.startswith("<frozen importlib"):
                return None
            if Path(file).resolve().is_relative_to(self.own):
                return frame
            frame = frame.f_back
        return None


def _peer(arguments: tuple[Any, ...]) -> str | None:
    """Who is asked for; None for this machine."""
    address = arguments[1] if len(arguments) > 1 and isinstance(arguments[1], tuple) else arguments
    host = address[0].decode() if isinstance(address[0], bytes) else address[0]
    if not isinstance(host, str) or is_loopback(host):
        return None
    return f"{host}:{address[1]}" if len(address) > 1 else host


def _writes(arguments: tuple[Any, ...]) -> bool:
    _, mode, flags = arguments
    return bool(set(mode) & set("wax+")) if isinstance(mode, str) else bool((flags or 0) & _WRITING)


def _look(task: dict[str, Any]) -> Iterator[tuple[str, str]]:
    """What went wrong: the step, and why."""
    module, _, attribute = task["value"].partition(":")
    try:
        target: Any = importlib.import_module(module)
        for part in attribute.split("."):
            target = getattr(target, part)
    except BaseException as error:
        yield "import", said(error)
        return
    try:
        made(target, task["settings"], task["name"])
    except ConfigError as error:
        yield "making", str(error)
    except BaseException as error:
        yield "making", said(error)


def _home(module: str) -> Path:
    """Where the plugin's code is, before it is imported (but for the packages that it is in)."""
    try:
        spec = importlib.util.find_spec(module)
    except (ImportError, ValueError):
        spec = None
    return home(module, spec.origin) if spec and spec.origin else NOWHERE


def _watch_unaudited(watch: Watch) -> None:
    """What older Pythons have no audit event for: `time.sleep` before 3.13, threads before 3.12."""
    plain_sleep, plain_start = time.sleep, threading.Thread.start

    def sleep(seconds: float) -> None:
        watch.hear("time.sleep", (seconds,))
        plain_sleep(seconds)

    def start(self: threading.Thread) -> None:
        watch.hear("_thread.start_new_thread", ())
        plain_start(self)

    patch.object(time, "sleep", sleep).start()
    patch.object(threading.Thread, "start", start).start()


def main() -> None:
    task = json.loads(sys.argv[1])
    sys.path[:0] = task["paths"]
    watch = Watch(_home(task["value"].partition(":")[0]))
    sys.addaudithook(watch.hear)
    _watch_unaudited(watch)
    failed = dict(_look(task))
    watch.on = False
    Path(task["outcome"]).write_text(json.dumps({"failed": failed, "found": [*watch.found.values()]}))
    os._exit(0)  # whatever threads it has started


if __name__ == "__main__":
    main()
