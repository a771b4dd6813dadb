"""Gather and Record: the verbs that listen."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dialer.simulator import callbacks, execution, recordings, verbs
from dialer.simulator.documents import Verb
from dialer.simulator.model import Call, Recording
from dialer.simulator.running import Execution, RecordingOrder

if TYPE_CHECKING:
    from dialer.simulator.network import Network

SPEECH_SECONDS = 3.0
"""How long the person at the other end talks into a Record."""


def gather(network: Network, call: Call, program: Execution, verb: Verb) -> None:
    """Gather: keys are collected during and after the prompt."""
    for prompt in verb.children:
        if prompt.name == "Say":
            network.note("said", call, text=prompt.text.strip())
    digits: list[str] = []
    program.keys = partial(key_gathered, network, call, program, verb, digits)
    prompt_seconds = sum(verbs.media_seconds(p) for p in verb.children if p.name in ("Say", "Play", "Pause"))
    listen(network, call, program, verb, digits, prompt_seconds + gather_timeout(verb))


def gather_timeout(verb: Verb) -> float:
    return float(verb.number("timeout", 5))


def listen(
    network: Network, call: Call, program: Execution, verb: Verb, digits: list[str], seconds: float
) -> None:
    """Wait that long for the next key."""
    network.cancel(program.timer)
    program.timer = None
    if seconds != float("inf"):
        program.timer = network.later(seconds, gathered, network, call, program, verb, digits, "")


def key_gathered(
    network: Network, call: Call, program: Execution, verb: Verb, digits: list[str], key: str
) -> None:
    """A key was pressed: it finishes the input, or counts."""
    if key == verb.get("finishOnKey", "#"):
        gathered(network, call, program, verb, digits, key)
        return
    digits.append(key)
    if len(digits) == verb.number("numDigits", 0):
        gathered(network, call, program, verb, digits, "")
    else:
        listen(network, call, program, verb, digits, gather_timeout(verb))


def gathered(
    network: Network, call: Call, program: Execution, verb: Verb, digits: list[str], finished_on: str
) -> None:
    """The input is over; without any, the next verb follows."""
    execution.release(network, program)
    if not digits and not verb.flag("actionOnEmptyResult"):
        execution.proceed(network, call, program)
        return
    fields = [("Digits", "".join(digits)), ("FinishedOnKey", finished_on)]
    execution.follow(network, call, program, verb, "gather", fields, program.base_url or "")


def record(network: Network, call: Call, program: Execution, verb: Verb) -> None:
    """Record: the person talks until a key, silence, the longest time, or the end of the call."""
    order = RecordingOrder("RecordVerb", trim=verb.choice("trim", ("trim-silence", "do-not-trim")))
    order.callback = callbacks.read_callback(verb, "recordingStatusCallback", program.base_url, "completed")
    recording = recordings.begin(network, order, call=call)
    seconds = min(float(verb.number("maxLength", 3600)), SPEECH_SECONDS + verb.number("timeout", 5))
    program.timer = network.later(seconds, recorded, network, call, program, verb, recording, "")
    program.keys = partial(key_recorded, network, call, program, verb, recording)


def key_recorded(
    network: Network, call: Call, program: Execution, verb: Verb, recording: Recording, key: str
) -> None:
    if key in verb.get("finishOnKey", "1234567890*#"):
        recorded(network, call, program, verb, recording, key)


def recorded(
    network: Network, call: Call, program: Execution, verb: Verb, recording: Recording, key: str
) -> None:
    """The recording is over: its action, or this program again."""
    execution.release(network, program)
    recordings.finish(network, recording)
    fields = [
        ("RecordingUrl", recording.url),
        ("RecordingSid", recording.sid),
        ("RecordingDuration", str(recording.duration or 0)),
        ("Digits", key),
    ]
    execution.follow(network, call, program, verb, "record", fields, program.base_url or "")
