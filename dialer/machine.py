"""How facts change a call, and what it then owes the world. Pure: no I/O, no clock.

`apply(call, event)` merges one fact into a call and says which effects have become due through it. It is total: every
event, in any order and any number of times, gives a valid call; a terminal status never changes, and none goes back.
"""

from __future__ import annotations

from dataclasses import replace

from dialer.calls import (
    DIAL_CLOSED,
    DIAL_OPEN,
    LEG_FINAL,
    LEG_RANK,
    ROLES,
    STATUS_RANK,
    UNANSWERED,
    Call,
    Change,
    Effect,
    Event,
    Leg,
    agent_gone,
    agent_present,
    changed,
    dial_due,
    has_message,
    role_of,
    unanswered,
)

#: How sure a piece of evidence is about who ended the call; the surest, then the earliest, counts.
EVIDENCE = {"leg": 1, "dial": 1, "leave": 2, "conference-end": 2, "hang-up": 3, "message": 3, "refused": 3}


#: Seconds that the end of a conference gets to end a leg, and the customer's exit the conference, before we do it.
EXIT_GRACE = 1.0
GRACE = 3.0


def apply(call: Call, event: Event) -> Change:
    """Merge one event into the call and list what it newly owes."""
    after = _settle(_merge(call, event))
    return Change(after, tuple(sorted(owed(after) - owed(call), key=lambda effect: effect.key)))


def owed(call: Call) -> frozenset[Effect]:
    """All that this state of the call owes the outside; a repeated look finds the same."""
    if dial_due(call):
        return frozenset({Effect("dial")})
    due = {Effect("hang_up", leg.call_sid, _grace(call, leg)) for leg in call.legs if leg.live and _must_end(call, leg)}
    if unanswered(call):
        due.add(Effect("follow_up"))
    if has_message(call):
        due |= _speak_to_machine(call)
    agent = call.leg("agent")
    if agent and agent.live and call.over and not call.end_requested_by and call.status != "rejected":
        due.add(_part_with_agent(call, agent))
    return frozenset(due)


def status_of(call: Call) -> str:
    """The status that the facts of a call add up to, never behind the one it has."""
    if call.over:
        return call.status
    found = _status_from_facts(call)
    return found if STATUS_RANK[found] > STATUS_RANK[call.status] else call.status


#: Seconds in one status after which Twilio is asked. While a phone rings, a lost callback leaves the agent waiting.
WAITS = {"requested": 5.0, "agent-joined": 10.0, "dialing": 6.0, "ringing": 8.0, "in-progress": 60.0}


def wait_seconds(call: Call) -> float | None:
    """How long this state may last before Twilio is asked what is true; None when nothing is open."""
    if call.settled:
        return None
    if call.over:
        return 10.0
    if call.dial in ("sending", "unknown"):
        return 15.0 if call.dial == "sending" else 5.0
    customer = call.leg("customer")
    if has_message(call):
        return WAITS["agent-joined"]
    if call.status == "in-progress" and not agent_present(call):
        return 3.0  # he may be alone: nobody has seen the agent
    if call.status == "in-progress" and customer and not customer.joined:
        return WAITS["dialing"]  # he answered and was not seen in the conference: he may never get there
    return WAITS[call.status]


def _merge(call: Call, event: Event) -> Call:
    if event.kind in ("leg", "join", "leave", "refused"):
        call = _merge_leg(call, event)
    if event.conference_sid and not call.conference_sid:
        call = changed(call, conference_sid=event.conference_sid)
    if event.kind == "dial":
        call = _merge_dial(call, event)
    if event.kind == "hang-up" and not call.over and not call.end_requested_by:
        call = changed(call, end_requested_by=event.by or "system")
    if event.kind == "unanswered" and unanswered(call):
        call = _dial_next(call, event) if event.to else _give_up(call, event)
    if event.kind == "message" and not call.over and not call.message:
        call = changed(call, message=event.reason)
    if event.kind == "message-failed":
        call = changed(call, message="", ended_by="", ended_rank=0, ended_at=None)
    if event.kind == "refused" and not call.over:
        call = changed(call, status="rejected", dial="canceled", reason=event.reason, rule=event.rule)
    return _merge_evidence(call, event)


def _merge_leg(call: Call, event: Event) -> Call:
    known = next((leg for leg in call.legs if leg.call_sid == event.call_sid), None)
    if known is None and not (event.call_sid and event.role in ROLES):
        return call
    leg = known or Leg(event.call_sid, event.role)
    new = replace(
        leg,
        status=_higher(leg.status, event.status),
        joined=leg.joined or event.kind == "join",
        left=leg.left or event.kind == "leave",
    )
    legs = tuple(new if one is known else one for one in call.legs) if known else (*call.legs, new)
    call = changed(call, legs=legs)
    return _merge_customer(call, event) if new.role == "customer" else call


def _merge_customer(call: Call, event: Event) -> Call:
    """A customer's leg is proof that the dial request was carried out, whatever the answer to it said."""
    if call.dial in ("planned", "sending", "unknown"):
        call = changed(call, dial="accepted")
    if event.status == "in-progress" and (call.answered_at is None or event.at < call.answered_at):
        call = changed(call, answered_at=event.at)
    if event.duration is not None and call.duration is None:
        call = changed(call, duration=event.duration)
    return call


def _higher(old: str, new: str) -> str:
    return new if LEG_RANK.get(new, -1) > LEG_RANK[old] else old


#: Which state of the intent may follow which; all else is a late or repeated report and changes nothing.
DIAL_NEXT = {
    "planned": {"sending", "rejected", "canceled"},
    "sending": {"planned", "accepted", "unknown", "rejected"},
    "unknown": {"accepted", "absent"},
}


def _merge_dial(call: Call, event: Event) -> Call:
    if event.status not in DIAL_NEXT.get(call.dial, set()):
        return call
    closed = event.status in ("rejected", "absent")
    reason = (event.reason or call.reason) if closed else call.reason
    return changed(call, dial=event.status, reason=reason, rule=(event.rule or call.rule) if closed else call.rule)


def _dial_next(call: Call, event: Event) -> Call:
    """Another number under an intent of its own; what is known of the last try is of no weight any more."""
    legs = tuple(replace(leg, role="tried") if leg.role == "customer" else leg for leg in call.legs)
    ring = event.seconds or call.ring_seconds
    options = call.options if event.options is None else dict(event.options)
    fresh = {"dial": "planned", "ended_by": "", "ended_rank": 0, "ended_at": None, "duration": None}
    return changed(
        call,
        legs=legs,
        to=event.to,
        intent=event.intent,
        ring_seconds=ring,
        tries=call.tries + 1,
        options=options,
        **fresh,
    )


def _give_up(call: Call, event: Event) -> Call:
    return changed(call, asks=False, reason=event.reason or call.reason, stay_seconds=event.seconds)


def _merge_evidence(call: Call, event: Event) -> Call:
    """Keep the best evidence of who ended the call: the surest kind, then the earliest, then by name."""
    who = _ender(call, event)
    rank = EVIDENCE.get(event.kind, 0)
    if not who:
        return call
    best = (-call.ended_rank, call.ended_at if call.ended_at is not None else event.at, call.ended_by)
    if call.ended_by and best <= (-rank, event.at, who):
        return call
    return changed(call, ended_by=who, ended_rank=rank, ended_at=event.at)


def _ender(call: Call, event: Event) -> str:
    if event.kind == "leg" and event.status in LEG_FINAL:
        role = role_of(call, event.call_sid)
        if role == "customer" and event.status in ("no-answer", "failed", "canceled"):
            return "system"
        return role if role in ("agent", "customer") else ""
    if event.kind in ("leave", "conference-end", "hang-up", "message", "refused"):
        return event.by
    return "system" if event.kind == "dial" and event.status in ("rejected", "absent") else ""


def _settle(call: Call) -> Call:
    """Derive what follows from the facts: an intent nobody waits for any more, and the status."""
    if call.dial == "planned" and not call.over and (agent_gone(call) or call.end_requested_by):
        call = changed(call, dial="canceled")
    return changed(call, status=status_of(call))


def _status_from_facts(call: Call) -> str:
    customer = call.leg("customer")
    if customer and not customer.live:
        return call.status if unanswered(call) else customer.status
    if call.dial in DIAL_CLOSED:
        return "canceled" if call.dial == "canceled" else "failed"
    if customer and customer.status in ("ringing", "in-progress"):
        return customer.status
    if call.dial in DIAL_OPEN:
        return "dialing"
    return "agent-joined" if agent_present(call) else "requested"


def _must_end(call: Call, leg: Leg) -> bool:
    if call.end_requested_by or leg.role == "stray":
        return True
    return leg.role == "customer" and (call.over or agent_gone(call)) and not has_message(call)


def _grace(call: Call, leg: Leg) -> float:
    """A leg in the conference mostly ends with it, by itself; one that still rings would ring on."""
    return EXIT_GRACE if leg.joined and not call.end_requested_by else 0.0


def _part_with_agent(call: Call, agent: Leg) -> Effect:
    """The customer is gone: tell an agent who never got him, or see that the conference ends after a talk."""
    if call.status in UNANSWERED:
        return Effect("announce", agent.call_sid, after=float(call.stay_seconds))
    return Effect("end_conference", after=GRACE)


def _speak_to_machine(call: Call) -> set[Effect]:
    """Take the machine's leg out of the conference to hear the message; its exit ends that, and frees the agent."""
    customer, agent = call.leg("customer"), call.leg("agent")
    if customer and not customer.left:
        return {Effect("leave_message", customer.call_sid)}
    return {Effect("end_conference", after=GRACE)} if agent and agent.live else set()
