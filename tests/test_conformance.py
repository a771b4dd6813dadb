"""`dialer plugins test`: each thing that a plugin may do wrong is found, named with its place, and has a fix."""

from __future__ import annotations

import json
import textwrap
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dialer import stress
from dialer.calls import Call
from dialer.cli import cli
from dialer.conformance import Check, conformance, first_checks, probe
from dialer.conformance_target import Target, target_of
from dialer.discovery import installed
from dialer.errors import DialerError
from dialer.rehearsal import Told

HEAD = """\
from dataclasses import dataclass, field
from typing import Annotated
import threading, time
import requests
from dialer import Call, CallEvent, Host, Refusal, Setting, hookimpl

@dataclass(frozen=True, eq=False)
class Plugin:
    '''Do something.'''
"""
BUNDLED = [name for name, points in installed().items() if points[0].value.startswith("dialer_plugins.")]
#: Settings without defaults.
NEEDED: dict[str, dict[str, Any]] = {
    "hubspot": {"access_token": "pat-na1-made-up"},
    "salesforce": {"domain": "acme.my", "consumer_key": "made-up", "consumer_secret": "made-up"},
}

Write = Callable[..., Target]
Examine = Callable[..., dict[str, Check]]


@pytest.fixture
def write(tmp_path: Path, request: pytest.FixtureRequest) -> Write:
    """Write a module and a README; gives the plugin in it."""
    module = f"examined_{abs(hash(request.node.nodeid))}"

    def write(source: str, readme: str = "`size` `url`", head: str = HEAD) -> Target:
        (tmp_path / "README.md").write_text(readme)
        (tmp_path / f"{module}.py").write_text(head + textwrap.indent(textwrap.dedent(source), "    " if head else ""))
        return Target("examined", f"{module}:Plugin", [str(tmp_path)])

    return write


@pytest.fixture
def examine(write: Write) -> Examine:
    """All checks of a plugin by their names."""

    def examine(source: str, settings: dict[str, Any] | None = None, **written: Any) -> dict[str, Check]:
        return {one.name: one for one in conformance(write(source, **written), settings or {}, calls=6, seed=1)}

    return examine


def failed(checks: dict[str, Check]) -> list[str]:
    assert all(bool(check.fix) is not check.ok for check in checks.values()), "what fails has a fix, and nothing else"
    return [name for name, check in checks.items() if not check.ok]


def line_of(target_folder: Path, text: str) -> str:
    """file:line of the first line with this text."""
    (path,) = target_folder.glob("examined_*.py")
    lines = path.read_text().splitlines()
    return f"{path}:{next(number for number, line in enumerate(lines, 1) if text in line)}"


@pytest.mark.parametrize("name", BUNDLED)
def test_the_bundled_plugins_pass(name: str) -> None:
    checks = {one.name: one for one in conformance(target_of(name), NEEDED.get(name, {}), calls=6, seed=1)}
    assert failed(checks) == []
    assert len(checks) == 12


@pytest.mark.parametrize(
    ("source", "text"),
    [
        ("1 / 0", "ZeroDivisionError: division by zero"),
        ("raise SystemExit('stop')", "SystemExit: stop"),
        ("import os; os._exit(3)", "it ends the process that imports it, with code 3"),
        ("import time; time.sleep(600)", "it is still not imported after 8 s"),
        ("x = 1", "has no attribute 'Plugin'"),
    ],
)
def test_what_cannot_be_imported_is_told_and_nothing_else_is_tried(
    source: str, text: str, write: Write, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dialer.conformance.IMPORT_SECONDS", 4.0)
    first, *others = conformance(write(source, head=""), {}, calls=6, seed=1)
    assert (first.name, first.ok) == ("imports", False)
    assert text in first.text
    assert [one.name for one in others] == ["no network at import", "no work at import"]


def test_network_and_work_at_import_are_found_with_their_lines(write: Write, tmp_path: Path) -> None:
    source = """\
    import importlib, json, socket, sqlite3, subprocess, sys, threading, time
    from pathlib import Path
    try:
        socket.create_connection(("crm.example.com", 443), 1)
    except OSError:
        pass
    threading.Thread(target=str).start()
    time.sleep(0.001)
    sqlite3.connect(":memory:").close()
    subprocess.run([sys.executable, "-c", ""])
    Path(__file__).with_name("written").write_text("")
    Path(__file__).read_text()
    with open("/dev/null", "w") as null: pass
    import somebody_elses.library

    class Plugin:
        def __init__(self):
            try:
                socket.gethostbyname("other.example.com")
            except OSError:
                pass
    """
    (tmp_path / "somebody_elses").mkdir()
    (tmp_path / "somebody_elses/library.py").write_text("import time\ntime.sleep(0.001)\n")
    target = write(source, head="")
    probed = probe(target, {})
    assert probed["failed"] == {}
    found = {int(one["where"].rpartition(":")[2]): one["what"] for one in probed["found"]}
    assert list(found) == [4, 7, 8, 9, 10, 11, 13, 19]
    asks = "asks the network for"
    assert (found[4], found[19]) == (f"{asks} crm.example.com:443", f"{asks} other.example.com")
    checks = {one.name: one for one in first_checks(probed)}
    assert failed(checks) == ["no network at import", "no work at import"]
    assert f"{line_of(tmp_path, 'Thread(')} starts a thread" in checks["no work at import"].text
    assert "(and 3 more)" in checks["no work at import"].text


def test_a_setting_without_a_default_has_to_be_given(write: Write) -> None:
    target = write("url: Annotated[str, Setting('where')]\n@hookimpl\ndef call_ended(self, call: Call) -> None: ...")
    checks = {one.name: one for one in conformance(target, {}, calls=6, seed=1)}
    assert failed(checks) == ["starts with defaults"]
    assert "[plugins.examined].url: missing; it must be a text in quotes" in checks["starts with defaults"].text
    assert "--set KEY=VALUE" in checks["starts with defaults"].fix
    assert probe(target, {"url": "https://crm.example.com"})["failed"] == {}


@pytest.mark.parametrize(
    ("hook", "text"),
    [
        ("def call_endet(self, call: Call) -> None: ...", "there is no such hook; did you mean call_ended?"),
        ("async def call_ended(self, call: Call) -> None: ...", "call_ended is async"),
        ("def call_ended(self, call: Call, more: int = 1) -> None: ...", "has arguments with defaults (more)"),
        ("def call_ended(self, number: str) -> None: ...", "number"),
    ],
)
def test_hooks_that_are_not_as_they_must_be(hook: str, text: str, examine: Examine) -> None:
    checks = examine(f"@hookimpl\n{hook}")
    assert failed(checks) == ["hooks take call and event"]
    assert text in checks["hooks take call and event"].text
    assert "bears any order" not in checks


def test_settings_and_class_without_words_and_a_readme_without_settings(examine: Examine) -> None:
    source = "size: int = 1\nurl: Annotated[str, Setting('where')] = ''\n@hookimpl\ndef call_ended(self, call): ..."
    checks = examine(source, head=HEAD.replace("    '''Do something.'''\n", ""), readme="| `url` | where |")
    assert failed(checks) == ["settings documented", "README has every setting"]
    assert checks["settings documented"].text == "the class has no docstring; size has no meaning"
    assert checks["README has every setting"].text == "size is missing"


def test_a_plugin_that_counts_on_order_and_on_being_told_once(examine: Examine) -> None:
    source = """\
    known: dict = field(default_factory=dict, init=False)
    @hookimpl
    def call_started(self, call: Call) -> None:
        self.known[call.id] = call
    @hookimpl
    def call_ended(self, call: Call) -> None:
        del self.known[call.id]
    """
    checks = examine(source)
    assert "bears any order" in failed(checks)
    assert "call_ended: KeyError: 'call_" in checks["bears any order"].text


def test_a_plugin_that_raises_at_a_question(examine: Examine) -> None:
    source = "@hookimpl\ndef validate_call(self, call: Call) -> None:\n    raise KeyError('rules')"
    checks = examine(source)
    assert "bears lost and repeated news" in failed(checks)
    assert checks["bears lost and repeated news"].text == "validate_call: KeyError: 'rules'"


def test_a_slow_plugin_and_one_that_asks_the_network_within_a_request(examine: Examine, tmp_path: Path) -> None:
    source = """\
    @hookimpl
    def name_conference(self, call: Call) -> None:
        time.sleep(0.1)
    @hookimpl
    def route_call(self, call: Call) -> None:
        try:
            requests.get("https://crm.example.com/route", timeout=1)
        except OSError:
            pass
    """
    checks = examine(source)
    assert failed(checks) == ["hooks quick"]
    text = checks["hooks quick"].text
    assert "name_conference takes 4" in text
    assert f"{line_of(tmp_path, 'requests.get')} asks the network within a request" in text


def test_a_plugin_that_hangs_holds_the_kit_up_no_longer_than_a_request(examine: Examine) -> None:
    checks = examine("@hookimpl\ndef validate_call(self, call: Call) -> None:\n    threading.Event().wait()")
    assert failed(checks) == ["hooks quick"]
    assert "validate_call: Overrun: no answer within 250 ms" in checks["hooks quick"].text
    assert "bears two threads" not in checks


@pytest.mark.parametrize(("limit", "found"), [("", True), (", timeout=(3, None)", True), (", timeout=3", False)])
def test_a_request_without_a_time_out_is_named_and_one_that_fails_is_no_fault(
    limit: str, found: bool, examine: Examine, tmp_path: Path
) -> None:
    source = f"@hookimpl\ndef call_ended(self, call: Call) -> None:\n    requests.post('https://crm.example.com/a'{limit})"
    checks = examine(source)
    assert failed(checks) == ["time-outs on every request"] * found
    where = line_of(tmp_path, "requests.post")
    named = f"{where}: POST https://crm.example.com/a waits for ever" if found else "1 places ask the network"
    assert checks["time-outs on every request"].text == named


def test_a_plugin_that_two_threads_confuse(examine: Examine) -> None:
    source = """\
    busy: list = field(default_factory=list, init=False)
    @hookimpl
    def validate_call(self, call: Call) -> None:
        self.busy.append(call)
        time.sleep(0.002)
        if len(self.busy) > 1:
            raise RuntimeError("two at once")
        self.busy.clear()
    """
    checks = examine(source)
    assert failed(checks) == ["bears two threads"]
    assert checks["bears two threads"].text.startswith("validate_call: RuntimeError: two at once")


def test_threads_that_wait_for_each_other_are_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stress, "PATIENCE", 0.05)
    gate = threading.Event()
    ((_, error),) = stress.in_two_threads([("validate_call", gate.wait)])
    gate.set()
    assert isinstance(error, stress.Hangs)


def test_disorder_repeats_and_leaves_out_and_is_the_same_for_a_seed() -> None:
    call = Call("call_1", "acme", "ann", "+14155550101", "+14155550199", "acme-1")
    told = [Told(f"hook_{number}", call) for number in range(100)]
    news = stress.in_disorder(told, 1)
    assert news == stress.in_disorder(told, 1) != stress.in_disorder(told, 2)
    assert len({id(one) for one in news}) < min(len(news), 100)
    assert [one for one in told if one in news] != news


def test_the_command_says_what_holds_and_what_to_mend(write: Write, tmp_path: Path) -> None:
    target = write("@hookimpl\ndef validate_call(self, call: Call) -> Refusal | None:\n    raise KeyError('rules')")
    project = tmp_path / "project"
    (project / "src").mkdir(parents=True)
    table = f'[project.entry-points."dialer.plugins"]\nexamined = "{target.value}"\n'
    (project / "pyproject.toml").write_text(table)
    module = f"{target.value.partition(':')[0]}.py"
    (tmp_path / module).rename(project / "src" / module)
    done = CliRunner().invoke(cli, ["plugins", "test", str(project), "--calls", "3"])
    assert done.exit_code == 1
    lines = done.output.splitlines()
    assert "ok      imports" in lines
    assert "failed  bears lost and repeated news: validate_call: KeyError: 'rules'" in lines
    assert lines[lines.index("failed  bears lost and repeated news: validate_call: KeyError: 'rules'") + 1].startswith(
        "        fix: news come late"
    )
    done = CliRunner().invoke(cli, ["plugins", "test", str(project), "--calls", "3", "--json"])
    document = json.loads(done.output)
    assert (done.exit_code, document["plugin"], document["ok"]) == (1, "examined", False)
    assert {"name", "ok", "text", "fix"} == document["checks"][0].keys()


@pytest.mark.parametrize(
    ("file", "text"),
    [
        (None, "pyproject.toml cannot be read"),
        ("[project", "pyproject.toml cannot be read"),
        ("[project]\nname = 'x'\n", "brings no plugin: it needs"),
        ('[project.entry-points."dialer.plugins"]\na = "x:A"\nb = "x:B"\n', r"several plugins \(a, b\); give module"),
        ('[project.entry-points."dialer.plugins"]\n', "brings no plugin: it needs"),
    ],
)
def test_a_folder_that_is_no_plugins_project(file: str | None, text: str, tmp_path: Path) -> None:
    if file is not None:
        (tmp_path / "pyproject.toml").write_text(file)
    with pytest.raises(DialerError, match=text):
        target_of(str(tmp_path))


def test_what_is_meant_by_a_name_or_a_module() -> None:
    assert target_of("call_log") == Target("call_log", "dialer_plugins.call_log:CallLog")
    assert target_of("some.module:QuietHours").name == "quiet_hours"
    with pytest.raises(DialerError, match="did you mean call_log"):
        target_of("call_logs")
