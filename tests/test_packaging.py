"""What users install: every folder is listed, every committed file shipped, and the wheel works alone."""

import configparser
import os
import shutil
import subprocess
import sys
import tarfile
import venv
import zipfile
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).parent.parent


class Built(NamedTuple):
    sdist: Path
    wheel: Path


@pytest.fixture(scope="module")
def setup_cfg() -> configparser.ConfigParser:
    parser = configparser.ConfigParser()
    parser.read(ROOT / "setup.cfg")
    return parser


@pytest.fixture(scope="module")
def committed() -> list[str]:
    """Return the paths of the repository's files, those about to be added included."""
    if not (ROOT / ".git").exists():
        pytest.skip("not a git checkout")
    listing = run(["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"], cwd=ROOT)
    return [path for path in listing.split("\0") if path and (ROOT / path).exists()]


@pytest.fixture(scope="module")
def built(committed: list[str], tmp_path_factory: pytest.TempPathFactory) -> Built:
    # From a copy: a `build` folder left in the checkout would add deleted modules to the wheel.
    source, dist = tmp_path_factory.mktemp("source"), tmp_path_factory.mktemp("dist")
    for path in committed:
        (source / path).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy2(ROOT / path, source / path)
    run([sys.executable, "-m", "build", "--no-isolation", "--outdir", str(dist), str(source)], cwd=source)
    return Built(next(dist.glob("*.tar.gz")), next(dist.glob("*.whl")))


def run(command: list[str], cwd: Path, env: dict[str, str] | None = None) -> str:
    done = subprocess.run(command, cwd=cwd, env=env, capture_output=True, text=True)
    assert done.returncode == 0, f"{command} exited {done.returncode}\n{done.stdout}\n{done.stderr}"
    return done.stdout


def module_folders(top: str, package: str) -> set[str]:
    """Name as a package every folder under `top` that holds Python modules."""
    folders = {path.parent.relative_to(ROOT / top) for path in (ROOT / top).rglob("*.py")}
    return {".".join((package, *folder.parts)) for folder in folders}


def test_every_folder_of_modules_is_a_listed_package(setup_cfg: configparser.ConfigParser) -> None:
    folders = module_folders("dialer", "dialer") | module_folders("plugins", "dialer_plugins")
    assert sorted(setup_cfg["options"]["packages"].split()) == sorted(folders)


def test_every_plugin_folder_has_an_entry_point(setup_cfg: configparser.ConfigParser) -> None:
    lines = setup_cfg["options.entry_points"]["dialer.plugins"].strip().splitlines()
    entry_points = dict(line.replace(" ", "").split("=") for line in lines)
    folders = {path.parent.name for path in (ROOT / "plugins").glob("*/*.py")}
    assert set(entry_points) == folders
    for name, target in entry_points.items():
        assert target.startswith(f"dialer_plugins.{name}:")


@pytest.mark.timeout(300)
def test_sdist_holds_every_committed_file(built: Built, committed: list[str]) -> None:
    with tarfile.open(built.sdist) as archive:
        shipped = {name.partition("/")[2] for name in archive.getnames()}
    assert set(committed) - shipped == set()


@pytest.mark.timeout(300)
def test_wheel_holds_every_committed_file_of_the_packages(built: Built, committed: list[str]) -> None:
    with zipfile.ZipFile(built.wheel) as archive:
        shipped = set(archive.namelist())
    modules = {path for path in committed if path.startswith("dialer/")}
    plugins = {f"dialer_{path}" for path in committed if path.startswith("plugins/")}
    assert (modules | plugins) - shipped == set()
    tops = {name.partition("/")[0] for name in shipped if ".dist-info/" not in name}
    assert tops == {"dialer", "dialer_plugins"}


@pytest.mark.timeout(300)
def test_wheel_in_a_clean_environment_passes_its_own_check(built: Built, tmp_path: Path) -> None:
    environment, empty = tmp_path / "venv", tmp_path / "empty"
    empty.mkdir()
    venv.create(environment, with_pip=True)
    run([str(environment / "bin/python"), "-m", "pip", "install", "--quiet", str(built.wheel)], cwd=empty)
    ours = ("DIALER_", "TWILIO_", "PYTHON")
    env = {name: value for name, value in os.environ.items() if not name.startswith(ours)}
    run([str(environment / "bin/dialer"), "check"], cwd=empty, env=env)
