"""The life of a call leg: initiated, ringing, answered, ended; and what REST may do to it."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dialer.simulator import (
    conference_dial,
    conferences,
    detection,
    execution,
    parameters,
    people,
    recordings,
    webhooks,
)
from dialer.simulator.account_records import VoiceUrls
from dialer.simulator.fields import Fields, call_fields, rfc2822
from dialer.simulator.geography import is_number
from dialer.simulator.knobs import FinalStatus
from dialer.simulator.model import FINAL, Call, Params, TwilioError
from dialer.simulator.running import Callback

if TYPE_CHECKING:
    from dialer.simulator.network import Network

SIP_CODES = {"completed": 200, "busy": 486, "no-answer": 487, "failed": 404, "canceled": 487}


def start(network: Network, call: Call) -> None:
    """Dial: the carrier is asked to reach the other end."""
    party = call.party
    assert party is not None
    call.phase, call.start_time, call.date_updated = "initiated", network.now, network.now
    if call.participant is not None:
        call.participant.status = "connecting"
    network.note("call-initiated", call, to=call.to)
    tell(network, call, "initiated")
    action = ring if party.refuse_with is None or party.refuse_after is not None else refuse
    call.timers["setup"] = network.later(network.spread(network.knobs.setup_seconds), action, network, call)


def ring(network: Network, call: Call) -> None:
    """The phone rings, until somebody acts or the time is over."""
    party = call.party
    assert party is not None
    call.rings = True
    network.note("ring-start", call, who=call.to)
    if party.signals_ringing:
        call.phase = call.status = "ringing"
        call.date_updated = network.now
        if call.participant is not None:
            call.participant.status = "ringing"
        tell(network, call, "ringing")
    call.timers["timeout"] = network.later(call.timeout, end, network, call, "no-answer", "timeout")
    if party.refuse_with is not None:
        call.timers["party"] = network.later(party.refuse_after or 0.0, refuse, network, call)
    elif party.answer_after is not None:
        call.timers["party"] = network.later(network.spread(party.answer_after), answer, network, call)


def refuse(network: Network, call: Call) -> None:
    """The carrier or the phone turns the call down, as its script says."""
    party = call.party
    assert party is not None
    end(network, call, party.refuse_with or "failed", "party", party.sip_code)


def answer(network: Network, call: Call) -> None:
    """The other end picks up."""
    begin_talk(network, call)
    wait = detection.begin(network, call) + digits_seconds(call.send_digits)
    if call.send_digits:
        network.note("digits-sent", call, digits=call.send_digits)
    if wait:
        call.timers["program"] = network.later(wait, connected, network, call)
    else:
        connected(network, call)


def begin_talk(network: Network, call: Call) -> None:
    """The leg is in progress: its clocks start, and the other end begins to act."""
    stop_ringing(network, call, "answered")
    call.phase = call.status = "in-progress"
    call.answer_time = call.date_updated = network.now
    network.note("answered", call, who=call.to if call.direction != "inbound" else call.from_)
    tell(network, call, "answered")
    call.timers["time-limit"] = network.later(call.time_limit, end, network, call, "completed", "time-limit")
    if call.record is not None:
        recordings.begin(network, call.record, call=call)
    party = call.party
    assert party is not None
    if party.hang_up_after is not None and "hang-up" not in call.timers:
        call.timers["hang-up"] = network.later(party.hang_up_after, people.hang_up, network, call)
    for number, key in enumerate(party.keys):
        call.timers[f"key-{number}"] = network.later(2.0 + number, people.press, network, call, key)


def connected(network: Network, call: Call) -> None:
    """What an answered leg does next: bridge, join its conference, or run TwiML."""
    if call.on_answer is not None:
        call.on_answer()
    elif call.joining is not None:
        conference_dial.join_added(network, call, call.joining)
    else:
        execution.begin(network, call)


def stop_ringing(network: Network, call: Call, why: str) -> None:
    for name in ("setup", "timeout", "party"):
        network.cancel(call.timers.pop(name, None))
    if call.rings:
        call.rings = False
        network.note("ring-stop", call, who=call.to, why=why)


def end(network: Network, call: Call, status: FinalStatus, by: str, sip_code: int | None = None) -> None:
    """The leg is over. A final status never changes: a second end has no effect."""
    if call.phase == "final":
        return
    was_queued = call.phase == "queued"
    stop_ringing(network, call, status)
    call.phase, call.status, call.ended_by = "final", status, by
    call.end_time = call.date_updated = network.now
    call.duration = math.ceil(network.now - call.answer_time) if call.answer_time is not None else 0
    call.sip_code = sip_code or SIP_CODES[status]
    for timer in call.timers.values():
        network.cancel(timer)
    call.timers.clear()
    network.note("call-ended", call, status=status, by=by, duration=call.duration)
    execution.stop(network, call, "participant_updated_via_api" if by == "api" else "participant_hung_up")
    conferences.give_up(network, call)
    recordings.finish_call(network, call)
    account = network.accounts[call.account_sid]
    account.live -= 1
    if was_queued and call.direction == "outbound-api":
        account.queued -= 1
    if not was_queued:
        tell(network, call, "completed")
    if call.on_end is not None:
        call.on_end()
    call.on_answer = call.on_end = call.parent = None


def tell(network: Network, call: Call, event: str) -> None:
    """Send the status callback of an event, when subscribed (Twilio docs, call-resource)."""
    callback = call.callback
    if callback is None or event not in callback.events:
        return
    fields = call_fields(call)
    fields += [
        ("SequenceNumber", str(callback.sequence)),
        ("Timestamp", rfc2822(int(network.now))),
        ("CallbackSource", "call-progress-events"),
    ]
    callback.sequence += 1
    if event == "completed":
        fields += final_fields(call)
    elif event != "initiated" and is_number(call.from_):
        owned = call.from_ in network.owners
        fields.append(("StirStatus", "A" if owned else "B"))
    webhooks.notify(network, "status", callback, call.account_sid, fields, call)


def completed_callback(urls: VoiceUrls) -> Callback | None:
    """The StatusCallback of a number or application hears of the end only."""
    if not urls.status_callback:
        return None
    return Callback(urls.status_callback, urls.status_callback_method, frozenset({"completed"}))


def final_fields(call: Call) -> Fields:
    duration = call.duration or 0
    fields = [
        ("CallDuration", str(duration)),
        ("Duration", str(math.ceil(duration / 60))),
        ("SipResponseCode", str(call.sip_code)),
    ]
    if call.record is not None and call.recordings:
        recording = call.recordings[0]
        fields += [
            ("RecordingUrl", recording.url),
            ("RecordingSid", recording.sid),
            ("RecordingDuration", str(recording.duration or 0)),
        ]
    return fields


def digits_seconds(digits: str) -> float:
    """How long SendDigits takes: w waits half a second, W one, a key a quarter."""
    return sum({"w": 0.5, "W": 1.0}.get(digit, 0.25) for digit in digits)


# What REST does


def update_call(network: Network, call: Call, params: Params) -> Call:
    """Redirect, end, or change the callbacks of a call. Raises TwilioError."""
    status = parameters.choice(params, "Status", ("", "canceled", "completed"))
    url = parameters.url(params, "Url", 21205)
    twiml = "" if url else parameters.twiml(params)
    if (url or twiml) and call.phase != "in-progress":
        raise TwilioError(400, 21220, "The call is not in progress and cannot be redirected")
    change_settings(network, call, params)
    call.date_updated = network.now
    if status:
        end_by_rest(network, call, status)
    elif url or twiml:
        execution.redirect(network, call, url, parameters.method(params, "Method"), twiml)
    return call


def change_settings(network: Network, call: Call, params: Params) -> None:
    """Take new fallback and status callback addresses and a new time limit."""
    fallback = parameters.url(params, "FallbackUrl", 21205)
    callback = parameters.callback(params, "StatusCallback", 21609, call.callback_events)
    if fallback:
        method = parameters.method(params, "FallbackMethod")
        # A copy: the URLs of a call may be those of its application.
        call.urls = VoiceUrls(call.urls.voice_url, call.urls.voice_method, fallback, method)
    if callback is not None:
        callback.sequence = call.callback.sequence if call.callback else 0
        call.callback = callback
    if params.get("TimeLimit"):
        call.time_limit = parameters.time_limit(params)
        if call.phase == "in-progress":
            network.cancel(call.timers.pop("time-limit", None))
            args = (network, call, "completed", "time-limit")
            call.timers["time-limit"] = network.later(call.time_limit, end, *args)


def end_by_rest(network: Network, call: Call, status: str) -> None:
    """Status=canceled ends what is not answered; completed ends anything."""
    if call.status in FINAL:
        if network.knobs.completed_on_ended == "21220":
            raise TwilioError(400, 21220, "The call has already ended")
    elif call.phase == "in-progress":
        if status == "completed":
            end(network, call, "completed", "api")
    elif status == "canceled" or call.phase == "queued":
        end(network, call, "canceled", "api")
    else:
        end(network, call, network.knobs.completed_on_ringing_final, "api")


def delete_call(network: Network, call: Call) -> None:
    """Remove the record of an ended call; error 20009 before its end."""
    if call.phase != "final":
        raise TwilioError(409, 20009, "The call has not ended")
    network.calls.pop(call.sid, None)
