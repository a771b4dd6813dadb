"""`dialer plugins new`: what it writes works at once, in an environment where only Dialer's wheel is installed."""

from __future__ import annotations

import json
import os
import re
import shlex
import shutil
import subprocess
import sys
import sysconfig
import tomllib
import venv
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import pytest
from click.testing import CliRunner

from dialer.cli import COMMANDS, cli
from dialer.errors import DialerError
from dialer.scaffold import FILES, LONGEST, TEMPLATES, begin, rule_broken
from tests import test_cli_run
from tests.test_cli_run import Installation, json_of

ROOT = Path(__file__).parents[1]
HANGS_UP, TALKS, BUSY = "+14155550106", "+14155550101", "+14155550102"


class Environment(NamedTuple):
    """A virtual environment with Dialer's wheel, and what Dialer needs from the one that runs the tests."""

    folder: Path

    @property
    def python(self) -> str:
        return str(self.folder / "bin/python")

    def run(self, *words: str, cwd: Path) -> str:
        """Run one of its programs; gives what that printed."""
        done = self.try_to(*words, cwd=cwd)
        assert done.returncode == 0, f"{words} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def try_to(self, *words: str, cwd: Path) -> subprocess.CompletedProcess[str]:
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DIALER_", "PYTHON"))}
        command = [str(self.folder / "bin" / words[0]), *words[1:]]
        return subprocess.run(command, cwd=cwd, env=kept, capture_output=True, text=True, timeout=200)

    def build(self, project: Path) -> Path:
        self.run("python", "-m", "build", "--wheel", "--no-isolation", cwd=project)
        return next((project / "dist").glob("*.whl"))

    def install(self, *what: str, cwd: Path) -> None:
        self.run("python", "-m", "pip", "install", "-q", "--no-index", "--no-build-isolation", *what, cwd=cwd)


@pytest.fixture(scope="module")
def environment(tmp_path_factory: pytest.TempPathFactory) -> Environment:
    folder, source = tmp_path_factory.mktemp("beside"), tmp_path_factory.mktemp("source")
    for name in ("dialer", "plugins"):
        shutil.copytree(ROOT / name, source / name, ignore=shutil.ignore_patterns("__pycache__"))
    for name in ("setup.cfg", "pyproject.toml", "README.md", "LICENSE"):
        shutil.copy2(ROOT / name, source)
    venv.create(folder)
    made = Environment(folder)
    build = [sys.executable, "-m", "build", "--wheel", "--no-isolation", str(source)]
    subprocess.run(build, check=True, capture_output=True, timeout=200)
    # Before it sees the packages that it needs: among them is this checkout, as an editable Dialer.
    install = [sys.executable, "-m", "pip", "--python", made.python, "install", "-q", "--no-index", "--no-deps"]
    subprocess.run([*install, str(next((source / "dist").glob("*.whl")))], check=True, timeout=200)
    (site,) = (folder / "lib").glob("python3*/site-packages")
    (site / "needs.pth").write_text(sysconfig.get_path("purelib") + "\n")
    look = "import dialer, dialer_plugins; print(dialer.__file__, *dialer_plugins.__path__)"
    where = made.run("python", "-c", look, cwd=folder)
    assert all(path.startswith(str(site)) for path in where.split()), "the wheel is used, and not this checkout"
    return made


@pytest.mark.parametrize(
    ("name", "rule"),
    [
        ("", "lower-case letters"),
        ("QuietLine", "lower-case letters"),
        ("quiet-line", "lower-case letters"),
        ("1st", "a letter first"),
        ("quiet__line", "single _ between"),
        ("_quiet", "single _ between"),
        ("../quiet", "lower-case letters"),
        ("quiet\n", "lower-case letters"),
        ("q" * (LONGEST + 1), "40 characters at most"),
        ("import", "a word of Python's own"),
        ("simulate", "a command of Dialer's own"),
        ("number_policy", "brought by dialer"),
    ],
)
def test_a_name_that_would_not_do_is_refused_with_the_rule(name: str, rule: str, tmp_path: Path) -> None:
    assert rule in rule_broken(name)
    done = CliRunner().invoke(cli, ["plugins", "new", "--path", str(tmp_path), "--", name])
    assert (done.exit_code, [*tmp_path.iterdir()]) == (2, [])
    assert rule in " ".join(done.output.replace("│", "").split())


def test_good_names_are_not_refused() -> None:
    assert [rule_broken(name) for name in ("quiet_line", "q", "a1_b2", "q" * LONGEST)] == [""] * 4
    assert all(rule_broken(name) for name in COMMANDS)


def test_nothing_is_overwritten(tmp_path: Path) -> None:
    (tmp_path / "dialer-quiet-line").mkdir()
    (tmp_path / "dialer-quiet-line/mine").write_text("mine")
    done = CliRunner().invoke(cli, ["plugins", "new", "quiet_line", "--path", str(tmp_path)])
    assert done.exit_code == 1
    assert "is there already, and nothing is overwritten" in done.output
    assert [path.name for path in tmp_path.rglob("*")] == ["dialer-quiet-line", "mine"]


def test_a_folder_that_cannot_be_made_is_one_line(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    with pytest.raises(DialerError, match="cannot be made: File exists"):
        begin("quiet_line", tmp_path / "file")


def test_a_project_that_cannot_be_written_leaves_nothing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dialer.scaffold.TEMPLATES", tmp_path)
    with pytest.raises(DialerError, match="cannot be written: No such file"):
        begin("quiet_line", tmp_path / "new")
    assert [*(tmp_path / "new").iterdir()] == []


def test_every_template_is_used_and_filled_in(tmp_path: Path) -> None:
    assert sorted(FILES) == sorted(path.name for path in TEMPLATES.iterdir())
    done = CliRunner().invoke(cli, ["plugins", "new", "quiet_line", "--path", str(tmp_path)])
    project = tmp_path / "dialer-quiet-line"
    assert (done.exit_code, f"cd {project}" in done.output) == (0, True)
    written = [path for path in project.rglob("*") if path.is_file()]
    assert len(written) == len(FILES)
    assert not [path for path in written if re.search(r"\$[a-z{]", path.read_text()) or "$" in str(path)]
    table = tomllib.loads((project / "pyproject.toml").read_text())
    assert table["project"]["entry-points"]["dialer.plugins"] == {"quiet_line": "dialer_quiet_line:QuietLine"}


@pytest.mark.timeout(400)
def test_a_new_project_passes_its_own_tests_and_every_check(environment: Environment, tmp_path: Path) -> None:
    environment.run("dialer", "plugins", "new", "fresh_start", cwd=tmp_path)
    project = tmp_path / "dialer-fresh-start"
    environment.install("-e", ".[test]", cwd=project)
    try:
        assert "2 passed" in environment.run("python", "-m", "pytest", "-q", cwd=project)
        environment.run("python", "-m", "ruff", "check", "--no-cache", cwd=project)
        environment.run("python", "-m", "ruff", "format", "--check", "--no-cache", cwd=project)
        environment.run("python", "-m", "mypy", cwd=project)
        checks = json.loads(environment.run("dialer", "plugins", "test", "fresh_start", "--json", cwd=tmp_path))
        assert (checks["plugin"], checks["ok"], len(checks["checks"])) == ("fresh_start", True, 12)
        shown = environment.run("dialer", "plugins", "test", str(project), cwd=tmp_path)
        assert [line for line in shown.splitlines() if not line.startswith("ok ")] == []
    finally:
        environment.run("python", "-m", "pip", "uninstall", "-q", "-y", "dialer-fresh-start", cwd=tmp_path)


@pytest.fixture
def installation(environment: Environment, monkeypatch: pytest.MonkeyPatch) -> Iterator[Installation]:
    """Where `dialer run` is the wheel's."""
    monkeypatch.setattr(test_cli_run, "DIALER", (environment.python, "-m", "dialer"))
    made = Installation(environment.folder)
    yield made
    if made.server and made.server.poll() is None:
        made.end(15)


def place_call(installation: Installation, number: str) -> tuple[str, str, bool]:
    """How a call to this number ends, by which rule if it is refused, and whether the plugin noted something."""
    call = json_of(installation.begin("call", number, "--json"))["call"]
    story = installation.run("show", call["id"]).stdout
    while "quiet_line is to be told" in story or "quiet_line is being told" in story:
        story = installation.run("show", call["id"]).stdout
    return call["status"], call["rule"] or "", "quiet_line.noted" in story


@pytest.mark.timeout(400)
def test_a_wheel_beside_dialers_answers_in_a_running_server_until_it_is_switched_off(
    environment: Environment, installation: Installation, tmp_path: Path
) -> None:
    wheel = environment.build(begin("quiet_line", tmp_path))
    installation.start()
    assert installation.server is not None
    processes = {name: installation.child(name) for name in ("gunicorn", "worker")}
    environment.install(str(wheel), cwd=tmp_path)
    assert place_call(installation, HANGS_UP) == ("completed", "", False)
    talking = installation.begin("call", TALKS, "--talk", "8", "--json")
    enabled = installation.run("plugins", "enable", "quiet_line", "--set", f'refuse=["{HANGS_UP}"]')
    assert (enabled.returncode, enabled.stdout.partition("\n")[0]) == (0, "plugin quiet_line is on"), enabled.stderr
    assert place_call(installation, HANGS_UP) == ("rejected", "quiet_line:refused", False)
    assert place_call(installation, BUSY) == ("busy", "", True)
    disabled = installation.run("plugins", "disable", "quiet_line")
    assert disabled.returncode == 0, disabled.stderr
    assert place_call(installation, HANGS_UP) == ("completed", "", False)
    assert json_of(talking)["call"]["status"] == "completed"
    assert {name: installation.child(name) for name in processes} == processes
    assert "Traceback" not in installation.log()


class Block(NamedTuple):
    """A code block of the tutorial, and the file it is for."""

    kind: str
    file: str
    text: str


def tutorial() -> list[Block]:
    found = re.findall(
        r"^(?:`(\S+)`:\n\n)?```(\w+)\n(.*?)^```$", (ROOT / "docs/first-plugin.md").read_text(), re.M | re.S
    )
    return [Block(kind, file, text) for file, kind, text in found]


@pytest.mark.timeout(400)
def test_every_block_of_the_tutorial_does_what_it_says(
    environment: Environment, installation: Installation, tmp_path: Path
) -> None:
    folder, printed = tmp_path, ""
    for block in tutorial():
        if block.file:
            assert (folder / block.file).exists(), "the tutorial changes what was written for it"
            (folder / block.file).write_text(block.text)
        elif block.kind == "text":
            assert [line for line in block.text.splitlines() if line not in printed] == []
        else:
            assert block.kind == "console"
            for line in block.text.splitlines():
                command = line.removeprefix("$ ")
                if command.startswith("cd "):
                    folder = folder / command[3:]
                else:
                    printed = perform(command, environment, installation, folder)


def perform(command: str, environment: Environment, installation: Installation, folder: Path) -> str:
    """Do one line of the tutorial; gives what it printed."""
    if command == "dialer run":
        installation.folder = folder
        installation.start()
        return installation.welcome
    program, *words = shlex.split(command)
    if words[:2] == ["-m", "pip"]:
        words += ["--no-index", "--no-build-isolation"]
    if words[:2] == ["-m", "build"]:
        words += ["--no-isolation"]
    if program == "dialer" and installation.server:
        done = installation.run(*words)
    else:
        done = environment.try_to(program, *words, cwd=folder)
    assert done.returncode == 0, f"{command}\n{done.stdout}\n{done.stderr}"
    return done.stdout
