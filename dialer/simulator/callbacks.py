"""Subscriptions to events, as TwiML asks for them."""

from __future__ import annotations

from dialer.simulator.addresses import resolve
from dialer.simulator.documents import Verb
from dialer.simulator.running import Callback


def read_callback(verb: Verb, name: str, base_url: str | None, events: str = "") -> Callback | None:
    """The attributes `name`, nameMethod and nameEvent; `events` are meant when none are named."""
    written = verb.get(name).strip()
    url = resolve(base_url, written) if written else ""
    if not url:
        return None
    return Callback(url, verb.method(f"{name}Method"), frozenset(verb.get(f"{name}Event", events).split()))
