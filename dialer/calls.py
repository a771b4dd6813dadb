"""A call as a value: its legs, the facts that change it, what it then owes. `machine.py` says how facts change it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

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

ROLES = frozenset({"agent", "customer", "tried", "stray"})

#: States of the dial intent: a leg may exist, or none ever will.
DIAL_OPEN = frozenset({"sending", "unknown", "accepted"})
DIAL_CLOSED = frozenset({"rejected", "absent", "canceled"})


@dataclass(frozen=True, slots=True)
class Leg:
    """One Twilio call of ours. `status`: its CallStatus; `left`: it is out of the conference, or will be in a moment.

    `role`: agent, customer, tried (a customer's that nobody answered, before the next number), or stray (nobody should
    have it).
    """

    call_sid: str
    role: str
    status: str = "queued"
    joined: bool = False
    left: bool = False

    @property
    def live(self) -> bool:
        return self.status not in LEG_FINAL


@dataclass(frozen=True)
class Call:
    """One conversation: who, with whom, how far it got. Numbers are E.164, times epoch seconds, lengths seconds.

    `dial` is the state of its intent (planned, sending, accepted, unknown, rejected, absent, canceled);
    `ended_by` is agent, customer, system or plugin:<name>; `reason` is a sentence for people, `rule` a machine's word.
    `asks`: plugins decide what follows an unanswered dial; `tries` counts the further numbers that were dialled so far;
    `stay_seconds`: how long the agent keeps his leg when nobody answered; `message`: TwiML for an answering machine.
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
    asks: bool = False
    tries: int = 0
    stay_seconds: int = 0
    message: str = ""

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


def changed(call: Call, **values: Any) -> Call:
    """The call with other values; what `dataclasses.replace` does, at a tenth of its cost, several times a webhook."""
    new = object.__new__(Call)
    new.__dict__.update(call.__dict__, **values)
    return new


@dataclass(frozen=True, slots=True)
class Event:
    """One fact. `at` is when it happened by Twilio's clock where it says so, else when we heard.

    Kinds: `leg` (status of one leg), `join`, `leave`, `conference-start`, `conference-end`, `dial` (status = the new
    state of the intent), `hang-up` (somebody asked for the end), `refused` (nothing was dialled), `unanswered` (what
    follows: another number `to` under a new `intent` with its own `options`, or the end after `seconds`), `message`
    (for an answering machine: `reason` is its TwiML), `message-failed`, `checked` (no news).
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
    to: str = ""
    intent: str = ""
    seconds: int = 0
    options: tuple[tuple[str, str], ...] | None = None


@dataclass(frozen=True, slots=True)
class Effect:
    """Work owed to the outside.

    Kinds: dial, follow_up (nobody answered: ask what follows), leave_message (to the customer's leg), hang_up (a leg),
    announce (to the agent's leg), end_conference.

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


def new_role(call: Call, intent: str = "") -> str:
    """The role of a leg that a dial of ours made: the first is the customer's, a second one must be hung up.

    So must one of an intent (where it is known) that has been given up for another number.
    """
    return "customer" if call.leg("customer") is None and intent in ("", call.intent) else "stray"


def unanswered(call: Call) -> bool:
    """Whether nobody answered, and it is still to be decided what follows: the agent waits, and plugins are asked."""
    customer = call.leg("customer")
    if call.over or not call.asks or customer is None or agent_gone(call) or call.end_requested_by:
        return False
    return customer.status in UNANSWERED and customer.status != "canceled"


def has_message(call: Call) -> bool:
    """Whether the customer's leg is an answering machine that a message is for, or is played to already."""
    customer = call.leg("customer")
    return bool(call.message and customer and customer.live and not call.end_requested_by)
