"""`dialer plugins`, and the commands that plugins bring."""

from __future__ import annotations

import json
import os
import pwd
import sys
import textwrap
import threading
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dialer.cli import cli
from dialer.config import load
from dialer.plugins import Plugins
from dialer.service import Service
from dialer.starts import Starts
from dialer.store import open_store

TAKEN = "a running server takes it with its next request; if it cannot, it goes on as before, and its log says why"
ME = pwd.getpwuid(os.getuid()).pw_name
SOURCE = """
import click
from dataclasses import dataclass, field
from typing import Annotated
from dialer import Call, Host, Secret, Setting, hookimpl

@dataclass(frozen=True, eq=False)
class Crm:
    \"\"\"Tells a CRM of calls.

    At length.
    \"\"\"
    url: Annotated[str, Setting("where it is")]
    token: Annotated[Secret | None, Setting("who we are")] = None
    retries: Annotated[int, Setting("how often", numbers=(0, 9))] = 3
    host: Host = field(default_factory=Host)

    @hookimpl
    def validate_call(self, call: Call) -> None: ...

    @hookimpl
    def register_commands(self) -> click.Group:
        @click.group(name="crm")
        def group() -> None:
            "Look after the CRM."

        @group.command()
        @click.option("--workspace", default="")
        def where(workspace: str) -> None:
            click.echo(f"{self.host.plugin(workspace).url if workspace else self.url} {self.host.numbers('acme')}")

        return group

class Plain:
    \"\"\"Does little.\"\"\"
    @hookimpl
    def call_ended(self, call: Call) -> None: ...
    @hookimpl
    def register_blueprint(self): ...

class Bad(Plain):
    @hookimpl
    def register_commands(self):
        raise SystemExit("not today")
"""
TOML = """# Ours. Ask Ann before you change it.
[calls]
ring_seconds = 20   # as in the contract

[plugins]
enabled = [
    "number_policy",  # first: the cheapest check
    "plain",
]

[plugins.crm]
url = "https://crm.test"
token = "hush-hush"
"""


@pytest.fixture
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder with an installation, and three plugins from elsewhere; gives the path of dialer.toml."""
    site = tmp_path / "site"
    folder = site / "elsewhere-2.0.dist-info"
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: elsewhere\nVersion: 2.0\n")
    names = "".join(f"{name} = elsewhere_plugins:{name.title()}\n" for name in ("crm", "plain", "bad"))
    (folder / "entry_points.txt").write_text(f"[dialer.plugins]\n{names}hanging = elsewhere_hangs:Nothing\n")
    (site / "elsewhere_plugins.py").write_text(textwrap.dedent(SOURCE))
    (site / "elsewhere_hangs.py").write_text("import os\nos._exit(9)\n")
    sys.modules.pop("elsewhere_plugins", None)
    monkeypatch.syspath_prepend(site)
    monkeypatch.setenv("PYTHONPATH", str(site))
    monkeypatch.chdir(tmp_path)
    path = tmp_path / "instance" / "dialer.toml"
    path.parent.mkdir()
    path.write_text(TOML)
    path.chmod(0o600)
    return path


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, args)


def done(*args: str) -> str:
    result = run(*args)
    assert result.exit_code == 0, result.stderr
    return result.stdout


def settle() -> None:
    """Wait for what goes on behind the requests."""
    for thread in threading.enumerate():
        if thread.name == "plugins":
            thread.join()


def make_store() -> None:
    done("workspaces", "add", "acme")
    done("numbers", "add", "+14155550199", "--workspace", "acme")


def listed() -> dict[str, Any]:
    return {row["name"]: row for row in json.loads(done("plugins", "list", "--json"))["plugins"]}


def changes(*args: str) -> list[tuple[str, ...]]:
    rows = json.loads(done("plugins", "history", *args, "--json"))
    return [(row["who"], row["via"], row["plugin"], row["what"], row["before"], row["after"]) for row in rows]


def test_list_names_what_is_on_in_order_and_then_what_is_off(home: Path) -> None:
    rows = listed()
    assert list(rows)[:2] == ["number_policy", "plain"]
    assert {name: row["state"] for name, row in rows.items() if name in ("number_policy", "plain", "crm")} == {
        "number_policy": "on", "plain": "on", "crm": "off",
    }  # fmt: skip
    assert rows["crm"]["broughtBy"] == "elsewhere 2.0"
    shown = done("plugins", "list")
    assert "plain: its routes come with the next start" in shown
    assert shown.index("number_policy") < shown.index("plain") < shown.index("crm")


def test_show_tells_settings_types_defaults_and_no_secret(home: Path) -> None:
    done("plugins", "enable", "crm")
    shown = done("plugins", "show", "crm")
    assert "Tells a CRM of calls." in shown and "At length" not in shown
    assert "elsewhere 2.0" in shown and "elsewhere_plugins:Crm" in shown
    assert "validate_call" in shown
    assert "hush-hush" not in shown
    row = json.loads(done("plugins", "show", "crm", "--json"))
    settings = {one["name"]: one for one in row["settings"]}
    assert list(settings) == ["url", "token", "retries"]
    assert (settings["token"]["value"], settings["token"]["from"]) == ("***", "dialer.toml")
    assert (settings["retries"]["value"], settings["retries"]["default"], settings["retries"]["from"]) == (
        "3", "3", "default",
    )  # fmt: skip
    assert settings["retries"]["type"] == "a whole number, 0 to 9"
    assert settings["url"]["value"] == '"https://crm.test"'


def test_show_of_what_is_off_or_unknown(home: Path) -> None:
    assert "Does little." in done("plugins", "show", "plain")
    assert "off" in done("plugins", "show", "crm")
    result = run("plugins", "show", "crmm")
    assert (result.exit_code, "did you mean crm?" in result.stderr) == (1, True)


def test_enable_and_disable_keep_comments_and_layout(home: Path) -> None:
    done("plugins", "enable", "crm")
    text = home.read_text()
    assert load({}, cwd=home.parents[1]).plugins.enabled == ("number_policy", "plain", "crm")
    for comment in ("# Ours. Ask Ann before you change it.", "# as in the contract", "# first: the cheapest check"):
        assert comment in text
    assert home.stat().st_mode & 0o777 == 0o600
    done("plugins", "disable", "crm")
    assert load({}, cwd=home.parents[1]).plugins.enabled == ("number_policy", "plain")
    assert "# first: the cheapest check" in home.read_text()
    assert [path.name for path in home.parent.iterdir() if path.name.startswith(".dialer")] == []


def test_enable_may_give_settings(home: Path) -> None:
    done("plugins", "enable", "crm", "--set", "retries=5", "--set", "url=https://other.test")
    table = load({}, cwd=home.parents[1]).plugin_tables["crm"]
    assert (table["retries"], table["url"], table["token"]) == (5, "https://other.test", "hush-hush")


def test_a_change_says_when_servers_take_it_and_for_what_they_have_to_start_again(home: Path) -> None:
    assert done("plugins", "enable", "crm") == f"plugin crm is on\n{TAKEN}\n"
    assert done("plugins", "enable", "crm") == "plugin crm is on\n"
    assert done("plugins", "disable", "plain") == f"plugin plain is off\n{TAKEN}\n"
    assert done("plugins", "enable", "plain") == (
        f"plugin plain is on\n{TAKEN}\nplain: its routes come with the next start\n"
    )


def test_order_puts_some_first(home: Path) -> None:
    done("plugins", "enable", "crm")
    assert done("plugins", "order", "crm", "plain") == f"order: crm, plain, number_policy\n{TAKEN}\n"
    assert load({}, cwd=home.parents[1]).plugins.enabled == ("crm", "plain", "number_policy")


@pytest.mark.parametrize(
    ("args", "code", "error"),
    [
        (("enable", "crmm"), 1, "did you mean crm?"),
        (("enable", "crm", "--set", "retries=10"), 3, "[plugins.crm].retries: must be 0 to 9, not 10"),
        (("enable", "crm", "--set", "retires=1"), 3, "[plugins.crm].retires: there is no such setting; did you mean"),
        (("enable", "crm", "--set", "retries"), 2, "'retries' is not KEY=VALUE"),
        (("enable", "hanging"), 3, "a plugin on the list ends the process that imports it (exit code 9)"),
        (("disable", "crm"), 1, "crm is not on (on: number_policy, plain)"),
        (("order", "crm"), 1, "crm is not on, or named twice"),
        (("order", "plain", "plain"), 1, "plain is not on, or named twice"),
        (("enable", "crm", "--workspace", "none"), 1, "there is no workspace none"),
    ],
)
def test_what_check_would_refuse_is_not_written(home: Path, args: tuple[str, ...], code: int, error: str) -> None:
    make_store()
    result = run("plugins", *args)
    assert (result.exit_code, error in result.stderr) == (code, True), result.stderr
    assert home.read_text() == TOML


def test_a_fault_that_was_there_before_does_not_keep_others_from_being_switched(home: Path) -> None:
    home.write_text(TOML.replace('"plain",', '"plain", "gone",'))
    done("plugins", "disable", "plain")
    assert load({}, cwd=home.parents[1]).plugins.enabled == ("number_policy", "gone")
    rows = json.loads(done("plugins", "list", "--json"))
    assert next(row for row in rows["plugins"] if row["name"] == "gone")["state"] == "broken"
    assert "gone: there is no such plugin" in rows["faults"][0]


def test_a_file_that_was_changed_meanwhile_is_left_alone(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def meanwhile(*_: Any) -> None:
        home.write_text(TOML + "\n# by somebody else\n")

    monkeypatch.setattr("dialer.plugin_file._refuse_new_faults", meanwhile)
    result = run("plugins", "disable", "plain")
    assert (result.exit_code, "was changed by somebody else meanwhile" in result.stderr) == (3, True)
    assert home.read_text().endswith("# by somebody else\n")


def test_a_workspace_may_be_without_a_plugin_and_have_it_back(home: Path) -> None:
    make_store()
    done("plugins", "disable", "plain", "--workspace", "acme")
    assert load({}, cwd=home.parents[1]).workspace_plugins["acme"].disabled == ("plain",)
    assert done("plugins", "list", "--workspace", "acme", "--json").count("off in this workspace") == 1
    done("plugins", "enable", "plain", "--workspace", "acme")
    assert load({}, cwd=home.parents[1]).workspace_plugins["acme"].disabled == ()
    assert [one[2:4] for one in changes("--workspace", "acme")] == [("plain", "enabled"), ("plain", "disabled")]


def test_every_change_stands_in_the_history_without_secrets(home: Path) -> None:
    make_store()
    done("plugins", "enable", "crm", "--set", "retries=5")
    done("plugins", "order", "crm")
    done("plugins", "enable", "crm", "--set", "token=other", "--set", "retries=6")
    done("plugins", "disable", "crm")
    newest_first = changes()
    assert all(one[:2] == (ME, "cli") for one in newest_first)
    assert [one[2:] for one in newest_first][:5] == [
        ("crm", "disabled", 'url = "https://crm.test", token = ***, retries = 6', ""),
        ("crm", "setting token", "***", "***"),
        ("crm", "setting retries", "5", "6"),
        ("", "order", "number_policy, plain, crm", "crm, number_policy, plain"),
        ("crm", "enabled", "", 'url = "https://crm.test", token = ***, retries = 5'),
    ]
    assert "hush" not in json.dumps(newest_first)
    assert "crm" in done("plugins", "history", "crm")


def test_a_change_by_hand_is_noted_once_whoever_notices(home: Path) -> None:
    make_store()
    settings = load({}, cwd=home.parents[1])
    store = open_store(settings.store.url)
    workers = [Plugins(settings) for _ in range(3)]
    for worker in workers:
        worker.attach(Service(settings, store, worker))
    before = len(changes())
    home.write_text(TOML.replace('"plain",', '"plain", "crm",'))
    for worker in workers:
        assert worker.current().names == ("number_policy", "plain", "crm")
    settle()
    new = changes()[: len(changes()) - before]
    assert [one[:4] for one in new] == [(ME, "file", "crm", "enabled")]
    home.write_text(TOML)
    Plugins(load({}, cwd=home.parents[1])).attach(Service(settings, store, workers[0]))  # a start
    assert changes()[0][:4] == (ME, "file", "crm", "disabled")
    store.close()


def test_a_server_that_sees_the_commands_change_first_knows_who_made_it(
    home: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    make_store()
    settings = load({}, cwd=home.parents[1])
    store, plugins = open_store(settings.store.url), Plugins(settings)
    plugins.attach(Service(settings, store, plugins))
    replace = os.replace

    def notice(beside: Path, file: Path) -> None:
        replace(beside, file)
        plugins.current()
        settle()
        assert changes()[0][:4] == (ME, "cli", "plain", "disabled")

    monkeypatch.setattr("dialer.plugin_file.os.replace", notice)
    done("plugins", "disable", "plain")
    assert [one[3] for one in changes()].count("disabled") == 1
    assert changes()[0][:4] == (ME, "cli", "plain", "disabled")
    store.close()


def test_enabling_one_that_was_set_aside_has_it_tried_again(home: Path) -> None:
    starts = Starts.of(load({}, cwd=home.parents[1]))
    starts.note_broken({"plain": "x"})
    starts.note_broken({"plain": "x"})
    assert starts.set_aside() == {"plain": "x"}
    done("plugins", "enable", "plain")
    assert starts.set_aside() == {}


def test_the_environment_that_wins_is_mentioned(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIALER_PLUGINS", "")
    result = run("plugins", "disable", "plain")
    assert result.exit_code == 0
    assert "DIALER_PLUGINS is set here" in result.stderr
    assert "DIALER_PLUGINS is set here" in run("plugins", "list").stderr


# commands that plugins bring


def test_a_plugins_command_works_with_its_settings_and_its_host(home: Path) -> None:
    make_store()
    done("plugins", "enable", "crm")
    assert done("crm", "where") == "https://crm.test ['+14155550199']\n"
    home.write_text(home.read_text() + '\n[workspaces.acme.plugins.crm]\nurl = "https://acme.test"\n')
    assert done("crm", "where", "--workspace", "acme").startswith("https://acme.test ")


def test_the_overview_lists_them_and_only_those_that_are_on(home: Path) -> None:
    assert "Commands of plugins" not in done("--help")
    done("plugins", "enable", "crm")
    shown = done("--help")
    assert "Commands of plugins" in shown and "Look after the CRM." in shown
    done("plugins", "disable", "crm")
    assert "Look after the CRM." not in done("--help")


def test_the_command_of_one_that_is_off_says_how_it_comes_on(home: Path) -> None:
    result = run("crm", "where")
    assert (result.exit_code, result.stderr) == (1, "dialer: crm is off: dialer plugins enable crm\n")
    assert "No such command 'crmm'" in run("crmm", "where").stderr
    shell = {"_DIALER_COMPLETE": "bash_complete", "COMP_WORDS": "dialer crm wh", "COMP_CWORD": "2"}
    completed = CliRunner().invoke(cli, prog_name="dialer", env=shell)
    assert (completed.exit_code, completed.stderr) == (0, "")


def test_a_broken_one_costs_a_line_and_not_the_command_line(home: Path) -> None:
    home.write_text(TOML.replace('"plain",', '"bad",'))
    result = run("--help")
    assert result.exit_code == 0
    assert "plugin bad: register_commands: SystemExit: not today" in result.stderr
    assert "No such command 'bad'" in run("bad").stderr
    home.write_text("[plugins")
    assert "is not TOML" in run("--help").stderr
