"""What Dialer lends a plugin: its folder, its database, its clock, and its workspace's calls."""

import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, Any

import pytest
from sqlite_utils.utils import sqlite3

from dialer import Host, Refusal, Remark, hookimpl
from dialer.calls import Call
from dialer.errors import PluginError
from dialer.host import use_wal
from dialer.tables import Setting, lent_fields, settings_of

ANSWERS = "+14155550101"


@dataclass(frozen=True, eq=False)
class Borrower:
    """Keeps what it is lent."""

    reason: Annotated[str, Setting("why")] = "No."
    host: Host = field(default_factory=Host)

    @hookimpl
    def validate_call(self, call: Call) -> Refusal | Remark | None:
        self.host.database().table("seen").insert({"call": call.id, "at": self.host.clock()})
        return Remark(f"seen at {self.host.clock():.0f}")

    @hookimpl
    def call_started(self, call: Call) -> None:
        self.host.add_event(call, "noted", {"how": "well"})


def make_host(tmp_path: Path) -> Host:
    return Host("borrower", folder=tmp_path / "lent", clock=lambda: 12.0)


def count(host: Host) -> int:
    return int(host.database().execute("SELECT count(*) FROM t").fetchone()[0])


def test_a_host_is_no_setting() -> None:
    assert list(settings_of(Borrower)) == ["reason"]
    assert lent_fields(Borrower) == ["host"]


def test_alone_it_has_a_folder_a_database_and_a_clock(tmp_path: Path) -> None:
    host = make_host(tmp_path)
    host.database().table("t").insert({"a": 1})
    assert host.clock() == 12.0
    assert host.folder.stat().st_mode & 0o777 == 0o700
    assert (host.folder / "borrower.db").stat().st_mode & 0o777 == 0o600
    assert host.log.name == "dialer.plugins.borrower"


def test_alone_it_has_no_calls_and_says_so(tmp_path: Path) -> None:
    with pytest.raises(PluginError, match="plugin borrower: there are no calls outside Dialer"):
        make_host(tmp_path).numbers("ws")
    with pytest.raises(PluginError, match=r"give it Host\(folder"):
        _ = Host().folder


def test_what_is_written_inside_writing_is_written_together_or_not(tmp_path: Path) -> None:
    host = make_host(tmp_path)
    host.database().table("t").create({"a": int})
    with pytest.raises(ZeroDivisionError), host.writing() as db:
        db.table("t").insert({"a": 1})
        db.table("t").insert_all([{"a": 2}, {"a": 3}])
        raise ZeroDivisionError
    assert count(host) == 0
    with host.writing() as db:
        db.table("t").insert_all([{"a": 2}, {"a": 3}])
    assert count(host) == 2


def test_two_threads_never_take_the_same_last_place(tmp_path: Path) -> None:
    host, places = make_host(tmp_path), 5
    host.database().table("t").create({"a": int})

    def take() -> None:
        with host.writing() as db:
            if count(host) < places:
                db.table("t").insert({"a": 1})

    threads = [threading.Thread(target=take) for _ in range(3 * places)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert count(host) == places


def test_a_forked_process_opens_its_own_connection(tmp_path: Path) -> None:
    host = make_host(tmp_path)
    host.database().table("t").insert({"a": 1})
    connection = host.database().conn
    child = os.fork()
    if child == 0:
        fresh = host.database().conn is not connection
        host.database().table("t").insert({"a": 2})
        os._exit(0 if fresh else 1)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
    assert count(host) == 2


def test_dialer_fills_the_field_with_its_clock_and_a_folder_in_the_instance(make_stage: Any) -> None:
    plugin = Borrower()
    stage = make_stage(plugins=[plugin])
    agent = stage.agent_dials(ANSWERS)
    stage.phone().answers()
    assert plugin.host.name == "borrower"
    assert plugin.host.folder == stage.world.folder / "plugins" / "borrower"
    (seen,) = plugin.host.database().table("seen").rows
    assert seen["at"] == agent.call.requested_at
    assert plugin.host.numbers(agent.call.workspace) == ["+14155550199"]


def test_a_remark_stands_in_the_verdicts_and_refuses_nothing(make_stage: Any) -> None:
    stage = make_stage(plugins=[Borrower()])
    agent = stage.agent_dials(ANSWERS)
    (verdict,) = agent.rows("verdicts_of_call")
    assert verdict["answer"] == f"seen at {agent.call.requested_at:.0f}"
    assert agent.call.status != "rejected"


def test_a_plugins_event_stands_on_record_once(make_stage: Any) -> None:
    plugin = Borrower()
    agent = make_stage(plugins=[plugin]).agent_dials(ANSWERS)
    (noted,) = [row for row in agent.rows("events_of_call", after=0) if row["name"] == "borrower.noted"]
    assert noted["source"] == "plugin:borrower"
    assert noted["payload"] == '{"how": "well"}'
    assert not plugin.host.add_event(agent.call, "noted", {"how": "again"})
    assert plugin.host.add_event(agent.call, "noted", {"how": "again"}, key="2")
    with pytest.raises(ValueError, match="detail how has over 1000 characters"):
        plugin.host.add_event(agent.call, "noted", {"how": "x" * 1001}, key="3")


def test_a_call_has_room_for_a_hundred_events_and_one_that_is_known_needs_none(make_stage: Any) -> None:
    plugin = Borrower()
    agent = make_stage(plugins=[plugin]).agent_dials(ANSWERS)
    for number in range(99):  # one is there
        assert plugin.host.add_event(agent.call, "noted", {}, key=str(number))
    assert not plugin.host.add_event(agent.call, "noted", {}, key="0")
    with pytest.raises(PluginError, match="has 100 events on"):
        plugin.host.add_event(agent.call, "noted", {}, key="one too many")
    assert agent.events().count("borrower.noted") == 100


def test_a_recording_is_paused_as_often_as_is_asked_for_without_a_key(make_stage: Any) -> None:
    plugin = Borrower()
    stage = make_stage(plugins=[plugin])
    agent = stage.agent_dials(ANSWERS)
    stage.phone().answers()
    stage.lasts(5)
    for ask in (plugin.host.pause_recording, plugin.host.resume_recording) * 2:
        assert ask(agent.call)
    asked = [name for name in agent.events() if name.endswith("-requested")]
    assert asked == ["recording-pause-requested", "recording-resume-requested"] * 2


def test_an_event_of_a_call_that_is_not_stored_is_not_stored(make_stage: Any) -> None:
    plugin = Borrower()
    agent = make_stage(plugins=[plugin]).agent_dials(ANSWERS)
    stranger = Call("call_none", agent.call.workspace, "", "", "", "none")
    assert not plugin.host.add_event(stranger, "noted", {})


def test_calls_are_those_of_one_workspace_newest_first(make_stage: Any) -> None:
    plugin = Borrower()
    stage = make_stage(plugins=[plugin], workspaces=("ws_demo", "ws_other"))
    here = [agent for agent in stage.world.agents if agent.workspace == "ws_demo"]
    there = next(agent for agent in stage.world.agents if agent.workspace == "ws_other")
    first = stage.agent_dials(ANSWERS, here[0])
    second = stage.agent_dials(ANSWERS, here[1])
    stage.agent_dials(ANSWERS, there)
    found = plugin.host.calls("ws_demo", since=first.call.requested_at)
    assert [call.id for call in found] == [second.call.id, first.call.id]
    assert plugin.host.calls("ws_demo", since=second.call.requested_at) == [second.call]
    assert plugin.host.calls("ws_demo", since=0, agent=here[0].identity) == [first.call]
    assert [call.id for call in plugin.host.open_calls("ws_demo", agent=here[1].identity)] == [second.call.id]
    second.hangs_up()
    stage.lasts(30)
    assert plugin.host.open_calls("ws_demo", agent=here[1].identity) == []


def test_a_plugin_may_end_a_call(make_stage: Any) -> None:
    plugin = Borrower()
    stage = make_stage(plugins=[plugin])
    agent = stage.agent_dials(ANSWERS)
    stage.phone().answers()
    plugin.host.hang_up(agent.call, "out of money")
    stage.ends()
    assert (agent.call.status, agent.call.ended_by) == ("completed", "plugin:borrower")
    asked = [row for row in agent.rows("events_of_call", after=0) if row["name"] == "hang-up-requested"]
    assert [row["payload"] for row in asked] == ['{"reason": "out of money"}']
    plugin.host.hang_up(agent.call, "again")
    assert agent.events().count("hang-up-requested") == 1


@dataclass
class Contended:
    """A connection to a file that others are just opening too."""

    errors: list[str]
    asked: int = 0

    def execute(self, statement: str) -> None:
        self.asked += 1
        if self.errors:
            raise sqlite3.OperationalError(self.errors.pop())


def test_many_may_open_a_new_database_at_once() -> None:
    contended, broken = Contended(["database is locked"] * 3), Contended(["disk I/O error"])
    use_wal(contended)
    assert contended.asked == 4
    with pytest.raises(sqlite3.OperationalError, match="disk"):
        use_wal(broken)
