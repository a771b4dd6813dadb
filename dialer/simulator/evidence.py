"""What a network in this process knows of a run, in the form in which it is judged."""

from __future__ import annotations

import re
from collections.abc import Iterator, Mapping

from dialer.simulator.model import Call
from dialer.simulator.network import Network
from dialer.simulator.record import NetworkLeg, Trouble

#: Seconds from its request within which Twilio makes a call, or does not make it at all (twilio-ruby #519).
LATEST = 26.0
_INTENT = re.compile(r"[?&]intent=(di_[0-9a-f]+)")


def network_leg(call: Call) -> NetworkLeg:
    """A leg as the invariants look at it."""
    caller, intent = call.caller or call.from_, _INTENT.search(call.urls.voice_url)
    identity = caller.removeprefix("client:") if caller.startswith("client:") else ""
    return NetworkLeg(call.sid, call.status, identity, intent[1] if intent else "", call.date_created, call.end_time)


def injected(network: Network, legs: Mapping[str, NetworkLeg]) -> Iterator[Trouble]:
    """What the network did to webhooks and requests, each with the call that it struck."""
    made = {leg.intent: leg.created_at for leg in legs.values()}
    for entry in network.log:
        if entry.kind == "fault":
            intent = _INTENT.search(entry.detail.get("url", ""))
            of = intent[1] if intent else entry.call_sid or entry.conference_sid or "a list"
            yield Trouble("lost", entry.at, entry.at, of)
            if entry.detail["fault"] == "rest_late" and made.get(of, 0.0) - entry.at > LATEST:
                yield Trouble("late", entry.at, made[of], of)
