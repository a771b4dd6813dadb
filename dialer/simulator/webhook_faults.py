"""What the injected faults do to a webhook: later, in another order, together with another one."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dialer.simulator.network import Network
    from dialer.simulator.webhooks import Exchange

TOGETHER_SECONDS = 3.0
"""How long an event waits at most for another one to go out with."""


def strikes(network: Network, fault: str, exchange: Exchange) -> bool:
    """Whether a fault happens to this webhook; the log says so."""
    happens = network.draw(fault)
    if happens:
        network.note("fault", exchange.call, exchange.conference, fault=fault, purpose=exchange.purpose)
    return happens


def event_delay(network: Network, exchange: Exchange) -> float:
    """How much later than usual the faults make an event."""
    late = network.uniform(1.0, 15.0) if strikes(network, "webhook_late", exchange) else 0.0
    return late + (network.uniform(0.2, 2.0) if strikes(network, "webhook_reordered", exchange) else 0.0)


def schedule_event(
    network: Network, exchange: Exchange, delay: float, attempt: Callable[[Network, Exchange], None]
) -> None:
    """Send an event after that delay, together with the one of its conference or call that waits for company."""
    group = group_of(exchange)
    held = network.held.pop(group, None)
    together = [exchange]
    if held is not None and held.timer is not None and held.timer.action is not None:
        network.cancel(held.timer)
        together = [held, exchange] if network.chance(0.5) else [exchange, held]
    elif strikes(network, "webhook_together", exchange):
        network.held[group], delay = exchange, delay + TOGETHER_SECONDS
    for each in together:
        each.timer = network.later(delay, attempt, network, each)


def group_of(exchange: Exchange) -> str:
    """What an event is about: a conference, or a call that is in none."""
    call, conference = exchange.call, exchange.conference
    if conference is not None:
        return conference.sid
    if call is None:
        return ""
    return call.participant.conference_sid if call.participant is not None else call.sid
