"""What Twilio is asked when its callbacks stay out, and what is believed of the answer."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from typing import Any

import pytest
from twilio.base.exceptions import TwilioServiceException

from dialer.calls import Call, Event, Leg
from dialer.cli_calls import print_record, read_record
from dialer.dialling import Outcome
from dialer.errors import DialerError
from dialer.machine import apply, wait_seconds
from dialer.reconcile import TOO_NEW, look_at, reconcile
from dialer.repairs import SENTENCES, SOURCE, repairs
from dialer.simulator import Faults
from dialer.simulator.phones import PHONES
from dialer.twilio import Carrier

NEVER = "+14155550103"


def look(stage: Any, call: Call) -> str:
    return reconcile(stage.world.worker.dialer, stage.world.worker.carriers, call.id, call.workspace)


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
    assert (last["name"], last["source"], last["role"]) == ("leg-busy", "reconcile", "customer")


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


def repairs_of(talker: Any) -> list[tuple[str, str]]:
    """Kind and the state before, of each repair of a call."""
    found = [json.loads(row["payload"]) for row in talker.rows("events_of_call", after=0) if row["source"] == SOURCE]
    return [(payload["repair"], payload["before"]) for payload in found]


def forget(stage: Any, call_sid: str) -> None:
    """Twilio knows this leg no more, and sends nothing of it."""
    deaf(stage)
    del stage.world.network.calls[call_sid]


def test_a_leg_that_twilio_has_lost_is_over_only_when_it_was_missing_for_a_while(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    forget(stage, talker.call.leg("customer").call_sid)
    assert look(stage, talker.call) == "still ringing"
    stage.world.network.now += TOO_NEW - 1
    assert look(stage, talker.call) == "still ringing"
    stage.world.network.now += 1
    assert look(stage, talker.call) == "ringing -> failed"
    assert repairs_of(talker) == [("leg-gone", "ringing")]


def test_a_leg_that_shows_again_was_not_missing(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    legs, sid = stage.world.network.calls, talker.call.leg("customer").call_sid
    kept = legs.pop(sid)
    look(stage, talker.call)
    legs[sid] = kept
    stage.world.network.now += TOO_NEW
    look(stage, talker.call)
    del legs[sid]
    assert look(stage, talker.call) == "still ringing"


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
    asked = Carrier.leg

    def slowly(carrier: Carrier, call_sid: str) -> Any:
        truth = asked(carrier, call_sid)
        if call_sid != talker.leg.sid:
            stage.phone().hangs_up()
        return truth

    monkeypatch.setattr(Carrier, "leg", slowly)
    look(stage, talker.call)
    assert talker.call.status == "busy"
    monkeypatch.undo()
    stage.ends()


class Refusing:
    """A Twilio that answers every question about a leg with this error."""

    def __init__(self, http_status: int) -> None:
        self.error = TwilioServiceException("about:blank", "no", http_status, 20000 + http_status)

    def __call__(self, account_sid: str) -> Refusing:
        return self

    def leg(self, call_sid: str) -> None:
        raise self.error


def test_a_404_in_the_newer_form_of_errors_is_a_404(stage: Any) -> None:
    """Twilio has two forms of errors, and the SDK an exception for each."""
    call = stage.agent_dials(NEVER).call
    assert set(look_at(Refusing(404), call, None).unseen.values()) == {TOO_NEW}  # type: ignore[arg-type]


def test_a_twilio_that_refuses_for_good_keeps_a_call_no_longer_than_it_can_last(stage: Any) -> None:
    """Such as an account that was closed: past its time limit no leg can be left, so that the call ends somehow."""
    talker = stage.agent_dials(NEVER)
    deaf(stage)
    call, dialer = talker.call, stage.world.worker.dialer
    limit = call.ring_seconds + call.time_limit + TOO_NEW
    for seconds, status in ((0.0, "ringing"), (limit - 1, "ringing"), (1, "failed")):
        stage.world.network.now += seconds
        with pytest.raises(TwilioServiceException):
            reconcile(dialer, Refusing(403), call.id, call.workspace)  # type: ignore[arg-type]
        assert talker.call.status == status
    assert talker.call.settled


def test_a_call_of_an_account_that_is_no_longer_configured_ends(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    deaf(stage)

    def gone(account_sid: str) -> Any:
        raise DialerError(f"account {account_sid} is no longer configured")

    stage.world.worker.carriers = gone
    stage.lasts(TOO_NEW + 90)
    assert (talker.call.status, talker.call.settled) == ("failed", True)
    assert repairs_of(talker) == [("leg-gone", "in-progress"), ("leg-gone", "ringing")]
    assert {row["status"] for row in talker.rows("jobs_of_call")} == {"done"}


def test_a_dial_without_an_outcome_ends_too_when_its_account_is_gone(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("dialer.dialling.send", lambda *_: Outcome("unknown", rule="no-answer"))
    talker = stage.agent_dials(NEVER)
    deaf(stage)

    def gone(account_sid: str) -> Any:
        raise DialerError(f"account {account_sid} is no longer configured")

    assert talker.call.dial == "unknown"
    stage.world.worker.carriers = gone
    stage.lasts(TOO_NEW + 90)
    assert (talker.call.dial, talker.call.settled) == ("absent", True)


def test_the_calls_of_a_workspace_that_is_revoked_go_on_to_their_end(stage: Any) -> None:
    talker = stage.agent_dials("+14155550101")
    stage.lasts(5)
    with stage.world.dialer.store.write() as tx:
        tx.run("disable_workspace", workspace=talker.call.workspace, now=stage.world.network.now)
    deaf(stage)
    stage.phone().hangs_up()
    stage.world.settle()
    assert (talker.call.status, talker.call.settled) == ("completed", True)


def test_twilio_down_for_ten_minutes_only_delays_the_end(stage: Any) -> None:
    talker = stage.agent_dials("+14155550101")
    stage.lasts(5)
    stage.world.network.faults = Faults(webhook_lost=1.0, rest_500_undone=1.0)
    stage.phone().hangs_up()
    stage.lasts(600)
    assert talker.call.status == "in-progress"
    stage.world.network.faults = Faults(webhook_lost=1.0)
    stage.lasts(45)
    assert (talker.call.status, talker.call.settled) == ("completed", True)


def test_each_repair_says_what_was_on_record_before_and_is_counted(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    deaf(stage)
    stage.phone().answers()
    look(stage, talker.call)
    look(stage, talker.call)
    assert repairs_of(talker) == [("missed-join", "in-progress")]
    talker.hangs_up()
    look(stage, talker.call)
    assert repairs_of(talker)[1:] == [("missed-leave", "in-progress"), ("customer-alone", "in-progress")]
    assert counted(stage) == {"missed-join": 1, "missed-leave": 1, "customer-alone": 1}


def test_an_agent_whose_arrival_nobody_told_of_is_a_repair_and_dials(make_stage: Any) -> None:
    stage = make_stage(faults={"webhook_lost": 1.0})
    talker = stage.agent_dials(NEVER)
    stage.lasts(6)
    assert repairs_of(talker) == [("leg-status", "ringing")]
    assert len(stage.dialled()) == 1


def counted(stage: Any) -> dict[str, int]:
    with stage.world.dialer.store.read() as tx:
        return {row["label"]: row["count"] for row in tx.all("counts") if row["name"] == "repairs"}


@pytest.mark.parametrize(("leaver", "kind"), [("agent", "customer-alone"), ("customer", "agent-alone")])
def test_who_was_left_alone_is_said(stage: Any, leaver: str, kind: str) -> None:
    talker = stage.agent_dials(NEVER)
    deaf(stage)
    (talker if leaver == "agent" else stage.phone()).hangs_up()
    look(stage, talker.call)
    assert [found for found, _ in repairs_of(talker)][-1] == kind
    assert counted(stage)[kind] == 1


def test_a_customer_whose_join_was_not_reported_is_not_looked_for_all_the_time(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    deaf(stage)
    stage.phone().answers()
    stage.lasts(30)
    looks = [row for row in talker.rows("jobs_of_call") if row["kind"] == "reconcile"]
    stage.lasts(40)
    assert talker.call.leg("customer").joined
    assert len([row for row in talker.rows("jobs_of_call") if row["kind"] == "reconcile"]) <= len(looks) + 1


def test_every_kind_of_repair_reads_as_a_sentence() -> None:
    events = [
        {"receivedAt": "2026-01-01T12:03:04.000Z", "role": "customer", "status": "busy", "source": SOURCE,
         "detail": {"repair": kind}}
        for kind in SENTENCES
    ]  # fmt: skip
    told = {found["kind"]: found["text"] for found in repairs(events)}
    assert told["lost-end"] == "Dialer asked Twilio, which had not told it: the customer's leg had ended (busy)"
    assert all("{" not in text for text in told.values())
    assert list(told) == list(SENTENCES)
    assert repairs([{**events[0], "source": "webhook"}, {**events[0], "detail": {"repair": "x"}}]) == []


A, C, SECOND, STRAY = "CAa", "CAc", "CAd", "CAs"


def leg(role: str, call_sid: str, *statuses: str) -> list[Event]:
    return [Event("leg", 0.0, role, call_sid, status=status) for status in statuses]


def moves(*which: tuple[str, str, str]) -> list[Event]:
    return [Event(kind, 0.0, role, sid, status="in-progress" if kind == "join" else "") for kind, role, sid in which]


AGENT = leg("agent", A, "ringing", "in-progress", "completed")
CUSTOMER = leg("customer", C, "ringing", "in-progress", "completed", "busy")
# "accepted" is left out: it is only ever stored together with the leg, which says the same.
DIAL = [Event("dial", 0.0, status=state) for state in ("planned", "sending", "unknown", "rejected", "absent")]
HANG_UP = [Event("hang-up", 0.0, by="agent")]
FACTS = {
    "talk": [
        *AGENT, *CUSTOMER, *DIAL, *HANG_UP,
        *moves(("join", "agent", A), ("join", "customer", C), ("leave", "agent", A), ("leave", "customer", C)),
    ],
    "stray": [*AGENT, *CUSTOMER, *DIAL, *leg("stray", STRAY, "queued", "completed")],
    "next number": [
        *AGENT[1:], *leg("customer", C, "in-progress", "busy"), *leg("customer", SECOND, "busy"), *DIAL[1:3], *HANG_UP,
        Event("unanswered", 0.0, to="+14155550102", intent="di_2"), Event("unanswered", 0.0, seconds=20),
    ],
    "message": [
        *AGENT, *CUSTOMER, *DIAL, *HANG_UP, Event("message", 0.0, reason="<Response/>"),
        *moves(("join", "customer", C), ("leave", "customer", C)),
    ],
}  # fmt: skip


def essence(call: Call) -> tuple[object, ...]:
    """What decides what a call owes and how long it may stay so; not who ended it, when, and in which words."""
    return (call.status, call.dial, call.legs, call.end_requested_by, call.asks, call.message, call.stay_seconds)


def reachable(start: Call, facts: list[Event]) -> list[Call]:
    """Every state that any facts in any order lead to, told apart by what decides."""
    seen, todo = {essence(start): start}, [start]
    while todo:
        call = todo.pop()
        for fact in facts:
            after = apply(call, fact).call
            if essence(after) not in seen:
                seen[essence(after)] = after
                todo.append(after)
    return list(seen.values())


@pytest.mark.parametrize("facts", FACTS)
def test_every_state_has_a_deadline_or_is_settled_and_asking_settles_it(
    facts: str, record_property: Callable[[str, object], None]
) -> None:
    """Whatever happened to a call: while anything of it is open, it is asked about within a minute; and once Twilio's
    word on its legs and its dial is that there is nothing, it is settled."""
    start = Call("call_1", "ws", "ann", "+14155550101", "+14155550199", "conf", intent="di_1", legs=(Leg(A, "agent"),))
    found = reachable(replace(start, asks=facts == "next number"), FACTS[facts])
    assert [call for call in found if (wait_seconds(call) is None) != call.settled] == []
    assert [call for call in found if not call.settled and not 0 < (wait_seconds(call) or 0) <= 60] == []
    assert [call for call in found if not asked_until_nothing_is_left(call).settled] == []
    record_property("figure", f"states of a call ({facts}): {len(found):,} reachable, 0 without a deadline or an end")


def asked_until_nothing_is_left(call: Call) -> Call:
    for one in call.legs:
        if one.live:
            call = apply(call, Event("leg", 0.0, one.role, one.call_sid, status="failed")).call
    for state in ("unknown", "absent"):
        call = apply(call, Event("dial", 0.0, status=state)).call
    return call


def test_dialer_show_tells_each_repair_in_a_sentence(stage: Any, capsys: pytest.CaptureFixture[str]) -> None:
    talker = stage.agent_dials(NEVER)
    deaf(stage)
    stage.phone().hangs_up()
    look(stage, talker.call)
    record = read_record(stage.world.dialer.store, talker.call.id)
    ((at, text),) = [(repair["at"], repair["text"]) for repair in record["repairs"]]
    assert text == (
        "Dialer asked Twilio, which had not told it: the customer's leg had ended (busy), and the agent was alone"
    )
    print_record(record)
    assert f"\nwhat Dialer learned by asking\n{at[11:19]} {text}\n" in capsys.readouterr().out


def test_dialer_show_of_a_call_without_repairs_says_nothing(stage: Any, capsys: pytest.CaptureFixture[str]) -> None:
    print_record(read_record(stage.world.dialer.store, stage.agent_dials(NEVER).call.id))
    assert "\nwhat Dialer learned by asking\nnothing\n" in capsys.readouterr().out
