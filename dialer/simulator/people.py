"""The people at the other ends of legs: they answer, press keys, hear each other, hang up, fall silent."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dialer.simulator import progress
from dialer.simulator.model import Call

if TYPE_CHECKING:
    from dialer.simulator.network import Network


def pick_up(network: Network, call: Call) -> None:
    """The person answers the ringing phone."""
    if call.rings:
        progress.answer(network, call)


def decline(network: Network, call: Call) -> None:
    """The person refuses the ringing call."""
    if call.rings:
        progress.end(network, call, "busy", "party", 603)


def hang_up(network: Network, call: Call) -> None:
    """The other end of this leg hangs up."""
    if call.phase == "in-progress":
        progress.end(network, call, "completed", "party")
    elif call.direction == "inbound":
        is_browser = call.caller.startswith("client:")
        progress.end(network, call, network.knobs.early_agent_final if is_browser else "canceled", "party")
    else:
        decline(network, call)


def lose(network: Network, call: Call) -> None:
    """The other end falls silent; the leg ends when that is noticed."""
    if call.phase != "final" and "lost" not in call.timers:
        network.note("lost", call)
        call.timers["lost"] = network.later(network.knobs.lost_browser_seconds, hang_up, network, call)


def press(network: Network, call: Call, digits: str) -> None:
    """The other end presses keys; a listening verb takes them."""
    if call.phase != "in-progress":
        return
    network.note("digits", call, digits=digits)
    for digit in digits:
        if call.execution is not None and call.execution.keys is not None:
            call.execution.keys(digit)


def hear(network: Network, call: Call) -> None:
    """The other end can hear another party from now on, and hangs up when its script says."""
    network.note("bridged", call)
    party = call.party
    if party is not None and party.hang_up_after_bridged is not None and "hang-up" not in call.timers:
        call.timers["hang-up"] = network.later(party.hang_up_after_bridged, hang_up, network, call)
