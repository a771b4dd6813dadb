"""Children that die, that will not live and that will not stop; and one `dialer run` for an instance."""

from __future__ import annotations

import fcntl
import os
import signal
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from dialer import supervisor as supervision
from dialer.errors import ConfigError, DialerError
from dialer.loopback import NotReachable
from dialer.supervisor import Child, Supervisor, how_it_ended, listen, only_run

#: Writes its name when it starts and when it is asked to stop.
POLITE = """
import signal, sys, time
def note(word):
    with open(sys.argv[1], "a") as file:
        file.write(f"{sys.argv[2]} {word}\\n")
def stop(*_):
    note("stopped")
    sys.exit(0)
signal.signal(signal.SIGTERM, stop)
note("started")
while True:
    time.sleep(0.05)
"""
#: Does not care about SIGTERM.
STUBBORN = POLITE.replace("signal.signal(signal.SIGTERM, stop)", "signal.signal(signal.SIGTERM, signal.SIG_IGN)")


class Running:
    """A supervisor at work in a thread, and what its children wrote."""

    def __init__(self, supervisor: Supervisor, notes: Path) -> None:
        self.supervisor = supervisor
        self.notes = notes
        self.error: DialerError | None = None
        self.announced = 0
        self.thread = threading.Thread(target=self._run)

    def _run(self) -> None:
        # All in one thread: the kernel takes the end of the thread that started a child for the parent's death.
        try:
            self.supervisor.run(self._is_ready, self._announce)
        except DialerError as error:
            self.error = error
        self.supervisor.stop()

    def _is_ready(self) -> bool:
        return bool(self.lines())

    def _announce(self) -> None:
        self.announced += 1

    def lines(self) -> list[str]:
        return self.notes.read_text().splitlines() if self.notes.exists() else []

    def wait(self, wanted: Callable[[], bool]) -> None:
        while not wanted():
            time.sleep(0.02)  # the test's own time limit ends this

    def stop(self) -> None:
        self.supervisor.stopping.set()
        self.thread.join()


def child(notes: Path, name: str, code: str = POLITE, stop_seconds: float = 10.0) -> Child:
    return Child(name, (sys.executable, "-c", code, str(notes), name), stop_seconds)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Callable[..., Running]]:
    """Start a supervisor of children, each (name, code, stop_seconds)."""
    running: list[Running] = []

    def begin(*children: tuple[object, ...], keep: tuple[int, ...] = ()) -> Running:
        notes = tmp_path / "notes"
        made = [child(notes, *one) for one in children]  # type: ignore[arg-type]
        running.append(Running(Supervisor(made, os.environ, keep), notes))
        running[-1].thread.start()
        return running[-1]

    yield begin
    for one in running:
        one.supervisor.hurry.set()
        one.stop()


def test_a_killed_child_is_started_again_and_the_start_is_announced_once(start: Callable[..., Running]) -> None:
    running = start(("a",))
    running.wait(lambda: running.lines() == ["a started"])
    process = running.supervisor.children[0].process
    assert process is not None
    process.kill()
    running.wait(lambda: running.lines() == ["a started"] * 2)
    running.wait(lambda: running.announced > 0)
    running.stop()
    assert running.announced == 1


def test_children_are_stopped_one_after_the_other_in_their_order(start: Callable[..., Running]) -> None:
    running = start(("a",), ("b",), ("c",))
    running.wait(lambda: len(running.lines()) == 3)
    running.stop()
    assert running.lines()[3:] == ["a stopped", "b stopped", "c stopped"]
    a, b, c = (one.started for one in running.supervisor.children)
    assert c < b < a, "what is needed for longest starts first"


def test_a_child_that_ignores_the_request_to_stop_is_killed(start: Callable[..., Running]) -> None:
    running = start(("a", STUBBORN, 0.2), ("b",))
    running.wait(lambda: len(running.lines()) == 2)
    running.stop()
    first = running.supervisor.children[0].process
    assert first is not None
    assert first.returncode == -signal.SIGKILL
    assert running.lines()[2:] == ["b stopped"]


def test_a_second_signal_ends_the_patience(start: Callable[..., Running]) -> None:
    running = start(("a", STUBBORN, 3600.0))
    running.wait(lambda: bool(running.lines()))
    running.supervisor.on_signal(signal.SIGINT, None)
    running.thread.join(0.3)
    assert running.thread.is_alive()
    running.supervisor.on_signal(signal.SIGINT, None)
    running.thread.join()
    first = running.supervisor.children[0].process
    assert first is not None
    assert first.returncode == -signal.SIGKILL


def test_a_child_that_cannot_live_is_given_up_with_its_last_exit_code(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "BACKOFF", (0.0,) * 4)
    running = start(("the thing", "raise SystemExit(3)"))
    running.thread.join()
    assert str(running.error) == "the thing ended 5 times at once, with exit code 3: its reason stands above"


def test_a_child_that_lived_for_a_while_is_not_counted_with_those_that_died_at_once(
    start: Callable[..., Running], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(supervision, "AT_ONCE", 0.0)
    monkeypatch.setattr(supervision, "BACKOFF", (0.0,) * 4)
    note = "import sys; open(sys.argv[1], 'a').write('again\\n')"
    running = start(("a", note))
    running.wait(lambda: len(running.lines()) > supervision.MOST_DEATHS)
    assert running.error is None


def test_what_a_dead_child_left_in_its_group_is_asked_to_stop(start: Callable[..., Running]) -> None:
    parent = f"import os, sys\nif os.fork() == 0:\n    exec({POLITE!r})\nos.kill(os.getpid(), 9)\n"
    running = start(("a", parent))
    running.wait(lambda: "a stopped" in running.lines() or running.error is not None)


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux tells children of their parent's death")
def test_children_are_told_to_stop_when_the_supervisor_is_killed(tmp_path: Path) -> None:
    notes = tmp_path / "notes"
    code = (
        "import os, sys\nfrom dialer.supervisor import Child, Supervisor\n"
        f"child = Child('a', (sys.executable, '-c', {POLITE!r}, {str(notes)!r}, 'a'), 5.0)\n"
        "Supervisor([child], os.environ).run(lambda: False, lambda: None)\n"
    )
    process = subprocess.Popen([sys.executable, "-c", code])
    while not notes.exists():
        time.sleep(0.02)
    process.kill()
    process.wait()
    while "a stopped" not in notes.read_text():
        time.sleep(0.02)


@pytest.mark.parametrize(("code", "words"), [(3, "exit code 3"), (0, "exit code 0"), (-9, "signal SIGKILL")])
def test_how_a_process_ended_in_words(code: int, words: str) -> None:
    assert how_it_ended(code) == words


def test_a_port_in_use_is_named_with_what_to_set() -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        with pytest.raises(NotReachable, match=f"127.0.0.1:{port} is in use by another program: .*set DIALER_BIND"):
            listen("127.0.0.1", port, "DIALER_BIND")


def test_an_address_of_another_machine_is_a_configuration_error() -> None:
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1:8000: .* \(set DIALER_BIND\)"):
        listen("192.0.2.1", 8000, "DIALER_BIND")


def test_the_lent_socket_answers_on_ipv6_too() -> None:
    try:
        found = listen("::1", 0, "DIALER_BIND")
    except ConfigError:
        pytest.skip("no IPv6 here")
    with found, socket.create_connection(found.getsockname()[:2]):
        pass


def test_one_run_for_an_instance_and_its_process_is_named(tmp_path: Path) -> None:
    held = only_run(tmp_path / "instance")
    with pytest.raises(DialerError, match=rf"already \(process {os.getpid()}\): stop it, or set DIALER_INSTANCE"):
        only_run(tmp_path / "instance")
    os.close(held)
    os.close(only_run(tmp_path / "instance"))


def test_what_a_killed_run_left_behind_is_waited_for(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    gone = subprocess.Popen([sys.executable, "-c", ""])
    gone.wait()
    left = os.open(tmp_path / "run.lock", os.O_RDWR | os.O_CREAT)
    os.write(left, f"{gone.pid}\n".encode())
    fcntl.flock(left, fcntl.LOCK_EX)
    threading.Timer(0.3, os.close, [left]).start()
    os.close(only_run(tmp_path))
    assert (tmp_path / "run.lock").read_text() == f"{os.getpid()}\n"


def test_leftovers_that_never_end_are_an_error(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(supervision, "LEFTOVERS", 0.1)
    left = os.open(tmp_path / "run.lock", os.O_RDWR | os.O_CREAT)
    fcntl.flock(left, fcntl.LOCK_EX)
    with pytest.raises(DialerError, match="what an earlier one left behind"):
        only_run(tmp_path)
    os.close(left)


def test_a_folder_that_cannot_be_made_is_a_configuration_error(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(ConfigError, match="set DIALER_INSTANCE"):
        only_run(tmp_path / "file" / "instance")
