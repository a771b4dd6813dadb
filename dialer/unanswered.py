"""What follows when nobody answers the customer's phone: plugins say, and their word becomes a fact of the call."""

from __future__ import annotations

import time

from dialer.calls import Call, Event, changed, unanswered
from dialer.hookspecs import Refusal, Unanswered
from dialer.placing import dial_options, validate
from dialer.plugins import PluginSet, Verdict
from dialer.records import Fact, add_verdicts, find_call, record
from dialer.service import Service

#: Seconds for all plugins together: the agent waits.
ASKING_SECONDS = 4.0
#: Further numbers that one call may dial, whatever plugins want.
MOST_TRIES = 5


def handle_unanswered(dialer: Service, call: Call) -> str:
    """Ask what follows and write it down, once for each try; gives a word for the log."""
    plugins = dialer.plugins.current()
    answer, verdicts = plugins.ask("handle_unanswered", call, time.monotonic() + ASKING_SECONDS)
    wanted = answer or Unanswered()
    if wanted.try_number:
        refusal, more = refuse_next(plugins, call, wanted.try_number)
        verdicts += more
        if refusal:
            wanted = Unanswered(sentence=refusal.reason)
    event = Event("unanswered", dialer.clock(), reason=wanted.sentence, seconds=wanted.stay_seconds)
    if wanted.try_number:
        options, more = dial_options(plugins, changed(call, to=wanted.try_number), time.monotonic() + ASKING_SECONDS)
        verdicts += more
        seconds = wanted.ring_seconds or int(options.pop("timeout", call.ring_seconds))
        options.pop("time_limit", "")  # the conference has the first number's
        event = Event(
            "unanswered",
            event.at,
            to=wanted.try_number,
            intent=f"di_{dialer.random_hex(16)}",
            seconds=seconds,
            options=tuple(options.items()),
        )
    return _store(dialer, call, event, plugins, verdicts)


def refuse_next(plugins: PluginSet, call: Call, number: str) -> tuple[Refusal | None, list[Verdict]]:
    """Why the next number may not be dialled; it is checked by the plugins like the first."""
    if call.tries >= MOST_TRIES:
        return Refusal(f"Nobody answered, at {MOST_TRIES + 1} numbers."), []
    refusal, _, verdicts = validate(plugins, changed(call, to=number), time.monotonic() + ASKING_SECONDS)
    return refusal, verdicts


def _store(dialer: Service, call: Call, event: Event, plugins: PluginSet, verdicts: list[Verdict]) -> str:
    name = "unanswered-try" if event.to else "unanswered-end"
    payload = {"to": event.to, "sentence": event.reason, "stay_seconds": event.seconds}
    fact = Fact(f"unanswered:{call.intent}", name, "plugins", event, payload)
    with dialer.store.write() as tx:
        current, now = find_call(tx, "call", call_id=call.id, workspace=call.workspace), dialer.clock()
        if current is None or current.intent != call.intent or not unanswered(current):
            return "no longer owed"
        record(tx, current, fact, now=now, plugins=plugins)
        add_verdicts(tx, current, verdicts)
    return f"{name} {event.to}".strip()
