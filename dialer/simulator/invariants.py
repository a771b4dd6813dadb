"""What must hold after every simulated call, checked apart from the code that is to keep it.

The truth is the network's own record: who rang, who was in which conference, how each leg ended. The store is read as
anybody could read it. Each check gives sentences, one for each breach.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field

from dialer.simulator.model import Call
from dialer.simulator.world import World

#: Seconds for which somebody may be alone: as promised, and when a callback was lost on the way.
GRACE, GRACE_AFTER_LOSS = 5.0, 10.0
_INTENT = re.compile(r"[?&]intent=(di_[0-9a-f]+)")

Interval = tuple[float, float]


@dataclass(slots=True)
class Story:
    """One call as it really was: its legs at the network, and when each was where. `row` is the store's record."""

    row: Mapping[str, object]
    agent: Call | None = None
    customers: list[Call] = field(default_factory=list)
    rings: list[Interval] = field(default_factory=list)
    inside: dict[str, list[Interval]] = field(default_factory=lambda: defaultdict(list))

    @property
    def id(self) -> str:
        return str(self.row["id"])


def check(world: World) -> dict[str, list[str]]:
    """Every invariant by name with what broke it; an empty list is what should be there."""
    stories = tell(world)
    return {name: [breach for story in stories for breach in rule(world, story)] for name, rule in RULES.items()} | {
        "events stored once": list(events_stored_once(world))
    }


def tell(world: World) -> list[Story]:
    """Put the network's log and the store's records together, call by call."""
    with world.dialer.store.read() as tx:
        rows = [
            row
            for workspace in world.workspaces
            for row in tx.all("calls", workspace=workspace, agent="", status="", before=1e12, before_id="", limit=10**9)
        ]
        agents = {row["call_id"]: row["call_sid"] for row in tx.all("all_agent_legs")}
    stories = [Story(row, world.network.calls.get(agents.get(row["id"], ""))) for row in rows]
    by_intent = {str(story.row["intent"]): story for story in stories}
    by_leg = {story.agent.sid: story for story in stories if story.agent}
    for leg in world.network.calls.values():
        found = _INTENT.search(leg.urls.voice_url)
        if found and found[1] in by_intent:
            by_intent[found[1]].customers.append(leg)
            by_leg[leg.sid] = by_intent[found[1]]
    _add_intervals(world, by_leg)
    return stories


def _add_intervals(world: World, by_leg: Mapping[str, Story]) -> None:
    began: dict[tuple[str, str], float] = {}
    for entry in world.network.log:
        story = by_leg.get(entry.call_sid or "")
        if story is None or entry.call_sid is None:
            continue
        if entry.kind in ("ring-start", "conference-enter"):
            began[entry.kind, entry.call_sid] = entry.at
        elif entry.kind == "ring-stop":
            story.rings.append((began.pop(("ring-start", entry.call_sid), entry.at), entry.at))
        elif entry.kind == "conference-exit":
            start = began.pop(("conference-enter", entry.call_sid), entry.at)
            story.inside[entry.call_sid].append((start, entry.at))


def dialled_once(world: World, story: Story) -> Iterator[str]:
    """One dial intent makes at most one call."""
    if len(story.customers) > 1:
        yield f"{story.id}: the customer was dialled {len(story.customers)} times"


def nobody_alone(world: World, story: Story) -> Iterator[str]:
    """No customer waits in a conference, or rings, without the agent; no agent waits for a customer who is gone."""
    grace = GRACE_AFTER_LOSS if world.network.injected.total() else GRACE
    agent = story.inside[story.agent.sid] if story.agent else []
    for leg in story.customers:
        for name, intervals in (("in the conference", story.inside[leg.sid]), ("ringing", story.rings)):
            alone = longest_alone(intervals, agent)
            if alone > grace:
                yield f"{story.id}: the customer was {name} alone for {alone:.1f} s"
    ended = [leg.end_time for leg in story.customers if leg.end_time is not None]
    if ended and agent and len(ended) == len(story.customers):
        alone = agent[-1][1] - max(ended)
        if alone > grace:
            yield f"{story.id}: the agent stayed in the conference for {alone:.1f} s after the customer was gone"


def longest_alone(intervals: list[Interval], company: list[Interval]) -> float:
    """Seconds of the longest stretch of the first that is in none of the second."""
    longest = 0.0
    for start, end in intervals:
        at = start
        for other_start, other_end in sorted(company):
            if other_end <= at or other_start >= end:
                continue
            longest = max(longest, other_start - at)
            at = max(at, other_end)
        longest = max(longest, end - at)
    return longest


def comes_to_an_end(world: World, story: Story) -> Iterator[str]:
    """Every call is terminal, and nothing of it lives on at Twilio's."""
    if story.row["deadline"] is not None:
        yield f"{story.id}: still open ({story.row['status']}, dial {story.row['dial']})"
    for leg in [*story.customers, *([story.agent] if story.agent else [])]:
        if leg.end_time is None:
            yield f"{story.id}: leg {leg.sid} still {leg.status}"


def tells_the_truth(world: World, story: Story) -> Iterator[str]:
    """The status is what became of the customer's leg."""
    if story.customers and story.row["rule"] != "not-placed":
        truth = story.customers[0].status
        if story.row["status"] != truth:
            yield f"{story.id}: recorded as {story.row['status']}, but the customer's leg was {truth}"
    if not story.customers and story.row["status"] not in ("canceled", "failed", "rejected"):
        yield f"{story.id}: recorded as {story.row['status']}, but nobody was dialled"


def keeps_to_its_workspace(world: World, story: Story) -> Iterator[str]:
    """What is on record of a call is all of one workspace, that of its agent."""
    caller = (story.agent.caller or story.agent.from_) if story.agent else ""
    identity = caller.removeprefix("client:") or story.row["agent"]
    owner = next((agent.workspace for agent in world.agents if agent.identity == identity), "")
    with world.dialer.store.read() as tx:
        others = tx.one("strangers_of_call", call_id=story.id, workspace=owner)
    if owner != story.row["workspace"] or (others and others["strangers"]):
        yield f"{story.id}: has rows of another workspace than {owner}"


def events_stored_once(world: World) -> Iterator[str]:
    """Each callback that was answered 2xx is on record, once."""
    with world.dialer.store.read() as tx:
        stored = Counter(str(row["key"]) for row in tx.all("all_event_keys"))
    yield from (f"event {key} is stored {count} times" for key, count in stored.items() if count > 1)
    for one in world.delivered:
        if one.status // 100 != 2 or not one.path.endswith("status"):
            continue
        form = dict(one.form)
        number = form.get("SequenceNumber", "")
        if one.path.endswith("conference-status"):
            key = f"conference:{form['ConferenceSid']}:{number}:{form['StatusCallbackEvent']}:{form.get('CallSid', '')}"
        else:
            key = f"status:{form['CallSid']}:{number}:{form['CallStatus']}"
        if not stored[key]:
            yield f"event {key} was answered {one.status} and is not stored"


RULES: dict[str, Callable[[World, Story], Iterator[str]]] = {
    "dialled at most once": dialled_once,
    "nobody alone": nobody_alone,
    "every call ends": comes_to_an_end,
    "recorded as it was": tells_the_truth,
    "workspaces apart": keeps_to_its_workspace,
}
