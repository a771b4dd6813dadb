"""Dial Conference, and legs added over REST: how a call comes to a conference and goes on after it."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dialer.simulator import addresses, callbacks, conferences, execution
from dialer.simulator.documents import Verb
from dialer.simulator.model import Call
from dialer.simulator.running import Execution, Joining, RecordingOrder

if TYPE_CHECKING:
    from dialer.simulator.network import Network


def dial(network: Network, call: Call, program: Execution, verb: Verb, noun: Verb) -> None:
    """Dial Conference: the call goes in, and on with its program when it comes out."""
    name = noun.text.strip() if network.knobs.trim_conference_name else noun.text
    resume = partial(finished, network, call, program, verb)
    if not 1 <= len(name) <= 128:
        network.alert(call.account_sid, 13237, "A conference name has 1 to 128 characters", call=call)
        program.timer = network.later(0.0, resume, "failed")
        return
    program.timer = network.later(verb.number("timeLimit", 14_400), conferences.expel, network, call)
    if verb.flag("hangupOnStar"):
        program.keys = partial(star, network, call)
    conferences.join(network, call, read_noun(name, noun, program.base_url), resume)


def read_noun(name: str, noun: Verb, base_url: str | None) -> Joining:
    """What a Conference element asks for."""
    wait_url: str | None = None
    if "waitUrl" in noun.attributes:
        written = noun.get("waitUrl").strip()
        wait_url = addresses.resolve(base_url, written) if written else ""
    order = None
    if noun.get("record") in ("record-from-start", "true"):
        order = RecordingOrder("Conference", trim=noun.choice("trim", ("trim-silence", "do-not-trim")))
        order.callback = callbacks.read_callback(noun, "recordingStatusCallback", base_url, "completed")
    return Joining(
        name,
        label=noun.get("participantLabel"),
        muted=noun.flag("muted"),
        coaching=bool(noun.get("coach")),
        call_sid_to_coach=noun.get("coach"),
        start_on_enter=noun.flag("startConferenceOnEnter", True),
        end_on_exit=noun.flag("endConferenceOnExit"),
        beep=noun.choice("beep", ("true", "false", "onEnter", "onExit")),
        wait_url=wait_url,
        wait_method=noun.method("waitMethod"),
        max_participants=noun.number("maxParticipants", 250) or 250,
        region=noun.get("region"),
        callback=callbacks.read_callback(noun, "statusCallback", base_url),
        record=order,
    )


def finished(network: Network, call: Call, program: Execution, verb: Verb, status: str = "answered") -> None:
    """A Dial Conference is over: its action or the next verb follows."""
    fields = [("DialCallStatus", status), ("DialBridged", "true" if program.bridged else "false")]
    program.bridged = False
    execution.follow(network, call, program, verb, "action", fields)


def join_added(network: Network, call: Call, joining: Joining) -> None:
    """A leg added over REST was answered: in it goes, and its call ends when it comes out."""
    program = execution.hold_program(call)
    conferences.join(network, call, joining, partial(go_on, network, call, program))


def go_on(network: Network, call: Call, program: Execution, status: str = "answered") -> None:
    execution.proceed(network, call, program)


def star(network: Network, call: Call, key: str) -> None:
    if key == "*":
        conferences.expel(network, call)
