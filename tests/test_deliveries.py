"""What plugins are told: a rest for one that fails, patience with one that is off, and telling again by hand."""

from __future__ import annotations

import json
import time
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given, settings
from hypothesis import strategies as st

from dialer import deliveries
from dialer.calls import Call
from dialer.cli import cli
from dialer.discovery import Plugin
from dialer.hookspecs import CallEvent, hookimpl
from dialer.plugin_story import plugin_story
from dialer.plugins import PluginSet
from dialer.records import add_job, find_call
from dialer.simulator.world import World
from tests.virtual_time import play

ANSWERS, REFUSED = "+14155550101", "12345"


class Crm:
    """Hears of calls, while it works."""

    works = True

    def __init__(self) -> None:
        self.heard: list[str] = []
        self.tried = 0

    @hookimpl
    def call_started(self, call: Call) -> None:
        self.tried += 1
        if not self.works:
            raise ConnectionError("the CRM is down")
        self.heard.append(call.workspace)


class Log:
    """Hears of everything, always."""

    def __init__(self) -> None:
        self.heard: list[str] = []

    @hookimpl
    def call_started(self, call: Call) -> None:
        self.heard.append("call_started")

    @hookimpl
    def call_status(self, call: Call, event: CallEvent) -> None:
        self.heard.append(event.name)

    @hookimpl
    def call_ended(self, call: Call) -> None:
        self.heard.append("call_ended")


def owe(world: World, call: Call, count: int, name: str = "more") -> None:
    """Deliveries of the call's first event, as many calls would cause them."""
    with world.dialer.store.write() as tx:
        event = tx.all("events_of_call", call_id=call.id, workspace=call.workspace, after=0)[0]
        for number in range(count):
            add_job(
                tx, call, "deliver", f"{name}:{call.id}:{number}", world.network.now, plugin="crm", hook="call_started",
                event_id=event["id"],
            )  # fmt: skip


def rows(world: World, status: str = "") -> list[dict[str, Any]]:
    values: dict[str, Any] = {"plugin": "", "workspace": "", "since": 0.0, "limit": 1000, "status": status}
    with world.dialer.store.read() as tx:
        return [dict(row) for row in tx.all("all_deliveries", **values)]


def breaker(world: World, workspace: str = "ws_demo") -> dict[str, Any] | None:
    with world.dialer.store.read() as tx:
        row = tx.one("breaker", plugin="crm", workspace=workspace)
    return dict(row) if row else None


def switch(world: World, *plugins: object) -> None:
    """Put another set in place, as a change of dialer.toml does."""
    world.dialer.plugins._set = PluginSet.of(plugins, inline=True)


def test_five_failures_in_a_row_give_a_plugin_a_rest_and_cost_the_others_no_try(make_stage: Any) -> None:
    plugin = Crm()
    plugin.works = False
    stage = make_stage(plugins=[plugin])
    call = stage.agent_dials(REFUSED).call
    owe(stage.world, call, 20)
    stage.lasts(0.5)
    assert plugin.tried == deliveries.FAILURES
    resting = [row for row in rows(stage.world) if row["result"].startswith("rests: ")]
    assert {row["attempts"] for row in resting} == {0}
    assert all("the CRM is down" in row["result"] for row in resting)
    found = breaker(stage.world)
    assert found is not None
    assert found["open_until"] - stage.world.network.now == pytest.approx(deliveries.REST, abs=2)


def test_after_the_rest_one_tries_and_all_follow_when_it_works(make_stage: Any) -> None:
    plugin = Crm()
    plugin.works = False
    stage = make_stage(plugins=[plugin])
    call = stage.agent_dials(REFUSED).call
    owe(stage.world, call, 20)
    stage.lasts(deliveries.REST + 1)
    assert plugin.tried == deliveries.FAILURES + 1
    stage.lasts(2 * deliveries.REST - 5)
    assert plugin.tried == deliveries.FAILURES + 1  # twice as long
    plugin.works = True
    stage.lasts(10)
    assert breaker(stage.world) is None
    assert len(plugin.heard) >= 15
    play(stage.world, 3600)
    assert (len(plugin.heard), rows(stage.world)) == (21, [])


def test_rests_double_up_to_ten_minutes(make_stage: Any) -> None:
    plugin = Crm()
    plugin.works = False
    stage = make_stage(plugins=[plugin])
    owe(stage.world, stage.agent_dials(REFUSED).call, 40)
    lengths: list[float] = []
    for _ in range(8):
        while True:
            play(stage.world, 1)
            found = breaker(stage.world)
            if found and found["opened"] > len(lengths):
                break
        lengths.append(found["open_until"] - stage.world.network.now)
    assert lengths == pytest.approx([30, 60, 120, 240, 480, 600, 600, 600], abs=2)


def test_one_workspaces_trouble_is_not_the_others(make_stage: Any) -> None:
    class Picky(Crm):
        @hookimpl
        def call_started(self, call: Call) -> None:
            self.tried += 1
            if call.workspace == "ws_other":
                raise ConnectionError("no such host")
            self.heard.append(call.workspace)

    plugin = Picky()
    stage = make_stage(workspaces=("ws_demo", "ws_other"))
    switch(stage.world, type("Crm", (Picky,), {})())
    plugin = stage.world.dialer.plugins.current().instance("crm")
    agents = {agent.workspace: agent for agent in stage.world.agents}
    other = stage.agent_dials(REFUSED, agents["ws_other"]).call
    owe(stage.world, other, 20)
    stage.lasts(1)
    assert breaker(stage.world, "ws_other")
    owe(stage.world, stage.agent_dials(REFUSED, agents["ws_demo"]).call, 3)
    stage.lasts(1)
    assert plugin.heard == ["ws_demo"] * 4
    assert breaker(stage.world) is None


def test_a_workspace_that_a_plugin_is_at_work_for_comes_after_the_others(make_stage: Any) -> None:
    """So one customer's slow receiver delays the others by one delivery at most, and not by all that it is owed."""
    stage = make_stage(workspaces=("ws_demo", "ws_other"))
    agents = {agent.workspace: agent for agent in stage.world.agents}
    slow, quick = (stage.agent_dials(REFUSED, agents[name]).call for name in ("ws_other", "ws_demo"))
    owe(stage.world, slow, 20)
    stage.world.network.now += 1
    owe(stage.world, quick, 3)
    worker = stage.world.worker
    first, second = (worker.claim("crm", 1)[0]["workspace"] for _ in range(2))
    assert (first, second) == ("ws_other", "ws_demo")
    assert [job["workspace"] for job in worker.claim("crm", 2)] == ["ws_other", "ws_other"]
    assert [worker.claim("crm", 1)[0]["workspace"] for _ in range(2)] == ["ws_demo", "ws_demo"]
    assert len(worker.claim("crm", 100)) == 17


def test_a_success_in_between_begins_the_count_anew(make_stage: Any) -> None:
    plugin = Crm()
    stage = make_stage(plugins=[plugin])
    call = stage.agent_dials(REFUSED).call
    for number in range(12):
        plugin.works = number % 4 == 3
        owe(stage.world, call, 1, f"n{number}")
        stage.lasts(0.2)
    found = breaker(stage.world)
    assert found is None or not found["open_until"]


def test_a_rest_survives_the_dispatcher(make_stage: Any) -> None:
    plugin = Crm()
    plugin.works = False
    stage = make_stage(plugins=[plugin])
    owe(stage.world, stage.agent_dials(REFUSED).call, 10)
    stage.lasts(1)
    tried = plugin.tried
    stage.world.worker.wake()
    stage.lasts(5)
    assert plugin.tried == tried


def test_a_clock_that_is_set_back_makes_no_rest_longer(make_stage: Any) -> None:
    plugin = Crm()
    plugin.works = False
    stage = make_stage(plugins=[plugin])
    call = stage.agent_dials(REFUSED).call
    owe(stage.world, call, 10)
    stage.lasts(1)
    with stage.world.dialer.store.write() as tx:
        found = dict(tx.one("breaker", plugin="crm", workspace="ws_demo"))
        tx.run("save_breaker", **{**found, "open_until": found["open_until"] + 3600})
    plugin.works = True
    stage.lasts(deliveries.REST + 5)
    assert breaker(stage.world) is None


def test_what_is_due_while_a_plugin_is_off_waits_and_is_told_when_it_is_back(make_stage: Any) -> None:
    plugin, log = Crm(), Log()
    stage = make_stage(plugins=[plugin, log])
    call = stage.agent_dials(ANSWERS).call
    switch(stage.world, log)
    owe(stage.world, call, 3)
    play(stage.world, 3600)
    waiting = rows(stage.world)
    assert [(row["status"], row["attempts"], row["result"]) for row in waiting] == [
        ("waiting", 0, "waits: plugin crm is off")
    ] * 3
    heard = len(plugin.heard)
    switch(stage.world, plugin, log)
    stage.lasts(2)
    assert (len(plugin.heard), rows(stage.world)) == (heard + 3, [])


def test_it_waits_for_a_day_and_is_then_dead_until_it_is_replayed(make_stage: Any) -> None:
    plugin = Crm()
    stage = make_stage(plugins=[plugin])
    call = stage.agent_dials(REFUSED).call
    switch(stage.world)
    owe(stage.world, call, 2)
    play(stage.world, deliveries.KEPT - 60)
    assert {row["status"] for row in rows(stage.world)} == {"waiting"}
    play(stage.world, 120)
    assert {(row["status"], row["result"]) for row in rows(stage.world)} == {("dead", "plugin crm was off for a day")}
    switch(stage.world, plugin)
    stage.lasts(5)
    heard = len(plugin.heard)
    store, now = stage.world.dialer.store, stage.world.network.now
    assert deliveries.replay(store, now, rows(stage.world)[0]["id"]) == 1
    assert deliveries.replay_all(store, now, plugin="crm", since=now) == 0
    assert deliveries.replay_all(store, now, workspace="ws_demo") == 1
    stage.lasts(2)
    assert (len(plugin.heard), rows(stage.world)) == (heard + 2, [])


def test_a_workspace_that_goes_without_waits_alone(make_stage: Any) -> None:
    plugin = Crm()
    stage = make_stage(workspaces=("ws_demo", "ws_other"))
    plugins = [Plugin("crm", "", plugin)]
    stage.world.dialer.plugins._set = PluginSet(plugins, inline=True, differing={"ws_other": []})
    agents = {agent.workspace: agent for agent in stage.world.agents}
    for workspace in ("ws_demo", "ws_other"):
        owe(stage.world, stage.agent_dials(REFUSED, agents[workspace]).call, 2)
    stage.lasts(5)
    assert plugin.heard == ["ws_demo"] * 3
    assert {(row["workspace"], row["status"]) for row in rows(stage.world)} == {("ws_other", "waiting")}


def test_a_slow_delivery_is_not_begun_twice(make_stage: Any) -> None:
    stage = make_stage(plugins=[Crm()])
    call = stage.agent_dials(REFUSED).call
    owe(stage.world, call, 1)
    (job,) = stage.world.worker.claim("crm", 1)
    stage.world.network.now += 300
    assert stage.world.worker.claim("crm", 1) == []
    assert job["run_at"] > stage.world.network.now


@settings(max_examples=20)
@given(st.lists(st.tuples(st.booleans(), st.floats(0.1, 90)), max_size=30))
def test_whatever_a_plugin_does_every_delivery_ends(tmp_path_factory: Any, steps: list[tuple[bool, float]]) -> None:
    folder: Path = tmp_path_factory.mktemp("world")
    plugin = Crm()
    world = World(folder, plugins=[plugin])
    leg = world.dial(world.agents[0], REFUSED)
    world.run(1)
    with world.dialer.store.read() as tx:
        call = find_call(tx, "call_of_leg", call_sid=leg.sid, account_sid=world.account_sid)
    assert call
    for number, (works, seconds) in enumerate(steps):
        plugin.works = works
        owe(world, call, 1, f"n{number}")
        play(world, seconds)
    plugin.works = True
    play(world, 200_000)
    assert (len(plugin.heard), rows(world), breaker(world)) == (len(steps) + 1, [], None)
    world.dialer.store.close()


# the commands


@pytest.fixture
def office(make_stage: Any, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Any:
    """A stage whose plugin fails for good, and the commands run on its store."""
    plugin = Crm()
    plugin.works = False
    stage = make_stage(plugins=[plugin])
    call = stage.agent_dials(REFUSED).call
    play(stage.world, 200_000)
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DIALER_STORE", f"sqlite:///{stage.world.folder / 'world.db'}")
    return stage, plugin, call


def run(*args: str) -> Result:
    return CliRunner().invoke(cli, args)


def test_dead_deliveries_are_listed_shown_and_replayed(office: Any) -> None:
    stage, plugin, call = office
    (row,) = json.loads(run("deliveries", "list", "--json").stdout)
    assert (row["plugin"], row["status"], row["call_id"], row["event"]) == ("crm", "dead", call.id, "call-started")
    listed = run("deliveries", "list", "--plugin", "crm", "--since", "2026-01-01").stdout
    assert "the CRM is down" in listed
    assert "call_started" in listed
    assert run("deliveries", "list", "--plugin", "other").stdout.count("crm") == 0
    shown = run("deliveries", "show", str(row["id"])).stdout
    assert "call-started" in shown and "the CRM is down" in shown
    plugin.works = True
    assert run("deliveries", "replay", str(row["id"])).stdout == "1 delivery will be told again\n"
    stage.world.network.now = max(stage.world.network.now, time.time() + 1)
    play(stage.world, 700)
    assert plugin.heard == ["ws_demo"]
    assert json.loads(run("deliveries", "list", "--json").stdout) == []


def test_all_of_a_plugin_are_replayed(office: Any) -> None:
    assert run("deliveries", "replay", "--plugin", "crm").stdout == "1 delivery will be told again\n"
    assert run("deliveries", "replay", "--plugin", "crm").stdout == "0 deliveries will be told again\n"


@pytest.mark.parametrize(
    ("args", "code", "error"),
    [
        (("replay",), 2, "name one delivery, or --plugin or --workspace"),
        (("replay", "1", "--plugin", "crm"), 2, "name one delivery, or"),
        (("replay", "1", "--since", "2h"), 2, "name one delivery, or"),
        (("replay", "--plugin", "crm", "--since", "soon"), 2, "'soon' is neither a time ago such as 2h nor a moment"),
        (("replay", "99999"), 1, "delivery 99999 is neither dead nor waits, or there is none"),
        (("show", "99999"), 1, "there is no delivery 99999 (dialer deliveries list)"),
    ],
)
def test_what_cannot_be_replayed_is_said(office: Any, args: tuple[str, ...], code: int, error: str) -> None:
    done = run("deliveries", *args)
    assert (done.exit_code, error in done.stderr) == (code, True), done.stderr


# the story of one call


def test_a_call_tells_what_plugins_said_and_were_told(office: Any) -> None:
    _, _, call = office
    shown = run("show", call.id).stdout
    assert "crm was never told call_started, given up after 8 tries: failed: PluginError" not in shown
    assert "crm was never told call_started, given up after 8 tries: failed: plugin crm: call_started: Con" in shown


VERDICT = {"plugin": "p", "hook": "validate_call", "answer": "", "milliseconds": 0.25, "error": ""}
JOB = {"id": 7, "kind": "deliver", "plugin": "p", "hook": "call_ended", "attempts": 1, "run_at": 60.0, "done_at": 0.0}


@pytest.mark.parametrize(
    ("verdict", "sentence"),
    [
        ({}, "p let the call pass (0.2 ms)"),
        ({"answer": "14:05 there"}, "p let the call pass: 14:05 there (0.2 ms)"),
        ({"answer": "refused (p:late): Too late."}, "p refused the call: Too late. (rule p:late, 0.2 ms)"),
        (
            {"answer": "refused (plugin-error:p): No.", "error": "OSError: x"},
            "p failed at validate_call, so the call was refused: OSError: x (0.2 ms)",
        ),
        ({"hook": "route_call", "error": "KeyError"}, "p failed at route_call, so it had no say: KeyError (0.2 ms)"),
        ({"hook": "route_call", "answer": "+1"}, "p sent the call to +1 (0.2 ms)"),
        ({"hook": "choose_caller_id"}, "p left the caller ID (0.2 ms)"),
    ],
)
def test_an_answer_is_told_in_a_sentence(verdict: dict[str, Any], sentence: str) -> None:
    assert plugin_story([{**VERDICT, **verdict}], []) == [sentence]


@pytest.mark.parametrize(
    ("job", "sentence"),
    [
        (
            {"status": "done", "result": "told call_ended in 3 ms"},
            "p was told call_ended in 3 ms at 1970-01-01 00:00:00",
        ),
        (
            {"status": "done", "result": "told call_ended in 3 ms", "attempts": 3},
            "p was told call_ended in 3 ms at 1970-01-01 00:00:00, after 3 tries",
        ),
        (
            {"status": "pending", "result": "failed: x", "attempts": 2},
            "p is to be told call_ended again at 1970-01-01 00:01:00, after 2 tries: failed: x",
        ),
        ({"status": "pending", "result": ""}, "p is to be told call_ended"),
        ({"status": "doing", "result": ""}, "p is being told call_ended"),
        (
            {"status": "waiting", "result": "waits: plugin p is off"},
            "p is to be told call_ended once it is on again, until 1970-01-01 00:01:00: waits: plugin p is off",
        ),
        (
            {"status": "dead", "result": "x", "attempts": 8},
            "p was never told call_ended, given up after 8 tries: x (dialer deliveries replay 7)",
        ),
    ],
)
def test_a_delivery_is_told_in_a_sentence(job: dict[str, Any], sentence: str) -> None:
    assert plugin_story([], [{**JOB, **job}, {"kind": "dial"}]) == [sentence]
