"""The values of the simulated network: calls, conferences, recordings, webhooks, the log."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from dialer.simulator.account_records import VoiceUrls
from dialer.simulator.running import (
    Amd,
    Callback,
    Dialled,
    Execution,
    Joining,
    RecordingOrder,
    Timer,
)

if TYPE_CHECKING:
    from dialer.simulator.phones import Phone

FINAL = frozenset({"completed", "busy", "no-answer", "failed", "canceled"})
"""Call statuses that never change again."""

API_VERSION = "2010-04-01"


class TwilioError(Exception):
    """A request that Twilio would refuse, with its HTTP status and error code."""

    def __init__(self, http_status: int, code: int, message: str) -> None:
        super().__init__(message)
        self.http_status = http_status
        self.code = code
        self.message = message


class Params:
    """Request parameters: immutable, several values a name, names as Twilio writes them (PascalCase)."""

    __slots__ = ("_values",)

    def __init__(self, values: Mapping[str, str | Iterable[str]] | Iterable[tuple[str, str]] = ()) -> None:
        self._values: dict[str, tuple[str, ...]] = {}
        pairs = values.items() if isinstance(values, Mapping) else values
        for name, value in pairs:
            new = (value,) if isinstance(value, str) else tuple(value)
            self._values[name] = self._values.get(name, ()) + new

    def get(self, name: str, default: str = "") -> str:
        """The last value of that name."""
        values = self._values.get(name)
        return values[-1] if values else default

    def all(self, name: str) -> tuple[str, ...]:
        """Every value of that name, in order."""
        return self._values.get(name, ())

    def pairs(self) -> list[tuple[str, str]]:
        """All names with their values, a pair each."""
        return [(name, value) for name, values in self._values.items() for value in values]

    def __contains__(self, name: object) -> bool:
        return name in self._values

    def __iter__(self) -> Iterator[str]:
        return iter(self._values)

    def __len__(self) -> int:
        return len(self._values)


@dataclass(slots=True)
class Entry:
    """One line of the log: the truth about what happened. `kind` is one of kinds.KINDS."""

    number: int
    at: float
    kind: str
    call_sid: str | None
    conference_sid: str | None
    detail: dict[str, Any]


@dataclass(frozen=True, slots=True)
class AgentPlan:
    """What the person at a browser does, in seconds. Bridged: he can talk with another party."""

    hang_up_after_bridged: float | None = None
    hang_up_after: float | None = None


@dataclass(slots=True)
class Call:
    """A call leg: the REST record first, then how it is handled, then what runs in it now."""

    sid: str
    account_sid: str
    direction: Literal["inbound", "outbound-api", "outbound-dial"]
    from_: str
    to: str
    date_created: float
    date_updated: float
    status: str = "queued"
    """As REST shows it; `initiated` is an event only and shows as queued here."""
    start_time: float | None = None
    answer_time: float | None = None
    end_time: float | None = None
    duration: int | None = None
    """Seconds from answer to end; None while it lives."""
    answered_by: str | None = None
    parent_call_sid: str | None = None
    phone_number_sid: str | None = None
    application_sid: str | None = None
    listed_at: float = 0.0
    """Lists show it from this moment on."""
    queue_time: int = 0
    """Milliseconds of waiting behind the calls-per-second limit, as estimated at creation."""
    sip_code: int | None = None
    ended_by: str = ""
    """Who ended it, for the log: party, api, program, timeout, time-limit, ..."""

    caller: str = ""
    """Shown as Caller where it differs from From."""
    urls: VoiceUrls = field(default_factory=VoiceUrls)
    twiml: str = ""
    voice_params: list[tuple[str, str]] = field(default_factory=list)
    """A browser's own parameters: those of its connect(), or those that a Dial hands to it."""
    callback: Callback | None = None
    callback_events: frozenset[str] = frozenset({"completed"})
    """Events asked for at creation; a later change of the URL keeps them."""
    timeout: float = 60.0
    time_limit: float = 14_400.0
    send_digits: str = ""
    amd: Amd | None = None
    record: RecordingOrder | None = None

    party: Phone | None = None
    """Who is at the other end, and what he does."""
    rings: bool = False
    """Whether a phone rings now, reported or not."""
    phase: Literal["queued", "initiated", "ringing", "in-progress", "final"] = "queued"
    execution: Execution | None = None
    participant: Participant | None = None
    joining: Joining | None = None
    """For a leg added to a conference over REST: what it does when answered."""
    parent: Call | None = None
    dialled: Dialled | None = None
    """The legs of a running <Dial>."""
    on_answer: Callable[[], None] | None = None
    """In place of the voice request: a dialled leg is bridged."""
    on_end: Callable[[], None] | None = None
    timers: dict[str, Timer] = field(default_factory=dict)
    recordings: list[Recording] = field(default_factory=list)
    fields: list[tuple[str, str]] = field(default_factory=list)
    """The part of its webhook fields that never changes, built on first use."""
    cookies: dict[str, str] = field(default_factory=dict)
    wait_number: int = 0
    """Grows when hold music is over, so that a late answer of its URL is not played."""


@dataclass(slots=True)
class Participant:
    """A call in a conference. `sid` of its resource is its CallSid."""

    call_sid: str
    conference_sid: str
    account_sid: str
    date_created: float
    date_updated: float
    label: str = ""
    muted: bool = False
    hold: bool = False
    coaching: bool = False
    call_sid_to_coach: str = ""
    start_on_enter: bool = True
    end_on_exit: bool = False
    beep: str = "true"
    status: Literal["queued", "connecting", "ringing", "connected", "complete", "failed"] = "queued"
    queue_time: int = 0
    wait_url: str | None = None
    entered: bool = False
    """Whether it has come in (participant-join was due)."""


@dataclass(slots=True)
class Conference:
    """One conference; another one may have had the same name before it."""

    sid: str
    account_sid: str
    friendly_name: str
    date_created: float
    date_updated: float
    region: str = "us1"
    status: Literal["init", "in-progress", "completed"] = "init"
    reason_conference_ended: str | None = None
    call_sid_ending_conference: str | None = None
    participants: dict[str, Participant] = field(default_factory=dict)
    """By CallSid, in order of arrival, with legs added over REST that are not in yet; emptied at the end."""
    callback: Callback | None = None
    record: RecordingOrder | None = None
    configured: bool = False
    """Whether the first participant has set callback, recording and region."""
    recordings: list[Recording] = field(default_factory=list)


@dataclass(slots=True)
class Recording:
    """A recording of a call or a conference."""

    sid: str
    account_sid: str
    call_sid: str | None
    conference_sid: str | None
    source: str
    channels: int
    track: str
    date_created: float
    date_updated: float
    start_time: float
    status: Literal["in-progress", "paused", "stopped", "processing", "completed", "absent"] = "in-progress"
    duration: int | None = None
    """Seconds, known when the recording is over."""
    error_code: int | None = None
    url: str = ""
    """Without an extension, as RecordingUrl has it."""
    callback: Callback | None = None
    recorded: float = 0.0
    """Seconds recorded before the running stretch."""
    resumed_at: float | None = None
    """When the running stretch began; None while paused or over."""
    skips_pauses: bool = True


@dataclass(slots=True)
class WebRequest:
    """One HTTP attempt that the driver has to perform now and answer with Network.answer."""

    id: str
    attempt: int
    at: float
    method: str
    url: str
    """Public URL without fragment; a GET carries its fields in the query."""
    headers: dict[str, str]
    form: list[tuple[str, str]]
    connect_timeout: float
    read_timeout: float
    total_timeout: float
    account_sid: str
    call_sid: str | None
    conference_sid: str | None
    purpose: str
    """voice action redirect gather record fallback wait announce, or status conference recording amd."""


@dataclass(slots=True)
class WebAnswer:
    """What came back for a WebRequest; `failed` names a transport failure."""

    status: int = 200
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    failed: Literal["", "connect", "timeout", "reset"] = ""

    def header(self, name: str) -> str:
        """The value of a header, in whatever case it was sent; empty when it was not."""
        return next((value for key, value in self.headers.items() if key.lower() == name.lower()), "")

    @classmethod
    def failure(cls, how: Literal["connect", "timeout", "reset"]) -> WebAnswer:
        """No answer came: not connected, timed out, or the connection broke."""
        return cls(status=0, failed=how)
