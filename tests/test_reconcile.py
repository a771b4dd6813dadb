"""What Twilio is asked when its callbacks stay out, and what is believed of the answer."""

from __future__ import annotations

from typing import Any

import pytest
from twilio.base.exceptions import TwilioServiceException

from dialer import reconcile as module
from dialer.calls import Call
from dialer.reconcile import TOO_NEW, reconcile
from dialer.simulator import Faults
from dialer.simulator.phones import PHONES
from dialer.simulator.world import World

NEVER = "+14155550103"


def carrier(world: World) -> Any:
    return world.worker.carriers(world.account_sid)


def look(stage: Any, call: Call) -> str:
    return reconcile(stage.world.dialer, carrier(stage.world), call.id, call.workspace)


def deaf(stage: Any) -> None:
    """No callback arrives from now on."""
    stage.world.network.faults = Faults(webhook_lost=1.0)


@pytest.mark.parametrize("number", sorted(PHONES))
def test_a_call_whose_callbacks_are_all_lost_ends_as_it_really_ended(make_stage: Any, number: str) -> None:
    stage = make_stage()
    talker = stage.agent_dials("+14155550101" if number == NEVER else number)
    deaf(stage)
    stage.lasts(10)
    talker.hangs_up()
    stage.world.settle()
    legs = stage.dialled()
    assert talker.call.settled
    assert talker.call.status == (legs[0].status if legs else "failed")
    assert len(legs) <= 1


def test_a_settled_call_is_not_asked_about(stage: Any) -> None:
    talker = stage.agent_dials("12345")
    stage.world.settle()
    before = talker.rows("events_of_call", after=0)
    assert reconcile(stage.world.dialer, None, talker.call.id, "ws_demo") == "settled"  # type: ignore[arg-type]
    assert reconcile(stage.world.dialer, None, "call_gone", "ws_demo") == "settled"  # type: ignore[arg-type]
    assert reconcile(stage.world.dialer, None, talker.call.id, "ws_other") == "settled"  # type: ignore[arg-type]
    assert talker.rows("events_of_call", after=0) == before


def test_no_news_is_no_event(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    before = talker.rows("events_of_call", after=0)
    assert look(stage, talker.call) == "still ringing"
    assert talker.rows("events_of_call", after=0) == before


def test_news_is_an_event_from_rest_once_and_tells_both_statuses(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    deaf(stage)
    stage.phone().hangs_up()
    assert look(stage, talker.call) == "ringing -> busy"
    assert look(stage, talker.call) == "still busy"
    last = talker.rows("events_of_call", after=0)[-1]
    assert (last["name"], last["source"], last["role"]) == ("leg-busy", "rest", "customer")


def test_a_callback_after_the_truth_was_asked_for_changes_nothing(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    stage.world.network.faults = Faults(webhook_late=1.0)
    stage.phone().hangs_up()
    look(stage, talker.call)
    before = talker.call
    stage.world.network.faults = Faults()
    stage.ends()
    assert (talker.call.status, talker.call.legs[-1]) == (before.status, before.legs[-1])


def test_work_that_is_owed_and_was_lost_is_queued_again(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    database = stage.world.dialer.store.database()
    stage.world.network.hang_up(talker.leg.sid)
    stage.world.network.advance(stage.world.network.now + 0.3)
    for request in stage.world.network.take_requests():
        stage.world.network.answer(request.id, stage.world._perform(request))
    database.execute("DELETE FROM jobs")
    assert look(stage, talker.call) == "still ringing"
    stage.lasts(1)
    assert stage.dialled()[0].status == "canceled"


def test_a_leg_that_twilio_has_lost_is_over_only_when_it_is_old(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    call, sid = talker.call, talker.call.leg("customer").call_sid
    del stage.world.network.calls[sid]
    assert module.leg_truth(stage.world.dialer, carrier(stage.world), call, sid) is None
    stage.world.network.now = call.requested_at + TOO_NEW + call.ring_seconds + 1
    truth = module.leg_truth(stage.world.dialer, carrier(stage.world), call, sid)
    assert truth
    assert (truth.call_sid, truth.status) == (sid, "failed")


def test_a_twilio_that_does_not_answer_leaves_the_call_as_it_is(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    stage.world.network.faults = Faults(webhook_lost=1.0, rest_500_undone=1.0)
    stage.lasts(100)
    assert talker.call.status == "ringing"
    (row,) = [row for row in talker.rows("jobs_of_call") if row["kind"] == "reconcile" and row["status"] == "pending"]
    assert row["attempts"] > 3
    stage.world.network.faults = Faults()
    stage.world.settle()
    assert (talker.call.status, talker.call.settled) == ("no-answer", True)


def test_one_leg_that_cannot_be_fetched_does_not_hide_the_others_news(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    deaf(stage)
    stage.phone().hangs_up()
    del stage.world.network.calls[talker.leg.sid]
    assert look(stage, talker.call) == "ringing -> busy"


def test_a_customer_who_answers_and_never_gets_into_the_conference_is_missed_soon(stage: Any) -> None:
    """No answer to his join request ever comes, nor to the fallback's, and of his end no callback tells."""
    talker = stage.agent_dials(NEVER)
    stage.world.network.faults = Faults(webhook_answer_lost=1.0)
    stage.phone().answers()
    stage.lasts(31)
    deaf(stage)
    stage.ends()
    assert (talker.call.status, talker.call.settled) == ("completed", True)


def test_a_look_does_not_wake_what_happened_meanwhile(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """A callback that comes in while Twilio is asked is not undone by the older answer."""
    talker = stage.agent_dials(NEVER)
    asked = module.leg_truth

    def slowly(*args: Any) -> Any:
        truth = asked(*args)
        if args[3] != talker.leg.sid:
            stage.phone().hangs_up()
        return truth

    monkeypatch.setattr(module, "leg_truth", slowly)
    look(stage, talker.call)
    assert talker.call.status == "busy"
    monkeypatch.undo()
    stage.ends()


def test_a_404_in_the_newer_form_of_errors_is_a_404(stage: Any) -> None:
    """Twilio has two forms of errors, and the SDK an exception for each."""
    call = stage.agent_dials(NEVER).call

    class Forgetful:
        def leg(self, call_sid: str) -> None:
            raise TwilioServiceException("about:blank", "not found", 404, 20404)

    look_at = (stage.world.dialer, Forgetful(), call, call.legs[0].call_sid)
    assert module.leg_truth(*look_at) is None  # type: ignore[arg-type]
    stage.world.network.now = call.requested_at + TOO_NEW + call.ring_seconds + 1
    truth = module.leg_truth(*look_at)  # type: ignore[arg-type]
    assert truth is not None
    assert truth.status == "failed"
