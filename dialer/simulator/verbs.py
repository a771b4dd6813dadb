"""The verbs of TwiML. Each runs in an Execution and sees to it that the program goes on."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from dialer.simulator import (
    addresses,
    callbacks,
    conference_dial,
    dialling,
    execution,
    gathering,
    progress,
    recordings,
)
from dialer.simulator.documents import Verb
from dialer.simulator.lint import TRIM
from dialer.simulator.model import Call
from dialer.simulator.running import Execution, RecordingOrder

if TYPE_CHECKING:
    from dialer.simulator.network import Network

SECONDS_A_CHARACTER = 0.06
PLAY_SECONDS = 3.0
SILENT = frozenset({"Reject", "Pause", "Redirect"})
"""Verbs that do not answer an incoming call."""


def run(network: Network, call: Call, program: Execution, verb: Verb) -> None:
    """Run one verb."""
    action = VERBS.get(verb.name)
    if action is None:  # the linter has warned
        execution.wait(network, call, program, 0.0)
        return
    network.note("verb", call, name=verb.name)
    if call.phase == "ringing" and verb.name not in SILENT and not verb.flag("answerOnBridge"):
        progress.begin_talk(network, call)
    action(network, call, program, verb)


def media_seconds(verb: Verb) -> float:
    """How long a Say, Play or Pause lasts; infinite for loop 0."""
    if verb.name == "Pause":
        return float(verb.number("length", 1))
    if verb.name == "Play":
        digits = verb.get("digits")
        once = progress.digits_seconds(digits) if digits else PLAY_SECONDS
    else:
        once = max(1.0, SECONDS_A_CHARACTER * len(verb.text.strip()))
    loop = verb.number("loop", 1)
    return once * loop if loop else float("inf")


def media(network: Network, call: Call, program: Execution, verb: Verb) -> None:
    """Say, Play, Pause: time passes."""
    if verb.name == "Say":
        network.note("said", call, text=verb.text.strip())
    execution.wait(network, call, program, media_seconds(verb))


def hangup(network: Network, call: Call, program: Execution, verb: Verb) -> None:
    """Hangup: the call ends."""
    network.note("program-end", call)
    progress.end(network, call, "completed", "program")


def reject(network: Network, call: Call, program: Execution, verb: Verb) -> None:
    """Reject: an incoming call is refused unanswered; an answered one just ends."""
    if call.phase == "in-progress":
        hangup(network, call, program, verb)
        return
    network.note("program-end", call)
    reason = verb.choice("reason", ("rejected", "busy"))
    progress.end(network, call, "busy" if reason == "busy" else "no-answer", "program")


def redirect(network: Network, call: Call, program: Execution, verb: Verb) -> None:
    """Redirect: the program at another URL takes over."""
    url = addresses.resolve(program.base_url, verb.text)
    if not url:
        execution.failed(network, call, program, 11200, f"Redirect to {verb.text!r} is not a usable URL", "")
        return
    execution.fetch(network, call, url, verb.method(), "redirect")


def dial(network: Network, call: Call, program: Execution, verb: Verb) -> None:
    """Dial: into a conference, or to numbers and browsers."""
    nouns = [child for child in verb.children if child.name in ("Conference", "Number", "Client", "Sip")]
    if verb.text.strip():
        nouns.append(Verb("Number", {}, verb.text))
    if nouns and nouns[0].name == "Conference":
        if len(nouns) > 1:
            network.alert(call.account_sid, 13000, "A Conference cannot be mixed with others", call=call)
        conference_dial.dial(network, call, program, verb, nouns[0])
    else:
        dialling.dial(network, call, program, verb, nouns)


def start(network: Network, call: Call, program: Execution, verb: Verb) -> None:
    """Start with Recording: the leg is recorded from now on, and the next verb runs at once."""
    for noun in verb.children:
        if noun.name == "Recording":
            channels, trim = noun.choice("channels", ("dual", "mono")), noun.choice("trim", TRIM)
            track = noun.choice("track", ("both", "inbound", "outbound"))
            order = RecordingOrder("StartCallRecordingTwiML", 2 if channels == "dual" else 1, track, trim)
            order.callback = callbacks.read_callback(noun, "recordingStatusCallback", program.base_url, "completed")
            recordings.begin(network, order, call=call)
    execution.proceed(network, call, program)


VERBS: dict[str, Callable[[Network, Call, Execution, Verb], None]] = {
    "Say": media,
    "Play": media,
    "Pause": media,
    "Hangup": hangup,
    "Reject": reject,
    "Redirect": redirect,
    "Dial": dial,
    "Gather": gathering.gather,
    "Record": gathering.record,
    "Start": start,
}
