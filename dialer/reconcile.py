"""What is true at Twilio of a call whose news stayed out: asked, written down as facts where it differs, acted upon."""

from __future__ import annotations

from dialer.calls import Call, Event
from dialer.dialling import ABSENT_AFTER, LOOKS, SENDING_LIMIT
from dialer.machine import owed
from dialer.plugins import PluginSet
from dialer.records import Fact, add_jobs, find_call, record, record_truth
from dialer.service import Service
from dialer.store import Row, Tx
from dialer.twilio import Carrier, LegTruth

#: Seconds for which a leg that Twilio does not show may just be too new (its reads lag behind its writes).
TOO_NEW = 60.0


def reconcile(dialer: Service, carrier: Carrier, call_id: str, workspace: str) -> str:
    """Ask Twilio about every open leg and every dial without an outcome, and bring the call up to date."""
    with dialer.store.read() as tx:
        call = find_call(tx, "call", call_id=call_id, workspace=workspace)
        intent = tx.one("intent", intent=call.intent, workspace=workspace) if call else None
    if call is None or call.settled:
        return "settled"
    truths = [leg_truth(dialer, carrier, call, leg.call_sid) for leg in call.legs if leg.live]
    found = look_for_dialled(carrier, call, intent) if intent and call.dial == "unknown" else None
    plugins = dialer.plugins.current()
    with dialer.store.write() as tx:
        current, now = find_call(tx, "call", call_id=call_id, workspace=workspace) or call, dialer.clock()
        before = current.status
        for truth in truths:
            if truth:
                current = record_truth(tx, current, truth, source="rest", now=now, plugins=plugins)
        if intent:
            current = settle_dial(tx, current, intent, found, now, plugins)
        add_jobs(tx, current, owed(current), now)
    return f"{before} -> {current.status}" if before != current.status else f"still {current.status}"


def leg_truth(dialer: Service, carrier: Carrier, call: Call, call_sid: str) -> LegTruth | None:
    """Twilio's word on one leg; a leg that it no longer has is over."""
    from dialer.transport import TWILIO_ERRORS

    try:
        return carrier.leg(call_sid)
    except TWILIO_ERRORS as error:
        if error.status != 404:
            raise
    old = dialer.clock() - call.requested_at > TOO_NEW + call.ring_seconds
    return LegTruth(call_sid, "failed", call.requested_at) if old else None


def look_for_dialled(carrier: Carrier, call: Call, intent: Row) -> list[LegTruth]:
    """The calls at Twilio's that an unanswered dial request may have made."""
    earliest = float(intent["sent_at"] or call.requested_at) - 2.0
    return [truth for truth in carrier.legs_to(call.to, call.from_) if truth.created_at >= earliest]


def settle_dial(tx: Tx, call: Call, intent: Row, found: list[LegTruth] | None, now: float, plugins: PluginSet) -> Call:
    """Move a dial without an outcome on: to unknown, to the one leg that must be it, or at last to absent."""
    sent_at = float(intent["sent_at"] or now)
    if call.dial == "sending" and now - sent_at >= SENDING_LIMIT:
        return _dial_fact(tx, call, intent, "unknown", "", now, plugins)
    if call.dial != "unknown" or found is None:
        return call
    unclaimed = [truth for truth in found if tx.one("leg_owner", call_sid=truth.call_sid) is None]
    rivals = tx.one(
        "same_number_intents",
        account_sid=call.account_sid,
        to_number=call.to,
        intent=call.intent,
        recent=sent_at - TOO_NEW,  # its call may have been made late, and be the one that is found
    )
    if len(unclaimed) == 1 and rivals and not rivals["others"]:
        return record_truth(tx, call, unclaimed[0], source="rest", now=now, plugins=plugins)
    tx.run("count_look", intent=call.intent, workspace=call.workspace)
    patience = ABSENT_AFTER if not unclaimed else 4 * ABSENT_AFTER
    if now - sent_at >= patience and intent["looks"] + 1 >= LOOKS:
        return _dial_fact(tx, call, intent, "absent", "The call was not placed. You may dial again.", now, plugins)
    return call


def _dial_fact(tx: Tx, call: Call, intent: Row, state: str, reason: str, now: float, plugins: PluginSet) -> Call:
    event = Event("dial", now, status=state, reason=reason, rule="not-placed" if reason else "")
    fact = Fact(f"dial:{call.intent}:{state}:{intent['attempts']}", f"dial-{state}", "rest", event)
    return record(tx, call, fact, now=now, plugins=plugins) or call
