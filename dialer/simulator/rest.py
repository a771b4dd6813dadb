"""Twilio's REST API over the network: who asks, which resource, what goes wrong on the way."""

from __future__ import annotations

import base64
import binascii
import hmac
import re
from dataclasses import replace

from dialer.simulator import rest_account, rest_calls, rest_conferences, rest_recordings
from dialer.simulator.account_records import Account
from dialer.simulator.model import TwilioError
from dialer.simulator.network import Network
from dialer.simulator.rest_routes import Asked, RestRequest, RestResponse, Route, match_route

__all__ = ["RestRequest", "RestResponse", "handle"]

ROUTES: tuple[Route, ...] = (
    *rest_calls.ROUTES,
    *rest_conferences.ROUTES,
    *rest_recordings.ROUTES,
    *rest_account.ROUTES,
)


_CALL_SID = re.compile("CA[0-9a-f]{32}")


def handle(network: Network, request: RestRequest) -> RestResponse:
    """Answer one request, at network.now; refusals are answers too, and faults are drawn here."""
    lost = _fail_before(network, request)
    if lost is not None:
        return lost
    if _creates_call(request) and _strikes(network, "rest_late", request):
        network.later(network.uniform(5.0, 60.0), _do_late, network, request)
        return _no_news(timed_out=network.chance(0.5))
    reset = _strikes(network, "rest_reset", request)
    if reset and network.chance(0.5):
        return RestResponse.failure("reset")
    response = _answer(network, request)
    return RestResponse.failure("reset") if reset else _fail_after(network, request, response) or response


def _creates_call(request: RestRequest) -> bool:
    return request.method == "POST" and request.path.endswith(("/Calls.json", "/Participants.json"))


def _do_late(network: Network, request: RestRequest) -> None:
    """Do what was asked for long ago; nobody is there for the answer."""
    _answer(network, request)


def _no_news(timed_out: bool) -> RestResponse:
    """An answer that leaves open whether the request was done."""
    if timed_out:
        return RestResponse.failure("timeout")
    return RestResponse.error(TwilioError(500, 20500, "An internal error has occurred"))


def _fail_before(network: Network, request: RestRequest) -> RestResponse | None:
    """The faults of a request that has no effect."""
    if _strikes(network, "rest_refused", request):
        return RestResponse.failure("refused")
    if _strikes(network, "rest_429", request):
        return RestResponse.error(TwilioError(429, 20429, "Too many requests"))
    return _fail_silently(network, request, "undone")


def _fail_after(network: Network, request: RestRequest, response: RestResponse) -> RestResponse | None:
    """The faults of a request that was done all the same."""
    if _strikes(network, "rest_half", request):
        return _half(response) if network.chance(0.5) else _not_twilios(response.status)
    return _fail_silently(network, request, "done")


def _half(response: RestResponse) -> RestResponse:
    """An answer whose connection breaks in the middle of it."""
    return replace(response, body=response.body[: len(response.body) // 2], failed="half")


def _not_twilios(status: int) -> RestResponse:
    """What a proxy between us and Twilio may put in place of the answer."""
    return RestResponse(status, {"Content-Type": "text/html"}, b"<html><body>Please wait</body></html>")


def _fail_silently(network: Network, request: RestRequest, done: str) -> RestResponse | None:
    if _strikes(network, f"rest_500_{done}", request):
        return _no_news(timed_out=False)
    return _no_news(timed_out=True) if _strikes(network, f"rest_timeout_{done}", request) else None


def _strikes(network: Network, fault: str, request: RestRequest) -> bool:
    """Whether a fault happens to this request; the log says so, with the call that it is about."""
    happens = network.draw(fault)
    if happens:
        sid = _CALL_SID.search(request.path)
        call, url = network.calls.get(sid[0]) if sid else None, request.form.get("Url")
        network.note("fault", call, fault=fault, method=request.method, path=request.path, url=url)
    return happens


def _answer(network: Network, request: RestRequest) -> RestResponse:
    try:
        route, names = match_route(ROUTES, request)
        account = _find_account(network, request, names, route.public)
        asked = Asked(network, account, request, names)
        _warn_of_unknown(asked, route)
        return route.handler(asked)
    except TwilioError as error:
        return RestResponse.error(error)


def _find_account(network: Network, request: RestRequest, names: dict[str, str], public: bool) -> Account:
    """The account of the path, which must be the sender's. Raises TwilioError."""
    sid = names.get("account")
    sender = network.account(sid) if public and sid else _authenticate(network, request.authorization)
    if sid not in (None, sender.sid):
        raise TwilioError(404, 20404, f"The requested resource {request.path} was not found")
    if sender.status != "active":
        raise TwilioError(401, 20005, "The account is not active")
    return sender


def _authenticate(network: Network, authorization: str | None) -> Account:
    """The account of Basic credentials: SID and auth token, or API key and secret. Raises TwilioError."""
    user, _, password = _read_basic(authorization).partition(":")
    for account in network.accounts.values():
        expected = account.auth_token if user == account.sid else account.keys.get(user)
        if expected and hmac.compare_digest(expected.encode(), password.encode()):
            return account
    raise TwilioError(401, 20003, "Authenticate: the credentials are missing or wrong")


def _read_basic(authorization: str | None) -> str:
    scheme, _, encoded = (authorization or "").partition(" ")
    if scheme.lower() != "basic":
        return ""
    try:
        return base64.b64decode(encoded.strip(), validate=True).decode()
    except (binascii.Error, UnicodeDecodeError):
        return ""


def _warn_of_unknown(asked: Asked, route: Route) -> None:
    """Parameters that the resource does not know are ignored, with warning 20001 in the debugger."""
    unknown = [name for name in asked.request.form if name not in route.parameters]
    if unknown:
        told = f"Unknown parameters: {', '.join(sorted(unknown))}"
        asked.network.alert(asked.account.sid, 20001, told, url=asked.request.path)
