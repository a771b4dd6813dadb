"""What the documents say is what the code does: generated pages are fresh, code blocks run, commands exist."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from dialer.cli import cli
from dialer.config import load

ROOT = Path(__file__).parents[1]
README = (ROOT / "README.md").read_text()


def blocks(language: str) -> list[str]:
    """The code blocks of the README in one language, without the indentation of lists."""
    found = re.findall(rf"^( *)```{language}\n(.*?)^ *```", README, re.MULTILINE | re.DOTALL)
    return ["".join(line.removeprefix(indent) for line in body.splitlines(keepends=True)) for indent, body in found]


def commands() -> list[str]:
    lines = [line for block in blocks("console") for line in block.splitlines() if line.startswith("$ ")]
    return [line.partition("#")[0].partition("dialer ")[2].strip() for line in lines if "dialer " in line]


def test_the_table_of_states_is_drawn_from_the_code() -> None:
    drawn = subprocess.run(
        [sys.executable, "docs/draw_states.py"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    ).stdout
    assert drawn == (ROOT / "docs/states.md").read_text()


def test_the_plugin_of_the_readme_works(make_stage: Any, capsys: pytest.CaptureFixture[str]) -> None:
    namespace: dict[str, Any] = {"__name__": "readme"}
    exec(compile(blocks("python")[0], "README.md", "exec", dont_inherit=True), namespace)
    stage = make_stage(plugins=(namespace["QuietHours"](silent=("+14155550102",)),))
    refused, placed = stage.agent_dials("+14155550102"), stage.agent_dials("+14155550106")
    stage.ends()
    assert (refused.call.rule, refused.call.reason) == (
        "quiet_hours:silent",
        "This customer does not want to be called.",
    )
    assert placed.call.status == "completed"
    assert "called +14155550106: completed, ended by customer" in capsys.readouterr().out


def test_the_settings_of_the_readme_are_settings(tmp_path: Path) -> None:
    (tmp_path / "dialer.toml").write_text(blocks("toml")[0])
    settings = load({"DIALER_INSTANCE": str(tmp_path)}, cwd=tmp_path)
    assert settings.plugins.enabled == ("number_policy", "quiet_hours")


@pytest.mark.parametrize("command", commands())
def test_every_command_of_the_readme_exists_with_its_options(command: str) -> None:
    words = command.split()
    options = [word for word in words if word.startswith("--")]
    path = [word for word in words[:2] if re.fullmatch(r"[a-z]+", word)]
    shown = CliRunner().invoke(cli, [*path, "--help"])
    assert (shown.exit_code, [option for option in options if option not in shown.output]) == (0, [])


def test_the_readme_names_pages_that_exist() -> None:
    named = set(re.findall(r"`(docs/[a-z]+\.md)`", README))
    assert named
    assert [page for page in sorted(named) if not (ROOT / page).exists()] == []
