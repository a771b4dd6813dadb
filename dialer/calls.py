"""A call, the facts that change it, and what it then owes the world. Pure: no I/O, no clock.

`apply(call, event)` merges one fact into a call and says which effects have become due. It is total: every event, in
any order and any number of times, gives a valid call; a terminal status never changes and a status never goes back.
"""

from __future__ import annotations

from dataclasses import dataclass, field, replace

#: Statuses in the order a call can pass through them; the terminal ones share the last rank.
STATUSES = ("requested", "agent-joined", "dialing", "ringing", "in-progress")
TERMINAL = frozenset({"completed", "busy", "no-answer", "failed", "canceled", "rejected"})
UNANSWERED = frozenset({"busy", "no-answer", "failed", "canceled"})
STATUS_RANK = {status: rank for rank, status in enumerate(STATUSES)} | dict.fromkeys(TERMINAL, len(STATUSES))

#: Twilio's leg statuses by rank: only a higher rank is ever applied (a callback may come late or twice).
LEG_RANK = {"queued": 0, "initiated": 1, "ringing": 2, "in-progress": 3} | dict.fromkeys(
    ("completed", "busy", "no-answer", "failed", "canceled"), 4
)
LEG_FINAL = frozenset(status for status, rank in LEG_RANK.items() if rank == 4)

ROLES = frozenset({"agent", "customer", "stray"})

#: States of the dial intent: a leg may exist, or none ever will.
DIAL_OPEN = frozenset({"sending", "unknown", "accepted"})
DIAL_CLOSED = frozenset({"rejected", "absent", "canceled"})

#: How sure a piece of evidence is about who ended the call; the surest, then the earliest, counts.
EVIDENCE = {"leg": 1, "dial": 1, "leave": 2, "conference-end": 2, "hang-up": 3, "refused": 3}


@dataclass(frozen=True, slots=True)
class Leg:
    """One Twilio call of ours. `role`: agent, customer, or stray (one that nobody should have); `status`: its CallStatus."""

    call_sid: str
    role: str
    status: str = "queued"
    joined: bool = False
    left: bool = False

    @property
    def live(self) -> bool:
        return self.status not in LEG_FINAL


@dataclass(frozen=True, slots=True)
class Call:
    """One conversation: who, with whom, how far it got. Numbers are E.164, times are epoch seconds, lengths seconds.

    `dial` is the state of the dial intent (planned, sending, accepted, unknown, rejected, absent, canceled);
    `ended_by` is agent, customer, system or plugin:<name>; `reason` is a sentence for people, `rule` a word for machines.
    """

    id: str
    workspace: str
    agent: str
    to: str
    from_: str
    conference: str
    account_sid: str = ""
    direction: str = "outbound"
    status: str = "requested"
    dial: str = "planned"
    dial_when: str = "agent-joined"
    intent: str = ""
    legs: tuple[Leg, ...] = ()
    conference_sid: str = ""
    ended_by: str = ""
    ended_rank: int = 0
    ended_at: float | None = None
    end_requested_by: str = ""
    reason: str = ""
    rule: str = ""
    requested_at: float = 0.0
    answered_at: float | None = None
    duration: int | None = None
    deadline: float | None = None
    ring_seconds: int = 30
    time_limit: int = 7200
    options: dict[str, str] = field(default_factory=dict)
    plugins: str = ""

    def leg(self, role: str) -> Leg | None:
        """The last leg that took this role."""
        return next((leg for leg in reversed(self.legs) if leg.role == role), None)

    @property
    def over(self) -> bool:
        return self.status in TERMINAL

    @property
    def settled(self) -> bool:
        """Ended, and nothing of it is left at Twilio's: no live leg, no dial request without an outcome."""
        return self.over and self.dial not in ("sending", "unknown") and not any(leg.live for leg in self.legs)


@dataclass(frozen=True, slots=True)
class Event:
    """One fact. `at` is when it happened by Twilio's clock where it says so, else when we heard.

    Kinds: `leg` (status of one leg), `join`, `leave`, `conference-start`, `conference-end`, `dial` (status = new state of
    the intent), `hang-up` (somebody asked for the end), `refused` (before anything was dialled), `checked` (nothing new).
    """

    kind: str
    at: float
    role: str = ""
    call_sid: str = ""
    status: str = ""
    by: str = ""
    reason: str = ""
    rule: str = ""
    conference_sid: str = ""
    duration: int | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """Work owed to the outside. Kinds: dial, hang_up (a leg), announce (to the agent's leg), end_conference.

    `after` is how many seconds Twilio gets to do it by itself first.
    """

    kind: str
    call_sid: str = ""
    after: float = 0.0

    @property
    def key(self) -> str:
        return f"{self.kind}:{self.call_sid}"


@dataclass(frozen=True, slots=True)
class Change:
    """What one event did: the call as it is now and the effects that have become due through it."""

    call: Call
    effects: tuple[Effect, ...] = ()


#: Seconds that the customer's own exit gets to end the conference before we do it.
GRACE = 3.0


def apply(call: Call, event: Event) -> Change:
    """Merge one event into the call and list what it newly owes."""
    after = _settle(_merge(call, event))
    return Change(after, tuple(sorted(owed(after) - owed(call), key=lambda effect: effect.key)))


def owed(call: Call) -> frozenset[Effect]:
    """All that this state of the call owes the outside; a repeated look finds the same."""
    if dial_due(call):
        return frozenset({Effect("dial")})
    due = {Effect("hang_up", leg.call_sid) for leg in call.legs if leg.live and _must_end(call, leg)}
    agent = call.leg("agent")
    if agent and agent.live and call.over and not call.end_requested_by and call.status != "rejected":
        due.add(_part_with_agent(call, agent))
    return frozenset(due)


def dial_due(call: Call) -> bool:
    """Whether the customer should be dialled now: the agent is there, nobody left, nothing was sent."""
    if call.over or call.dial != "planned" or agent_gone(call) or call.end_requested_by:
        return False
    return agent_present(call) or (call.dial_when == "requested" and call.leg("agent") is not None)


def agent_present(call: Call) -> bool:
    agent = call.leg("agent")
    return bool(agent and not agent.left and agent.live and (agent.joined or agent.status == "in-progress"))


def agent_gone(call: Call) -> bool:
    agent = call.leg("agent")
    return bool(agent and (agent.left or not agent.live))


def role_of(call: Call, call_sid: str) -> str:
    return next((leg.role for leg in call.legs if leg.call_sid == call_sid), "")


def new_role(call: Call) -> str:
    """The role of a leg that a dial of ours made: the first is the customer's, a second one must be hung up."""
    return "customer" if call.leg("customer") is None else "stray"


def status_of(call: Call) -> str:
    """The status that the facts of a call add up to, never behind the one it has."""
    if call.over:
        return call.status
    found = _status_from_facts(call)
    return found if STATUS_RANK[found] > STATUS_RANK[call.status] else call.status


def wait_seconds(call: Call) -> float | None:
    """How long this state may last before Twilio is asked what is true; None when nothing is open."""
    if call.settled:
        return None
    if call.over:
        return 10.0
    if call.dial in ("sending", "unknown"):
        return 15.0 if call.dial == "sending" else 5.0
    return {"requested": 5.0, "agent-joined": 10.0, "in-progress": 60.0}.get(call.status, call.ring_seconds + 15.0)


def _merge(call: Call, event: Event) -> Call:
    if event.kind in ("leg", "join", "leave", "refused"):
        call = _merge_leg(call, event)
    if event.conference_sid and not call.conference_sid:
        call = replace(call, conference_sid=event.conference_sid)
    if event.kind == "dial":
        call = _merge_dial(call, event)
    if event.kind == "hang-up" and not call.over and not call.end_requested_by:
        call = replace(call, end_requested_by=event.by or "system")
    if event.kind == "refused" and not call.over:
        call = replace(call, status="rejected", dial="canceled", reason=event.reason, rule=event.rule)
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
    call = replace(call, legs=legs)
    return _merge_customer(call, event) if new.role == "customer" else call


def _merge_customer(call: Call, event: Event) -> Call:
    """A customer's leg is proof that the dial request was carried out, whatever the answer to it said."""
    if call.dial in ("planned", "sending", "unknown"):
        call = replace(call, dial="accepted")
    if event.status == "in-progress" and (call.answered_at is None or event.at < call.answered_at):
        call = replace(call, answered_at=event.at)
    if event.duration is not None and call.duration is None:
        call = replace(call, duration=event.duration)
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
    return replace(call, dial=event.status, reason=reason, rule=(event.rule or call.rule) if closed else call.rule)


def _merge_evidence(call: Call, event: Event) -> Call:
    """Keep the best evidence of who ended the call: the surest kind, then the earliest, then by name."""
    who = _ender(call, event)
    rank = EVIDENCE.get(event.kind, 0)
    if not who:
        return call
    best = (-call.ended_rank, call.ended_at if call.ended_at is not None else event.at, call.ended_by)
    if call.ended_by and best <= (-rank, event.at, who):
        return call
    return replace(call, ended_by=who, ended_rank=rank, ended_at=event.at)


def _ender(call: Call, event: Event) -> str:
    if event.kind == "leg" and event.status in LEG_FINAL:
        role = role_of(call, event.call_sid)
        return "system" if role == "customer" and event.status in ("no-answer", "failed", "canceled") else role
    if event.kind in ("leave", "conference-end", "hang-up", "refused"):
        return event.by
    return "system" if event.kind == "dial" and event.status in ("rejected", "absent") else ""


def _settle(call: Call) -> Call:
    """Derive what follows from the facts: an intent nobody waits for any more, and the status."""
    if call.dial == "planned" and not call.over and (agent_gone(call) or call.end_requested_by):
        call = replace(call, dial="canceled")
    return replace(call, status=status_of(call))


def _status_from_facts(call: Call) -> str:
    customer = call.leg("customer")
    if customer and not customer.live:
        return customer.status
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
    return leg.role == "customer" and (call.over or agent_gone(call))


def _part_with_agent(call: Call, agent: Leg) -> Effect:
    """The customer is gone: tell an agent who never got him, or see that the conference ends after a talk."""
    if call.status in UNANSWERED:
        return Effect("announce", agent.call_sid)
    return Effect("end_conference", after=GRACE)
