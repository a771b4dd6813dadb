"""What nobody outside Twilio knows for certain, as settings; and the faults that can be injected."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

InvalidEvents = Literal["drop-invalid", "drop-all", "refuse"]
FinalStatus = Literal["completed", "busy", "no-answer", "failed", "canceled"]


@dataclass(frozen=True, slots=True)
class Knobs:
    """Unconfirmed behaviour and latencies. All times in seconds; replace the whole value to change one."""

    invalid_events: InvalidEvents = "drop-invalid"
    """An unknown StatusCallbackEvent: dropped alone, the whole subscription dropped, or 21626."""
    invalid_events_status: int = 400
    """HTTP status of that 21626."""
    from_param: Literal["identity", "custom"] = "identity"
    """Which From the voice request of a browser carries when connect() was given one of its own."""
    outgoing_params_win: bool = True
    """Whether the token's outgoing params beat connect() params of the same name."""
    completed_on_ringing_final: Literal["canceled", "completed", "no-answer"] = "canceled"
    """Final status after REST Status=completed on a call that was not answered yet."""
    completed_on_ended: Literal["ok", "21220"] = "21220"
    """Answer of REST Status=completed or canceled on an ended call."""
    early_agent_final: FinalStatus = "canceled"
    """Final status of a browser's call that ended before its TwiML ran."""
    lost_browser_seconds: float = 30.0
    """How long the leg of a browser lives after its network was lost."""
    trim_conference_name: bool = True
    """Whether whitespace around a conference name in TwiML is ignored."""
    duplicate_callbacks: float = 0.0
    """Probability that an event callback is sent twice although it was answered well."""
    retry_count: int = 1
    """`rc` of a webhook URL without a fragment."""
    retry_policy: str = "ct"
    """`rp` of a webhook URL without a fragment: comma list of ct, rt, 4xx, 5xx, all."""
    connect_param_bytes: int = 800
    """Longest encoded form of connect() params; over it error 31103."""
    machine_detection_timeout: tuple[int, int] = (3, 59)
    """Accepted range of MachineDetectionTimeout."""
    bad_attribute: Literal["default", "fail"] = "default"
    """A TwiML attribute value that Twilio warns about: its default is used, or the document fails."""
    unanswered_ends_conference: bool = False
    """Whether a participant added over REST with EndConferenceOnExit ends the conference unanswered."""
    conference_end_cancels_ringing: bool = False
    """Whether the end of a conference cancels participants that still ring."""
    cps: float = 1.0
    """Calls started over REST a second and account, for accounts without a value of their own."""
    queue_limit: int = 86_400
    """Calls that may wait in the queue of an account; over it 22005."""
    queue_seconds: float = 86_400.0
    """A call queued for longer is canceled."""
    creation_delay: float = 0.1
    """From the accepted REST request to the first attempt to dial."""
    listing_delay: float = 0.0
    """How long a new call stays out of REST fetches and lists."""
    setup_seconds: float = 0.4
    """From initiated to the phone's ringing, or to the carrier's refusal."""
    webhook_delay: float = 0.05
    """From an event to its HTTP request."""
    retry_delay: float = 0.2
    """From a failed webhook attempt to the next."""
    recording_seconds: float = 1.0
    """From the end of a recording to its file."""
    jitter: float = 0.2
    """Every latency is spread by this fraction, up and down."""
    unknown_number: str = "+14155550101"
    """The scripted phone behind every number without a script; if it has none itself, +14155550101."""
    max_log: int = 1_000_000
    """Entries kept in the log; the oldest are dropped."""


@dataclass(frozen=True, slots=True)
class Faults:
    """Probability of each fault, 0 to 1. The rest_ ones are drawn by the REST layer."""

    webhook_lost: float = 0.0
    """An event callback is never sent, whatever its retry policy."""
    webhook_unreachable: float = 0.0
    """One attempt of any webhook does not reach the application."""
    webhook_answer_lost: float = 0.0
    """One attempt of any webhook reaches the application, but its answer never comes back."""
    webhook_late: float = 0.0
    """A callback is sent 1 to 15 s late."""
    webhook_repeated: float = 0.0
    """A webhook is sent a second time, with the same idempotency token."""
    webhook_reordered: float = 0.0
    """A callback waits up to 2 s, so that later ones overtake it."""
    webhook_together: float = 0.0
    """A callback waits for the next one of its conference or call, 3 s at most: both go out at once, in any order."""
    rest_refused: float = 0.0
    """The connection of a REST request is refused."""
    rest_timeout_done: float = 0.0
    """A REST request is done, but its answer never comes."""
    rest_timeout_undone: float = 0.0
    """A REST request is not done, and no answer comes."""
    rest_500_done: float = 0.0
    """A REST request is done, but answered with 500."""
    rest_500_undone: float = 0.0
    """A REST request is not done, and answered with 500."""
    rest_429: float = 0.0
    """A REST request is not done, and answered with 429 (20429)."""
    rest_late: float = 0.0
    """A call or participant is created 5 to 60 s after its request got a 500 or no answer."""
    rest_reset: float = 0.0
    """The connection of a REST request breaks; every second time the request was done before."""
    rest_half: float = 0.0
    """A REST request is done, and half of its answer comes, or an answer that is not Twilio's JSON."""
    listing_lag: float = 0.0
    """A new call stays out of the lists of calls for 1 to 20 s."""
    agent_leaves: float = 0.0
    """A browser hangs up within 40 s of its connecting, whatever its plan is."""
    agent_reloads: float = 0.0
    """A browser is gone within 20 s, said or unsaid; every second one is back soon and calls the same number again."""
