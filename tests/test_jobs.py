"""Jobs: at least once, only while they are owed, retried as promised, and never lost or raised."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from random import Random
from typing import Any

import pytest

from dialer import jobs
from dialer.calls import Call
from dialer.deliveries import RETRIES as DELIVERY_RETRIES
from dialer.hookspecs import hookimpl
from dialer.jobs import CORE_RETRIES, LEASE, Result, Worker
from dialer.logs import TextFormatter
from dialer.records import add_job, find_call
from dialer.simulator import Faults
from dialer.simulator.world import World
from dialer.store import Row
from dialer.transport import rebase
from dialer.twilio import Carrier

NEVER = "+14155550103"


class Unasked:
    """A carrier that nobody may ask."""

    def __getattr__(self, name: str) -> Any:
        raise AssertionError(f"{name} was asked of the network")


class Failing:
    """A plugin whose every delivery fails."""

    told = 0

    @hookimpl
    def call_started(self, call: Call) -> None:
        self.told += 1
        raise RuntimeError("the CRM is down, call +14155550101")


@pytest.fixture
def written() -> Iterator[list[str]]:
    """The log lines of jobs."""
    lines: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: lines.append(TextFormatter().format(record))  # type: ignore[method-assign]
    log, level = logging.getLogger("dialer.jobs"), logging.getLogger("dialer.jobs").level
    log.setLevel(logging.INFO)
    log.addHandler(handler)
    yield lines
    log.removeHandler(handler)
    log.setLevel(level)


def owe(world: World, call: Call, kind: str, call_sid: str = "") -> None:
    with world.dialer.store.write() as tx:
        add_job(tx, call, kind, f"{call.id}:{kind}:{call_sid}", world.network.now, call_sid=call_sid)


def job_rows(world: World, call: Call) -> list[dict[str, Any]]:
    with world.dialer.store.read() as tx:
        return [dict(row) for row in tx.all("jobs_of_call", call_id=call.id, workspace=call.workspace)]


def take(world: World, *, deliveries: bool = False, limit: int = 100) -> list[Row]:
    due = [plugin for plugin in world.worker.due() if bool(plugin) == deliveries]
    return [job for plugin in due for job in world.worker.claim(plugin, limit)]


def refused_call(stage: Any) -> Call:
    """A call that owes nothing: refused before it was dialled, and over."""
    call: Call = stage.agent_dials("12345").call
    stage.world.settle()
    return call


def idle(world: World) -> Worker:
    return Worker(world.dialer, lambda sid: Unasked(), Random(1))  # type: ignore[return-value,arg-type]


def test_a_claimed_job_is_due_again_when_its_worker_died(stage: Any) -> None:
    world, call = stage.world, refused_call(stage)
    owe(world, call, "announce")
    assert [job["attempts"] for job in take(world)] == [1]
    assert take(world) == []
    world.network.now += LEASE - 0.1
    assert take(world) == []
    world.network.now += 0.1
    (again,) = take(world)
    assert again["attempts"] == 2
    world.worker.run(again)
    world.network.now += 10 * LEASE
    assert take(world) == []
    assert [row["status"] for row in job_rows(world, call) if row["kind"] == "announce"] == ["done"]


def test_the_same_job_is_not_queued_twice_while_it_waits_or_runs(stage: Any) -> None:
    world, call = stage.world, refused_call(stage)
    owe(world, call, "announce")
    owe(world, call, "announce")
    (job,) = take(world)
    owe(world, call, "announce")
    assert take(world) == []
    world.worker.run(job)
    owe(world, call, "announce")
    assert len(take(world)) == 1


def test_jobs_are_claimed_in_the_order_they_fell_due_and_once_only(stage: Any) -> None:
    world, call = stage.world, refused_call(stage)
    for number in range(60):
        owe(world, call, "announce", f"leg{number}")
        world.network.now += 0.01
    with ThreadPoolExecutor(4) as pool:
        taken = [[job["call_sid"] for job in batch] for batch in pool.map(lambda _: take(world, limit=10), range(6))]
    assert Counter(sid for batch in taken for sid in batch) == {f"leg{number}": 1 for number in range(60)}
    assert all(batch == sorted(batch, key=lambda sid: int(sid[3:])) for batch in taken)


def test_deliveries_and_our_own_jobs_are_claimed_apart(make_stage: Any) -> None:
    world = make_stage(plugins=(Failing(),)).world
    world.dial(world.agents[0], NEVER)
    while not (deliveries := take(world, deliveries=True)):
        world.network.advance(world.network.now + 0.02)
        for request in world.network.take_requests():
            world.network.answer(request.id, world._perform(request))
    assert {job["kind"] for job in deliveries} == {"deliver"}
    assert "deliver" not in {job["kind"] for job in take(world)}


@pytest.mark.parametrize("kind", ["dial", "hang_up", "announce", "end_conference", "reconcile"])
def test_what_is_no_longer_owed_is_not_done(stage: Any, kind: str) -> None:
    world, call = stage.world, refused_call(stage)
    worker = idle(world)
    monkey: Any = worker.carriers
    worker.carriers = lambda sid: Carrier(world.dialer.settings.accounts[0], "http://127.0.0.1:9", monkey(sid))
    owe(world, call, kind, "CA" + "0" * 32)
    (job,) = take(world)
    worker.run(job)
    (row,) = [row for row in job_rows(world, call) if row["kind"] == kind]
    assert (row["status"], row["result"]) == ("done", "settled" if kind == "reconcile" else "no longer owed")


def test_our_own_jobs_are_retried_for_as_long_as_they_are_owed(
    stage: Any, monkeypatch: pytest.MonkeyPatch, written: list[str]
) -> None:
    def fails(worker: Worker, job: Row) -> Result:
        raise ConnectionError("no way to +14155550101")

    monkeypatch.setattr(jobs, "HANDLERS", {"announce": fails})
    world, call = stage.world, refused_call(stage)
    owe(world, call, "announce")
    waits = []
    for _ in range(11):
        (job,) = take(world)
        world.worker.run(job)
        (row,) = [row for row in job_rows(world, call) if row["kind"] == "announce"]
        assert row["status"] == "pending"
        waits.append(row["run_at"] - world.network.now)
        world.network.now = row["run_at"]
    expected = [*CORE_RETRIES, 15.0, 15.0]
    assert all(0.8 * mean <= wait <= 1.2 * mean for wait, mean in zip(waits, expected, strict=True))
    assert len({wait / mean for wait, mean in zip(waits, expected, strict=True)}) > 1
    line = written[-1]
    assert "WARNING dialer.jobs job announce" in line
    assert 'outcome="failed: ConnectionError: no way to +1******0101"' in line


def test_who_must_end_comes_before_a_look_at_those_who_talk(stage: Any) -> None:
    world, call = stage.world, refused_call(stage)
    for number in range(5):
        owe(world, call, "reconcile", str(number))
    world.network.now += 1
    owe(world, call, "hang_up")
    assert [job["kind"] for job in world.worker.claim("", limit=2)] == ["hang_up", "reconcile"]


def test_a_delivery_that_never_comes_to_an_end_is_given_up(make_stage: Any) -> None:
    plugin = Failing()
    stage = make_stage(plugins=(plugin,))
    call = stage.agent_dials("12345").call
    told = plugin.told
    with stage.world.dialer.store.write() as tx:
        tx._execute("UPDATE jobs SET status = 'doing', run_at = 1, attempts = 99 WHERE kind = 'deliver'", {})
    for job in take(stage.world, deliveries=True):
        stage.world.worker.run(job)
    row = delivery(stage.world, call)
    assert (row["status"], row["result"]) == ("dead", "given up: begun again and again, and never finished")
    assert plugin.told == told


def delivery(world: World, call: Call) -> dict[str, Any]:
    (row,) = [row for row in job_rows(world, call) if row["kind"] == "deliver"]
    return row


def test_a_delivery_is_retried_for_a_day_and_is_then_dead(make_stage: Any) -> None:
    plugin = Failing()
    stage = make_stage(plugins=(plugin,))
    call = stage.agent_dials("12345").call
    while (row := delivery(stage.world, call))["status"] == "pending":
        stage.world.network.now = row["run_at"]
        (job,) = take(stage.world, deliveries=True)
        stage.world.worker.run(job)
    assert (row["status"], row["attempts"], plugin.told) == ("dead", len(DELIVERY_RETRIES) + 1, 8)
    assert "the CRM is down" in row["result"]
    assert row["done_at"] - row["created_at"] == pytest.approx(sum(DELIVERY_RETRIES), rel=0.2)


def test_a_delivery_to_a_plugin_that_was_switched_off_waits_for_it(stage: Any) -> None:
    world, call = stage.world, refused_call(stage)
    with world.dialer.store.write() as tx:
        add_job(tx, call, "deliver", "k", world.network.now, plugin="gone", hook="call_ended", event_id=1)
    (job,) = take(world, deliveries=True)
    world.worker.run(job)
    (row,) = [row for row in job_rows(world, call) if row["kind"] == "deliver"]
    assert (row["status"], row["attempts"], row["result"]) == ("waiting", 0, "waits: plugin gone is off")


def test_every_delivery_is_done_dead_or_pending(make_stage: Any) -> None:
    stage = make_stage(plugins=(Failing(),), faults={"webhook_repeated": 0.5})
    for agent in stage.world.agents:
        stage.world.dial(agent, "+14155550106")
    stage.world.settle()
    stage.lasts(300)
    database = stage.world.dialer.store.database()
    found = Counter(row["status"] for row in database["jobs"].rows_where("kind = 'deliver'"))
    started = database["events"].count_where("name = 'call-started'")
    assert sum(found.values()) == started == 2
    assert set(found) <= {"pending", "done", "dead"}


def test_a_kind_that_nobody_knows_fails_without_harm(stage: Any) -> None:
    world, call = stage.world, refused_call(stage)
    owe(world, call, "dance")
    (job,) = take(world)
    world.worker.run(job)
    (row,) = [row for row in job_rows(world, call) if row["kind"] == "dance"]
    assert (row["status"], row["result"]) == ("pending", "failed: KeyError: 'dance'")


def test_a_hang_up_is_repeated_until_twilio_says_it_is_done(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    stage.world.network.faults = Faults(rest_500_undone=1.0)
    talker.hangs_up()
    stage.lasts(5)
    assert stage.dialled()[0].end_time is None
    stage.world.network.faults = Faults()
    stage.ends()
    (row,) = [row for row in talker.rows("jobs_of_call") if row["kind"] == "hang_up"]
    assert (row["status"], row["result"]) == ("done", "canceled")
    assert row["attempts"] > 2


def test_a_job_says_in_one_line_what_it_came_to(stage: Any, written: list[str]) -> None:
    talker = stage.agent_dials("+14155550102")
    stage.world.settle()
    told = [line.partition(" dialer.jobs ")[2] for line in written]
    dials = [line for line in told if line.startswith(f"job dial call={talker.call.id} outcome=accepted ms=")]
    announced = f"job announce call={talker.call.id} leg={talker.leg.sid} outcome=announced ms="
    assert (len(dials), sum(line.startswith(announced) for line in told)) == (1, 1)


def test_the_sweep_queues_one_look_for_each_overdue_call(stage: Any) -> None:
    world = stage.world
    talker = stage.agent_dials(NEVER)
    deadline = world.dialer.store.database()["calls"].get(talker.call.id)["deadline"]
    world.network.now = deadline - 0.1
    assert world.worker.sweep() == 0
    world.network.now = deadline
    assert (world.worker.sweep(), world.worker.sweep()) == (1, 0)
    assert [row["kind"] for row in job_rows(world, talker.call)].count("reconcile") == 1
    world.network.now = deadline + 600
    assert world.worker.sweep() == 1
    assert [row["kind"] for row in job_rows(world, talker.call)].count("reconcile") == 1


def test_the_sweep_takes_the_longest_overdue_first(stage: Any) -> None:
    world = stage.world
    calls = [stage.agent_dials(NEVER, agent).call for agent in world.agents]
    world.network.now += 600
    assert world.worker.sweep(limit=1) == 1
    assert [row["kind"] for row in job_rows(world, calls[0])].count("reconcile") == 1


def test_a_call_that_is_gone_from_the_store_does_not_stop_a_worker(stage: Any) -> None:
    world, call = stage.world, refused_call(stage)
    with world.dialer.store.write() as tx:
        add_job(tx, call, "deliver", "k", world.network.now, plugin="number_policy", hook="call_ended", event_id=10**6)
        for kind in ("dial", "hang_up", "announce", "end_conference", "reconcile"):
            add_job(tx, call, kind, kind, world.network.now)
    world.dialer.store.database().execute("PRAGMA foreign_keys = off")
    world.dialer.store.database().execute("UPDATE jobs SET call_id = 'call_gone'")
    for deliveries in (False, True):
        for job in take(world, deliveries=deliveries):
            world.worker.run(job)
    with world.dialer.store.read() as tx:
        rows = tx.all("jobs_of_call", call_id="call_gone", workspace=call.workspace)
        assert find_call(tx, "call", call_id="call_gone", workspace=call.workspace) is None
    assert {row["status"] for row in rows if row["kind"] != "deliver"} == {"done"}
    assert {row["status"] for row in rows if row["kind"] == "deliver"} == {"dead"}


@pytest.mark.parametrize(
    ("url", "base", "sent_to"),
    [
        ("https://api.twilio.com/a?b=1", "https://api.twilio.com", "https://api.twilio.com/a?b=1"),
        ("https://voice.twilio.com/a", "https://api.twilio.com", "https://voice.twilio.com/a"),
        ("https://api.twilio.com/a?b=1", "http://127.0.0.1:8100", "http://127.0.0.1:8100/a?b=1"),
        ("https://voice.twilio.com/a", "http://127.0.0.1:8100/", "http://127.0.0.1:8100/a"),
        ("https://api.twilio.com/a", "https://api.twilio.com.evil.example", "https://api.twilio.com.evil.example/a"),
    ],
)
def test_a_simulator_gets_what_is_meant_for_twilio(url: str, base: str, sent_to: str) -> None:
    assert rebase(url, base) == sent_to


def test_a_new_process_takes_what_the_last_one_had_taken_but_no_delivery_that_was_begun_twice(stage: Any) -> None:
    call = stage.agent_dials(NEVER).call
    worker, store, now = stage.world.worker, stage.world.dialer.store, stage.world.network.now
    with store.write() as tx:
        add_job(tx, call, "reconcile", "ours", now)
        add_job(tx, call, "deliver", "once", now, plugin="crm", hook="call_started")
        add_job(tx, call, "deliver", "twice", now, plugin="pbx", hook="call_started")
    for plugin in ("", "crm", "pbx"):
        worker.claim(plugin, 10)
    store.database().execute("UPDATE jobs SET attempts = 2 WHERE key = 'twice'")
    assert worker.due() == []
    worker.wake()
    assert worker.due() == ["", "crm"]


def test_every_status_of_a_job_comes_due_or_is_an_end(stage: Any) -> None:
    """pending and doing (by its lease) are taken, waiting is woken or buried by the sweep, done and dead are ends."""
    world, call = stage.world, refused_call(stage)
    now = world.worker.dialer.clock()
    statuses = ("pending", "doing", "waiting", "done", "dead")
    database = world.dialer.store.database()
    for status in statuses:
        with world.dialer.store.write() as tx:
            add_job(tx, call, "announce" if status != "waiting" else "deliver", status, now, run_at=now,
                    plugin="gone" if status == "waiting" else "")  # fmt: skip
        database.execute("UPDATE jobs SET status = ? WHERE key = ?", (status, status))
    assert sorted(job["key"] for job in world.worker.claim("", 100)) == ["doing", "pending"]
    world.worker.sweep()
    found = {row["key"]: row["status"] for row in job_rows(world, call) if row["key"] in statuses}
    assert found == {"pending": "doing", "doing": "doing", "waiting": "dead", "done": "done", "dead": "dead"}
