"""Child processes kept alive: started, restarted when they die, stopped in order, and never left behind."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import logging
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from dialer.errors import ConfigError, DialerError
from dialer.loopback import NotReachable

log = logging.getLogger("dialer.run")

#: Seconds between looks at the children.
POLL = 0.1
#: A child that lived shorter than this died at once; after so many such deaths in a row it is given up.
AT_ONCE = 5.0
MOST_DEATHS = 5
#: Seconds until the next start after the first, second... death at once.
BACKOFF = (0.2, 0.5, 1.0, 2.0)
#: Connections that wait to be accepted: those of a restart of gunicorn.
BACKLOG = 2048
#: Seconds for the processes of a killed `dialer run` to finish what they do.
LEFTOVERS = 30.0

_PR_SET_PDEATHSIG = 1


@dataclass(slots=True)
class Child:
    """One process to keep alive. `stop_seconds`: how long it may take to finish after SIGTERM."""

    name: str
    command: Sequence[str]
    stop_seconds: float
    silent: bool = False
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    deaths: int = 0
    due: float = 0.0


class Supervisor:
    """Keeps children alive until `stopping` is set; `hurry` ends the patience with those that are stopping."""

    def __init__(self, children: Sequence[Child], environ: Mapping[str, str], keep: Sequence[int] = ()) -> None:
        self.children = children
        self.environ = dict(environ)
        self.keep = tuple(keep)
        self.stopping = threading.Event()
        self.hurry = threading.Event()

    def run(self, ready: Callable[[], bool], announce: Callable[[], None]) -> None:
        """Start all, announce once when `ready`, restart what dies; raises DialerError when a child cannot live.

        The last of the list starts first: what is needed for longest is needed first.
        """
        announced = False
        while not self.stopping.is_set():
            for child in reversed(self.children):
                self._look_after(child)
            if not announced and ready():
                announce()
                announced = True
            self.stopping.wait(POLL)

    def stop(self) -> None:
        """Stop all, in the order of the list; who takes too long is killed."""
        for child in self.children:
            self._stop(child)

    def on_signal(self, number: int, frame: object) -> None:
        """What a signal to stop does: the first one asks nicely, the second one does not wait."""
        (self.hurry if self.stopping.is_set() else self.stopping).set()

    def _look_after(self, child: Child) -> None:
        if child.process is None:
            if time.monotonic() >= child.due:
                self._start(child)
        elif child.process.poll() is not None:
            self._bury(child, child.process)

    def _start(self, child: Child) -> None:
        child.process = subprocess.Popen(
            child.command,
            env=self.environ,
            pass_fds=self.keep,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL if child.silent else None,
            start_new_session=True,  # Ctrl-C reaches us only: we stop them in order
            preexec_fn=_die_with_parent(),
        )
        child.started = time.monotonic()

    def _bury(self, child: Child, process: subprocess.Popen[bytes]) -> None:
        how, lived = how_it_ended(process.returncode), time.monotonic() - child.started
        _signal_group(process.pid, signal.SIGTERM)
        child.process = None
        child.deaths = child.deaths + 1 if lived < AT_ONCE else 1
        if child.deaths >= MOST_DEATHS and lived < AT_ONCE:
            raise DialerError(f"{child.name} ended {child.deaths} times at once, with {how}: its reason stands above")
        wait = BACKOFF[child.deaths - 1]
        child.due = time.monotonic() + wait
        log.error("%s died with %s, starting it again in %.1f s", child.name, how, wait)

    def _stop(self, child: Child) -> None:
        process = child.process
        if process is None:
            return
        process.terminate()
        until = time.monotonic() + child.stop_seconds
        while process.poll() is None and time.monotonic() < until and not self.hurry.wait(POLL / 2):
            pass
        if process.poll() is None:
            log.warning("%s did not stop in time and is killed", child.name)
        _signal_group(process.pid, signal.SIGKILL)
        process.wait()


def how_it_ended(code: int) -> str:
    """An exit code as a person reads it."""
    return f"signal {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def only_run(instance: Path) -> int:
    """Hold this instance for us and our children; raises DialerError when another `dialer run` has it.

    The lock goes to the children too: what a killed `dialer run` left behind holds it until it has finished.
    """
    try:
        instance.mkdir(parents=True, exist_ok=True)
        descriptor = os.open(instance / "run.lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise ConfigError(f"{instance} cannot be used: {error.strerror} (set DIALER_INSTANCE)") from None
    until = time.monotonic() + LEFTOVERS
    while not _locked(descriptor):
        holder = os.pread(descriptor, 20, 0).decode(errors="replace").strip()
        if _alive(holder) or time.monotonic() > until:
            who = f"process {holder}" if _alive(holder) else "what an earlier one left behind"
            raise DialerError(f"dialer run works in {instance} already ({who}): stop it, or set DIALER_INSTANCE")
        time.sleep(POLL)
    os.ftruncate(descriptor, 0)
    os.pwrite(descriptor, f"{os.getpid()}\n".encode(), 0)
    return descriptor


def listen(host: str, port: int, variable: str) -> socket.socket:
    """A listening socket; raises NotReachable when the port is taken and ConfigError when the address is no good.

    It is ours and only lent to gunicorn: while that is started again, requests wait instead of failing.
    """
    try:
        family, _, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        return socket.create_server(address, family=family, backlog=BACKLOG)
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            raise NotReachable(f"{host}:{port} is in use by another program: stop it, or set {variable}") from None
        why = str(error.strerror).partition(" (")[0]  # the rest repeats the address
        raise ConfigError(f"cannot listen on {host}:{port}: {why} (set {variable})") from None


def _locked(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def _alive(pid: str) -> bool:
    if not pid.isdigit():
        return False
    try:
        os.kill(int(pid), 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


def _signal_group(pid: int, number: int) -> None:
    """Reach what a child has left: gunicorn's workers outlive a killed master for a moment."""
    try:
        os.killpg(pid, number)
    except (ProcessLookupError, PermissionError):
        return


def _die_with_parent() -> Callable[[], None] | None:
    """What a child does first: ask the kernel for SIGTERM when we die, however that happens (Linux only)."""
    if sys.platform != "linux":
        return None
    parent, libc = os.getpid(), ctypes.CDLL(None)

    def ask() -> None:
        libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
        if os.getppid() != parent:
            os._exit(1)

    return ask
