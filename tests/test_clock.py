"""The machine's clock is set amid calls: what is scheduled goes on, nobody is dialled twice, nothing stays open."""

from __future__ import annotations

import logging
import time
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from dialer.api import event_json
from dialer.calls import Call
from dialer.clock import STEP, KeptClock, boot_id, steady_seconds
from dialer.dialling import ABSENT_AFTER, Outcome
from dialer.jobs import LEASE
from dialer.ladder import Ladder
from dialer.records import add_job
from dialer.service import Service
from dialer.simulator import Faults
from dialer.store import StoreError

NEVER, TALKS = "+14155550103", "+14155550101"
HOUR = 3600.0
STEPS = pytest.mark.parametrize("step", [HOUR, -HOUR, 10.0, -10.0, 90.0, -90.0])


def wall(stage: Any) -> float:
    """What the machine's clock says."""
    now: float = stage.world.dialer.clock()
    return now


def set_clock(stage: Any, step: float) -> None:
    stage.world.offset += step


def times(talker: Any, column: str, statement: str) -> list[float]:
    return [row[column] for row in talker.rows(statement) if row[column] is not None]


def test_the_steady_clock_is_steady_and_names_its_start() -> None:
    before = steady_seconds()
    assert before > 0
    assert steady_seconds() >= before
    assert boot_id() == boot_id()


def test_a_machine_that_names_no_start_has_none(monkeypatch: pytest.MonkeyPatch) -> None:
    def missing(self: Any) -> str:
        raise OSError

    monkeypatch.setattr(Path, "read_text", missing)
    assert boot_id() == ""


@STEPS
def test_a_talk_goes_on_and_ends_as_it_would_have(stage: Any, step: float) -> None:
    talker = stage.agent_dials(TALKS)
    stage.lasts(10)
    set_clock(stage, step)
    stage.lasts(10)
    assert talker.call.status == "in-progress"
    stage.phone().hangs_up()
    stage.ends()
    assert (talker.call.status, talker.call.settled, len(stage.dialled())) == ("completed", True, 1)


@STEPS
def test_every_open_call_is_looked_at_at_once(stage: Any, step: float) -> None:
    talker = stage.agent_dials(NEVER)
    assert talker.call.deadline > wall(stage)
    set_clock(stage, step)
    stage.world.worker.mind_clock()
    assert talker.call.deadline <= wall(stage)


@STEPS
def test_a_call_whose_news_stays_out_is_asked_about_in_time(stage: Any, step: float) -> None:
    talker = stage.agent_dials(NEVER)
    stage.world.network.faults = Faults(webhook_lost=1.0)
    set_clock(stage, step)
    stage.phone().hangs_up()
    stage.lasts(15)
    assert talker.call.status == "busy"
    stage.world.settle(60)
    assert talker.call.settled


@STEPS
def test_a_dial_without_an_answer_is_not_repeated_and_not_given_up_early(
    stage: Any, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    monkeypatch.setattr("dialer.dialling.send", lambda *_: Outcome("unknown", rule="no-answer"))
    began = stage.world.network.now
    talker = stage.agent_dials(NEVER)
    assert talker.call.dial == "unknown"
    stage.lasts(15)
    set_clock(stage, step)
    stage.lasts(began + ABSENT_AFTER - 0.5 - stage.world.network.now)
    assert talker.call.dial == "unknown"
    stage.lasts(30)
    assert (talker.call.dial, talker.call.settled, stage.dialled()) == ("absent", True, [])


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_a_leg_made_by_a_lost_request_is_found_though_our_clock_is_wrong(
    stage: Any, monkeypatch: pytest.MonkeyPatch, step: float
) -> None:
    """It is Twilio's clock that says when a call was made."""
    import dialer.dialling as dialling

    sent = dialling.send

    def lost(*args: Any) -> Outcome:
        sent(*args)
        return Outcome("unknown", rule="no-answer")

    monkeypatch.setattr(dialling, "send", lost)
    set_clock(stage, step)
    monkeypatch.setattr("dialer.voice.call_of", lambda tx, hook, sid: None)  # as if no status ever came
    talker = stage.agent_dials("+14155550108")
    stage.lasts(12)
    assert talker.call.dial == "accepted"
    assert talker.call.leg("customer").call_sid == stage.dialled()[0].sid


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_the_lease_of_a_claimed_job_lasts_as_long_as_it_would_have(stage: Any, step: float) -> None:
    world, call = stage.world, stage.agent_dials("12345").call
    world.settle()
    with world.dialer.store.write() as tx:
        add_job(tx, call, "announce", "k", wall(stage))
    assert len(world.worker.claim("", 10)) == 1
    set_clock(stage, step)
    world.worker.mind_clock()
    world.network.now += LEASE - 0.1
    assert world.worker.claim("", 10) == []
    world.network.now += 0.2
    assert len(world.worker.claim("", 10)) == 1


def due_in(stage: Any, call: Call) -> dict[str, float]:
    """In how many seconds each pending job of a call is due, by its key."""
    with stage.world.dialer.store.read() as tx:
        rows = tx.all("jobs_of_call", call_id=call.id, workspace=call.workspace)
    return {row["key"]: row["run_at"] - wall(stage) for row in rows if row["status"] == "pending"}


@pytest.mark.parametrize(("first", "second"), [(HOUR, 0.0), (-HOUR, 0.0), (HOUR, -2 * HOUR), (-50.0, 200.0)])
def test_what_the_web_workers_scheduled_is_done_whatever_the_clock_was_meanwhile(
    stage: Any, first: float, second: float
) -> None:
    """Twice within one turn of the dispatcher, or while none ran: the store holds times by three clocks."""
    world, call = stage.world, stage.agent_dials("12345").call
    world.settle()
    with world.dialer.store.write() as tx:
        for number, step in enumerate((first, second, 0.0)):
            add_job(tx, call, "announce", f"k{number}", wall(stage), run_at=wall(stage) + 3)
            set_clock(stage, step)
    assert world.worker.mind_clock() == pytest.approx(first + second)
    assert {key: seconds <= 0 for key, seconds in due_in(stage, call).items()} == {"k0": True, "k1": True, "k2": True}


@pytest.mark.parametrize("step", [HOUR, -HOUR, 30.0, -30.0])
def test_a_retry_comes_after_the_seconds_that_it_would_have_waited(stage: Any, step: float) -> None:
    world, call = stage.world, stage.agent_dials("12345").call
    world.settle()
    with world.dialer.store.write() as tx:
        add_job(tx, call, "deliver", "k", wall(stage), plugin="crm")
        job = tx.all("due_jobs", now=wall(stage), lease=wall(stage), plugin="crm", limit=1)[0]
        tx.run("retry_job", job_id=job["id"], run_at=wall(stage) + 1800, result="failed")
    set_clock(stage, step)
    world.worker.mind_clock()
    assert due_in(stage, call) == pytest.approx({"k": 1800.0})


def test_an_agent_who_leaves_between_two_steps_leaves_nobody_alone(stage: Any) -> None:
    talker = stage.agent_dials(TALKS)
    stage.lasts(5)
    world = stage.world
    set_clock(stage, 410.0)
    world.network.hang_up(talker.leg.sid)
    world.network.advance(world.network.now + 0.3)
    for request in world.network.take_requests():
        world.network.answer(request.id, world._perform(request))
    set_clock(stage, -2112.0)
    stage.lasts(5)
    assert (talker.call.status, talker.call.settled) == ("completed", True)


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_plugins_that_rest_and_deliveries_that_wait_go_on_as_long_as_they_would_have(stage: Any, step: float) -> None:
    world, call = stage.world, stage.agent_dials("12345").call
    world.settle()
    now = wall(stage)
    with world.dialer.store.write() as tx:
        add_job(tx, call, "deliver", "w", now, run_at=now, plugin="crm")
        job = tx.all("due_jobs", now=now, lease=now, plugin="crm", limit=1)[0]
        tx.run("hold_job", job_id=job["id"], status="waiting", run_at=now + 600, result="off")
        for name, until in (("crm", now + 30), ("mail", 0.0)):
            values = {"failures": 5, "since": now - 9, "opened": 1, "reason": "down", "open_until": until}
            tx.run("save_breaker", plugin=name, workspace="ws_demo", **values)
    set_clock(stage, step)
    world.worker.mind_clock()
    now = wall(stage)
    with world.dialer.store.read() as tx:
        breakers = [(row["since"] - now, row["open_until"] - now * (row["plugin"] == "crm")) for row in
                    tx.all("all_breakers")]  # fmt: skip
        waiting = [row["run_at"] - now for row in tx.all("waiting_for_plugins")]
    assert breakers == [(-9, 30), (-9, 0)]
    assert waiting == [600]


def test_until_it_is_noticed_the_dispatcher_goes_by_the_old_clock(stage: Any) -> None:
    worker = stage.world.worker
    before = worker.dialer.clock()
    set_clock(stage, HOUR)
    assert worker.dialer.clock() == before
    worker.mind_clock()
    assert worker.dialer.clock() == before + HOUR


def test_less_than_a_second_is_followed_without_a_word(stage: Any, caplog: pytest.LogCaptureFixture) -> None:
    talker = stage.agent_dials(NEVER)
    deadline = talker.call.deadline
    with caplog.at_level(logging.WARNING, "dialer.clock"):
        for _ in range(5):
            set_clock(stage, 0.9 * STEP)
            assert stage.world.worker.mind_clock() == 0.0
    assert (talker.call.deadline, caplog.messages) == (deadline, [])
    assert stage.world.worker.dialer.clock() == wall(stage)


class Broken:
    """A store that nobody may ask, or that is full."""

    def write(self) -> Any:
        raise StoreError("store world.db: database or disk is full")

    read = write


def test_a_look_at_a_clock_that_nobody_set_asks_no_store(stage: Any) -> None:
    worker = stage.world.worker
    worker.mind_clock()
    worker.kept.dialer = replace(worker.kept.dialer, store=Broken())
    assert worker.mind_clock() == 0.0


def machine(stage: Any, wall_seconds: float, steady: float) -> Service:
    """The same installation on a machine whose clocks say this, still."""
    given = stage.world.dialer
    return Service(
        given.settings, given.store, given.plugins, lambda: wall_seconds, steady=lambda: steady
    )


def kept(stage: Any, wall_seconds: float, steady: float, boot: str) -> float:
    """What a new process does about the clock."""
    return KeptClock(machine(stage, wall_seconds, steady), boot).mind()


def test_a_step_while_no_dispatcher_ran_is_noticed_at_the_next_start(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    now = wall(stage)
    assert kept(stage, now, 500.0, "boot1") == 0.0
    assert kept(stage, now - HOUR + 7, 507.0, "boot1") == pytest.approx(-HOUR)
    assert talker.call.deadline == pytest.approx(now - HOUR + 7)
    assert kept(stage, now - HOUR + 9, 509.0, "boot1") == 0.0


def test_time_that_went_by_while_no_dispatcher_ran_is_no_step(stage: Any) -> None:
    now = wall(stage)
    kept(stage, now, 500.0, "boot1")
    assert kept(stage, now + HOUR, 500.0 + HOUR, "boot1") == 0.0


@pytest.mark.parametrize("boot", ["boot2", ""])
def test_after_a_reboot_a_clock_behind_what_is_stored_was_set_back(stage: Any, boot: str) -> None:
    talker = stage.agent_dials(NEVER)
    now = wall(stage)
    kept(stage, now, 500.0, "boot1")
    assert kept(stage, now - HOUR, 20.0, boot) == pytest.approx(-HOUR, abs=2.0)
    assert talker.call.deadline == now - HOUR


def test_after_a_reboot_a_clock_ahead_of_what_is_stored_is_time_gone_by(stage: Any) -> None:
    now = wall(stage)
    kept(stage, now, 500.0, "boot1")
    assert kept(stage, now + HOUR, 20.0, "boot2") == 0.0


def test_drift_is_kept_so_that_it_is_no_step_at_the_next_start(stage: Any) -> None:
    now = wall(stage)
    first = KeptClock(machine(stage, now, 500.0), "boot1")
    first.mind()
    for _ in range(6):
        now += 0.3
        first.dialer = machine(stage, now, 500.0)
        assert first.mind() == 0.0
    assert kept(stage, now, 500.0, "boot1") == 0.0


def test_a_store_that_fails_meanwhile_leaves_all_as_it_was(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    worker = stage.world.worker
    worker.mind_clock()
    deadline, now = talker.call.deadline, worker.dialer.clock()
    set_clock(stage, HOUR)
    given = worker.kept.dialer
    worker.kept.dialer = replace(given, store=Broken())
    with pytest.raises(StoreError):
        worker.mind_clock()
    worker.kept.dialer = given
    assert (talker.call.deadline, worker.dialer.clock()) == (deadline, now)
    assert worker.mind_clock() == pytest.approx(HOUR)


def test_a_process_that_was_stopped_amid_its_look_sees_no_step(stage: Any) -> None:
    worker = stage.world.worker
    worker.mind_clock()
    seconds = iter([500.0, 560.0])
    given = worker.kept.dialer
    worker.kept.dialer = Service(
        given.settings, given.store, given.plugins, given.clock, steady=lambda: next(seconds)
    )
    assert worker.mind_clock() == 0.0


@pytest.mark.parametrize("step", [HOUR, -HOUR])
def test_events_keep_their_order_and_the_ladder_its_seconds(stage: Any, step: float) -> None:
    talker = stage.agent_dials(TALKS)
    stage.lasts(5)
    set_clock(stage, step)
    stage.lasts(5)
    talker.hangs_up()
    stage.ends()
    names = talker.events()
    assert names.index("clock-set") > names.index("participant-join")
    assert names.index("clock-set") < names.index("participant-leave")
    events = [event_json(row) for row in talker.rows("events_of_call", after=0)]
    call = {"requestedAt": events[0]["receivedAt"], "agent": "a", "to": "t", "from": "f", "status": "completed",
            "reason": "", "answeredAt": None}  # fmt: skip
    rungs = list(Ladder(call).rungs(events))
    assert [rung.seconds for rung in rungs] == sorted(rung.seconds for rung in rungs)
    assert rungs[-1].seconds < 60
    way = "forward" if step > 0 else "back"
    assert f"sees its clock set {way} by 3600 s, and goes on" in [rung.text for rung in rungs]


def test_a_job_put_off_by_a_clock_that_was_wrong_for_a_while_is_done_at_the_next_start(stage: Any) -> None:
    world, call = stage.world, stage.agent_dials("12345").call
    world.settle()
    with world.dialer.store.write() as tx:
        add_job(tx, call, "announce", "k", wall(stage), run_at=wall(stage) + HOUR)
    world.worker.wake()
    assert len(world.worker.claim("", 10)) == 1


def test_the_real_clock_of_a_process_is_not_seen_to_step(stage: Any) -> None:
    given = stage.world.dialer
    real = KeptClock(Service(given.settings, given.store, given.plugins), "boot-real")
    real.mind()
    assert real.now() == pytest.approx(time.time(), abs=STEP)
    assert real.mind() == 0.0
