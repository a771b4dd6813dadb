"""What must hold after every call, checked apart from the code that is to keep it.

The truth is the network's own record: who rang, who was in which conference, how each leg ended. The store is read as
anybody could read it. Nothing here knows how Dialer decides; `Record` is all it looks at, whoever made it: a world in
virtual time, or a run of real processes. Each check gives sentences, one for each breach.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from dialer.simulator.record import (
    Delivered,
    Interval,
    LogEntry,
    NetworkLeg,
    Overdue,
    Record,
    Story,
    Told,
    Trouble,
    tell,
)
from dialer.store import Row

__all__ = [
    "Delivered",
    "LogEntry",
    "NetworkLeg",
    "Overdue",
    "Record",
    "Story",
    "Told",
    "Trouble",
    "check",
    "tell",
]

#: Seconds for which somebody may be alone: as promised, and when something of his call went wrong on the way.
GRACE, GRACE_AFTER_LOSS = 5.0, 10.0
#: Seconds after the end of its last leg by which a call is settled: the longest wait of a state in which a lost
#: callback leaves it, and one look. Without any leg the dial itself was lost: it counts as absent after 35 s, or four
#: times that while a leg to the same number may be its own.
SETTLED_WITHIN, SETTLED_WITHOUT_LEG = 75.0, 4 * 35.0 + 15.0
#: Seconds by which a call may be past its deadline: the reconciler's period, twice.
OVERDUE = 2.0

def check(record: Record) -> dict[str, list[str]]:
    """Every invariant by name with what broke it; an empty list is what should be there."""
    stories = tell(record)
    found = {name: [breach for story in stories for breach in rule(record, story)] for name, rule in RULES.items()}
    found["every call ends"] += unknown_legs(record, stories)
    return found | {name: list(rule(record)) for name, rule in RULES_OF_ALL.items()}


def dialled_once(record: Record, story: Story) -> Iterator[str]:
    """One dial intent makes at most one call."""
    for intent, times in Counter(leg.intent for leg in story.customers).items():
        if times > 1:
            yield f"{story.id}: the customer was dialled {times} times for {intent}"


def nobody_alone(record: Record, story: Story) -> Iterator[str]:
    """No customer waits in a conference, or rings, without the agent; no agent waits for a customer who is gone."""
    agent = story.inside[story.agent.sid] if story.agent else []
    for leg in story.customers:
        for name, intervals in (("in the conference", story.inside[leg.sid]), ("ringing", story.rings)):
            for start, end in alone(intervals, agent):
                if end - start > (allowed := grace(record, story, start, end)):
                    yield f"{story.id}: the customer was {name} alone for {end - start:.1f} s ({allowed:.0f} allowed)"
    ended = [leg.ended_at for leg in story.customers if leg.ended_at is not None]
    if cannot_know(record, story):
        return
    if ended and agent and len(ended) == len(story.customers):
        start, end = max(ended), agent[-1][1]
        if end - start > (allowed := grace(record, story, start, end)):
            yield (
                f"{story.id}: the agent stayed in the conference for {end - start:.1f} s after the customer was gone "
                f"({allowed:.0f} allowed)"
            )


def grace(record: Record, story: Story, start: float, end: float) -> float:
    """How long somebody may have been alone in that interval.

    Five seconds. Ten, when something of this very call was lost, late or refused, or a process or the store was down or
    the clock jumped while it lived. On top comes the time in which nothing could be done: while a process or the store
    was down, and while Twilio left a request for this call, or the look at all who talk, without an answer.
    """
    first, names = story.life[0], story.names
    touching = [one for one in record.troubles if one.of in names and first <= one.end and one.start <= end]
    idle = [(max(one.start, start), min(one.end, end)) for one in touching if one.kind in ("down", "waiting")]
    hurt = any(one.of or one.kind != "waiting" for one in touching)
    return (GRACE_AFTER_LOSS if hurt else GRACE) + length(idle)


def length(intervals: Iterable[Interval]) -> float:
    """Seconds that lie in at least one of the intervals."""
    total, reached = 0.0, float("-inf")
    for start, end in sorted(intervals):
        total += max(0.0, end - max(start, reached))
        reached = max(reached, end)
    return total


def alone(intervals: Iterable[Interval], company: Iterable[Interval]) -> list[Interval]:
    """The stretches of the first that are in none of the second."""
    found: list[Interval] = []
    for start, end in intervals:
        at = start
        for other_start, other_end in sorted(company):
            if other_end <= at or other_start >= end:
                continue
            found.append((at, other_start))
            at = max(at, other_end)
        found.append((at, end))
    return [(start, end) for start, end in found if end > start]


def comes_to_an_end(record: Record, story: Story) -> Iterator[str]:
    """Every call is terminal, soon after its last leg, and nothing of it lives on at Twilio's."""
    if story.row["deadline"] is not None:
        yield f"{story.id}: still open ({story.row['status']}, dial {story.row['dial']})"
    for leg in story.legs:
        if leg.ended_at is None:
            yield f"{story.id}: leg {leg.sid} still {leg.status}"
    settled = record.settled.get(story.id) if record.settled is not None else None
    start, end = story.life
    if settled is not None and end < settled:
        idle = [(max(one.start, start), min(one.end, settled)) for one in record.troubles if one.kind == "down"]
        limit = SETTLED_WITHIN if story.customers else SETTLED_WITHOUT_LEG
        if settled - end > limit + length(idle):
            yield f"{story.id}: settled only {settled - end:.0f} s after its last leg had ended"


def unknown_legs(record: Record, stories: Iterable[Story]) -> Iterator[str]:
    """A leg that Dialer knows nothing of must not live on either."""
    known = {leg.sid for story in stories for leg in story.legs}
    for leg in record.legs.values():
        if leg.ended_at is None and leg.sid not in known:
            yield f"leg {leg.sid} of no call is still {leg.status}"


def cannot_know(record: Record, story: Story) -> bool:
    """Whether no word of the customer's leg can have reached Dialer before it gave the dial up.

    The leg was made later than Twilio ever makes one, or its callbacks were lost and another dial to the same number is
    without an outcome too, so that the list of calls does not tell whose leg it is.
    """
    late = any(one.kind == "late" and one.of == story.row["intent"] for one in record.troubles)
    return story.row["rule"] == "not-placed" and (late or story.rivals > 0)


def tells_the_truth(record: Record, story: Story) -> Iterator[str]:
    """The status is what became of the customer's leg, as far as that can be known."""
    recorded = story.row["status"]
    truth = next((leg.status for leg in story.customers if leg.intent == story.row["intent"]), None)
    if truth is not None and recorded != truth and not cannot_know(record, story):
        yield f"{story.id}: recorded as {recorded}, but the customer's leg was {truth}"
    if truth is None and recorded not in ("canceled", "failed", "rejected"):
        yield f"{story.id}: recorded as {recorded}, but nobody was dialled"


def keeps_to_its_workspace(record: Record, story: Story) -> Iterator[str]:
    """What is on record of a call is all of one workspace, that of its agent."""
    identity = (story.agent.identity if story.agent else "") or story.row["agent"]
    owner = record.workspaces.get(identity, "")
    with record.store.read() as tx:
        others = tx.one("strangers_of_call", call_id=story.id, workspace=owner)
    if owner != story.row["workspace"] or (others and others["strangers"]):
        yield f"{story.id}: has rows of another workspace than {owner}"


def tells_plugins(record: Record, story: Story) -> Iterator[str]:
    """Every plugin hears of every fact through the hook for it, or a dead letter stands."""
    if record.told is None:
        return
    values = {"call_id": story.id, "workspace": story.row["workspace"]}
    with record.store.read() as tx:
        events, jobs = tx.all("events_of_call", after=0, **values), tx.all("jobs_of_call", **values)
    dead = {(job["plugin"], job["hook"], job["event_id"]) for job in jobs if job["status"] == "dead"}
    told = {(one.plugin, one.hook, one.event, one.call_sid, one.at) for one in record.told if one.call_id == story.id}
    for plugin, hooks in record.tells.items():
        for hook, event in owed_to_plugins(events):
            about = (event["name"], event["call_sid"], event["at"]) if hook in WITH_EVENT else ("", "", 0.0)
            if hook in hooks and (plugin, hook, *about) not in told and (plugin, hook, event["id"]) not in dead:
                yield f"{story.id}: {plugin} was never told {hook} of {event['name']}"
        if "call_ended" in hooks and not any(one[:2] == (plugin, "call_ended") for one in told | dead):
            yield f"{story.id}: {plugin} was never told call_ended"


#: The statuses of calls and legs in the order in which they can be passed through, and those that are the last.
ORDER = ("queued", "requested", "agent-joined", "initiated", "dialing", "ringing", "in-progress")
FINAL = frozenset({"completed", "busy", "no-answer", "failed", "canceled", "rejected"})
#: Hooks that are told with the event they are about.
WITH_EVENT = frozenset({"call_status", "conference_event"})
_RANK = {"queued": 0, "initiated": 1, "ringing": 2, "in-progress": 3} | dict.fromkeys(
    ("completed", "busy", "no-answer", "failed", "canceled"), 4
)


def owed_to_plugins(events: Iterable[Row]) -> Iterator[tuple[str, Row]]:
    """The tell-hooks that these events of one call are for, as docs/hooks.md promises: news, and no repetition."""
    reached: dict[str, int] = {}
    for event in events:
        sid, name, rank = event["call_sid"], event["name"], _RANK.get(event["status"], -1)
        news = sid and rank > reached.get(sid, -1)
        reached[sid] = max(rank, reached.get(sid, -1))
        if name == "call-started":
            yield "call_started", event
        elif name.startswith(("participant-", "conference-", "announcement-")):
            yield "conference_event", event
        elif news and (name.startswith("leg-") or name == "customer-answered"):
            yield "call_status", event


def events_stored_once(record: Record) -> Iterator[str]:
    """Each callback that was answered 2xx is on record, once."""
    with record.store.read() as tx:
        keys = [str(row["key"]) for row in tx.all("all_event_keys")]
    stored = Counter(key for key in keys if not key.startswith("clock:"))  # one fact, told of every open call
    yield from (f"event {key} is stored {count} times" for key, count in stored.items() if count > 1)
    for one in record.delivered:
        key = _key(one) if one.status // 100 == 2 else ""
        if key and not stored[key]:
            yield f"event {key} was answered {one.status} and is not stored"


def _key(one: Delivered) -> str:
    """Under what name the store has what this webhook said; empty for what need not be stored."""
    form, what = dict(one.form), one.path.rpartition("/")[2]
    number = form.get("SequenceNumber", "")
    if what == "conference-status":
        return f"conference:{form['ConferenceSid']}:{number}:{form['StatusCallbackEvent']}:{form.get('CallSid', '')}"
    if what == "status":
        return f"status:{form['CallSid']}:{number}:{form['CallStatus']}"
    return f"twiml:{form['CallSid']}" if what == "twiml" else ""


def never_goes_back(record: Record) -> Iterator[str]:
    """A status only ever moves on, and a final one never changes."""
    for name, statuses in record.statuses.items():
        for before, after in pairwise(statuses):
            final = before in FINAL and after != before
            if final or (before in ORDER and after in ORDER and ORDER.index(after) < ORDER.index(before)):
                yield f"{name}: was {before}, and then {after} again"


def kept_in_time(record: Record) -> Iterator[str]:
    """No call stays past its deadline for longer than the reconciler's period, unless that was down."""
    for one in record.overdue:
        window = (one.at - one.seconds - OVERDUE, one.at)
        excused = any(
            trouble.kind in ("down", "clock") and trouble.start <= one.at and trouble.end >= window[0]
            for trouble in record.troubles
        )
        if one.seconds > OVERDUE and not excused:
            yield f"{one.call_id}: nobody looked after it for {one.seconds:.0f} s past its deadline"


RULES: dict[str, Callable[[Record, Story], Iterator[str]]] = {
    "dialled at most once": dialled_once,
    "nobody alone": nobody_alone,
    "every call ends": comes_to_an_end,
    "recorded as it was": tells_the_truth,
    "workspaces apart": keeps_to_its_workspace,
    "plugins told": tells_plugins,
}
RULES_OF_ALL: dict[str, Callable[[Record], Iterator[str]]] = {
    "events stored once": events_stored_once,
    "deadlines kept": kept_in_time,
    "no way back": never_goes_back,
}
