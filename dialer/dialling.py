"""Dialling, at most once: an intent is committed as *sending* before the request leaves, and its outcome afterwards.

A request is only ever repeated on proof that it made nothing: no connection, or 429. Anything else that is not a clear
answer is *unknown*: never sent again, but looked for, by callbacks (whose URLs carry the intent) and in the call list.
"""

from __future__ import annotations

from dataclasses import dataclass

from dialer.calls import Call, Event, dial_due
from dialer.crash import crash_point
from dialer.records import Fact, find_call, record, record_truth
from dialer.service import DETECTION_PATH, FALLBACK_PATH, JOIN_PATH, RECORDING_PATH, STATUS_PATH, Service
from dialer.store import StoreError
from dialer.twilio import Carrier, LegTruth
from dialer.twiml import RECORDING_EVENTS

#: Seconds to wait before each repeat of a request that provably made nothing.
BACKOFF = (1.0, 2.0, 4.0, 8.0, 8.0)
#: Seconds until a call that nobody saw counts as never placed: Twilio creates within 26 or not (twilio-ruby #519).
ABSENT_AFTER = 35.0
#: How many looks at Twilio's list must have succeeded by then.
LOOKS = 3
#: Seconds after which a request without an outcome belongs to a process that died.
SENDING_LIMIT = 15.0
#: Seconds after its claim within which a request must be begun; connecting may take ten more (`transport`). A process
#: that stood still in between must not dial for a call that counts as lost, and whose agent may have dialled again.
SEND_WITHIN = 4.0
#: The options of a recording of the customer's leg.
OF_RECORDING = ("record", "recording_channels", "recording_track", "trim")


@dataclass(frozen=True, slots=True)
class Outcome:
    """What one dial request came to: `state` is the intent's next state, `retry` the wait that Twilio asked for."""

    state: str
    call_sid: str = ""
    reason: str = ""
    rule: str = ""
    detail: str = ""
    retry: float = 0.0


@dataclass(frozen=True, slots=True)
class Claim:
    """A call whose intent is now ours to send, or why not (yet): seconds to wait and a word for the log.

    `at` is when it was claimed, by the steady clock.
    """

    call: Call | None = None
    attempt: int = 0
    wait: float = 0.0
    word: str = ""
    at: float = 0.0


def dial(dialer: Service, carrier: Carrier, call_id: str, workspace: str) -> tuple[str, float]:
    """Claim, send, settle. Gives a word for the log and the seconds until this job must run again (0 for never).

    Raises StoreError when nothing was sent, and Unsettled when something was.
    """
    crash_point("dial.before_claim")
    claimed = claim(dialer, call_id, workspace)
    if claimed.call is None:
        return claimed.word, claimed.wait
    crash_point("dial.after_claim")
    in_time = dialer.steady() - claimed.at < SEND_WITHIN
    outcome = send(dialer, carrier, claimed.call) if in_time else HELD_UP
    crash_point("dial.after_post")
    return finish(dialer, claimed, outcome)


class Unsettled(Exception):
    """Twilio was asked to dial, and the store did not take what came of it: `finish` it later."""

    def __init__(self, claimed: Claim, outcome: Outcome) -> None:
        super().__init__(f"the store did not take the outcome: {outcome.state} {outcome.rule}".rstrip())
        self.claimed = claimed
        self.outcome = outcome


def finish(dialer: Service, claimed: Claim, outcome: Outcome) -> tuple[str, float]:
    """Commit the outcome; gives what `dial` gives. Raises Unsettled when the store does not answer."""
    try:
        wait = settle(dialer, claimed, outcome)
    except StoreError as error:
        raise Unsettled(claimed, outcome) from error
    crash_point("dial.after_record")
    return f"{outcome.state} {outcome.rule}".strip(), wait


def claim(dialer: Service, call_id: str, workspace: str) -> Claim:
    """Commit the intent as *sending*, if the call still wants dialling and the account's pace allows it."""
    plugins = dialer.plugins.current()
    with dialer.store.write() as tx:
        call, now = find_call(tx, "call", call_id=call_id, workspace=workspace), dialer.clock()
        if call is None or not dial_due(call):
            return Claim(word="no longer owed")
        account = dialer.settings.account(call.account_sid)
        pace = account.calls_per_second if account else 1.0
        window = max(1.0, 1.0 / pace)
        latest = tx.all("latest_dials", account_sid=call.account_sid, since=now - window, now=now)
        if len(latest) >= max(1, int(pace)):
            return Claim(wait=max(0.01, latest[0]["sent_at"] + window - now), word="waiting for the account's pace")
        if not tx.run("claim_intent", intent=call.intent, workspace=workspace, now=now):
            return Claim(word="sent already")
        row = tx.one("intent", intent=call.intent, workspace=workspace)
        attempt = int(row["attempts"]) if row else 1
        after = record(tx, call, _fact(call, attempt, Outcome("sending"), now), now=now, plugins=plugins)
        return Claim(after, attempt, at=dialer.steady())


def send(dialer: Service, carrier: Carrier, call: Call) -> Outcome:
    """Ask Twilio to dial, once, and read what the answer or the silence proves."""
    try:
        return Outcome("accepted", carrier.dial(call.to, call.from_, request_options(dialer, call)))
    except Exception as error:  # the intent is committed: whatever was raised must end as an outcome
        return outcome_of(error)


def request_options(dialer: Service, call: Call) -> dict[str, object]:
    """The parameters of the dial request; every URL carries the intent, so that any callback finds the call."""
    intent, options = call.intent, dict(call.options)
    if options.pop("announcement", ""):  # a recording that follows it is begun where the customer is joined
        options = {name: value for name, value in options.items() if name not in OF_RECORDING}
    asked: dict[str, object] = {
        "timeout": call.ring_seconds,
        "time_limit": call.time_limit,
        **options,
        "url": dialer.url(JOIN_PATH, intent=intent, conference=call.conference),
        "fallback_url": dialer.url(FALLBACK_PATH, intent=intent),
        "status_callback": dialer.url(STATUS_PATH, intent=intent),
        "status_callback_event": ["initiated", "ringing", "answered", "completed"],
    }
    if "machine_detection" in call.options:  # beside the call: nobody who answered waits for a verdict
        asked |= {"async_amd": "true", "async_amd_status_callback": dialer.url(DETECTION_PATH, intent=intent)}
    if options.get("record") == "true":
        asked["recording_status_callback"] = dialer.url(RECORDING_PATH, intent=intent)
        asked["recording_status_callback_event"] = list(RECORDING_EVENTS)
    return asked


def settle(dialer: Service, claimed: Claim, outcome: Outcome) -> float:
    """Commit what came of the request; gives the seconds until a repeat, 0 for none."""
    call = claimed.call
    assert call is not None
    if outcome.state == "planned" and claimed.attempt > len(BACKOFF):
        outcome = Outcome("rejected", reason=UNREACHABLE, rule=outcome.rule, detail=outcome.detail)
    plugins = dialer.plugins.current()
    with dialer.store.write() as tx:
        current, now = find_call(tx, "call", call_id=call.id, workspace=call.workspace) or call, dialer.clock()
        fact = _fact(call, claimed.attempt, outcome, now)
        current = record(tx, current, fact, now=now, plugins=plugins) or current
        if outcome.rule:
            tx.run(
                "note_intent_error",
                error=f"{outcome.rule} {outcome.detail}".strip(),
                intent=call.intent,
                workspace=call.workspace,
            )
        if outcome.call_sid:
            truth = LegTruth(outcome.call_sid, "queued", now)
            record_truth(tx, current, truth, source="job", now=now, plugins=plugins)
    if outcome.state != "planned":
        return 0.0
    return outcome.retry or BACKOFF[claimed.attempt - 1]


def _fact(call: Call, attempt: int, outcome: Outcome, now: float) -> Fact:
    event = Event("dial", now, status=outcome.state, reason=outcome.reason, rule=outcome.rule)
    payload = {
        "attempt": attempt,
        "call_sid": outcome.call_sid,
        "rule": outcome.rule,
        "detail": outcome.detail,
    }
    return Fact(f"dial:{call.intent}:{outcome.state}:{attempt}", f"dial-{outcome.state}", "job", event, payload)


def outcome_of(error: Exception) -> Outcome:
    """What an exception of the dial request proves: nothing was made, it was refused, or nobody knows."""
    from requests.exceptions import ConnectionError as NotConnected
    from requests.exceptions import ConnectTimeout

    from dialer.transport import TWILIO_ERRORS, TooManyRequests

    if isinstance(error, TooManyRequests):
        return Outcome("planned", reason=UNREACHABLE, rule="twilio-20429", retry=error.seconds)
    if isinstance(error, TWILIO_ERRORS):
        said = getattr(error, "msg", None) or getattr(error, "detail", None) or "no word of why"
        return _answered(int(error.status), str(error.code or error.status), str(said))
    if isinstance(error, ConnectTimeout) or (isinstance(error, NotConnected) and _never_sent(error)):
        return Outcome("planned", reason=UNREACHABLE, rule="unreachable", detail=str(error))
    return Outcome("unknown", rule="no-answer", detail=f"{type(error).__name__}: {error}")


UNREACHABLE = "The telephone network could not be reached. Please try again later."
REFUSED = "The call could not be placed. Please tell your administrator."
#: What a request came to that was never sent.
HELD_UP = Outcome("planned", reason=UNREACHABLE, rule="held-up", detail="this process stood still after the claim")
#: What the agent hears when Twilio refuses to dial, by error code; the code and Twilio's own words go on record.
REFUSALS = {
    "21211": "That is not a valid phone number.",
    "21217": "That is not a valid phone number.",
    "21214": "That number cannot be reached.",
    "21215": "Calls to that country are not allowed.",
    "21216": "Calls to that number are blocked.",
    "21202": "Calls to premium numbers are not allowed.",
    "21203": "International calls are not allowed.",
    "21219": "This trial account may only call verified numbers.",
}


def _answered(http_status: int, code: str, message: str) -> Outcome:
    """429 was never processed (error 20429); a refusal made nothing; a server error may have made a call (20500)."""
    rule = f"twilio-{code}"
    if http_status == 429:
        return Outcome("planned", reason=UNREACHABLE, rule=rule, detail=message)
    if 400 <= http_status < 500 and http_status not in (408, 425):
        return Outcome("rejected", reason=REFUSALS.get(code, REFUSED), rule=rule, detail=message)
    return Outcome("unknown", rule=rule, detail=message)


def _never_sent(error: BaseException) -> bool:
    """Whether the inner error is of before the connection stood (requests has one name for both kinds)."""
    from urllib3.exceptions import NameResolutionError, NewConnectionError

    inner = error.args[0] if error.args else None
    reason = getattr(inner, "reason", inner)
    return isinstance(reason, (NewConnectionError, NameResolutionError))
