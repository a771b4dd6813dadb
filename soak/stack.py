"""Dialer as it really runs, in one folder: simulator, gunicorn and dispatcher, each a process that may be killed.

Nothing that a Stack started is there after its block, and none of it when the process of the Stack itself is killed.
"""

from __future__ import annotations

import contextlib
import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, ClassVar, Literal, Self
from urllib.request import ProxyHandler, Request, build_opener

from dialer import demo
from dialer.errors import DialerError
from dialer.loopback import ask
from soak.installation import AGENTS, ROOT, Installation
from soak.processes import LOOK, Guard, signal_group, wait_until

__all__ = ["AGENTS", "PYTHON", "READY", "ROOT", "STARTED", "Stack", "What", "wait_until"]

What = Literal["simulator", "web", "dispatcher"]
STARTED: tuple[What, ...] = ("simulator", "web", "dispatcher")

PYTHON = (sys.executable, "-P", "-m")
#: Seconds in which a process must be ready, on a busy machine.
READY = 30.0


@dataclass
class Stack(Installation):
    """One Dialer and one network, to be used as a context manager; entering it starts all three and waits for them.

    `crash_at`: which of the three is to die, and at which crash point.
    """

    crash_at: Mapping[What, str] = field(default_factory=dict)
    processes: dict[What, subprocess.Popen[bytes]] = field(default_factory=dict)
    deaths: list[What] = field(default_factory=list)
    """Which of the three were started again, in order."""
    parts: ClassVar[tuple[What, ...]] = STARTED

    def __enter__(self) -> Self:
        self._socket = self._listen()
        self._guard = Guard()
        try:
            self.write_settings()
            for what in self.parts:
                self.start(what, {"DIALER_CRASH_AT": self.crash_at[what]} if what in self.crash_at else {})
            for what in self.parts:
                # One that is to die may have done so before it was ready.
                with contextlib.suppress(*[DialerError] * (what in self.crash_at)):
                    self.wait_ready(what)
        except BaseException:
            self.close()
            raise
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    # Processes

    def start(self, what: What, env: Mapping[str, str] | None = None) -> None:
        """Start one of the three, with these variables beside the usual ones."""
        with (self.folder / f"{what}.log").open("ab") as log:
            self.processes[what] = process = subprocess.Popen(
                self._command(what, bool(env)),
                env=self.environ | dict(env or {}),
                cwd=self.folder,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                pass_fds=(self._socket.fileno(),) if what == "web" else (),
                start_new_session=True,
            )
        self._guard.watch(process.pid)

    def kill(self, what: What, number: int = signal.SIGKILL, *, everyone: bool = True) -> None:
        """Send a signal to one of the three; of the web server to its workers too, or to the master alone."""
        process = self.processes[what]
        if everyone:
            signal_group(process.pid, number)
        else:
            process.send_signal(number)
        if number == signal.SIGKILL:
            process.wait()

    def stop(self, what: What, seconds: float = 20.0) -> None:
        """End one of the three as a deployment does, with SIGTERM, and wait for it."""
        self.kill(what, signal.SIGTERM, everyone=False)
        try:
            self.processes[what].wait(seconds)
        finally:
            self._guard.bury(self.processes[what].pid)

    def pids(self, what: What) -> list[int]:
        """The processes of one of the three, the first started first; of the web server the master and its workers."""
        process = self.processes[what]
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        try:
            return [process.pid, *map(int, children.read_text().split())] if process.poll() is None else []
        except OSError:
            return []

    def all_pids(self) -> list[int]:
        """All processes that run."""
        return [pid for what in [*self.processes] for pid in self.pids(what)]

    def dead(self) -> list[What]:
        """Which of the three have ended."""
        return [what for what, process in self.processes.items() if process.poll() is not None]

    def restart_dead(self) -> list[What]:
        """Start again what has ended, as usual, and give its names."""
        dead = self.dead()
        for what in dead:
            self._guard.bury(self.processes[what].pid)
            self.start(what)
        self.deaths += dead
        return dead

    def wait_ready(self, what: What, seconds: float = READY) -> None:
        """Wait until it does its work; raises DialerError with the end of its log when it does not."""
        ready = {"simulator": self._simulator_ready, "web": self._web_ready, "dispatcher": self._dispatcher_ready}[what]
        if not wait_until(lambda: ready() or what in self.dead(), seconds) or what in self.dead():
            raise DialerError(f"{what} is not ready: {self.log_of(what)[-2000:]}")

    def log_of(self, what: What) -> str:
        """What it has written so far."""
        return (self.folder / f"{what}.log").read_text(errors="replace")

    def close(self) -> None:
        """Kill what still runs; the network last, so that nothing is asked of it in vain."""
        for what in reversed(self.parts):
            if what in self.processes:
                self.kill(what)
        self.processes.clear()
        self._guard.close()
        self._socket.close()
        self.close_store()

    # The network

    def place_call(
        self, to: str, *, agent: str = AGENTS[0], hang_up_after_bridged: float | None = 1.0,
        hang_up_after: float | None = None, params: Mapping[str, str] | None = None,
    ) -> str:  # fmt: skip
        """An agent's browser calls a number; gives the CallSid of its leg."""
        body = {
            "accountSid": self.setup["sid"],
            "applicationSid": self.setup["applications"][0]["sid"],
            "identity": agent,
            "params": {"To": to, "workspaceId": demo.WORKSPACE, **(params or {})},
            "hangUpAfterBridged": hang_up_after_bridged,
            "hangUpAfter": hang_up_after,
        }
        return str(self.control("connect", body)["callSid"])

    def control(self, path: str, body: Mapping[str, Any] | None = None, *, put: bool = False) -> dict[str, Any]:
        """One of the simulator's own doors: GET without a body, else POST, or PUT for faults and knobs."""
        url = f"http://127.0.0.1:{self.simulator_port}/_simulator/{path}"
        if not put:
            return ask(url, None if body is None else dict(body))
        request = Request(url, json.dumps(body).encode(), {"Content-Type": "application/json"}, method="PUT")
        with build_opener(ProxyHandler({})).open(request, timeout=10.0) as response:
            answer: dict[str, Any] = json.load(response)
            return answer

    def set_faults(self, **faults: float) -> None:
        """Change the probability of faults of the network."""
        self.control("faults", faults, put=True)

    def network_log(self) -> list[dict[str, Any]]:
        """All that happened at the network, oldest first."""
        return self._paged("log", "entries")

    def network_calls(self) -> list[dict[str, Any]]:
        """The legs as the network itself knows them, oldest first."""
        return self._paged("legs", "legs")

    def webhooks(self) -> list[dict[str, Any]]:
        """Every attempt of a webhook and what came back, oldest first."""
        return self._paged("requests", "requests")

    # Dialer

    def settled(self) -> bool:
        """Whether no call is open any more at Dialer, and the network has nothing left to do."""
        if not self.control("health")["idle"]:
            return False
        with self.store().read() as tx:
            row = tx.one("open_calls")
        return not (row and row["open"])

    def idle(self) -> bool:
        """Whether nothing is owed any more, deliveries to plugins included."""
        with self.store().read() as tx:
            row = tx.one("next_job")
        return row is None or row["run_at"] is None

    def wait_settled(self, seconds: float) -> bool:
        """Wait until no call is open any more, starting again what dies; False when that takes longer."""
        return wait_until(lambda: not self.restart_dead() and self.settled(), seconds, look=0.1)

    def _listen(self) -> socket.socket:
        """The web server's socket, which is only lent to gunicorn: requests wait while that is started again."""
        until = time.monotonic() + READY
        while True:
            try:
                return socket.create_server(("127.0.0.1", self.web_port), backlog=2048)
            except OSError:  # a process just forked in another thread still holds the socket that tried the port
                if time.monotonic() > until:
                    raise
                time.sleep(LOOK)

    def _command(self, what: What, changed: bool) -> tuple[str, ...]:
        if what == "simulator":
            return (*PYTHON, "dialer", "simulator", "--config", str(self.folder / "simulator.json"))
        if what == "dispatcher":
            return (*PYTHON, "dialer", "worker")
        config = "python:soak.gunicorn_once" if changed else "python:dialer.gunicorn_config"
        size = ("--workers", str(self.workers), "--threads", str(self.threads))
        return (*PYTHON, "gunicorn", "-c", config, "--bind", f"fd://{self._socket.fileno()}", *size)

    def _paged(self, path: str, name: str) -> list[dict[str, Any]]:
        found: list[dict[str, Any]] = []
        while page := self.control(f"{path}?after={found[-1]['number'] if found else 0}")[name]:
            found += page
        return found

    def _simulator_ready(self) -> bool:
        with contextlib.suppress(DialerError):
            return bool(ask(f"http://127.0.0.1:{self.simulator_port}/_simulator/health", seconds=1.0))
        return False

    def _web_ready(self) -> bool:
        with contextlib.suppress(DialerError):
            return bool(ask(f"http://127.0.0.1:{self.web_port}/readyz", seconds=READY))
        return False

    def _dispatcher_ready(self) -> bool:
        """Whether it holds the lock of its kind, which it takes once all else is set up."""
        lock = str(self.folder / "dispatcher.lock")
        try:
            opened = [os.readlink(one) for one in Path(f"/proc/{self.processes['dispatcher'].pid}/fd").iterdir()]
        except OSError:
            return False
        return lock in opened
