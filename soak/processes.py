"""Processes that are sure to end, free ports, and waiting."""

from __future__ import annotations

import contextlib
import os
import random
import signal
import socket
import subprocess
import threading
import time
from collections.abc import Callable
from contextlib import closing
from pathlib import Path
from typing import Self

#: Ports that the kernel gives to nobody by itself, so that none is taken between being found and being used.
PORTS = range(12_000, 32_000)
#: Seconds between looks.
LOOK = 0.01
#: Seconds in which what a dead process left behind has ended, too.
LEAVING = 30.0
#: Share of a second for which processes may wait for a processor, before that second does not count.
STARVED = 0.25
#: Reads process groups, a line each (`-` before one that is over), and kills those left when nobody writes any more.
GUARD = """
while read -r sign group; do
    case $sign in
        +) groups="$groups $group" ;;
        -) rest=; for one in $groups; do [ "$one" = "$group" ] || rest="$rest $one"; done; groups=$rest ;;
    esac
done
for one in $groups; do kill -KILL "-$one" 2>/dev/null; done
"""


class Guard:
    """Knows the process groups that must be gone when this process is, however it ends."""

    def __init__(self) -> None:
        self._leaving: list[tuple[float, int]] = []
        self._shell = subprocess.Popen(
            ("sh", "-c", GUARD), stdin=subprocess.PIPE, start_new_session=True, stderr=subprocess.DEVNULL
        )

    def watch(self, group: int) -> None:
        """A process group has begun."""
        self._tell("+", group)

    def bury(self, group: int) -> None:
        """The leader of a group has died: the others, such as the workers of a killed gunicorn, are to end too."""
        now = time.monotonic()
        signal_group(group, signal.SIGTERM)
        for at, old in [*self._leaving]:
            if now - at > LEAVING:
                self._leaving.remove((at, old))
                self._tell("-", old)
        self._leaving.append((now, group))

    def close(self) -> None:
        """Kill all that are left."""
        assert self._shell.stdin is not None
        self._shell.stdin.close()
        self._shell.wait()

    def _tell(self, sign: str, group: int) -> None:
        assert self._shell.stdin is not None
        self._shell.stdin.write(f"{sign} {group}\n".encode())
        self._shell.stdin.flush()


class Starvation:
    """Watches, while its block lasts, for times in which the machine had no processor for some processes.

    `pids` gives the processes, `spells` are those times: start and end.
    """

    def __init__(self, pids: Callable[[], list[int]]) -> None:
        self.spells: list[tuple[float, float]] = []
        self._pids = pids
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._watch, daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *exception: object) -> None:
        self._over.set()
        self._thread.join()

    def _watch(self) -> None:
        at, before = time.time(), self._waited()
        while not self._over.wait(1.0):
            now, after = time.time(), self._waited()
            waited = sum(seconds - before.get(pid, 0.0) for pid, seconds in after.items())
            if waited > STARVED * (now - at):
                self.spells.append((at, now))
            at, before = now, after

    def _waited(self) -> dict[int, float]:
        """Seconds that each process was ready to run and did not: all its threads together."""
        found: dict[int, float] = {}
        for pid in self._pids():
            with contextlib.suppress(OSError):  # it has just died
                threads = Path(f"/proc/{pid}/task").glob("*/schedstat")
                found[pid] = sum(int(one.read_text().split()[1]) for one in threads) / 1e9
        return found


def signal_group(group: int, number: int) -> None:
    """Reach every process of a group, if there still is any."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


_given: set[int] = set()


def free_port() -> int:
    """A port of this machine on which nobody listens, and that this process has given to nobody else."""
    while True:
        port = random.choice(PORTS)
        if port in _given:
            continue
        _given.add(port)
        with contextlib.suppress(OSError), closing(socket.create_server(("127.0.0.1", port))):
            return port


def wait_until(ready: Callable[[], bool], seconds: float, look: float = LOOK) -> bool:
    """Look again and again until it is so; False when that many seconds have passed."""
    until = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > until:
            return False
        time.sleep(look)
    return True

