"""`dialer calls` and `dialer show`, on the store that whole simulated calls have left."""

from __future__ import annotations

import json
import os
import socket
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from dialer import demo
from dialer.cli import cli
from dialer.config import load
from dialer.following import Follower
from dialer.loopback import NotReachable
from dialer.simulator import AgentPlan

Run = Callable[..., Result]


@pytest.fixture
def called(stage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """One call that was talked, one to a busy line, one refused, one of an agent whom nobody knows; oldest first."""
    talkers = [stage.agent_dials("+14155550101", plan=AgentPlan(hang_up_after_bridged=2))]
    stage.ends()
    for number in ("+14155550102", "12345"):
        talkers.append(stage.agent_dials(number))
        stage.ends()
    agent = stage.world.agents[0]
    talkers.append(stage.agent_dials("+14155550101", agent=agent.__class__("nobody", agent.workspace)))
    stage.ends()
    monkeypatch.setenv("DIALER_STORE", f"sqlite:///{stage.world.dialer.store.path}")
    monkeypatch.setenv("DIALER_INSTANCE", str(tmp_path / "instance"))
    return [talker.call for talker in talkers]


def dialer(*words: str) -> Result:
    return CliRunner().invoke(cli, list(words), prog_name="dialer", catch_exceptions=False)


def listed(*words: str) -> list[str]:
    return [call["id"] for call in json.loads(dialer("calls", "--json", *words).stdout)["calls"]]


def test_calls_of_all_workspaces_are_listed_the_newest_first(called: list[Any]) -> None:
    assert listed() == [call.id for call in reversed(called)]
    assert called[3].workspace == ""


def test_calls_can_be_limited_to_a_workspace_a_status_a_number(called: list[Any]) -> None:
    assert listed("--workspace", called[0].workspace) == [call.id for call in reversed(called[:3])]
    assert listed("--status", "busy") == [called[1].id]
    assert listed("--limit", "1") == [called[3].id]
    assert dialer("calls", "--limit", "0").exit_code == 2


def test_calls_for_people_are_one_line_each_with_the_outcome(called: list[Any]) -> None:
    heads, *lines = dialer("calls").stdout.splitlines()
    assert heads.split() == ["requested", "call", "workspace", "agent", "to", "outcome"]
    assert len(lines) == 4
    assert called[1].id in lines[2]
    assert "busy: the customer's line was busy" in lines[2]


def test_a_call_is_shown_with_all_that_is_on_record(called: list[Any]) -> None:
    record = json.loads(dialer("show", called[0].id, "--json").stdout)
    assert record["call"]["id"] == called[0].id
    assert record["call"]["endedBy"] == "agent"
    assert record["outcome"].startswith("completed: the agent hung up")
    assert [leg["role"] for leg in record["call"]["legs"]] == ["agent", "customer"]
    assert "participant-join" in [event["name"] for event in record["events"]]
    assert ("dial", "done") in [(job["kind"], job["status"]) for job in record["jobs"]]
    assert [dial["state"] for dial in record["dials"]] == ["accepted"]
    assert "hangs up and leaves the conference" in [rung["text"] for rung in record["ladder"]]


def test_a_call_is_shown_to_people_in_sections(called: list[Any]) -> None:
    shown = dialer("show", called[0].id).stdout
    for title in ("what happened", "legs", "every event", "what plugins said", "what was done", "dial requests"):
        assert f"\n{title}\n" in shown
    assert "somebody answers the phone" in shown
    assert "leg-in-progress" in shown
    assert "accepted" in shown


def test_verdicts_of_plugins_are_shown(make_stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dialer.hookspecs import Refusal, hookimpl

    class Curfew:
        @hookimpl
        def validate_call(self) -> Refusal:
            return Refusal("It is too late.", "late")

    stage = make_stage(plugins=[Curfew()])
    talker = stage.agent_dials("+14155550101")
    stage.ends()
    monkeypatch.setenv("DIALER_STORE", f"sqlite:///{stage.world.dialer.store.path}")
    shown = dialer("show", talker.call.id).stdout
    assert "refused (curfew:late): It is too late." in shown
    assert "rejected: It is too late. (rule curfew:late; nothing was dialled)" in shown


def test_the_beginning_of_an_id_is_enough_with_or_without_its_prefix(called: list[Any]) -> None:
    digits = called[1].id.removeprefix("call_")
    for named in (called[1].id[:20], digits[:15]):
        assert json.loads(dialer("show", named, "--json").stdout)["call"]["id"] == called[1].id


@pytest.mark.parametrize(("named", "said"), [("call_", "more than one call starts"), ("call_zz", "no call starts")])
def test_an_id_that_names_no_one_call_says_so(named: str, said: str, called: list[Any]) -> None:
    done = dialer("show", named)
    assert done.exit_code == 1
    assert said in done.stderr


def test_a_percent_sign_is_no_wildcard(called: list[Any]) -> None:
    assert "no call starts" in dialer("show", "call_%").stderr


def test_the_call_of_an_unknown_agent_is_shown(called: list[Any]) -> None:
    record = json.loads(dialer("show", called[3].id, "--json").stdout)
    assert record["call"]["rule"] == "unknown-agent"
    assert record["events"][0]["name"] == "call-started"


# `dialer call` without a server; with one: tests/test_cli_run.py


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in [name for name in os.environ if name.startswith(("DIALER_", "TWILIO_"))]:
        monkeypatch.delenv(name)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_a_call_where_dialer_was_never_started(folder: Path) -> None:
    done = dialer("call", "+14155550101")
    assert (done.exit_code, done.stdout) == (4, "")
    assert done.stderr == "dialer: Dialer was never started here: start it with dialer run\n"
    assert list(folder.iterdir()) == []


def test_a_call_while_the_server_is_down(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        monkeypatch.setenv("DIALER_BIND", f"127.0.0.1:{free.getsockname()[1]}")
    demo.prepare_account(load(), os.environ)
    done = dialer("call", "+14155550101")
    assert done.exit_code == 4
    assert done.stderr.startswith("dialer: Dialer is not running here: start it with dialer run (http://127.0.0.1:")
    assert done.stderr.count("\n") == 1


def test_a_call_over_a_real_account_is_left_to_the_browser(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("TWILIO_ACCOUNT_SID", "AC" + "1" * 32)
    monkeypatch.setenv("TWILIO_AUTH_TOKEN", "token")
    monkeypatch.setenv("DIALER_PUBLIC_URL", "https://calls.example.com")
    done = dialer("call", "+14155550101")
    assert done.exit_code == 3
    assert "real calls start in a browser" in done.stderr


def test_a_server_that_is_gone_is_said_to_be_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dialer.following.SILENCE", -1.0)
    with socket.socket() as closed:
        closed.bind(("127.0.0.1", 0))
        follower = Follower(f"http://127.0.0.1:{closed.getsockname()[1]}", "dk_x", "CA1", patience=60)
        with pytest.raises(NotReachable, match="no longer answers"):
            list(follower.rungs())
