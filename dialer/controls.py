"""What people and plugins may ask of a running call: checked, stored as an event, done by a job, and said when done.

Each request has a key: repeated, it is done once. What cannot be done now is refused with the reason.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING

from dialer import twiml
from dialer.calls import Call, Event, agent_present
from dialer.errors import DialerError
from dialer.records import Fact, add_event, add_job, find_call, record
from dialer.service import Service
from dialer.store import Row, Tx

if TYPE_CHECKING:
    from dialer.twilio import Carrier

#: Seconds after which a control that could not be done is given up: the person who asked has moved on.
STALE = 20.0


#: Characters of TwiML that an update of a call may carry (Twilio docs, call-resource).
LONGEST_TWIML = 4000


class NotNow(DialerError):
    """The call is in no state for this; says why."""


@dataclass(frozen=True, slots=True)
class Control:
    """`refuse` says why it cannot be asked for now (empty: it can), `perform` does it at Twilio's."""

    refuse: Callable[[Call], str]
    perform: Callable[[Carrier, Call, Mapping[str, str]], None]


def ask_for(
    dialer: Service, call: Call, name: str, *, by: str, key: str, detail: Mapping[str, str] | None = None
) -> None:
    """Ask for a control, once per key; raises NotNow."""
    with dialer.store.write() as tx:
        current, now = _current(tx, call), dialer.clock()
        payload = {**(detail or {}), "by": by}
        fact = Fact(f"control:{name}:{call.id}:{key}", f"{name}-requested", by, Event("checked", now), payload)
        event_id = add_event(tx, current, fact, now)
        if event_id is None:
            return
        if reason := CONTROLS[name].refuse(current):
            raise NotNow(reason)
        add_job(tx, current, "control", f"{call.id}:control:{event_id}", now, event_id=event_id)


def perform(dialer: Service, carrier: Carrier, call: Call, event: Row, detail: Mapping[str, str]) -> str:
    """Do what an event asks for and store that it was done, or why not; raises what may be tried again."""
    from dialer.transport import TWILIO_ERRORS

    name = str(event["name"]).removesuffix("-requested")
    outcome, said = "done", ""
    try:
        if call.over:
            outcome, said = "failed", "the call has ended"
        elif dialer.clock() - event["received_at"] > STALE:
            outcome, said = "failed", f"it could not be done within {STALE:.0f} seconds"
        elif _superseded(dialer, call, event, name):
            outcome, said = "failed", "something newer was asked for"
        else:
            CONTROLS[name].perform(carrier, call, detail)
    except TWILIO_ERRORS as error:
        if error.status >= 500 or error.status == 429:
            raise
        outcome, said = "failed", f"Twilio refused ({error.code or error.status}): {getattr(error, 'msg', '')}"
    with dialer.store.write() as tx:
        now = dialer.clock()
        key, payload = f"control:{event['id']}:outcome", {"reason": said} if said else {}
        fact = Fact(key, f"{name}-{outcome}", "job", Event("checked", now), payload)
        add_event(tx, _current(tx, call), fact, now)
    return f"{name} {outcome} {said}".strip()


def waits(dialer: Service, job: Row) -> bool:
    """Whether an earlier control of this call is still under way: they reach Twilio one by one, in their order."""
    with dialer.store.read() as tx:
        jobs = tx.all("jobs_of_call", call_id=job["call_id"], workspace=job["workspace"])
    return any(one["kind"] == "control" and one["id"] < job["id"] and one["done_at"] is None for one in jobs)


def _superseded(dialer: Service, call: Call, event: Row, name: str) -> bool:
    """Whether the same thing (a recording, say) was asked to be otherwise since."""
    with dialer.store.read() as tx:
        later = tx.all("events_of_call", call_id=call.id, workspace=call.workspace, after=event["id"])
    thing = name.partition("-")[0]
    return any(row["name"].startswith(f"{thing}-") and row["name"].endswith("-requested") for row in later)


def hang_up(dialer: Service, call: Call, *, by: str, payload: Mapping[str, str]) -> Call:
    """Ask for the end of a call for everybody; raises NotNow when it has ended."""
    plugins = dialer.plugins.current()
    with dialer.store.write() as tx:
        current, now = _current(tx, call), dialer.clock()
        if current.over:
            raise NotNow(f"the call has ended: {current.status}")
        source = by if by.startswith("plugin:") else "api"
        event = Event("hang-up", now, by=by)
        fact = Fact(f"hang-up:{call.id}", "hang-up-requested", source, event, payload)
        return record(tx, current, fact, now=now, plugins=plugins) or current


def leave_message(dialer: Service, call: Call, *, by: str, say: str = "", play: str = "") -> None:
    """Have the customer's leg, an answering machine, hear a text or a sound file, and let the agent go.

    Raises NotNow unless the customer's phone was answered and the call goes on.
    """
    plugins = dialer.plugins.current()
    with dialer.store.write() as tx:
        current, now = _current(tx, call), dialer.clock()
        customer = current.leg("customer")
        if current.over or customer is None or customer.status != "in-progress":
            raise NotNow("nobody has answered, or the call has ended")
        words = twiml.message(say, play, dialer.settings.calls.language)
        if len(words) > LONGEST_TWIML:
            raise NotNow(f"the message is too long: {len(words)} characters of TwiML, {LONGEST_TWIML} may be sent")
        event = Event("message", now, by=by, reason=words)
        fact = Fact(f"message:{call.id}", "message-requested", by, event, {"say": say, "play": play})
        record(tx, current, fact, now=now, plugins=plugins)


def _current(tx: Tx, call: Call) -> Call:
    return find_call(tx, "call", call_id=call.id, workspace=call.workspace) or call


def _needs_recording(call: Call) -> str:
    if call.over or not agent_present(call):
        return "the call is not connected"
    return ""


def _set_recording(status: str) -> Callable[[Carrier, Call, Mapping[str, str]], None]:
    def change(carrier: Carrier, call: Call, detail: Mapping[str, str]) -> None:
        customer = call.leg("customer")
        leg = customer.call_sid if customer and call.options.get("record") == "true" else ""
        carrier.set_recording(status, call_sid=leg, conference_sid=call.conference_sid)

    return change


CONTROLS: Mapping[str, Control] = {
    "recording-pause": Control(_needs_recording, _set_recording("paused")),
    "recording-resume": Control(_needs_recording, _set_recording("in-progress")),
}
