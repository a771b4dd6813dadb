"""What Dialer asks of Twilio: one account's REST calls, and the browser's token. The only user of the SDK's client."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import TYPE_CHECKING, Any, TypeVar
from urllib.parse import urlsplit

from dialer.calls import LEG_FINAL
from dialer.errors import ConfigError
from dialer.settings import Account

if TYPE_CHECKING:
    from twilio.http import HttpClient
    from twilio.rest import Client
    from twilio.rest.api.v2010.account.call import CallInstance
    from twilio.rest.api.v2010.account.recording import RecordingInstance

#: Answers to a change of something that has ended: the call is over, the conference is, or it is not found.
ENDED_CODES = frozenset({21220, 16022, 20404})

_CALL_SID = re.compile(r"CA[0-9a-f]{32}")
_TWILIO = re.compile(r"https://([a-z0-9-]+\.)+twilio\.com")

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class LegTruth:
    """A leg as Twilio has it. `status` is queued, ringing, in-progress or a final one; times are epoch seconds."""

    call_sid: str
    status: str
    created_at: float
    duration: int | None = None


@dataclass(frozen=True, slots=True)
class RecordingTruth:
    """A recording as Twilio has it: its URL without the ending .wav or .mp3, its length in seconds.

    `status` is in-progress, paused, stopped, processing, completed or absent.
    """

    sid: str
    status: str
    url: str
    duration: int
    channels: int


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

        from dialer.transport import Transport

        http = self._http or Transport(self.api_base)
        return Client(*self._credentials(), account_sid=self.account.sid, http_client=http)

    def _credentials(self) -> tuple[str, str]:
        """The API key, which can be revoked alone, or else the account's own token."""
        account = self.account
        if account.api_key and account.api_secret:
            return account.api_key, account.api_secret.reveal()
        return account.sid, account.tokens[0].reveal()

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

    def set_recording(self, status: str, *, call_sid: str, conference_sid: str) -> None:
        """Pause or resume the running recording of a leg, or of the conference; silence takes the pause's place."""
        owner = self.client.calls(call_sid) if call_sid else self.client.conferences(conference_sid)
        options = {"pause_behavior": "silence"} if status == "paused" else {}
        owner.recordings("Twilio.CURRENT").update(status=status, **options)

    def recordings(self, *, call_sids: Iterable[str], conference_sid: str) -> list[RecordingTruth]:
        """What was recorded of these legs and of the conference."""
        owners: list[dict[str, str]] = [{"call_sid": sid} for sid in call_sids]
        if conference_sid:
            owners.append({"conference_sid": conference_sid})
        return [self._recording(one) for owner in owners for one in self.client.recordings.list(**owner, limit=50)]

    def _recording(self, one: RecordingInstance) -> RecordingTruth:
        url = f"https://api.twilio.com/2010-04-01/Accounts/{self.account.sid}/Recordings/{one.sid}"
        return RecordingTruth(str(one.sid), str(one.status), url, int(one.duration or 0), int(one.channels or 1))

    def delete_recording(self, recording_sid: str) -> bool:
        """Delete a recording that is over; False when there is none (any more)."""
        return _unless_ended(lambda: self.client.recordings(recording_sid).delete()) is not None

    def fetch(self, url: str) -> Iterator[bytes]:
        """The body of a file at Twilio's, piece by piece. Raises ValueError for a URL that is not Twilio's."""
        parts, base = urlsplit(url), urlsplit(self.api_base)
        if parts[:2] != base[:2] and not _TWILIO.fullmatch(f"{parts.scheme}://{parts.netloc}"):
            raise ValueError(f"{url!r:.100} is no address of Twilio's, and gets no credentials")
        self.prepare()
        yield from self.client.http_client.stream(url, self._credentials())

    def leg(self, call_sid: str) -> LegTruth:
        return _truth(self.client.calls(call_sid).fetch())

    def living_legs(self, *, ringing: bool) -> set[str]:
        """The CallSids of all calls of the account that are in progress, or ring or wait as well; a thousand a request.

        In the order in which a call passes through them, so that none slips from one list to the other meanwhile.
        """
        statuses = ("queued", "ringing", "in-progress") if ringing else ("in-progress",)
        stream = self.client.calls.stream
        return {str(call.sid) for status in statuses for call in stream(status=status, page_size=1000)}

    def legs_to(self, to: str, from_: str) -> list[LegTruth]:
        """The newest calls between two numbers. StartTime is no filter here: it is empty until a call is dialled."""
        return [_truth(call) for call in self.client.calls.list(to=to, from_=from_, limit=50)]

    def end_conference(self, conference_sid: str, name: str) -> bool:
        """Complete a running conference; False when there is none any more."""
        sid = conference_sid or self._running_conference(name)
        if not sid:
            return False
        return _unless_ended(lambda: self.client.conferences(sid).update(status="completed")) is not None

    def participants(self, conference_sid: str, name: str) -> frozenset[str]:
        """The CallSids of who is in a conference now; none when it has not begun or is over."""
        sid = conference_sid or self._running_conference(name)
        found = _unless_ended(lambda: self.client.conferences(sid).participants.list(limit=50)) if sid else None
        return frozenset(str(one.call_sid) for one in found or ())

    def _running_conference(self, name: str) -> str:
        found = self.client.conferences.list(friendly_name=name, limit=20)
        return next((str(one.sid) for one in found if one.status != "completed"), "")

    def _ask_to_end(self, call_sid: str, status: str) -> LegTruth:
        ended = _unless_ended(lambda: self.client.calls(call_sid).update(status=status))
        if ended is not None:
            return _truth(ended)
        return self.leg(call_sid)  # 404 is raised: a leg that is too new to be seen is no leg that has ended


def _unless_ended(ask: Callable[[], T]) -> T | None:
    """What was asked for, or None when Twilio says that the thing has ended or is gone (which was the point)."""
    from dialer.transport import TWILIO_ERRORS

    try:
        return ask()
    except TWILIO_ERRORS as error:
        if error.status == 404 or error.code in ENDED_CODES:
            return None
        raise


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
