"""What can be done to Dialer's own processes in a simulation, and that Dialer comes through each of it."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dialer.crash import crash_point, watch
from dialer.jobs import HANDLERS, LEASE, Result, Worker, run_dial
from dialer.simulator.chaos import Disk, Killed, Process, Task, WorldFaults, pass_crash_point, sleep
from dialer.simulator.network import Network
from dialer.simulator.world import START
from dialer.store import Row, StoreError

NEVER = "+14155550103"


def process(network: Network, deaths: list[str]) -> Process:
    return Process("web", network, lambda dead, where: deaths.append(where))


def test_tasks_of_a_process_run_while_others_wait() -> None:
    network, order = Network(start=START), list[str]()

    def work(name: str, seconds: float) -> None:
        order.append(f"{name} begins")
        sleep(network, seconds)
        order.append(f"{name} ends")

    one = process(network, [])
    for name, seconds in (("slow", 2.0), ("quick", 1.0)):
        Task(one, lambda name=name, seconds=seconds: work(name, seconds)).go()  # type: ignore[misc]
    network.advance(START + 3.0)
    assert order == ["slow begins", "quick begins", "quick ends", "slow ends"]


def test_a_kill_ends_everything_that_runs_in_the_process() -> None:
    network, order, deaths = Network(start=START, faults=WorldFaults()), list[str](), list[str]()
    one = process(network, deaths)

    def wait() -> None:
        try:
            sleep(network, 5.0)
            order.append("woke up")
        finally:
            with pytest.raises(Killed):
                one.step("while dying")

    def die() -> None:
        network.faults = WorldFaults(web_killed=1.0)
        one.step("here")

    Task(one, wait).go()
    Task(one, die).go()
    network.advance(START + 10.0)
    assert (order, deaths, one.alive) == ([], ["here"], False)
    Task(one, lambda: order.append("ran after death")).go()
    assert order == []


def test_crash_points_are_steps_of_the_process_that_passes_them() -> None:
    network, deaths = Network(start=START, faults=WorldFaults(web_killed=1.0)), list[str]()
    watch(pass_crash_point)
    crash_point("outside")
    Task(process(network, deaths), lambda: crash_point("inside")).go()
    assert deaths == ["inside"]


def test_a_watcher_of_crash_points_can_be_taken_off() -> None:
    passed: list[str] = []
    watch(passed.append)
    crash_point("one")
    watch(None)
    crash_point("two")
    assert passed == ["one"]


@pytest.mark.parametrize(
    ("outage", "until", "error", "waited"),
    [
        ("store_full", 5.0, "full", 0.0),
        ("store_busy", 4.0, "", 4.0),
        ("store_busy", 9.0, "locked", 6.0),
        ("store_slow", 20.0, "", 20.0),
        ("store_slow", 0.0, "", 0.0),
    ],
)
def test_the_disk_makes_writers_wait_or_fail(outage: str, until: float, error: str, waited: float) -> None:
    network, said = Network(start=START), list[str]()
    disk = Disk(network, [], outage, START + until)

    def write() -> None:
        try:
            disk.begin()
            said.append("")
        except StoreError as raised:
            said.append(str(raised))
        said.append(f"{network.now - START:.1f}")

    Task(process(network, []), write).go()
    network.advance(START + 30.0)
    assert error in said[0] and said[1] == f"{waited:.1f}"


def test_a_disk_that_fills_up_within_a_transaction_lets_nothing_be_committed(make_stage: Any) -> None:
    stage = make_stage()
    stage.world.disk.outage, stage.world.disk.until = "store_full", START + 3.0
    talker = stage.world.dial(stage.world.agents[0], NEVER)
    stage.lasts(1.0)
    statuses = [one.status for one in stage.world.delivered]
    assert statuses and set(statuses[:1]) == {500}
    with stage.world.dialer.store.read() as tx:
        assert tx.one("call_of_leg", call_sid=talker.sid, account_sid=stage.world.account_sid) is None


def kill_once(stage: Any, monkeypatch: pytest.MonkeyPatch, name: str, where: str) -> Callable[[], bool]:
    """Have one process die at the first step of that name; tells whether it has."""
    step, struck = Process.step, list[str]()

    def fatal(self: Process, here: str) -> None:
        if self.name == name and here == where and not struck:
            struck.append(here)
            self.alive, self.where = False, here
        step(self, here)

    monkeypatch.setattr(Process, "step", fatal)
    return lambda: bool(struck)


@pytest.mark.parametrize(
    ("name", "where"),
    [
        ("web", "before a transaction"),
        ("web", "before a commit"),
        ("web", "after a commit"),
        ("dispatcher", "before a REST request"),
        ("dispatcher", "after a REST request"),
        ("dispatcher", "dial.before_claim"),
        ("dispatcher", "dial.after_claim"),
        ("dispatcher", "dial.after_post"),
        ("dispatcher", "dial.after_record"),
        ("dispatcher", "job.before_finish"),
        ("dispatcher", "before a commit"),
        ("dispatcher", "after a commit"),
    ],
)
def test_a_call_survives_the_death_of_a_process_at_any_step(
    stage: Any, monkeypatch: pytest.MonkeyPatch, name: str, where: str
) -> None:
    struck = kill_once(stage, monkeypatch, name, where)
    stage.agent_dials(NEVER)
    stage.lasts(20)
    stage.world.network.hang_up(next(iter(stage.world.network.calls)))
    stage.ends()
    assert struck()
    assert len(stage.dialled()) <= 1


def test_webhooks_of_a_web_server_that_is_down_are_refused(stage: Any) -> None:
    stage.world.web.kill("by the test")
    assert stage.world.web is None
    stage.agent_dials(NEVER)
    assert stage.world.delivered == []
    stage.lasts(5.0)
    assert stage.world.web is not None


def test_what_a_dispatcher_had_taken_when_it_died_is_taken_by_the_next_one(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    talker = stage.agent_dials(NEVER)
    struck = kill_once(stage, monkeypatch, "dispatcher", "hangup.before")
    talker.hangs_up()
    stage.lasts(LEASE / 4)
    assert struck()
    assert [leg.status for leg in stage.dialled()] == ["canceled"]
    stage.ends()


@pytest.mark.parametrize("step", [3600.0, -3600.0, 2.0])
def test_a_clock_that_is_set_while_a_phone_rings_changes_nothing(stage: Any, step: float) -> None:
    talker = stage.agent_dials(NEVER)
    stage.world.offset += step
    stage.lasts(4)
    assert stage.phone().leg.status == "ringing"
    stage.phone().answers()
    stage.lasts(10)
    assert talker.call.status == "in-progress"
    talker.hangs_up()
    stage.ends()
    assert len(stage.dialled()) == 1


def test_a_job_whose_outcome_could_not_be_stored_does_not_wait_for_the_end_of_its_lease(
    make_stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    stage = make_stage()

    def fill_the_disk(worker: Worker, job: Row) -> Result:
        monkeypatch.setitem(HANDLERS, "dial", run_dial)
        stage.world.disk.outage, stage.world.disk.until = "store_full", stage.world.network.now + 3.0
        return run_dial(worker, job)

    monkeypatch.setitem(HANDLERS, "dial", fill_the_disk)
    talker = stage.agent_dials(NEVER)
    assert stage.dialled() == []
    stage.lasts(7)
    assert [leg.status for leg in stage.dialled()] == ["ringing"]
    talker.hangs_up()
    stage.ends()
