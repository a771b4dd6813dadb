"""Draw docs/states.md from the code: play every kind of news into every status and write down what happens.

    python docs/draw_states.py > docs/states.md
"""

from __future__ import annotations

from dialer.calls import STATUSES, TERMINAL, Call, Event
from dialer.machine import WAITS, apply

AGENT, CUSTOMER = "CA" + "a" * 32, "CA" + "c" * 32


def leg(role: str, status: str) -> Event:
    return Event("leg", 1.0, role, AGENT if role == "agent" else CUSTOMER, status=status)


STARTED = leg("agent", "ringing")
AGENT_JOINS = Event("join", 1.0, "agent", AGENT, status="in-progress")
SENDING = Event("dial", 1.0, status="sending")

#: How a call gets into each status that is not terminal.
PATHS: dict[str, list[Event]] = {
    "requested": [STARTED],
    "agent-joined": [STARTED, AGENT_JOINS],
    "dialing": [STARTED, AGENT_JOINS, SENDING],
    "ringing": [STARTED, AGENT_JOINS, SENDING, leg("customer", "ringing")],
    "in-progress": [STARTED, AGENT_JOINS, SENDING, Event("join", 1.0, "customer", CUSTOMER, status="in-progress")],
}

NEWS: dict[str, Event] = {
    "agent joins the conference": AGENT_JOINS,
    "agent leaves or hangs up": leg("agent", "completed"),
    "dial request sent": SENDING,
    "dial refused by Twilio": Event("dial", 1.0, status="rejected"),
    "customer's phone rings": leg("customer", "ringing"),
    "customer answers": leg("customer", "in-progress"),
    "customer busy": leg("customer", "busy"),
    "customer does not answer": leg("customer", "no-answer"),
    "customer's leg ends": leg("customer", "completed"),
    "hang-up asked for": Event("hang-up", 1.0, by="agent"),
}


def call_in(status: str) -> Call:
    call = Call("call", "ws", "agent", "+14155550101", "+14155550199", "conference", intent="di")
    for event in PATHS[status]:
        call = apply(call, event).call
    assert call.status == status, (status, call.status)
    return call


def cell(status: str, event: Event) -> str:
    change = apply(call_in(status), event)
    moved = f"**{change.call.status}**" if change.call.status != status else "·"
    owed = ", ".join(f"{effect.kind} {_whom(effect.call_sid)}".strip() for effect in change.effects)
    return f"{moved} → {owed}" if owed else moved


def _whom(call_sid: str) -> str:
    return {AGENT: "agent", CUSTOMER: "customer"}.get(call_sid, "")


def main() -> None:
    print("# The states of a call\n")
    print("Drawn from the code by `python docs/draw_states.py`; a test keeps it fresh. Each row is a piece of news,")
    print("each column the status in which it comes. **Bold** is the status that follows (· none), after the arrow")
    print("what the call then owes the outside. News may come late, twice or in any order: the status never goes back,")
    print(f"and the terminal ones ({', '.join(sorted(TERMINAL))}) never change.\n")
    print("| news | " + " | ".join(STATUSES) + " |")
    print("|---|" + "---|" * len(STATUSES))
    for news, event in NEWS.items():
        print(f"| {news} | " + " | ".join(cell(status, event) for status in STATUSES) + " |")
    print("\nA status that lasts longer than this without news has Twilio asked what is true (seconds):\n")
    print("| " + " | ".join(WAITS) + " |\n|" + "---|" * len(WAITS))
    print("| " + " | ".join(f"{seconds:.0f}" for seconds in WAITS.values()) + " |")


if __name__ == "__main__":
    main()
