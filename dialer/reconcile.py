"""What is true at Twilio of a call whose news stayed out: asked, written down as facts where it differs, acted upon."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field

from dialer.calls import LEG_FINAL, Call, Event, Leg
from dialer.dialling import ABSENT_AFTER, LOOKS, SENDING_LIMIT
from dialer.errors import DialerError
from dialer.machine import owed
from dialer.plugins import PluginSet
from dialer.records import add_jobs, find_call, leg_event
from dialer.repairs import fact_of, mend
from dialer.service import Service
from dialer.store import Row, Tx
from dialer.twilio import Carrier, LegTruth

#: Seconds for which a leg that Twilio does not show may just be too new (its reads lag behind its writes).
TOO_NEW = 60.0

Carriers = Callable[[str], Carrier]


@dataclass(slots=True)
class Look:
    """What Twilio said of one call, and what it would not say.

    `unseen` are the legs that could not be asked about, with the seconds after which each has surely ended; `inside`
    who is in the conference, `found` the calls that the dial may have made (None: not asked); `error` why not all.
    """

    truths: dict[str, LegTruth] = field(default_factory=dict)
    unseen: dict[str, float] = field(default_factory=dict)
    inside: frozenset[str] = frozenset()
    found: list[LegTruth] | None = None
    error: Exception | None = None


def reconcile(dialer: Service, carriers: Carriers, call_id: str, workspace: str) -> str:
    """Ask Twilio about every open leg and every dial without an outcome, and bring the call up to date.

    Raises, once all that was learned is stored, what kept Twilio from saying the rest.
    """
    with dialer.store.read() as tx:
        call = find_call(tx, "call", call_id=call_id, workspace=workspace)
        intent = tx.one("intent", intent=call.intent, workspace=workspace) if call else None
    if call is None or call.settled:
        return "settled"
    look = look_at(carriers, call, intent)
    plugins = dialer.plugins.current()
    with dialer.store.write() as tx:
        current, now = find_call(tx, "call", call_id=call_id, workspace=workspace) or call, dialer.clock()
        before = current.status
        current = mend_legs(tx, current, look, now, plugins)
        if intent and current.intent == intent["id"]:
            current = settle_dial(tx, current, intent, look.found, now, plugins)
        add_jobs(tx, current, owed(current), now)
    if look.error:
        raise look.error
    return f"{before} -> {current.status}" if before != current.status else f"still {current.status}"


def look_at(carriers: Carriers, call: Call, intent: Row | None) -> Look:
    """All that Twilio says of a call now; an account that is no longer configured knows nothing of it."""
    try:
        carrier = carriers(call.account_sid)
    except DialerError:
        return Look(unseen=dict.fromkeys((leg.call_sid for leg in call.legs if leg.live), TOO_NEW), found=[])
    look = Look()
    try:
        for leg in call.legs:
            if leg.live:
                _ask_for(carrier, leg.call_sid, look)
        if call.status == "in-progress" and any(leg.live and not leg.joined for leg in call.legs):
            look.inside = carrier.participants(call.conference_sid, call.conference)
        if intent and call.dial == "unknown":
            look.found = look_for_dialled(carrier, call, intent, look)
    except Exception as error:  # of the network or of Twilio: what it did say counts
        look.error = error
        unasked = [leg.call_sid for leg in call.legs if leg.live and leg.call_sid not in look.truths | look.unseen]
        look.unseen |= dict.fromkeys(unasked, call.ring_seconds + call.time_limit + TOO_NEW)
    return look


def _ask_for(carrier: Carrier, call_sid: str, look: Look) -> None:
    """Twilio's word on one leg, or that it has none; raises whatever else it says."""
    from dialer.transport import TWILIO_ERRORS

    try:
        look.truths[call_sid] = carrier.leg(call_sid)
    except TWILIO_ERRORS as error:
        if error.status != 404:
            raise
        look.unseen[call_sid] = TOO_NEW


def look_for_dialled(carrier: Carrier, call: Call, intent: Row, look: Look) -> list[LegTruth]:
    """The calls at Twilio's that an unanswered dial request may have made: after the agent's, by Twilio's own clock."""
    agent = call.leg("agent")
    if agent and agent.call_sid not in look.truths | look.unseen:
        _ask_for(carrier, agent.call_sid, look)
    known = look.truths.get(agent.call_sid) if agent else None
    earliest = known.created_at - 1.0 if known else float(intent["sent_at"] or call.requested_at) - 2.0
    return [truth for truth in carrier.legs_to(call.to, call.from_) if truth.created_at >= earliest]


def mend_legs(tx: Tx, call: Call, look: Look, now: float, plugins: PluginSet) -> Call:
    """Write down what differs of the legs: their status, who came and left unseen, and which are no more."""
    since = {row["call_sid"]: row["missing_since"] for row in _missing(tx, call)}
    for leg in call.legs:
        if leg.call_sid in look.truths:
            if leg.call_sid in since:
                tx.run("note_missing", call_sid=leg.call_sid, workspace=call.workspace, since=None)
            call = _mend_leg(tx, call, leg, look, now, plugins)
        elif leg.live and leg.call_sid in look.unseen:
            call = _miss(tx, call, leg, look, since.get(leg.call_sid), now, plugins)
    return call


def _missing(tx: Tx, call: Call) -> list[Row]:
    return tx.all("missing_legs", call_id=call.id, workspace=call.workspace)


def _mend_leg(tx: Tx, call: Call, leg: Leg, look: Look, now: float, plugins: PluginSet) -> Call:
    truth = look.truths[leg.call_sid]
    over = truth.status in LEG_FINAL
    if over and leg.joined and not leg.left:
        fact = fact_of(Event("leave", now, leg.role, leg.call_sid), "participant-leave", "leave")
        call = mend(tx, call, "missed-leave", fact, leg.status, now=now, plugins=plugins)
    if leg.call_sid in look.inside and not (over or leg.joined or leg.left):
        fact = fact_of(Event("join", now, leg.role, leg.call_sid, status="in-progress"), "participant-join", "join")
        call = mend(tx, call, "missed-join", fact, leg.status, now=now, plugins=plugins)
    kind = _left_alone(call, leg, look) if over else "leg-status"
    return _mend_status(tx, call, truth, kind, leg.status, now, plugins)


def _mend_status(
    tx: Tx, call: Call, truth: LegTruth, kind: str, before: str, now: float, plugins: PluginSet
) -> Call:
    event = leg_event(call, truth, now)
    if event is None:
        return call
    return mend(tx, call, kind, fact_of(event, f"leg-{truth.status}", truth.status), before, now=now, plugins=plugins)


def _left_alone(call: Call, leg: Leg, look: Look) -> str:
    """The kind of an end that nobody told of: whom it left alone, if the other one is still there."""
    other = {"agent": "customer", "customer": "agent"}.get(leg.role, "")
    found = call.leg(other)
    truth = look.truths.get(found.call_sid) if found else None
    return f"{other}-alone" if truth and truth.status not in LEG_FINAL else "lost-end"


def _miss(
    tx: Tx, call: Call, leg: Leg, look: Look, since: float | None, now: float, plugins: PluginSet
) -> Call:
    """Note since when a leg cannot be asked about; after long enough it has ended, whatever became of it."""
    if since is None:
        tx.run("note_missing", call_sid=leg.call_sid, workspace=call.workspace, since=now)
        return call
    if now - since < look.unseen[leg.call_sid]:
        return call
    return _mend_status(tx, call, LegTruth(leg.call_sid, "failed", now), "leg-gone", leg.status, now, plugins)


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
        return _mend_status(tx, call, unclaimed[0], "dial-found", "unknown", now, plugins)
    tx.run("count_look", intent=call.intent, workspace=call.workspace)
    patience = ABSENT_AFTER if not unclaimed else 4 * ABSENT_AFTER
    if now - sent_at >= patience and intent["looks"] + 1 >= LOOKS:
        return _dial_fact(tx, call, intent, "absent", "The call was not placed. You may dial again.", now, plugins)
    return call


def abandon_dials(tx: Tx, now: float, plugins: PluginSet) -> None:
    """Look for what dial requests of an earlier process made: with it died whoever waited for their answers."""
    for intent in tx.all("sending_intents"):
        call = find_call(tx, "call", call_id=intent["call_id"], workspace=intent["workspace"])
        if call and call.intent == intent["id"] and call.dial == "sending":
            _dial_fact(tx, call, intent, "unknown", "", now, plugins)


def _dial_fact(tx: Tx, call: Call, intent: Row, state: str, reason: str, now: float, plugins: PluginSet) -> Call:
    event = Event("dial", now, status=state, reason=reason, rule="not-placed" if reason else "")
    fact = fact_of(event, f"dial-{state}", f"dial:{call.intent}:{state}:{intent['attempts']}")
    kind = "dial-absent" if state == "absent" else "dial-lost"
    return mend(tx, call, kind, fact, call.dial, now=now, plugins=plugins)
