"""Dialer as users run it, `dialer run`, beside a network that makes load: its own supervisor starts again what dies."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import sys
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar

from dialer.errors import DialerError
from dialer.loopback import ask
from soak.load import Plan
from soak.stack import AGENTS, PYTHON, READY, Stack, What, wait_until

#: Seconds that `dialer run` takes at most to stop in order.
STOP = 40.0


@dataclass
class Deployment(Stack):
    """Two processes are started here: the network with its load (`soak.load`), and `dialer run` as "web"."""

    load: Plan = field(default_factory=lambda: Plan(rate=0.0, seconds=0.0, seed=1))
    store_folder: Path | None = None
    """Where the store is to be, if not in `folder`: on a disk of its own."""
    parts: ClassVar[tuple[What, ...]] = ("simulator", "web")

    @property
    def record(self) -> Path:
        """What the network wrote down of what happened."""
        return self.folder / "network.jsonl"

    @property
    def database(self) -> Path:
        return (self.store_folder or self.folder) / "dialer.db"

    @property
    def environ(self) -> dict[str, str]:
        return super().environ | {"DIALER_STORE": f"sqlite:///{self.database}"}

    def restart_dead(self) -> list[What]:
        """Nothing: `dialer run` itself must live, and start again what dies."""
        return []

    def begin(self) -> None:
        """Let the load begin."""
        self.processes["simulator"].send_signal(signal.SIGUSR1)

    def wait_played(self, seconds: float) -> bool:
        """Wait until the load's last call has ended at the network; False when that takes longer."""
        return wait_until(lambda: "played" in self.log_of("simulator") or bool(self.dead()), seconds, look=0.2)

    def rows(self) -> Iterator[list[Any]]:
        """The network's record, to be read once the simulator has stopped."""
        with self.record.open() as lines:
            yield from map(json.loads, lines)

    # The processes of `dialer run`

    def master(self) -> int | None:
        """Gunicorn's master, None while there is none."""
        return self._child("gunicorn")

    def gunicorn_workers(self) -> list[int]:
        """Gunicorn's workers, oldest first."""
        master = self.master()
        return children(master) if master else []

    def dispatcher(self) -> int | None:
        """The dispatcher, None while there is none."""
        return self._child("worker")

    def everybody(self) -> dict[str, int]:
        """Each living process by name."""
        named = {"dialer run": self.processes["web"].pid, "gunicorn": self.master(), "dispatcher": self.dispatcher()}
        workers = {f"worker {number}": pid for number, pid in enumerate(self.gunicorn_workers(), 1)}
        return {name: pid for name, pid in (named | workers).items() if pid}

    def works(self, seconds: float = 2.0) -> bool:
        """Whether the web server answers and the dispatcher is at work."""
        with contextlib.suppress(DialerError):
            ask(f"http://127.0.0.1:{self.web_port}/readyz", seconds=seconds)
            return self._holds_lock(self.dispatcher())
        return False

    def close(self) -> None:
        """End `dialer run` as Ctrl-C does, so that it ends its own, and then the rest."""
        left = list(self.everybody().values()) if "web" in self.processes else []
        if left and "web" not in self.dead():
            for pid in left:  # one that a nemesis left stopped would not hear of it
                signal_safely(pid, signal.SIGCONT)
            with contextlib.suppress(Exception):
                self.stop("web", STOP)
        for pid in left:
            if is_ours(pid, self.folder):
                signal_safely(pid, signal.SIGKILL)
        super().close()

    def _child(self, word: str) -> int | None:
        found = [pid for pid in children(self.processes["web"].pid) if word in command_line(pid)]
        return found[0] if found else None

    def _listen(self) -> socket.socket:
        """Nothing of ours: `dialer run` listens itself."""
        return socket.socket()

    def _command(self, what: What, changed: bool) -> tuple[str, ...]:
        if what == "web":
            return (*PYTHON, "dialer", "run", "--workers", str(self.workers), "--threads", str(self.threads))
        plan = self.load
        amount = ("--rate", str(plan.rate), "--seconds", str(plan.seconds), "--seed", str(plan.seed))
        files = ("--config", str(self.folder / "simulator.json"), "--record", str(self.record))
        who = [part for identity in AGENTS for part in ("--identity", identity)]
        return (sys.executable, "-P", "-m", "soak.load", *files, *amount, *who)

    def _web_ready(self) -> bool:
        return self.works(READY)

    def _holds_lock(self, pid: int | None) -> bool:
        """Whether the dispatcher has its lock, which it takes once all else is set up."""
        try:
            opened = [os.readlink(one) for one in Path(f"/proc/{pid}/fd").iterdir()]
        except OSError:
            return False
        return str(self.folder / "dispatcher.lock") in opened


def children(pid: int) -> list[int]:
    """The processes that a process started and that still live."""
    try:
        return [int(one) for one in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]
    except OSError:
        return []


def command_line(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/cmdline").read_text(errors="replace").split("\0")
    except OSError:
        return []


def is_ours(pid: int, folder: Path) -> bool:
    """Whether a process id still belongs to a process of this folder's Dialer."""
    try:
        environ = Path(f"/proc/{pid}/environ").read_bytes()
    except OSError:
        return False
    return f"DIALER_INSTANCE={folder}\0".encode() in environ


def signal_safely(pid: int, number: int) -> bool:
    """Send a signal; False when there is no such process any more."""
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, number)
        return True
    return False
