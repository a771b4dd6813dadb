"""docs/simulator.md says what the code does: its tables are fresh, its examples and commands run."""

from __future__ import annotations

import json
import re
import shlex
import socket
import subprocess
import sys
from argparse import ArgumentParser
from pathlib import Path
from typing import Any

import pytest
import requests
from click.testing import CliRunner

from dialer.cli import cli
from dialer.simulator.knobs import Faults, Knobs
from dialer.simulator.reference import BLOCK, TABLES, fill, read_docstrings
from dialer.simulator.server import AccountConfig, SimulatorConfig, load, serve_in_thread

PATH = Path(__file__).parents[2] / "docs" / "simulator.md"
PAGE = PATH.read_text()
SERVED, APPLICATION = "http://127.0.0.1:8100", "http://127.0.0.1:5000"


def blocks(language: str) -> list[str]:
    return re.findall(rf"^```{language}\n(.*?)^```", PAGE, re.MULTILINE | re.DOTALL)


def commands(program: str) -> list[str]:
    lines = [line for block in blocks("console") for line in block.splitlines()]
    return [line.removeprefix("$ ") for line in lines if line.startswith(f"$ {program} ")]


# Tables


def test_the_tables_are_made_from_the_code() -> None:
    assert fill(PAGE) == PAGE, "python -m dialer.simulator.reference docs/simulator.md"


def test_every_table_is_in_the_page() -> None:
    assert [found[2] for found in BLOCK.finditer(PAGE)] == list(TABLES)


def test_the_page_is_filled_in_place(tmp_path: Path) -> None:
    page = tmp_path / "page.md"
    page.write_text("before\n<!-- table: phones -->\nold\n<!-- end -->\nafter\n")
    subprocess.run([sys.executable, "-m", "dialer.simulator.reference", page], check=True, timeout=30)
    assert page.read_text() == f"before\n<!-- table: phones -->\n{TABLES['phones']()}<!-- end -->\nafter\n"


@pytest.mark.parametrize("kind", [Knobs, Faults])
def test_every_setting_says_what_it_means(kind: type[Any]) -> None:
    meanings = read_docstrings(kind)
    assert list(meanings) == list(kind.__dataclass_fields__)
    assert all(meaning.endswith(".") for meaning in meanings.values())


# Examples


def test_the_application_of_the_page_runs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        here = f"http://127.0.0.1:{free.getsockname()[1]}"
    sid, token = re.findall(r"--account (\S+) --auth-token (\S+)", PAGE)[0]
    account = AccountConfig(sid, token, numbers=({"phone_number": "+14155550199"},))
    with serve_in_thread(SimulatorConfig(port=0, accounts=(account,))) as (_, base):
        code = blocks("python")[0].replace(SERVED, base).replace(APPLICATION, here)
        code = code.replace('make_server("127.0.0.1", 5000,', f'make_server("127.0.0.1", {here.rpartition(":")[2]},')
        ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert (ran.returncode, sorted(ran.stdout.splitlines())) == (0, sorted(blocks("text")[0].splitlines())), ran.stderr


@pytest.mark.parametrize(("number", "printed"), [(1, ""), (2, blocks("text")[1])])
def test_the_examples_for_tests_run(number: int, printed: str, capsys: pytest.CaptureFixture[str]) -> None:
    exec(compile(blocks("python")[number], str(PATH), "exec", dont_inherit=True), {"__name__": "example"})
    assert capsys.readouterr().out == printed


# Commands


def test_the_curl_commands_are_answered(tmp_path: Path) -> None:
    path, sid = tmp_path / "simulator.json", ""
    nobody = {"port": 0, "public_urls": {"https://calls.example.com": "http://127.0.0.1:9"}}
    path.write_text(json.dumps({**json.loads(blocks("json")[0]), **nobody}))
    with serve_in_thread(load(path)) as (_, base):
        for command in commands("curl"):
            answer = ask(command.replace(SERVED, base).replace("$CALL", sid))
            sid = answer.get("callSid", sid)
    assert sid


def ask(command: str) -> dict[str, Any]:
    """Do what a curl command does; its options are those that the page uses."""
    curl = ArgumentParser()
    curl.add_argument("-s", action="store_true", required=True)
    curl.add_argument("-X", dest="method")
    curl.add_argument("-d", dest="data")
    curl.add_argument("url")
    given = curl.parse_args(shlex.split(command)[1:])
    method = given.method or ("POST" if given.data else "GET")
    answer = requests.request(method, given.url, data=given.data, timeout=10)
    assert answer.status_code == 200, (command, answer.text)
    found: dict[str, Any] = answer.json()
    return found


@pytest.mark.parametrize("command", commands("dialer"))
def test_the_command_line_has_the_options(command: str) -> None:
    words = command.split()
    shown = CliRunner().invoke(cli, [words[1], "--help"]).output
    assert [word for word in words if word.startswith("--") and word not in shown] == []


def test_the_options_of_the_table_are_those_there_are() -> None:
    named = set(re.findall(r"`(--[a-z-]+)`", PAGE))
    assert named == set(re.findall(r"--[a-z-]+", CliRunner().invoke(cli, ["simulator", "--help"]).output)) - {"--help"}
