"""Calls in and out of the store, and the one way a fact changes a call: `record`, inside the caller's transaction."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field, replace
from typing import Any

from dialer.calls import DIAL_CLOSED, Call, Change, Effect, Event, Leg, changed, new_role, role_of
from dialer.hookspecs import CallEvent
from dialer.machine import apply, wait_seconds
from dialer.metrics import count_hook
from dialer.plugins import PluginSet, Verdict
from dialer.store import Row, Tx
from dialer.store.statements import CALL_CHANGES, CALL_COLUMNS
from dialer.twilio import LegTruth

log = logging.getLogger("dialer.records")

#: Where the events come from that Twilio told only when it was asked.
REPAIR = "reconcile"

_RENAMED = {"to_number": "to", "from_number": "from_"}
_FIELDS = [(column, _RENAMED.get(column, column)) for column in CALL_COLUMNS if column != "options"]
_CHANGES = [(column, _RENAMED.get(column, column)) for column in CALL_CHANGES]


@dataclass(frozen=True, slots=True)
class Fact:
    """An event as it is stored: once per `key`, with where it came from and what it said."""

    key: str
    name: str
    source: str
    event: Event
    payload: Mapping[str, Any] = field(default_factory=dict)


def load(tx: Tx, row: Row | None) -> Call | None:
    """The call that a row of `calls` holds, with its legs."""
    if row is None:
        return None
    legs = tx.all("legs", call_id=row["id"], workspace=row["workspace"])
    values = {name: row[column] for column, name in _FIELDS}
    values["asks"] = bool(values["asks"])
    return Call(
        **values,
        options=json.loads(row["options"]) if row["options"] != "{}" else {},
        legs=tuple(Leg(sid, role, status, bool(joined), bool(left)) for sid, role, status, joined, left in legs),
    )


def find_call(tx: Tx, statement: str, **values: Any) -> Call | None:
    return load(tx, tx.one(statement, **values))


def add_call(tx: Tx, call: Call, twiml: str, now: float) -> None:
    """Store a new call with its legs, its dial intent and the TwiML it was answered with."""
    values = {column: getattr(call, name) for column, name in _FIELDS}
    tx.run("add_call", **values, options=json.dumps(call.options), twiml=twiml)
    for position, leg in enumerate(call.legs):
        _save_leg(tx, call, leg, position)
    if call.intent:
        _add_intent(tx, call, now)


def _add_intent(tx: Tx, call: Call, now: float) -> None:
    tx.run(
        "add_intent",
        id=call.intent,
        call_id=call.id,
        workspace=call.workspace,
        account_sid=call.account_sid,
        state=call.dial,
        created_at=now,
    )


def record(tx: Tx, call: Call, fact: Fact, *, now: float, plugins: PluginSet) -> Call | None:
    """Store a fact, let it change the call and queue what follows; None when this fact is known already."""
    event_id = add_event(tx, call, fact, now)
    if event_id is None:
        return None
    change = apply(call, fact.event)
    _raise_alarm(call, change.call)
    after = _keep_deadline(call, _with_deadline(change.call, now))
    save(tx, call, after, now)
    _queue(tx, call, Change(after, change.effects), fact, event_id, plugins, now)
    return after


def begin(tx: Tx, call: Call, twiml: str, fact: Fact, *, now: float, plugins: PluginSet) -> Call:
    """Store a new call as its first fact leaves it, with the TwiML that answered it, and queue what follows."""
    change = apply(call, fact.event)
    after = _with_deadline(change.call, now)
    add_call(tx, after, twiml, now)
    event_id = add_event(tx, after, fact, now)
    assert event_id is not None  # the call is new, and so is everything of it
    _queue(tx, call, Change(after, change.effects), fact, event_id, plugins, now)
    return after


def _queue(tx: Tx, before: Call, change: Change, fact: Fact, event_id: int, plugins: PluginSet, now: float) -> None:
    """The jobs that a change owes, and the deliveries of its fact to the plugins; what ended is counted.

    What Twilio says when asked is old news: by then it has had its time to end a leg or a conference by itself.
    """
    _count(tx, before, change.call)
    effects = change.effects
    if fact.source == REPAIR:
        effects = tuple(replace(effect, after=0.0) for effect in effects)
    add_jobs(tx, change.call, effects, now)
    for hook in _hooks_told(fact, before, change.call):
        add_deliveries(tx, change.call, hook, event_id, plugins, now)


def _count(tx: Tx, before: Call, after: Call) -> None:
    if after.over and not before.over:
        tx.run("count", name="calls_ended", label=after.status)
    if after.dial != before.dial and (after.dial == "accepted" or after.dial in DIAL_CLOSED):
        tx.run("count", name="dials", label=after.dial)


def record_truth(tx: Tx, call: Call, truth: LegTruth, *, source: str, now: float, plugins: PluginSet) -> Call:
    """Record what Twilio says of one leg, as a fact like any other, if it says anything new."""
    event = leg_event(call, truth, now)
    if event is None:
        return call
    fact = Fact(f"{source}:{truth.call_sid}:{truth.status}", f"leg-{truth.status}", source, event)
    return record(tx, call, fact, now=now, plugins=plugins) or call


def leg_event(call: Call, truth: LegTruth, now: float) -> Event | None:
    """What Twilio says of one leg as an event; None when it says nothing new."""
    role = role_of(call, truth.call_sid) or new_role(call)
    event = Event("leg", now, role, truth.call_sid, status=truth.status, duration=truth.duration)
    return None if apply(call, event).call == call else event


def add_event(tx: Tx, call: Call, fact: Fact, now: float) -> int | None:
    """Store the fact under its key; None when the key is there already."""
    event = fact.event
    row = tx.one(
        "add_event",
        workspace=call.workspace,
        call_id=call.id,
        key=fact.key,
        name=fact.name,
        source=fact.source,
        call_sid=event.call_sid,
        role=event.role,
        status=event.status,
        at=event.at,
        received_at=now,
        payload=json.dumps(dict(fact.payload)),
    )
    return None if row is None else int(row["id"])


def save(tx: Tx, before: Call, after: Call, now: float) -> None:
    """Write what differs: the call's row, its changed legs, its intent's state."""
    tx.run(
        "save_call",
        workspace=after.workspace,
        id=after.id,
        **{column: getattr(after, name) for column, name in _CHANGES},
        options=json.dumps(after.options) if after.options else "{}",
    )
    for position, leg in enumerate(after.legs):
        if leg not in before.legs:
            _save_leg(tx, after, leg, position)
    customer = after.leg("customer")
    if after.intent != before.intent:
        tx.run("close_intent", intent=before.intent, workspace=after.workspace)
        _add_intent(tx, after, now)
    elif after.intent and (after.dial != before.dial or customer != before.leg("customer")):
        tx.run(
            "save_intent",
            intent=after.intent,
            workspace=after.workspace,
            state=after.dial,
            call_sid=customer.call_sid if customer else "",
        )


def add_jobs(tx: Tx, call: Call, effects: Iterable[Effect], now: float) -> None:
    """Queue effects, in an order that no chance decides; one that is already waiting is not queued twice."""
    for effect in sorted(effects, key=lambda effect: effect.key):
        add_job(
            tx,
            call,
            effect.kind,
            # Each number that a call tries is a dial of its own, though the job of the last may still be at work.
            f"{call.id}:{effect.key}{call.intent if effect.kind == 'dial' else ''}",
            now,
            call_sid=effect.call_sid,
            run_at=now + effect.after,
        )


def add_job(
    tx: Tx,
    call: Call,
    kind: str,
    key: str,
    now: float,
    *,
    call_sid: str = "",
    run_at: float | None = None,
    plugin: str = "",
    hook: str = "",
    event_id: int | None = None,
) -> None:
    tx.run(
        "add_job",
        workspace=call.workspace,
        call_id=call.id,
        kind=kind,
        key=key,
        call_sid=call_sid,
        plugin=plugin,
        hook=hook,
        event_id=event_id,
        status="pending",
        run_at=now if run_at is None else run_at,
        created_at=now,
    )


def add_deliveries(tx: Tx, call: Call, hook: str, event_id: int, plugins: PluginSet, now: float) -> None:
    """Owe this event to every plugin that has the hook."""
    for plugin in plugins.tells(hook, call.workspace):
        key = f"{call.id}:deliver:{plugin}:{hook}:{event_id}"
        add_job(tx, call, "deliver", key, now, plugin=plugin, hook=hook, event_id=event_id)


def add_verdicts(tx: Tx, call: Call, verdicts: Iterable[Verdict]) -> None:
    for verdict in verdicts:
        count_hook(verdict.plugin, verdict.hook, verdict.milliseconds / 1000, failed=bool(verdict.error))
        tx.run(
            "add_verdict",
            workspace=call.workspace,
            call_id=call.id,
            plugin=verdict.plugin,
            hook=verdict.hook,
            answer=verdict.answer,
            milliseconds=verdict.milliseconds,
            error=verdict.error,
        )


def told_event(row: Row) -> CallEvent:
    """A stored event as the tell-hooks get it."""
    return CallEvent(
        name=row["name"],
        at=row["at"],
        call_sid=row["call_sid"],
        role=row["role"],
        status=row["status"],
        detail={name: str(value) for name, value in json.loads(row["payload"]).items()},
    )


def postpone(tx: Tx, call: Call, now: float) -> Call:
    """Move the deadline of an unchanged call on, so that it is asked about again in time."""
    after = _with_deadline(call, now)
    save(tx, call, after, now)
    return after


def _raise_alarm(before: Call, after: Call) -> None:
    """Say aloud what must not happen: a second customer leg, or one of a dial that was given up."""
    for leg in after.legs[len(before.legs) :]:
        if leg.role == "stray":
            log.error("double_dial: %s has a second customer leg %s", after.id, leg.call_sid)
        elif leg.role == "customer" and before.dial == "absent":
            log.error("late_leg: %s was given up, and has a customer leg %s now", after.id, leg.call_sid)


def _with_deadline(call: Call, now: float) -> Call:
    wait = wait_seconds(call)
    return changed(call, deadline=None if wait is None else now + wait)


def _keep_deadline(before: Call, after: Call) -> Call:
    """News that leaves a call in its state puts off no look at it: the next news may be the one that is lost."""
    if before.deadline is None or after.deadline is None:
        return after
    same = (before.status, before.dial, wait_seconds(before)) == (after.status, after.dial, wait_seconds(after))
    return changed(after, deadline=min(before.deadline, after.deadline)) if same else after


def _save_leg(tx: Tx, call: Call, leg: Leg, position: int) -> None:
    tx.run(
        "save_leg",
        call_sid=leg.call_sid,
        call_id=call.id,
        workspace=call.workspace,
        account_sid=call.account_sid,
        conference=call.conference,
        role=leg.role,
        status=leg.status,
        joined=leg.joined,
        left=leg.left,
        position=position,
    )


def _hooks_told(fact: Fact, before: Call, after: Call) -> list[str]:
    """Which tell-hooks one fact is told through."""
    hooks = []
    if fact.name == "call-started":
        hooks.append("call_started")
    elif fact.name == "machine-detection" or (fact.event.kind == "leg" and after.legs != before.legs):
        hooks.append("call_status")
    if fact.name.startswith(("participant-", "conference-", "announcement-")):
        hooks.append("conference_event")
    if fact.name == "recording-completed":
        hooks.append("recording_ready")
    if after.over and not before.over:
        hooks.append("call_ended")
    return hooks
