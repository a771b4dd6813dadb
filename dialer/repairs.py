"""Repairs: what Dialer found at Twilio's and had not been told, by kind, and each in a sentence for people."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from dialer.calls import Call, Event
from dialer.plugins import PluginSet
from dialer.records import REPAIR, Fact, record
from dialer.store import Tx

#: Where the reconciler's events come from; events of any other source are no repairs.
SOURCE = REPAIR

LEGS = {
    "agent": "the agent's leg",
    "customer": "the customer's leg",
    "tried": "the leg to an earlier number",
    "stray": "a leg that should not be",
}
_UNTOLD = "Dialer asked Twilio, which had not told it: "
#: Each kind of repair, as a person reads it in `dialer show`.
SENTENCES = {
    "leg-status": _UNTOLD + "{leg} was {status}",
    "lost-end": _UNTOLD + "{leg} had ended ({status})",
    "customer-alone": _UNTOLD + "{leg} had ended ({status}), and the customer was alone",
    "agent-alone": _UNTOLD + "{leg} had ended ({status}), and the agent was alone",
    "missed-join": _UNTOLD + "the {role} was in the conference",
    "missed-leave": _UNTOLD + "the {role} had left the conference",
    "leg-gone": "Dialer asked for {leg} in vain, for too long: it counts as ended",
    "dial-lost": "Dialer never learned what its dial request came to: it looks for the call at Twilio",
    "dial-found": "Dialer asked Twilio, and found the call that its dial request had made ({status})",
    "dial-absent": "Dialer asked Twilio again and again: its dial request had made no call",
}


def mend(tx: Tx, call: Call, kind: str, fact: Fact, before: str, *, now: float, plugins: PluginSet) -> Call:
    """Record what differed as a fact, with what was on record before, and count the repair."""
    payload = {**fact.payload, "repair": kind, "before": before}
    after = record(tx, call, Fact(fact.key, fact.name, SOURCE, fact.event, payload), now=now, plugins=plugins)
    if after is None:
        return call
    tx.run("count", name="repairs", label=kind)
    return after


def fact_of(event: Event, name: str, what: str) -> Fact:
    """A repair's fact; `what` tells it from others of the same call and leg."""
    return Fact(f"{SOURCE}:{event.call_sid}:{what}", name, SOURCE, event)


def repairs(events: Iterable[Mapping[str, Any]]) -> list[dict[str, str]]:
    """The repairs among a call's events (as the REST API gives them): when, which kind, in words."""
    return [
        {"at": event["receivedAt"], "kind": event["detail"]["repair"], "text": _sentence(event)}
        for event in events
        if event["source"] == SOURCE and event["detail"].get("repair") in SENTENCES
    ]


def _sentence(event: Mapping[str, Any]) -> str:
    role = event["role"]
    leg = LEGS.get(role, "a leg")
    return SENTENCES[event["detail"]["repair"]].format(leg=leg, role=role, status=event["status"])
