"""Outbound calls over REST: checked, queued behind the calls-per-second limit, started."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dialer.simulator import parameters, progress
from dialer.simulator.account_records import Account, VoiceUrls
from dialer.simulator.geography import country_of, is_number
from dialer.simulator.model import Call, Params, TwilioError
from dialer.simulator.phones import Phone, browser, phone_at

if TYPE_CHECKING:
    from dialer.simulator.network import Network

EVENTS = frozenset({"initiated", "ringing", "answered", "completed"})
MESSAGES = {
    21211: "is not a valid phone number",
    21215: "is in a country that the account may not call",
}


def create_call(network: Network, account: Account, params: Params) -> Call:
    """Accept a call that will run TwiML when answered. Raises TwilioError."""
    call = new_call(network, account, params)
    set_program(account, call, params)
    call.amd = parameters.amd(params, network.knobs.machine_detection_timeout, "AsyncAmdStatusCallback")
    if call.amd and call.amd.asynchronous and call.amd.callback is None:
        network.alert(account.sid, 21262, "AsyncAmd without AsyncAmdStatusCallback", call=call)
    enqueue(network, account, call)
    return call


def new_call(network: Network, account: Account, params: Params) -> Call:
    """A checked outbound call, not queued yet."""
    to, from_ = params.get("To").strip(), params.get("From").strip()
    party = check_addresses(network, account, to, from_)
    now = network.now
    call = Call(network.sid("CA"), account.sid, "outbound-api", from_, to, now, now, party=party)
    if network.draw("listing_lag"):
        call.listed_at = now + network.uniform(1.0, 20.0)
    if from_ in account.numbers:
        call.phone_number_sid = account.numbers[from_].sid
    call.timeout = float(parameters.whole(params, "Timeout", 60, 1, 600, 21208))
    call.time_limit = parameters.time_limit(params)
    call.send_digits = parameters.send_digits(params)
    if parameters.flag(params, "Record"):
        call.record = parameters.recording_order(params, "OutboundAPI")
    if not params.get("ApplicationSid"):
        set_callback(network, call, params)
    return call


def set_callback(network: Network, call: Call, params: Params) -> None:
    call.callback_events = progress_events(network, call, params)
    call.callback = parameters.callback(params, "StatusCallback", 21609, call.callback_events)


def progress_events(network: Network, call: Call, params: Params) -> frozenset[str]:
    """The events asked for; what an unknown one does depends on a knob (21626)."""
    asked = params.all("StatusCallbackEvent")
    unknown = [event for event in asked if event not in EVENTS]
    if unknown:
        message = f"Unknown StatusCallbackEvent: {', '.join(unknown)}"
        if network.knobs.invalid_events == "refuse":
            raise TwilioError(network.knobs.invalid_events_status, 21626, message)
        network.alert(call.account_sid, 21626, message, call=call)
        if network.knobs.invalid_events == "drop-all":
            return frozenset()
    return frozenset(asked) & EVENTS or frozenset({"completed"})


def set_program(account: Account, call: Call, params: Params) -> None:
    """Url, Twiml or ApplicationSid: what the call runs when answered (21205, 21218)."""
    app_sid, url = params.get("ApplicationSid"), parameters.url(params, "Url", 21205)
    if url:
        fallback = parameters.url(params, "FallbackUrl", 21205)
        call.urls = VoiceUrls(
            url, parameters.method(params, "Method"), fallback, parameters.method(params, "FallbackMethod")
        )
    elif params.get("Twiml"):
        call.twiml = parameters.twiml(params)
        call.urls.voice_fallback_url = parameters.url(params, "FallbackUrl", 21205)
    elif app_sid:
        if app_sid not in account.applications or not account.applications[app_sid].voice_url:
            raise TwilioError(400, 21218, f"ApplicationSid {app_sid} is not an application with a voice URL")
        application = account.applications[app_sid]
        call.application_sid, call.urls = app_sid, application
        call.callback = progress.completed_callback(application)
    else:
        raise TwilioError(400, 21205, "One of Url, Twiml and ApplicationSid is required")


def check_addresses(network: Network, account: Account, to: str, from_: str) -> Phone:
    """Who will be reached; refused when the addresses or the account do not allow the call."""
    if account.status != "active":
        raise TwilioError(401, 20005, "The account is not active")
    if not to:
        raise TwilioError(400, 21201, "No To was given")
    if not from_:
        raise TwilioError(400, 21213, "No From was given")
    if account.max_calls is not None and account.live >= account.max_calls:
        raise TwilioError(429, 10004, "The account has too many calls at once")
    if account.queued >= network.knobs.queue_limit:
        raise TwilioError(429, 22005, "The queue of outbound calls is full")
    if to.startswith("client:"):
        return called_browser(account, to.removeprefix("client:"))
    if not is_number(to):
        raise TwilioError(400, 21211, f"To {to} is not a valid phone number")
    if to.startswith("+1900"):
        raise TwilioError(400, 21202, f"To {to} is a premium number")
    check_caller_id(account, from_)
    phone = phone_at(to, network.knobs.unknown_number)
    if phone.rest_error:
        raise TwilioError(400, phone.rest_error, f"To {to} {MESSAGES[phone.rest_error]}")
    if country_of(to) in account.blocked_countries:
        raise TwilioError(400, 21215, f"To {to} {MESSAGES[21215]}")
    if account.type == "Trial" and to not in account.caller_ids:
        raise TwilioError(400, 21219, f"To {to} is not verified, as a trial account needs")
    return phone


def check_caller_id(account: Account, from_: str) -> None:
    """From must be a number, owned or verified (21212, 21210)."""
    if not is_number(from_):
        raise TwilioError(400, 21212, f"From {from_} is not a valid phone number")
    if from_ not in account.numbers and from_ not in account.caller_ids:
        raise TwilioError(400, 21210, f"From {from_} is neither owned nor verified by the account")


def called_browser(account: Account, identity: str) -> Phone:
    """The browser of that identity; nobody answers when it is not registered."""
    registration = account.clients.get(identity.partition("?")[0])
    if registration is None:
        return Phone(f"client:{identity}", "Not registered.", refuse_with="no-answer", sip_code=480)
    plan = registration.plan
    return browser(
        identity,
        registration.answer_after,
        plan.hang_up_after if plan else None,
        plan.hang_up_after_bridged if plan else None,
    )


def enqueue(network: Network, account: Account, call: Call) -> None:
    """Accept the call; it starts when its turn comes, or is canceled after a day."""
    network.calls[call.sid] = call
    account.live += 1
    account.queued += 1
    rate = account.cps if account.cps is not None else network.knobs.cps
    start = max(network.now, account.next_start)
    account.next_start = start + 1.0 / rate
    wait = start - network.now
    call.queue_time = int(wait * 1000)
    network.note("call-created", call, to=call.to, queue_time=call.queue_time)
    if wait > network.knobs.queue_seconds:
        args = (network, call, "canceled", "queue")
        call.timers["queue"] = network.later(network.knobs.queue_seconds, progress.end, *args)
    else:
        delay = wait + network.spread(network.knobs.creation_delay)
        call.timers["queue"] = network.later(delay, leave_queue, network, account, call)


def leave_queue(network: Network, account: Account, call: Call) -> None:
    account.queued -= 1
    progress.start(network, call)
