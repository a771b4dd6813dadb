"""Calls that come in: from a browser to a TwiML App, from a phone to one of the accounts' numbers."""

from __future__ import annotations

from collections.abc import Mapping
from typing import TYPE_CHECKING, Any
from urllib.parse import urlencode

from dialer.simulator import execution, people, progress
from dialer.simulator.account_records import Account, VoiceUrls
from dialer.simulator.model import AgentPlan, Call, TwilioError
from dialer.simulator.phones import Phone, browser, phone_at

if TYPE_CHECKING:
    from dialer.simulator.network import Network

RESERVED = frozenset(
    {
        "AccountSid", "ApiVersion", "ApplicationSid", "CallSid", "CallStatus", "Direction", "From", "Caller",
        "To", "Called",
    }
)  # fmt: skip
"""Fields that Twilio fills itself; To and From of connect() are treated apart."""


def connect(
    network: Network,
    account: Account,
    application_sid: str,
    identity: str,
    params: Mapping[str, str],
    plan: AgentPlan | None,
    outgoing_params: Mapping[str, str],
) -> Call:
    """A browser calls a TwiML App (31001, 31103 and 31404 as TwilioError)."""
    application = account.applications.get(application_sid)
    if application is None:
        raise TwilioError(404, 31001, f"The application {application_sid} was not found")
    if not application.voice_url:
        raise TwilioError(404, 31404, f"The application {application_sid} has no voice URL")
    if len(urlencode(params).encode()) > network.knobs.connect_param_bytes:
        raise TwilioError(400, 31103, "The parameters of connect() are too long")
    merged = (
        {**params, **outgoing_params} if network.knobs.outgoing_params_win else {**outgoing_params, **params}
    )
    caller = f"client:{identity}"
    from_ = merged.get("From", caller) if network.knobs.from_param == "custom" else caller
    plan = plan or AgentPlan()
    party = browser(identity, None, plan.hang_up_after, plan.hang_up_after_bridged)
    call = arrive(network, account, from_, merged.get("To", ""), party, application)
    call.caller, call.application_sid = caller, application_sid
    call.voice_params = [(name, value) for name, value in merged.items() if name not in RESERVED]
    if plan.hang_up_after is not None:
        call.timers["hang-up"] = network.later(plan.hang_up_after, people.hang_up, network, call)
    if network.draw("agent_leaves"):
        network.later(network.uniform(0.0, 40.0), people.hang_up, network, call)
    if network.draw("agent_reloads"):
        again = (network, account, application_sid, identity, params, plan, outgoing_params)
        network.later(network.uniform(0.0, 20.0), reload, network, call, again)
    execution.begin(network, call)
    return call


def reload(network: Network, call: Call, again: tuple[Any, ...]) -> None:
    """The page of a browser is loaded anew: its call is hung up, or falls silent; maybe it calls once more."""
    (people.hang_up if network.chance(0.5) else people.lose)(network, call)
    if network.chance(0.5):
        network.later(network.uniform(0.5, 3.0), _connect_again, again)


def _connect_again(again: tuple[Any, ...]) -> None:
    connect(*again)


def dial_in(network: Network, from_: str, to: str) -> Call:
    """A phone calls an owned number; its application, or its own URLs, take the call."""
    number = network.owners.get(to)
    if number is None:
        raise TwilioError(404, 21211, f"Nobody owns {to}")
    account = network.accounts[number.account_sid]
    application = account.applications.get(number.voice_application_sid)
    urls: VoiceUrls = application or number
    call = arrive(network, account, from_, to, phone_at(from_, network.knobs.unknown_number), urls)
    call.phone_number_sid = number.sid
    call.application_sid = application.sid if application else None
    if urls.voice_url:
        execution.begin(network, call)
    else:
        network.alert(account.sid, 11200, f"{to} has no voice URL", call=call)
        progress.end(network, call, "failed", "program")
    return call


def arrive(network: Network, account: Account, from_: str, to: str, party: Phone, urls: VoiceUrls) -> Call:
    """An incoming leg, ringing at the application."""
    if account.status != "active":
        raise TwilioError(401, 10001, "The account is not active")
    now = network.now
    call = Call(network.sid("CA"), account.sid, "inbound", from_, to, now, now, "ringing", now, party=party)
    call.phase, call.urls = "ringing", urls
    call.callback = progress.completed_callback(urls)
    network.calls[call.sid] = call
    account.live += 1
    network.note("call-created", call, to=to, who=from_)
    return call
