"""Dial Number and Client: legs that ring together, and the bridge to the one that answers."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING

from dialer.simulator import addresses, callbacks, execution, people, placing, progress, recordings
from dialer.simulator.account_records import Account
from dialer.simulator.documents import Verb
from dialer.simulator.geography import country_of, is_number
from dialer.simulator.model import Call
from dialer.simulator.phones import Phone, phone_at
from dialer.simulator.running import Amd, Dialled, Execution, RecordingOrder

if TYPE_CHECKING:
    from dialer.simulator.network import Network

MAX_NOUNS = 10


def dial(network: Network, call: Call, program: Execution, verb: Verb, nouns: list[Verb]) -> None:
    """Ring every number and browser; the first to answer is bridged."""
    dialled = Dialled(verb)
    call.dialled = dialled
    if call.parent is not None:
        network.alert(call.account_sid, 13201, "A dialled leg cannot dial", call=call)
        nouns = []
    legs = [new_leg(network, call, program, dialled, noun) for noun in nouns[:MAX_NOUNS]]
    dialled.legs = [leg for leg in legs if leg is not None]
    program.undo = partial(abandon, network, call, dialled)
    program.resume = partial(finish, network, call, program, dialled)
    if verb.flag("hangupOnStar"):
        program.keys = partial(star, network, dialled)
    if not dialled.legs:
        program.timer = network.later(0.0, finish, network, call, program, dialled, "failed")
        return
    first = dialled.legs[:1] if verb.flag("sequential") else list(dialled.legs)
    for leg in first:
        progress.start(network, leg)


def new_leg(
    network: Network, call: Call, program: Execution, dialled: Dialled, noun: Verb
) -> Call | None:
    """One leg of the Dial; None, with an alert, when it may not be dialled."""
    account = network.accounts[call.account_sid]
    verb = dialled.verb
    from_ = verb.get("callerId").strip() or call.from_
    target = called(network, account, call, noun, from_)
    if target is None:
        return None
    to, party = target
    now = network.now
    leg = Call(network.sid("CA"), account.sid, "outbound-dial", from_, to, now, now, party=party)
    leg.parent, leg.parent_call_sid = call, call.sid
    leg.timeout = float(min(max(verb.number("timeout", 30), 5), 600))
    leg.voice_params = [
        (child.get("name"), child.get("value")) for child in noun.children if child.name == "Parameter"
    ]
    leg.amd = read_amd(noun, program.base_url)
    leg.send_digits = noun.get("sendDigits")
    leg.callback = callbacks.read_callback(noun, "statusCallback", program.base_url, "completed")
    leg.on_answer = partial(answered, network, call, dialled, leg, noun)
    leg.on_end = partial(ended, network, call, leg)
    network.calls[leg.sid] = leg
    account.live += 1
    network.note("call-created", leg, to=to, parent=call.sid)
    return leg


def called(
    network: Network, account: Account, call: Call, noun: Verb, from_: str
) -> tuple[str, Phone] | None:
    """Address and person of a Number or Client; None, with an alert, when it is refused."""
    text = noun.text.strip()
    problem: tuple[int, str] | None = None
    if noun.name == "Client":
        named = next((child.text.strip() for child in noun.children if child.name == "Identity"), "")
        identity = named or text
        return f"client:{identity}", placing.called_browser(account, identity)
    if noun.name == "Sip":
        problem = 13224, "SIP addresses are not simulated"
    elif not is_number(text):
        problem = 13223, f"{text!r} is not a phone number"
    elif from_ not in account.numbers and from_ not in account.caller_ids and from_ != call.from_:
        problem = 13214, f"callerId {from_} is neither owned nor verified"
    elif not is_number(from_):
        problem = 13214, f"callerId {from_} is not a phone number"
    elif country_of(text) in account.blocked_countries:
        problem = 13227, f"{text} is in a country that the account may not call"
    else:
        phone = phone_at(text, network.knobs.unknown_number)
        if not phone.rest_error:
            return text, phone
        problem = (13227 if phone.rest_error == 21215 else 13224), f"{text} cannot be dialled"
    network.alert(account.sid, *problem, call=call)
    return None


def read_amd(noun: Verb, base_url: str | None) -> Amd | None:
    """The machineDetection attributes of a Number: always beside the call, never before the bridge."""
    mode = noun.get("machineDetection")
    if mode not in ("Enable", "DetectMessageEnd"):
        return None
    callback = callbacks.read_callback(noun, "amdStatusCallback", base_url)
    return Amd(mode, True, float(noun.number("machineDetectionTimeout", 30)), callback)


def answered(network: Network, call: Call, dialled: Dialled, leg: Call, noun: Verb) -> None:
    """A leg picked up: the others stop ringing; a noun's own URL is heard before the bridge."""
    dialled.answered = leg
    for other in dialled.legs:
        if other is not leg:
            progress.end(network, other, "canceled", "other-answered")
    url = noun.get("url").strip()
    program = execution.hold_program(leg)
    program.then = partial(bridge, network, call, leg, dialled)
    if url and call.execution is not None:
        url = addresses.resolve(call.execution.base_url, url)
        execution.fetch(network, leg, url, noun.method(), "voice")
    else:
        program.then()


def bridge(network: Network, call: Call, leg: Call, dialled: Dialled) -> None:
    """Both hear each other until one leaves or the time is over."""
    program = leg.execution
    if program is not None:
        execution.release(network, program)
        program.undo = partial(unbridge, network, call, leg, dialled)
    if call.phase == "ringing":
        progress.begin_talk(network, call)
    dialled.bridged_at = network.now
    limit = float(dialled.verb.number("timeLimit", 14_400))
    leg.timers["dial-limit"] = network.later(limit, progress.end, network, leg, "completed", "time-limit")
    order = dial_recording(dialled.verb, call)
    if order is not None:
        recordings.begin(network, order, call=call)
    for one in (call, leg):
        people.hear(network, one)


def unbridge(network: Network, call: Call, leg: Call, dialled: Dialled, reason: str) -> None:
    """The dialled leg is gone, or was sent elsewhere by REST: the Dial is over."""
    network.cancel(leg.timers.pop("dial-limit", None))
    leg.parent = None
    if call.execution is not None:
        finish(network, call, call.execution, dialled)


def dial_recording(verb: Verb, call: Call) -> RecordingOrder | None:
    """What the record attribute of a Dial asks for."""
    record = verb.get("record", "do-not-record")
    if record in ("do-not-record", "false"):
        return None
    base_url = call.execution.base_url if call.execution else None
    order = RecordingOrder("DialVerb", 2 if record.endswith("dual") else 1)
    order.callback = callbacks.read_callback(verb, "recordingStatusCallback", base_url, "completed")
    return order


def ended(network: Network, call: Call, leg: Call) -> None:
    """A leg is over: the next one rings, or the Dial is over with the last."""
    dialled, program = call.dialled, call.execution
    if dialled is None or program is None or program.resume is None:
        return
    if leg is dialled.answered:
        status = "no-answer" if dialled.bridged_at is None else "completed"
        finish(network, call, program, dialled, status)
        return
    waiting = [other for other in dialled.legs if other.phase == "queued"]
    open_ = [other for other in dialled.legs if other.phase != "final"]
    if not open_:
        finish(network, call, program, dialled, leg.status)
    elif dialled.answered is None and len(waiting) == len(open_):
        progress.start(network, waiting[0])


def finish(
    network: Network, call: Call, program: Execution, dialled: Dialled, status: str = "completed"
) -> None:
    """The Dial is over: its action or the next verb follows."""
    if call.dialled is not dialled:
        return
    call.dialled = None
    leg = dialled.answered or (dialled.legs[-1] if dialled.legs else None)
    bridged = "false" if dialled.bridged_at is None else "true"
    fields = [("DialCallStatus", status), ("DialBridged", bridged)]
    if leg is not None:
        fields += [("DialCallSid", leg.sid), ("DialCallDuration", str(leg.duration or 0))]
    recorded = next((r for r in reversed(call.recordings) if r.source == "DialVerb"), None)
    if recorded is not None:
        recordings.finish(network, recorded)
        fields.append(("RecordingUrl", recorded.url))
    program.undo = None
    execution.follow(network, call, program, dialled.verb, "action", fields)


def abandon(network: Network, call: Call, dialled: Dialled, reason: str) -> None:
    """The caller is gone or was sent elsewhere: every leg ends."""
    call.dialled = None
    for leg in dialled.legs:
        talking = leg.phase == "in-progress"
        progress.end(network, leg, "completed" if talking else "canceled", "parent")


def star(network: Network, dialled: Dialled, key: str) -> None:
    if key == "*" and dialled.answered is not None:
        progress.end(network, dialled.answered, "completed", "star")
