"""A plugin that breaks two starts in a row is set aside, and the rest starts."""

import os
import subprocess
import sys
import textwrap
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from dialer import discovery, starts
from dialer.calls import Call
from dialer.config import load
from dialer.errors import ConfigError
from dialer.hookspecs import Refusal
from dialer.plugins import Plugins
from dialer.settings import Settings
from dialer.starting import start
from dialer.starts import HANGS, KILLS, Starts

CALL = Call("call_1", "ws", "alice", "+14155550101", "+14155550199", "ws-1")
GOOD = """
from dialer import hookimpl
class Good:
    @hookimpl
    def name_conference(self, call): return "good"
class Checks:
    @hookimpl
    def validate_call(self, call): return None
    @hookimpl
    def call_ended(self, call): pass
class Listens:
    @hookimpl
    def call_ended(self, call): pass
"""

Write = Callable[..., Settings]


@pytest.fixture
def write(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Write:
    """Install plugins as modules of their own, list them, and give the settings."""
    site = tmp_path / "site"
    monkeypatch.syspath_prepend(site)

    def install(**modules: str) -> Settings:
        for name, source in {"good": f"{GOOD}\nPlugin = Good", **modules}.items():
            folder = site / f"{name}-1.dist-info"
            folder.mkdir(parents=True, exist_ok=True)
            (folder / "METADATA").write_text(f"Metadata-Version: 2.1\nName: {name}\nVersion: 1\n")
            (folder / "entry_points.txt").write_text(f"[dialer.plugins]\n{name} = module_{name}:Plugin\n")
            (site / f"module_{name}.py").write_text(textwrap.dedent(source))
            sys.modules.pop(f"module_{name}", None)
        listed = ", ".join(f'"{name}"' for name in ("good", *modules))
        path = tmp_path / "instance" / "dialer.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(f"[plugins]\nenabled = [{listed}]\n")
        sys.path_importer_cache.clear()
        return load({}, cwd=tmp_path)

    return install


BROKEN = "raise OSError('no network')"
CHECKS, LISTENS = f"{GOOD}\nPlugin = Checks", f"{GOOD}\nPlugin = Listens"


def started(settings: Settings) -> Plugins:
    return start(settings)[1]


@pytest.mark.parametrize(
    ("source", "fault"),
    [
        (BROKEN, r"bad \(bad 1\) cannot be imported: OSError: no network"),
        ("import sys; sys.exit('bye')", "SystemExit: bye"),
        ("class Plugin:\n    def __init__(self): raise KeyError('a')", "KeyError: 'a'"),
        ("class Plugin:\n    def validate_cal(self): pass", "has no hooks"),
    ],
)
def test_the_first_broken_start_refuses_and_the_second_goes_without(write: Write, source: str, fault: str) -> None:
    settings = write(bad=source)
    with pytest.raises(ConfigError, match=fault):
        started(settings)
    plugins = started(settings).current()
    assert plugins.ask("name_conference", CALL)[0] == "good"
    assert not plugins.on("bad")
    assert plugins.on("good")


def test_one_that_may_check_calls_refuses_them_while_it_is_set_aside(write: Write) -> None:
    started(write(bad=CHECKS))
    settings = write(bad=BROKEN)
    with pytest.raises(ConfigError):
        started(settings)
    plugins = started(settings).current()
    ((name, refusal),), (verdict,) = plugins.gather("validate_call", CALL)
    assert (name, refusal) == ("bad", Refusal("The call could not be checked.", "plugin-error:bad"))
    assert "set aside" in verdict.error and "no network" in verdict.error
    assert plugins.tells("call_ended") == ["bad"]  # and what it would be told waits for it


def test_one_that_never_started_here_might_check_calls(write: Write) -> None:
    settings = write(bad=BROKEN)
    with pytest.raises(ConfigError):
        started(settings)
    assert [name for name, _ in started(settings).current().gather("validate_call", CALL)[0]] == ["bad"]


def test_one_that_did_not_check_calls_is_simply_off(write: Write) -> None:
    started(write(bad=LISTENS))
    settings = write(bad=BROKEN)
    with pytest.raises(ConfigError):
        started(settings)
    plugins = started(settings).current()
    assert plugins.gather("validate_call", CALL) == ([], [])
    assert plugins.tells("call_ended") == ["bad"]


def test_a_good_start_in_between_begins_the_count_anew(write: Write) -> None:
    for _ in range(2):
        with pytest.raises(ConfigError):
            started(write(bad=BROKEN))
        assert started(write(bad=LISTENS)).current().on("bad")


def test_one_that_is_mended_is_back_at_the_next_start(write: Write) -> None:
    with pytest.raises(ConfigError):
        started(write(bad=BROKEN))
    started(write(bad=BROKEN))
    settings = write(bad=LISTENS)
    assert started(settings).current().on("bad")
    assert Starts.of(settings).set_aside() == {}


def test_what_was_wrong_with_settings_is_never_set_aside(write: Write) -> None:
    source = f"""
    from dataclasses import dataclass
    {GOOD.replace(chr(10), chr(10) + "    ")}
    @dataclass(frozen=True)
    class Plugin(Good):
        url: str
    """
    settings = write(bad=source)
    for _ in range(3):
        with pytest.raises(ConfigError, match="missing; it must be a text"):
            started(settings)


def test_a_name_that_never_was_a_plugins_is_a_mistake_every_time(write: Write, tmp_path: Path) -> None:
    write()
    (tmp_path / "instance" / "dialer.toml").write_text('[plugins]\nenabled = ["goood"]\n')
    for _ in range(3):
        with pytest.raises(ConfigError, match="did you mean good"):
            started(load({}, cwd=tmp_path))


def test_a_change_of_others_works_while_one_is_set_aside(write: Write) -> None:
    with pytest.raises(ConfigError):
        started(write(bad=BROKEN))
    plugins = started(write(bad=BROKEN))
    settings = write(bad=BROKEN, more=LISTENS)
    assert plugins.current().names == ("good", "bad", "more")
    assert plugins.problem == ""
    assert settings.plugins.enabled == ("good", "bad", "more")


def run_start(tmp_path: Path, site: Path) -> int:
    """Start in a process of its own; gives its exit code."""
    code = (
        "from pathlib import Path; from dialer.config import load; from dialer.starting import start\n"
        f"start(load({{}}, cwd=Path({str(tmp_path)!r})))"
    )
    environ = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run([sys.executable, "-c", code], env=environ, capture_output=True, check=False).returncode


def test_one_that_ends_its_process_is_set_aside_by_the_next(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings, site = write(bad="import os; os._exit(7)"), tmp_path / "site"
    monkeypatch.setenv("PYTHONPATH", str(site))
    assert run_start(tmp_path, site) == 7
    plugins = started(settings)
    assert KILLS in plugins.current().aside["bad"]
    assert plugins.current().ask("name_conference", CALL)[0] == "good"


def test_one_that_was_killed_from_outside_is_no_broken_one(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = write(bad=LISTENS)
    folder = tmp_path / "instance" / "plugins"
    folder.mkdir()
    (folder / ".importing-bad-99999").touch()  # nobody holds it: its process is gone
    assert started(settings).current().on("bad")
    assert list(folder.glob(".importing-*")) == []


def test_one_that_hangs_is_given_up_and_not_waited_for_twice(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(discovery, "IMPORT_SECONDS", 0.05)
    monkeypatch.setattr(starts, "IMPORT_SECONDS", 0.05)
    settings = write(bad="import time; time.sleep(600)")
    with pytest.raises(ConfigError, match=HANGS):
        started(settings)
    plugins = started(settings)  # which asks a process of its own
    assert HANGS in plugins.current().aside["bad"]
    monkeypatch.setattr(starts, "_probe", lambda name: pytest.fail("not so soon"))
    assert started(settings).current().aside.keys() == {"bad"}
    now = time.time() + starts.TRY_AGAIN + 1
    monkeypatch.setattr(starts, "_probe", lambda name: "")
    monkeypatch.setattr("dialer.starts.time.time", lambda: now)
    assert Starts.of(settings).refuses("bad") == ""


def test_forgetting_begins_the_count_anew(tmp_path: Path) -> None:
    one = Starts(tmp_path)
    one.note_good({"crm": ["call_ended"]})
    one.note_broken({"crm": "x"})
    one.note_broken({"crm": "y"})
    assert one.set_aside() == {"crm": "y"}
    one.forget("crm")
    assert (one.set_aside(), one.hooks("crm")) == ({}, ("call_ended",))


def test_a_plugin_whose_name_begins_like_anothers_keeps_its_trace(tmp_path: Path) -> None:
    other = tmp_path / ".importing-call_log-x-99999"
    other.touch()
    assert Starts(tmp_path).refuses("call_log") == ""
    assert other.exists()


ROUTES = """
from dialer import hookimpl
class Plugin:
    @hookimpl
    def call_ended(self, call): pass
    @hookimpl
    def register_blueprint(self):
        {does}
"""


def run_app(tmp_path: Path, site: Path) -> subprocess.CompletedProcess[str]:
    code = (
        "from pathlib import Path; from dialer.config import load; from dialer.app import create_app\n"
        f"app = create_app(load({{}}, cwd=Path({str(tmp_path)!r})))\n"
        "print(app.test_client().get('/healthz').status_code)"
    )
    environ = {**os.environ, "PYTHONPATH": str(site)}
    return subprocess.run(
        [sys.executable, "-c", code], env=environ, capture_output=True, text=True, check=False, timeout=60, cwd=tmp_path
    )


def test_one_that_ends_its_process_as_it_makes_its_routes_goes_without_them(write: Write, tmp_path: Path) -> None:
    settings, site = write(bad=ROUTES.format(does="import os; os._exit(7)")), tmp_path / "site"
    folder = tmp_path / "instance"
    (folder / "dialer.toml").write_text(
        '[server]\npublic_url = "https://calls.example.com"\n[plugins]\nenabled = ["bad", "good"]\n'
        f'[twilio]\naccount_sid = "AC{"0" * 32}"\nauth_token = "token"\n'
    )
    (folder / "dialer.toml").chmod(0o600)
    for _ in range(2):
        ran = run_app(tmp_path, site)
        assert ran.returncode == 7, ran.stderr
    ran = run_app(tmp_path, site)
    assert (ran.returncode, ran.stdout.strip().splitlines()[-1]) == (0, "200"), ran.stderr
    assert "plugin bad has no routes: processes end" in ran.stdout + ran.stderr
    Starts.of(settings).forget("bad")
    assert run_app(tmp_path, site).returncode == 7


def test_routes_that_ended_processes_are_tried_again_after_a_while(tmp_path: Path) -> None:
    one, two = (tmp_path / f".routes-crm-{number}" for number in (1, 2))
    one.touch()
    two.touch()
    assert Starts(tmp_path).kills_routes("crm")
    assert not Starts(tmp_path).kills_routes("cr")
    os.utime(two, (time.time() - starts.TRY_AGAIN - 1,) * 2)
    assert not Starts(tmp_path).kills_routes("crm")
    assert (one.exists(), two.exists()) == (True, False)


def test_without_a_folder_nothing_is_known_and_nothing_breaks(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    one = Starts(tmp_path / "file" / "plugins")
    with one.importing("crm"):
        one.note_broken({"crm": "x"})
    assert (one.notes(), one.refuses("crm"), one.hooks("crm")) == ({}, "", ("validate_call",))
