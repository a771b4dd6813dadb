"""The simulator's own doors under /_simulator/: people who call and press keys, faults, and what happened."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from itertools import islice
from typing import Any
from urllib.parse import urlsplit

from aiohttp import web

from dialer.simulator.control_body import BadControl, Body, read_digits, read_params, read_plan, read_seconds, read_text
from dialer.simulator.model import Call, Conference, TwilioError
from dialer.simulator.network import Network
from dialer.simulator.phones import PHONES
from dialer.simulator.realtime import Simulator, show_sent
from dialer.simulator.resources import Json, render_call, render_conference, render_participant
from dialer.simulator.server_config import is_loopback
from dialer.simulator.settings import ConfigError, change_settings
from dialer.simulator.tokens import TokenError, verify_token

SIMULATOR: web.AppKey[Simulator] = web.AppKey("simulator", Simulator)
MOST_ROWS = 1000  # of a list, the newest

Control = Callable[[web.Request], Awaitable[web.Response]]


def control(act: Callable[[Simulator, Body, web.Request], Any]) -> Control:
    """A handler that answers JSON and wakes the network; what is refused is a 4xx with code and message."""

    async def answer(request: web.Request) -> web.Response:
        simulator = request.app[SIMULATOR]
        try:
            _check_origin(request, simulator)
            body = await _read_body(request)
            simulator.catch_up()
            return web.json_response(act(simulator, body, request))
        except TwilioError as error:
            return _refuse(error.http_status, error.code, error.message)
        except TokenError as error:
            return _refuse(401, error.code, error.message)
        except (BadControl, ConfigError) as error:
            return _refuse(400, None, str(error))
        finally:
            simulator.wake()

    return answer


def _refuse(status: int, code: int | None, message: str) -> web.Response:
    return web.json_response({"code": code, "message": message}, status=status)


def _check_origin(request: web.Request, simulator: Simulator) -> None:
    """Keep pages of other sites out: they can reach loopback through the browser of whoever runs this."""
    origin = request.headers.get("Origin")
    hosts = [request.url.host or "", *([urlsplit(origin).hostname or ""] if origin else [])]
    if not simulator.config.allow_public and not all(map(is_loopback, hosts)):
        raise TwilioError(403, 20403, "The controls are for this machine only")


async def _read_body(request: web.Request) -> Body:
    if not request.can_read_body:
        return {}
    try:
        body = await request.json()
    except ValueError as error:
        raise BadControl(f"the body must be JSON: {error}") from error
    if not isinstance(body, dict):
        raise BadControl("the body must be a JSON object")
    return body


# People


def connect(simulator: Simulator, body: Body, request: web.Request) -> Any:
    """A browser places a call, with an access token or in the name of an identity."""
    network, params, plan = simulator.network, read_params(body), read_plan(body)
    if "token" not in body:
        account_sid, application_sid = read_text(body, "accountSid"), read_text(body, "applicationSid")
        call = network.connect(account_sid, application_sid, read_text(body, "identity"), params, plan)
        return {"callSid": call.sid}
    keys = {account.sid: account.keys for account in network.accounts.values()}
    token = verify_token(read_text(body, "token"), keys, network.now)
    if token.application_sid is None:
        raise TokenError(20106, "the token may not place calls: it has no outgoing application")
    call = network.connect(token.account_sid, token.application_sid, token.identity, params, plan, token.params)
    return {"callSid": call.sid}


def dial_in(simulator: Simulator, body: Body, request: web.Request) -> Any:
    """Somebody calls one of the numbers."""
    return {"callSid": simulator.network.dial_in(read_text(body, "from"), read_text(body, "to")).sid}


def register(simulator: Simulator, body: Body, request: web.Request) -> Any:
    """A browser takes calls from now on; answerAfter null: it rings until pick-up or decline."""
    identity, after = read_text(body, "identity"), read_seconds(body, "answerAfter", 1.0)
    simulator.network.register(read_text(body, "accountSid"), identity, after, read_plan(body))
    return {"identity": identity}


def unregister(simulator: Simulator, body: Body, request: web.Request) -> Any:
    """That browser takes no more calls."""
    identity = read_text(body, "identity")
    simulator.network.unregister(read_text(body, "accountSid"), identity)
    return {"identity": identity}


def of_call(act: Callable[[Network, str, Body], None]) -> Control:
    """A control of what one party of a call does."""

    def answer(simulator: Simulator, body: Body, request: web.Request) -> Any:
        network, sid = simulator.network, request.match_info["sid"]
        if sid not in network.calls:
            raise TwilioError(404, 20404, f"There is no call {sid}")
        act(network, sid, body)
        return {"callSid": sid, "status": network.calls[sid].status}

    return control(answer)


# Inspection


def index(simulator: Simulator, body: Body, request: web.Request) -> Any:
    """All the controls, with their method, path and purpose."""
    return {"controls": [{"method": m, "path": PREFIX + path, "does": does} for m, path, does, _ in TABLE]}


def health(simulator: Simulator, body: Body, request: web.Request) -> Any:
    """Whether it runs, and how much is in it."""
    network = simulator.network
    live = sum(account.live for account in network.accounts.values())
    idle = not live and network.next_due() is None and not network.exchanges
    return {"status": "ok", "now": network.now, "accounts": len(network.accounts), "liveCalls": live, "idle": idle}


def show_phones(simulator: Simulator, body: Body, request: web.Request) -> Any:
    """The scripted phones."""
    return {"phones": [{"number": phone.number, "story": phone.story} for phone in PHONES.values()]}


def show_calls(simulator: Simulator, body: Body, request: web.Request) -> Any:
    """The calls of all accounts, newest first."""
    newest = islice(reversed(simulator.network.calls.values()), MOST_ROWS)
    return {"calls": [render_call(call) for call in newest]}


def show_legs(simulator: Simulator, body: Body, request: web.Request) -> Any:
    """The calls as the network itself knows them, oldest first; `after`: only those past that many."""
    after = _after(request)
    calls = islice(enumerate(simulator.network.calls.values(), 1), after, after + MOST_ROWS)
    return {"legs": [{"number": number, **_leg(call)} for number, call in calls]}


def _leg(call: Call) -> Json:
    return {
        "sid": call.sid,
        "accountSid": call.account_sid,
        "direction": call.direction,
        "from": call.from_,
        "to": call.to,
        "caller": call.caller,
        "status": call.status,
        "createdAt": call.date_created,
        "answeredAt": call.answer_time,
        "endedAt": call.end_time,
        "duration": call.duration,
        "endedBy": call.ended_by,
        "voiceUrl": call.urls.voice_url,
    }


def show_conferences(simulator: Simulator, body: Body, request: web.Request) -> Any:
    """The conferences of all accounts with who is in them, newest first."""
    newest = islice(reversed(simulator.network.conferences.values()), MOST_ROWS)
    return {"conferences": [_with_participants(each) for each in newest]}


def _with_participants(conference: Conference) -> Json:
    within = [render_participant(each) for each in conference.participants.values()]
    return {**render_conference(conference), "participants": within}


def show_log(simulator: Simulator, body: Body, request: web.Request) -> Any:
    """What happened, oldest first; `after`: only entries of a higher number."""
    after = _after(request)
    entries = islice((entry for entry in simulator.network.log if entry.number > after), MOST_ROWS)
    return {"entries": [asdict(entry) for entry in entries]}


def show_alerts(simulator: Simulator, body: Body, request: web.Request) -> Any:
    """Twilio's debugger, account by account, oldest first."""
    accounts = simulator.network.accounts.values()
    return {
        "alerts": [
            {"account_sid": account.sid, **asdict(alert)}
            for account in accounts
            for alert in account.alerts[-MOST_ROWS:]
        ]
    }


def show_requests(simulator: Simulator, body: Body, request: web.Request) -> Any:
    """The webhooks sent and what came back, oldest first; `after`: only those of a higher number."""
    after = _after(request)
    return {"requests": [show_sent(sent) for sent in simulator.sent if sent.number > after]}


def _after(request: web.Request) -> int:
    text = request.query.get("after", "0")
    if not (text.isascii() and text.isdigit()):
        raise BadControl("after must be a whole number")
    return int(text)


# Faults and knobs


def show_faults(simulator: Simulator, body: Body, request: web.Request) -> Any:
    """The probability of each fault, and how often each was injected."""
    network = simulator.network
    return {"faults": asdict(network.faults), "injected": dict(network.injected)}


def set_faults(simulator: Simulator, body: Body, request: web.Request) -> Any:
    """Change the probability of the faults named, from 0 to 1."""
    simulator.network.faults = change_settings(simulator.network.faults, body)
    return show_faults(simulator, body, request)


def show_knobs(simulator: Simulator, body: Body, request: web.Request) -> Any:
    """The knobs: what is unconfirmed about Twilio, and latencies."""
    return {"knobs": asdict(simulator.network.knobs)}


def set_knobs(simulator: Simulator, body: Body, request: web.Request) -> Any:
    """Change the knobs named."""
    simulator.network.knobs = change_settings(simulator.network.knobs, body)
    return show_knobs(simulator, body, request)


PREFIX = "/_simulator/"
TABLE: tuple[tuple[str, str, str, Control], ...] = (
    ("GET", "", "this list", control(index)),
    ("GET", "health", "whether it runs", control(health)),
    (
        "POST",
        "connect",
        "a browser calls: {token | accountSid, applicationSid, identity; params, hangUpAfterBridged, hangUpAfter}",
        control(connect),
    ),
    ("POST", "dial-in", "a phone calls a number: {from, to}", control(dial_in)),
    (
        "POST",
        "register",
        "a browser takes calls: {accountSid, identity, answerAfter, hangUpAfterBridged, hangUpAfter}",
        control(register),
    ),
    ("POST", "unregister", "a browser takes no more calls: {accountSid, identity}", control(unregister)),
    ("POST", "calls/{sid}/hangup", "that party hangs up", of_call(lambda network, sid, body: network.hang_up(sid))),
    (
        "POST",
        "calls/{sid}/digits",
        "that party presses keys: {digits}",
        of_call(lambda network, sid, body: network.press(sid, read_digits(body))),
    ),
    (
        "POST",
        "calls/{sid}/pick-up",
        "the ringing party answers",
        of_call(lambda network, sid, body: network.pick_up(sid)),
    ),
    (
        "POST",
        "calls/{sid}/decline",
        "the ringing party refuses",
        of_call(lambda network, sid, body: network.decline(sid)),
    ),
    ("POST", "calls/{sid}/lose", "that party's network is gone", of_call(lambda network, sid, body: network.lose(sid))),
    ("GET", "phones", "the scripted phones", control(show_phones)),
    ("GET", "calls", "calls of all accounts", control(show_calls)),
    ("GET", "legs", "calls as the network knows them, times in seconds; ?after=NUMBER", control(show_legs)),
    ("GET", "conferences", "conferences and who is in them", control(show_conferences)),
    ("GET", "log", "what happened; ?after=NUMBER", control(show_log)),
    ("GET", "alerts", "the debuggers of all accounts", control(show_alerts)),
    ("GET", "requests", "webhooks sent and answered; ?after=NUMBER", control(show_requests)),
    ("GET", "faults", "probabilities of faults, and counts", control(show_faults)),
    ("PUT", "faults", "change probabilities: {name: 0 to 1}", control(set_faults)),
    ("GET", "knobs", "unconfirmed behaviour and latencies", control(show_knobs)),
    ("PUT", "knobs", "change knobs: {name: value}", control(set_knobs)),
)

ROUTES = [web.route(method, PREFIX + path, handler) for method, path, _, handler in TABLE]
