"""`dialer run` as users run it: real processes, real HTTP, a store on disk, calls over the simulated network."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest

from dialer.loopback import ask

DIALER = (sys.executable, "-m", "dialer")


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as found:
        port: int = found.getsockname()[1]
        return port


@dataclass
class Installation:
    """A folder with its own ports, and `dialer` commands in it."""

    folder: Path
    port: int = field(default_factory=free_port)
    simulator_port: int = field(default_factory=free_port)
    server: subprocess.Popen[str] | None = None
    welcome: str = ""

    @property
    def environ(self) -> dict[str, str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DIALER_", "TWILIO_"))}
        return kept | {
            "DIALER_INSTANCE": str(self.folder / "instance"),
            "DIALER_BIND": f"127.0.0.1:{self.port}",
            "DIALER_SIMULATOR_BIND": f"127.0.0.1:{self.simulator_port}",
        }

    def start(self) -> None:
        """Start `dialer run` and read until it says how to stop it."""
        log = (self.folder / "log").open("a")
        command = [*DIALER, "run"]
        self.server = subprocess.Popen(
            command, cwd=self.folder, env=self.environ, stdout=subprocess.PIPE, stderr=log, text=True
        )
        log.close()
        self.welcome = ""
        assert self.server.stdout is not None
        for line in self.server.stdout:
            self.welcome += line
            if line.startswith("Stop with"):
                return
        pytest.fail(f"dialer run ended: {self.welcome}{self.log()}")

    def end(self, number: int) -> int:
        """Send a signal to `dialer run` and wait for it; gives its exit code."""
        assert self.server is not None
        assert self.server.stdout is not None
        self.server.send_signal(number)
        code = self.server.wait()
        self.server.stdout.close()
        return code

    def log(self) -> str:
        return (self.folder / "log").read_text()

    def run(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run([*DIALER, *words], cwd=self.folder, env=self.environ, capture_output=True, text=True)

    def begin(self, *words: str) -> subprocess.Popen[str]:
        """Start a command and leave it running."""
        command = [*DIALER, *words]
        return subprocess.Popen(command, cwd=self.folder, env=self.environ, stdout=subprocess.PIPE, text=True)

    def child(self, word: str) -> int:
        """The process of `dialer run` with this word in its command line."""
        assert self.server is not None
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            try:
                parent = int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
                if parent == self.server.pid and word in Path(f"/proc/{pid}/cmdline").read_text():
                    return pid
            except OSError:
                continue
        pytest.fail(f"no {word} among the children")

    def kill(self, word: str) -> None:
        """`kill -9` a child, and wait until another one has taken its place."""
        before = self.child(word)
        os.kill(before, signal.SIGKILL)
        while True:
            try:
                if self.child(word) != before:
                    return
            except pytest.fail.Exception:
                pass
            time.sleep(0.05)

    def status_of_newest(self) -> str:
        calls: list[dict[str, Any]] = json.loads(self.run("calls", "--limit", "1", "--json").stdout)["calls"]
        return calls[0]["status"] if calls else ""

    def processes(self) -> list[int]:
        """Every process that was started for this instance and still runs."""
        mark = f"DIALER_INSTANCE={self.folder / 'instance'}".encode()
        found = []
        for pid in map(int, filter(str.isdigit, os.listdir("/proc"))):
            try:
                if mark in Path(f"/proc/{pid}/environ").read_bytes():
                    found.append(pid)
            except OSError:
                continue
        return found


def json_of(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a command printed, once it has ended well."""
    out, _ = process.communicate()
    assert process.returncode == 0, out
    found: dict[str, Any] = json.loads(out)
    return found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Installation]:
    """One `dialer run` for the tests that leave it running."""
    installation = Installation(tmp_path_factory.mktemp("running"))
    installation.start()
    yield installation
    installation.end(signal.SIGTERM)


def test_the_welcome_says_where_to_go_what_is_simulated_and_what_to_type(running: Installation) -> None:
    said = running.welcome
    assert f"http://127.0.0.1:{running.port}" in said
    assert "*** SIMULATED: no Twilio account is configured." in said
    assert f"http://127.0.0.1:{running.simulator_port}/_simulator/" in said
    assert "+14155550102  Busy." in said
    assert "dialer call +14155550101" in said
    assert said.count("  demo_alice  dk_") == said.count("  demo_bob  dk_") == 1


def test_calls_reach_their_outcomes_and_are_told_as_they_happen(running: Installation) -> None:
    talked = running.begin("call", "+14155550101", "--talk", "1")
    others = {
        number: running.begin("call", number, "--as", "demo_bob", "--json")
        for number in ("+14155550102", "+14155550107", "12345")
    }
    out, _ = talked.communicate()
    assert talked.returncode == 0
    story = ("demo_alice calls", "the phone rings", "somebody answers", "they can talk", "hangs up")
    places = [out.index(text) for text in story]
    assert places == sorted(places)
    assert out.count("off the line") == 2  # told in no sure order with who hung up: two callbacks of one moment
    assert "\ncompleted: the agent hung up after " in out
    found = {number: json_of(process) for number, process in others.items()}
    outcomes = {number: document["call"]["status"] for number, document in found.items()}
    assert outcomes == {"+14155550102": "busy", "+14155550107": "failed", "12345": "rejected"}
    assert all(document["call"]["settled"] for document in found.values())
    assert found["+14155550102"]["ladder"][-1]["text"] == "the agent's browser is off the line"
    keys = json.loads(running.run("keys", "list", "--json").stdout)
    assert [key["agent"] for key in keys] == ["demo_alice", "demo_bob"], "the keys of the commands are revoked"


def test_a_call_of_an_agent_who_is_not_there(running: Installation) -> None:
    done = running.run("call", "+14155550101", "--as", "nobody")
    assert (done.returncode, done.stdout) == (1, "")
    assert "there is no agent nobody in ws_demo" in done.stderr


def test_a_second_run_in_the_same_instance_is_refused(running: Installation) -> None:
    done = running.run("run")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.count("\n") == 1
    assert "works in" in done.stderr


@pytest.mark.parametrize(("taken", "variable"), [("port", "DIALER_BIND"), ("simulator_port", "DIALER_SIMULATOR_BIND")])
def test_a_port_in_use_is_one_line(running: Installation, tmp_path: Path, taken: str, variable: str) -> None:
    other = Installation(tmp_path)
    setattr(other, taken, getattr(running, taken))
    done = other.run("run")
    port = getattr(running, taken)
    assert (done.returncode, done.stdout) == (4, "")
    assert done.stderr == f"dialer: 127.0.0.1:{port} is in use by another program: stop it, or set {variable}\n"
    assert other.processes() == []


def test_killed_children_are_replaced_and_the_call_under_way_reaches_its_end(running: Installation) -> None:
    call = running.begin("call", "+14155550101", "--talk", "4", "--json")
    while running.status_of_newest() != "in-progress":
        time.sleep(0.1)
    running.kill("gunicorn")
    running.kill("worker")
    document = json_of(call)
    assert (document["call"]["status"], document["call"]["endedBy"]) == ("completed", "agent")
    log = running.log()
    assert "gunicorn died with signal SIGKILL, starting it again" in log
    assert "the dispatcher died with signal SIGKILL, starting it again" in log


def test_sigterm_stops_all_and_kill_9_leaves_nobody_and_the_next_run_goes_on(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    installation.start()
    assert len(installation.processes()) >= 6  # itself, dispatcher, gunicorn with two workers, simulator
    assert installation.end(signal.SIGTERM) == 0
    assert installation.processes() == []
    installation.start()
    assert "dk_" not in installation.welcome, "keys are shown once"
    installation.end(signal.SIGKILL)
    installation.start()  # at once: it waits for what was left behind
    assert installation.end(signal.SIGINT) == 0
    assert installation.processes() == []


def test_a_broken_configuration_starts_nothing(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance/dialer.toml").write_text('[plugins]\nenabled = ["nothing"]\n')
    done = installation.run("run")
    assert (done.returncode, done.stdout) == (3, "")
    assert done.stderr.count("\n") == 1
    assert "nothing" in done.stderr


def test_a_worker_without_an_account_says_what_to_do(tmp_path: Path) -> None:
    done = Installation(tmp_path).run("worker")
    assert done.returncode == 3
    assert done.stderr.startswith("dialer: there is no Twilio account: set TWILIO_ACCOUNT_SID")


def test_gunicorn_alone_ends_with_one_line_on_a_broken_configuration(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    command = [sys.executable, "-m", "gunicorn", "-c", "python:dialer.gunicorn_config"]
    environ = {**installation.environ, "DIALER_BIND": "nonsense"}
    done = subprocess.run(command, cwd=tmp_path, env=environ, capture_output=True, text=True)
    assert done.returncode == 3
    assert done.stderr.startswith("dialer: DIALER_BIND: ")
    assert done.stderr.count("\n") == 1


def test_the_simulator_serves_any_application_with_the_account_it_prints(tmp_path: Path) -> None:
    installation = Installation(tmp_path)
    process = installation.begin("simulator", "--voice-url", "http://127.0.0.1:9/voice", "--number", "+14155550150")
    assert process.stdout is not None
    printed: dict[str, str] = {}
    for line in process.stdout:
        name, _, value = line.strip().partition("  ")
        printed[name] = value.strip()
        if name.startswith("simulator:"):
            break
    assert printed["account sid"].startswith("AC")
    assert printed["application sid"].startswith("AP")
    assert printed["number"] == "+14155550150"
    base = f"http://127.0.0.1:{installation.simulator_port}/_simulator"
    assert ask(f"{base}/health")["accounts"] == 1
    body = {"accountSid": printed["account sid"], "applicationSid": printed["application sid"], "identity": "ann"}
    assert ask(f"{base}/connect", body)["callSid"].startswith("CA")
    busy = installation.run("simulator")
    assert busy.returncode == 4
    assert busy.stderr.count("\n") == 1
    process.terminate()
    process.communicate()
    assert process.returncode == 0


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        (("--config", "setup.json"), 3, "prot is not a setting"),
        (("--config", "setup.json", "--voice-url", "http://127.0.0.1:9/"), 2, "only --bind may be given"),
        (("--bind", "192.0.2.1:8100"), 3, "host:port of this machine"),
    ],
)
def test_a_simulator_that_cannot_be_set_up_says_why(
    words: tuple[str, ...], code: int, said: str, tmp_path: Path
) -> None:
    (tmp_path / "setup.json").write_text('{"prot": 8100}')
    done = Installation(tmp_path).run("simulator", *words)
    assert done.returncode == code
    assert said in done.stderr
    assert "Traceback" not in done.stderr
