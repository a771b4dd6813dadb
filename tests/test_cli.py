"""The command line beside calls: what it loads, how it fails, and what an admin sets up with it."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from importlib.metadata import version
from pathlib import Path
from typing import Any

import click
import pytest
from click.testing import CliRunner, Result

from dialer import auth, demo
from dialer.cli import COMMANDS, cli
from dialer.config import load
from dialer.errors import ConfigError, DialerError
from dialer.store import open_store

Run = Callable[..., Result]


@pytest.fixture
def dialer(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Run:
    """Run a command in an empty folder, without any setting of this machine's."""
    for name in [name for name in os.environ if name.startswith(("DIALER_", "TWILIO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return lambda *words: CliRunner().invoke(cli, list(words), prog_name="dialer", catch_exceptions=False)


@pytest.fixture
def acme(dialer: Run) -> Run:
    """The same, with a workspace, an agent and a number."""
    for words in (
        "workspaces add ws_acme --name Acme",
        "agents add acme_ann --workspace ws_acme --name Ann",
        "numbers add +14155550142 --workspace ws_acme",
    ):
        assert dialer(*words.split()).exit_code == 0
    return dialer


def good(key: str) -> bool:
    """Whether a request with this key is let in."""
    from dialer import create_app
    from dialer.service import service

    app = create_app()
    with app.test_request_context(headers={"Authorization": f"Bearer {key}"}):
        try:
            auth.authenticate(service(), "calls:read")
        except auth.ApiError:
            return False
        finally:
            service().store.close()
    return True


def test_the_overview_names_every_command_without_loading_any() -> None:
    code = (
        "import sys\nfrom click.testing import CliRunner\nfrom dialer.cli import COMMANDS, cli\n"
        "shown = CliRunner().invoke(cli, ['--help']).output\n"
        "assert all(f'  {name} ' in shown for name in COMMANDS), shown\n"
        "heavy = {'flask', 'aiohttp', 'twilio', 'sqlite_utils', 'rich', 'phonenumbers'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    subprocess.run([sys.executable, "-c", code], check=True)


@pytest.mark.parametrize("name", COMMANDS)
def test_every_command_is_there_and_explains_itself(name: str, dialer: Run) -> None:
    done = dialer(name, "--help")
    assert done.exit_code == 0
    assert f"Usage: dialer {name}" in done.output


def test_the_version_is_that_of_the_distribution(dialer: Run) -> None:
    assert dialer("--version").output == f"dialer {version('dialer')}\n"


def test_a_wrong_word_is_used_wrongly(dialer: Run) -> None:
    assert dialer("nonsense").exit_code == 2
    assert dialer("check", "--nonsense").exit_code == 2


@pytest.mark.parametrize("error", [DialerError("no luck"), ConfigError("dialer.toml: bad")])
def test_an_error_of_ours_is_one_line_and_no_traceback(
    error: DialerError, dialer: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail() -> None:
        raise error

    monkeypatch.setattr("dialer.cli_admin.check", click.command()(fail))
    done = dialer("check")
    assert (done.stdout, done.stderr) == ("", f"dialer: {error}\n")
    assert done.exit_code == (3 if isinstance(error, ConfigError) else 1)


def test_python_m_dialer_is_the_same_command(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "dialer", "--version"]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True)
    assert done.stdout == f"dialer {version('dialer')}\n"


# check


def test_check_in_an_empty_folder_finds_no_fault_and_makes_nothing(dialer: Run, tmp_path: Path) -> None:
    done = dialer("check")
    assert done.exit_code == 0
    assert f"dialer   {version('dialer')}" in done.output
    assert "dialer.toml is not there: defaults" in done.output
    assert "dialer run would simulate" in done.output
    assert "no faults" in done.output
    assert list(tmp_path.iterdir()) == []


def test_check_names_each_fault_on_a_line_of_its_own(dialer: Run, tmp_path: Path) -> None:
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance/dialer.toml").write_text('[server]\nbind = 5\n[calls]\nring_seconds = "long"\n')
    done = dialer("check")
    faults = done.stderr.splitlines()
    assert done.exit_code == 3
    assert len(faults) == 2
    assert "[server].bind" in faults[0]
    assert "[calls].ring_seconds" in faults[1]
    assert "Traceback" not in done.output


def test_check_names_the_plugins_in_their_order_and_a_missing_one(dialer: Run, tmp_path: Path) -> None:
    (tmp_path / "instance").mkdir()
    config = tmp_path / "instance/dialer.toml"
    config.write_text('[plugins]\nenabled = ["number_policy"]\n')
    read = json.loads(dialer("check", "--json").stdout)
    assert read["plugins"] == [f"number_policy {version('dialer')}"]
    assert read["faults"] == []
    config.write_text('[plugins]\nenabled = ["number_polizei"]\n')
    done = dialer("check", "--json")
    assert done.exit_code == 3
    assert "number_polizei" in json.loads(done.stdout)["faults"][0]


def test_check_looks_into_the_store(dialer: Run, tmp_path: Path) -> None:
    dialer("workspaces", "add", "ws_acme")
    assert "0 calls under way" in dialer("check").output
    (tmp_path / "instance/dialer.db").write_text("no database at all, but long enough to be read as a header" * 50)
    done = dialer("check")
    assert done.exit_code == 3
    assert done.stderr.startswith("fault    store dialer.db: ")


def test_check_finds_a_place_where_no_store_can_be_made(
    dialer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("DIALER_STORE", f"sqlite:///{tmp_path}/file/dialer.db")
    done = dialer("check")
    assert done.exit_code == 3
    assert "set DIALER_INSTANCE or DIALER_STORE" in done.stderr


# workspaces, agents, numbers, keys


def test_a_workspace_with_agent_number_and_key_is_set_up_and_listed(acme: Run) -> None:
    (workspace,) = json.loads(acme("workspaces", "list", "--json").stdout)
    assert (workspace["id"], workspace["name"], workspace["disabled_at"]) == ("ws_acme", "Acme", None)
    (agent,) = json.loads(acme("agents", "list", "--json").stdout)
    assert (agent["identity"], agent["workspace"], agent["role"]) == ("acme_ann", "ws_acme", "agent")
    (number,) = json.loads(acme("numbers", "list", "--json").stdout)
    assert number["number"] == "+14155550142"
    made = json.loads(acme("keys", "add", "--workspace", "ws_acme", "--agent", "acme_ann", "--json").stdout)
    assert good(made["key"])
    listed = acme("keys", "list", "--json").stdout
    (key,) = json.loads(listed)
    assert (key["id"], key["agent"], key["scopes"]) == (made["id"], "acme_ann", " ".join(auth.SCOPES))
    assert made["key"] not in listed
    assert "hash" not in listed


def test_a_key_is_printed_alone_so_that_a_script_can_take_it(acme: Run) -> None:
    done = acme("keys", "add", "--workspace", "ws_acme", "--scope", "token", "--days", "1")
    assert good(done.stdout.strip()) is False  # it lacks the scope for reading
    assert "shown once" in done.stderr
    (key,) = json.loads(acme("keys", "list", "--json").stdout)
    assert key["scopes"] == "token"
    assert round(key["expires_at"] - key["created_at"]) == 86_400


@pytest.mark.parametrize("words", ["agents revoke acme_ann", "workspaces revoke ws_acme", "keys revoke {key}"])
def test_revoking_makes_a_key_useless(words: str, acme: Run) -> None:
    key = json.loads(acme("keys", "add", "--workspace", "ws_acme", "--agent", "acme_ann", "--json").stdout)["key"]
    assert good(key)
    assert acme(*words.format(key=key).split()).exit_code == 0
    assert not good(key)
    again = acme(*words.format(key=key).split())
    assert again.exit_code == 1
    assert again.stderr.startswith("dialer: there is no ")


def test_revoked_keys_are_listed_only_on_request(acme: Run) -> None:
    made = json.loads(acme("keys", "add", "--workspace", "ws_acme", "--json").stdout)
    acme("keys", "revoke", made["id"])
    assert json.loads(acme("keys", "list", "--json").stdout) == []
    (key,) = json.loads(acme("keys", "list", "--all", "--json").stdout)
    assert key["revoked_at"]


def test_lists_can_be_of_one_workspace_and_are_tables_for_people(acme: Run) -> None:
    acme("workspaces", "add", "ws_other")
    acme("agents", "add", "other_bob", "--workspace", "ws_other")
    table = acme("agents", "list", "--workspace", "ws_other").stdout.splitlines()
    assert table[0].split() == ["identity", "workspace", "name", "role", "created", "disabled"]
    assert [line.split()[:2] for line in table[1:]] == [["other_bob", "ws_other"]]


def test_a_number_is_taken_away(acme: Run) -> None:
    assert acme("numbers", "revoke", "+14155550142", "--workspace", "ws_acme").exit_code == 0
    assert json.loads(acme("numbers", "list", "--json").stdout) == []


@pytest.mark.parametrize(
    ("words", "code", "said"),
    [
        ("workspaces add ws_acme", 1, "exists already"),
        ("workspaces add ws-acme", 1, "letters, digits or underscores"),
        ("agents add acme_ann --workspace ws_acme", 1, "exists already"),
        ("agents add zoe --workspace ws_none", 1, "there is no workspace ws_none"),
        ("agents add zoe --workspace ws_acme --role king", 2, "king"),
        ("numbers add 0123 --workspace ws_acme", 2, "not in E.164"),
        ("numbers add +14155550142 --workspace ws_acme", 1, "has +14155550142 already"),
        ("numbers add +14155550142 --workspace ws_none", 1, "there is no workspace ws_none"),
        ("numbers revoke +14155550143 --workspace ws_acme", 1, "there is no number +14155550143 of ws_acme"),
        ("keys add --workspace ws_none", 1, "there is no workspace ws_none"),
        ("keys add --workspace ws_acme --agent zoe", 1, "there is no agent zoe"),
        ("keys add --workspace ws_acme --scope everything", 2, "everything"),
    ],
)
def test_what_cannot_be_done_says_why(words: str, code: int, said: str, acme: Run) -> None:
    done = acme(*words.split())
    assert done.exit_code == code
    assert said in done.stderr
    assert done.stdout == ""


def test_reading_makes_no_store(dialer: Run, tmp_path: Path) -> None:
    for words in (["calls"], ["show", "call_1"], ["workspaces", "list"], ["keys", "add", "--workspace", "w"]):
        done = dialer(*words)
        assert done.exit_code == 1
        assert "dialer run makes it" in done.stderr
    assert list(tmp_path.iterdir()) == []


# the simulated account


def test_the_simulated_account_is_private_and_stays_the_same(dialer: Run, tmp_path: Path) -> None:
    first = demo.prepare_account(load(), os.environ)
    path = tmp_path / "instance/simulator.json"
    assert path.stat().st_mode & 0o777 == 0o600
    assert demo.prepare_account(load(), os.environ) == first
    assert {name: first[name][:2] for name in ("TWILIO_ACCOUNT_SID", "TWILIO_API_KEY", "TWILIO_APP_SID")} == {
        "TWILIO_ACCOUNT_SID": "AC", "TWILIO_API_KEY": "SK", "TWILIO_APP_SID": "AP",
    }  # fmt: skip
    assert load({**os.environ, **first}).simulated


def test_the_simulated_account_follows_our_address_and_keeps_what_was_set(
    dialer: Run, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    demo.prepare_account(load(), os.environ)
    path = tmp_path / "instance/simulator.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), "knobs": {"setup_seconds": 2.0}}))
    monkeypatch.setenv("DIALER_BIND", "127.0.0.1:9000")
    monkeypatch.setenv("DIALER_SIMULATOR_BIND", "127.0.0.1:9100")
    environ = demo.prepare_account(load(), os.environ)
    assert environ["DIALER_PUBLIC_URL"] == "http://127.0.0.1:9000"
    assert environ["TWILIO_API_BASE"] == "http://127.0.0.1:9100"
    from dialer.simulator.server_config import load as load_simulator

    setup = load_simulator(path)
    assert setup.port == 9100
    assert setup.knobs.setup_seconds == 2.0
    (application,) = setup.accounts[0].applications
    assert application["voice_url"].startswith("http://127.0.0.1:9000/v1/voice/twiml")


def test_commands_in_another_shell_find_the_simulated_account(dialer: Run) -> None:
    assert not demo.settings().accounts
    environ = demo.prepare_account(load(), os.environ)
    assert [account.sid for account in demo.settings().accounts] == [environ["TWILIO_ACCOUNT_SID"]]
    real = {"TWILIO_ACCOUNT_SID": "AC" + "1" * 32, "TWILIO_AUTH_TOKEN": "t", "DIALER_PUBLIC_URL": "https://d.example"}
    assert [account.sid for account in demo.settings({**os.environ, **real}).accounts] == ["AC" + "1" * 32]


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"accounts": []}', '{"accounts": [{"sid": "AC1"}]}', "\\"])
def test_a_broken_account_file_says_what_to_do(text: str, dialer: Run, tmp_path: Path) -> None:
    (tmp_path / "instance").mkdir()
    (tmp_path / "instance/simulator.json").write_text(text)
    with pytest.raises(ConfigError, match=r"simulator\.json: .*remove the file"):
        demo.settings()


@pytest.mark.parametrize("bind", ["8100", "127.0.0.1", "127.0.0.1:0", "127.0.0.1:66000", "192.0.2.1:8100", "h:x"])
def test_the_simulator_is_bound_to_this_machine_only(bind: str) -> None:
    with pytest.raises(ConfigError, match=r"DIALER_SIMULATOR_BIND: .*such as 127\.0\.0\.1:8100"):
        demo.simulator_bind({"DIALER_SIMULATOR_BIND": bind})


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::1]:8000", "http://[::1]:8000"),
        ("[::]:8000", "http://[::1]:8000"),
        ("localhost:8000", "http://localhost:8000"),
    ],
)
def test_how_a_server_is_reached_from_here(bind: str, url: str) -> None:
    assert demo.base_url(*demo.split_bind(bind)) == url


def test_the_demo_workspace_is_made_once_and_its_keys_are_good(dialer: Run) -> None:
    store = open_store(load().store.url)
    keys = demo.make_workspace(store, 1.0)
    assert demo.make_workspace(store, 2.0) == {}
    store.close()
    assert sorted(keys) == ["demo_alice", "demo_bob"]
    assert all(good(key) for key in keys.values())
    rows: list[dict[str, Any]] = json.loads(dialer("agents", "list", "--json").stdout)
    assert [(row["identity"], row["role"]) for row in rows] == [("demo_alice", "admin"), ("demo_bob", "agent")]
    (number,) = json.loads(dialer("numbers", "list", "--json").stdout)
    assert (number["workspace"], number["number"]) == ("ws_demo", "+14155550199")
