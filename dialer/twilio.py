"""What Dialer asks of Twilio: one account's REST calls, and the browser's token. The only user of the SDK's client."""

from __future__ import annotations

import logging
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from dialer.calls import LEG_FINAL
from dialer.errors import ConfigError
from dialer.settings import Account, is_loopback

if TYPE_CHECKING:
    from twilio.http import HttpClient
    from twilio.rest import Client
    from twilio.rest.api.v2010.account.call import CallInstance

#: Seconds to connect and to wait for an answer: the SDK itself would wait for ever.
TIMEOUT = (3.05, 10.0)
#: Seconds that we stay away at most: an agent is waiting.
LONGEST_WAIT = 30.0
#: Answers to a change of something that has ended: the call is over, the conference is, or it is not found.
ENDED_CODES = frozenset({21220, 16022, 20404})

_CALL_SID = re.compile(r"CA[0-9a-f]{32}")

T = TypeVar("T")


class TooManyRequests(Exception):
    """Twilio did not process a request (429, error 20429) and says how many seconds to stay away."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"Twilio is busy, for {seconds:.0f} s")
        self.seconds = seconds


@dataclass(frozen=True, slots=True)
class LegTruth:
    """A leg as Twilio has it. `status` is queued, ringing, in-progress or a final one; times are epoch seconds."""

    call_sid: str
    status: str
    created_at: float
    duration: int | None = None


class Carrier:
    """One Twilio account. Every method asks the network once and raises what the SDK or requests raises."""

    def __init__(self, account: Account, api_base: str, http: HttpClient | None = None) -> None:
        self.account = account
        self.api_base = api_base
        self._http = http

    @cached_property
    def client(self) -> Client:
        """The SDK's client; imported on first use, since that takes a tenth of a second that no webhook needs."""
        from twilio.rest import Client

        account = self.account
        user, secret = account.sid, account.tokens[0]
        if account.api_key and account.api_secret:
            user, secret = account.api_key, account.api_secret
        http = self._http or http_client(self.api_base)
        return Client(user, secret.reveal(), account_sid=account.sid, http_client=http)

    def prepare(self) -> None:
        """Build the client, so that what is wrong with it shows before a dial is under way."""
        self.client  # noqa: B018  # cached

    def dial(self, to: str, from_: str, options: Mapping[str, Any]) -> str:
        """Create the customer's call and give its CallSid. Not idempotent (error 20500): never repeat it blindly."""
        sid = str(self.client.calls.create(to=to, from_=from_, **options).sid)
        if not _CALL_SID.fullmatch(sid):
            raise ValueError("Twilio's answer names no call")
        return sid

    def end_leg(self, call_sid: str, *, answered: bool) -> LegTruth:
        """Cancel a leg that rings, hang up one that talks; it is ended whichever it turns out to be."""
        for status in ("completed",) if answered else ("canceled", "completed"):
            truth = self._ask_to_end(call_sid, status)
            if truth.status in LEG_FINAL:
                break
        return truth

    def say_and_end(self, call_sid: str, twiml: str) -> bool:
        """Take a leg out of its conference to hear this TwiML; False when the leg has ended."""
        return _unless_ended(lambda: self.client.calls(call_sid).update(twiml=twiml)) is not None

    def leg(self, call_sid: str) -> LegTruth:
        return _truth(self.client.calls(call_sid).fetch())

    def legs_to(self, to: str, from_: str) -> list[LegTruth]:
        """The newest calls between two numbers. StartTime is no filter here: it is empty until a call is dialled."""
        return [_truth(call) for call in self.client.calls.list(to=to, from_=from_, limit=50)]

    def end_conference(self, conference_sid: str, name: str) -> bool:
        """Complete a running conference; False when there is none any more."""
        sid = conference_sid or self._running_conference(name)
        if not sid:
            return False
        return _unless_ended(lambda: self.client.conferences(sid).update(status="completed")) is not None

    def _running_conference(self, name: str) -> str:
        found = self.client.conferences.list(friendly_name=name, limit=20)
        return next((str(one.sid) for one in found if one.status != "completed"), "")

    def _ask_to_end(self, call_sid: str, status: str) -> LegTruth:
        ended = _unless_ended(lambda: self.client.calls(call_sid).update(status=status))
        if ended is not None:
            return _truth(ended)
        gone = LegTruth(call_sid, status, 0.0)
        known = _unless_ended(lambda: self.client.calls(call_sid).fetch())
        return gone if known is None else _truth(known)


def _unless_ended(ask: Callable[[], T]) -> T | None:
    """What was asked for, or None when Twilio says that the thing has ended or is gone (which was the point)."""
    from twilio.base.exceptions import TwilioRestException

    try:
        return ask()
    except TwilioRestException as error:
        if error.status == 404 or error.code in ENDED_CODES:
            return None
        raise


def http_client(api_base: str) -> HttpClient:
    """The SDK's transport with time-outs, a fresh connection per request and no repeats of its own."""
    import requests
    from twilio.http import HttpClient
    from twilio.http.response import Response

    class Transport(HttpClient):
        def request(
            self,
            method: str,
            url: str,
            params: Any = None,
            data: Any = None,
            headers: Any = None,
            auth: Any = None,
            timeout: float | None = None,
            allow_redirects: bool = False,
        ) -> Response:
            with requests.Session() as session:  # a connection of its own for each request
                session.trust_env = not is_loopback(urlsplit(api_base).hostname or "")
                answer = session.request(
                    method,
                    rebase(url, api_base),
                    params=params,
                    data=data,
                    headers=headers,
                    auth=auth,
                    timeout=TIMEOUT,
                    allow_redirects=allow_redirects,
                )
            wait = answer.headers.get("Retry-After", "")
            if answer.status_code == 429 and wait.isdecimal():
                raise TooManyRequests(min(float(wait), LONGEST_WAIT))
            return Response(answer.status_code, answer.text, dict(answer.headers))

    return Transport(logging.getLogger("dialer.twilio"), is_async=False, timeout=TIMEOUT[1])


def rebase(url: str, api_base: str) -> str:
    """Send what is meant for api.twilio.com to the configured base; at Twilio itself every host keeps its name."""
    if urlsplit(api_base).hostname == "api.twilio.com":
        return url
    parts = urlsplit(url)
    return f"{api_base.rstrip('/')}{parts.path}" + (f"?{parts.query}" if parts.query else "")


def browser_token(account: Account, identity: str, ttl: int, *, now: float) -> str:
    """An AccessToken for the Voice SDK: outgoing calls through the account's TwiML App, incoming ones allowed.

    Raises ConfigError when the account has no API key or no TwiML App.
    """
    from twilio.jwt.access_token import AccessToken
    from twilio.jwt.access_token.grants import VoiceGrant

    if not (account.api_key and account.api_secret and account.app_sid):
        raise ConfigError("browser tokens need TWILIO_API_KEY, TWILIO_API_SECRET and TWILIO_APP_SID")
    start = int(now)
    token = AccessToken(
        account.sid,
        account.api_key,
        account.api_secret.reveal(),
        identity=identity,
        nbf=start,
        valid_until=start + ttl,
    )
    token.add_grant(VoiceGrant(outgoing_application_sid=account.app_sid, incoming_allow=True))
    return str(token.to_jwt())


def _truth(call: CallInstance) -> LegTruth:
    created = call.date_created.timestamp() if call.date_created else 0.0
    duration = int(call.duration) if call.duration else None
    return LegTruth(str(call.sid), str(call.status), created, duration)
