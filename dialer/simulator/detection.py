"""Answering machine detection, waiting (sync) or beside the call (async)."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dialer.simulator import webhooks
from dialer.simulator.model import Call

if TYPE_CHECKING:
    from dialer.simulator.network import Network

HUMAN_SECONDS = 2.0
MACHINE_SECONDS = 3.5


def begin(network: Network, call: Call) -> float:
    """Start listening; the answer is how long the call's program has to wait for the result."""
    if call.amd is None or call.send_digits:
        return 0.0
    result, seconds = verdict(call)
    seconds = network.spread(seconds)
    if seconds > call.amd.timeout:
        result, seconds = "unknown", call.amd.timeout
    call.timers["detection"] = network.later(seconds, detected, network, call, result, seconds)
    return 0.0 if call.amd.asynchronous else seconds


def verdict(call: Call) -> tuple[str, float]:
    """What will be heard at the other end, and after how long."""
    assert call.amd is not None and call.party is not None
    machine = call.party.machine
    if machine is None:
        return "human", HUMAN_SECONDS
    if call.amd.mode == "DetectMessageEnd":
        return "machine_end_beep", machine.greeting
    return "machine_start", min(MACHINE_SECONDS, machine.greeting)


def detected(network: Network, call: Call, result: str, seconds: float) -> None:
    """The result is known."""
    assert call.amd is not None
    call.answered_by = result
    network.note("amd", call, answered_by=result)
    callback = call.amd.callback
    if callback is not None and call.amd.asynchronous:
        fields = [
            ("AccountSid", call.account_sid),
            ("CallSid", call.sid),
            ("AnsweredBy", result),
            ("MachineDetectionDuration", str(int(seconds * 1000))),
        ]
        webhooks.notify(network, "amd", callback, call.account_sid, fields, call)
