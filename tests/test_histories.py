"""Thousands of calls with every fault there is: nobody is dialled twice, nobody left alone, nothing lost."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest

from dialer.calls import Event
from dialer.dispatcher import WATCH, WATCH_AGAIN
from dialer.machine import EXIT_GRACE
from dialer.records import Fact, find_call, record
from dialer.simulation import play
from dialer.simulator.chaos import ALL_FAULTS, WorldFaults
from dialer.simulator.world import DOWNTIME
from dialer.transport import time_out_of

#: Calls of each part; all parts together are the 5,000 histories of every test run.
CALLS = 625


@pytest.mark.timeout(600)
@pytest.mark.parametrize("seed", range(1, 9))
def test_seeded_histories_with_all_faults_on(seed: int, record_property: Callable[[str, object], None]) -> None:
    played = play(CALLS, seed, ALL_FAULTS)
    broken = {name: len(found) for name, found in played.breaches.items()}
    record_property(
        "figure",
        f"seeded histories, all faults on, seed {seed}: {CALLS:,} calls, {played.faults.total():,} faults: "
        f"{broken['dialled at most once']} double dials, {broken['nobody alone']} alone past grace, "
        f"{broken['every call ends'] + broken['deadlines kept']} open past deadline, "
        f"{broken['recorded as it was']} wrong finals, {sum(broken.values())} broken in all",
    )
    guilty = played.first_breach
    assert guilty is None, (
        f"{guilty.text}: dialer simulate --calls {CALLS} --seed {seed} --faults all --world {guilty.world} "
        f"--trace {guilty.call}"
    )


# What the histories found, each as a story of its own (more of them in test_chaos.py)


def test_old_news_that_comes_late_puts_off_no_look_at_a_call(stage: Any) -> None:
    talker = stage.agent_dials("+14155550103")
    stage.lasts(3)
    before, leg = talker.call, stage.phone().leg
    assert before.status == "ringing"
    late = Event("leg", stage.world.network.now, "customer", leg.sid, status="initiated")
    with stage.world.dialer.store.write() as tx:
        call = find_call(tx, "call", call_id=before.id, workspace=before.workspace)
        assert call
        now, plugins = stage.world.network.now, stage.world.dialer.plugins.current()
        after = record(tx, call, Fact("late", "leg-initiated", "webhook", late), now=now, plugins=plugins)
    assert after
    assert after.deadline == before.deadline
    stage.ends()


@pytest.mark.parametrize(
    ("method", "path", "seconds"),
    [
        ("POST", "/2010-04-01/Accounts/AC1/Calls.json", 10.0),
        ("POST", "/2010-04-01/Accounts/AC1/Conferences/room/Participants.json", 10.0),
        ("GET", "/2010-04-01/Accounts/AC1/Calls.json?Status=in-progress", 4.0),
        ("POST", "/2010-04-01/Accounts/AC1/Calls/CA1.json", 4.0),
    ],
)
def test_only_the_making_of_a_call_is_waited_for_long(method: str, path: str, seconds: float) -> None:
    assert time_out_of(method, f"https://api.twilio.com{path}")[1] == seconds


def test_who_was_left_alone_is_found_soon_though_twilio_does_not_answer_at_first(make_stage: Any) -> None:
    stage = make_stage()
    talker = stage.agent_dials("+14155550103")
    stage.phone().answers()
    stage.lasts(2)
    stage.world.network.faults = WorldFaults(webhook_lost=1.0, rest_500_undone=1.0)
    stage.world.network.hang_up(talker.leg.sid)
    stage.lasts(WATCH)
    stage.world.network.faults = WorldFaults(webhook_lost=1.0)
    stage.lasts(WATCH_AGAIN + 1.3)
    assert stage.phone().leg.status == "completed"
    stage.ends()


def test_what_came_of_a_dial_is_stored_as_soon_as_the_store_answers_again(make_stage: Any) -> None:
    stage = make_stage(rest_seconds=0.2)
    stage.world.network.later(0.35, fill_the_disk, stage)
    talker = stage.agent_dials("+14155550103")
    stage.lasts(2.2)
    assert talker.call.dial == "sending"
    stage.lasts(2)
    assert talker.call.dial == "accepted"
    talker.hangs_up()
    stage.ends()


def fill_the_disk(stage: Any) -> None:
    stage.world.disk.outage, stage.world.disk.until = "store_full", stage.world.network.now + 3.0


@pytest.mark.parametrize(("source", "wait"), [("webhook", EXIT_GRACE), ("reconcile", 0.0)])
def test_twilio_is_given_time_to_end_a_leg_by_itself_only_once(stage: Any, source: str, wait: float) -> None:
    talker = stage.agent_dials("+14155550103")
    stage.phone().answers()
    gone = Event("leg", stage.world.network.now, "agent", talker.leg.sid, status="completed")
    call, now = talker.call, stage.world.network.now
    with stage.world.dialer.store.write() as tx:
        plugins = stage.world.dialer.plugins.current()
        record(tx, call, Fact("x", "leg-completed", source, gone), now=now, plugins=plugins)
    (job,) = [row for row in talker.rows("jobs_of_call") if row["kind"] == "hang_up"]
    assert job["run_at"] == now + wait


def test_a_phone_that_is_busy_is_heard_of_soon_though_its_callbacks_come_late_one_after_the_other(stage: Any) -> None:
    talker = stage.agent_dials("+14155550103")
    stage.world.network.faults = WorldFaults(webhook_lost=1.0)
    stage.world.network.decline(stage.phone().leg.sid)
    stage.lasts(WATCH)
    assert talker.call.status == "busy"
    stage.ends()


def test_a_dial_whose_process_died_is_looked_for_by_the_next_one_at_once(make_stage: Any) -> None:
    stage = make_stage(rest_seconds=0.5)
    stage.world.network.faults = WorldFaults(webhook_lost=1.0)
    stage.agent_dials("+14155550102")
    stage.lasts(4.8)  # the agent's join is lost as well: he is asked for, and the customer dialled
    while not stage.dialled():
        stage.lasts(0.02)
    stage.world.dispatcher.kill("before it knew")
    stage.lasts(DOWNTIME[1] + 3.0)
    (row,) = stage.world.dialer.store.database()["calls"].rows
    assert (row["status"], row["dial"]) == ("busy", "accepted")
    stage.ends()
