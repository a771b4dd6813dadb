"""What is known of a run, whoever made it: the network's truth, the store, and what was done to Dialer meanwhile."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from dialer.store import Row, Store

Interval = tuple[float, float]


@dataclass(frozen=True, slots=True)
class NetworkLeg:
    """A leg as the network has it: `status` as REST shows it, `intent` of its voice URL, `identity` of a browser."""

    sid: str
    status: str
    identity: str = ""
    intent: str = ""
    created_at: float = 0.0
    ended_at: float | None = None


class LogEntry(Protocol):
    """One line of the network's log."""

    @property
    def at(self) -> float: ...

    @property
    def kind(self) -> str: ...

    @property
    def call_sid(self) -> str | None: ...


@dataclass(frozen=True, slots=True)
class Delivered:
    """One webhook that was handed over, and the HTTP status it was answered with; 0 when there was no answer."""

    at: float
    purpose: str
    call_sid: str | None
    path: str
    form: tuple[tuple[str, str], ...]
    status: int


@dataclass(frozen=True, slots=True)
class Trouble:
    """What was done to Dialer, and when. `of`: the id, CallSid or dial intent that it touched; empty for all calls.

    Kinds: `lost` (a webhook or request was lost, late, refused or broken off), `down` (a process or the store could not
    work from start to end), `waiting` (a request for this leg had no answer yet), `clock` (the application's clock
    jumped), `late` (a leg was made only at `end`, of a request sent at `start`).
    """

    kind: str
    start: float
    end: float
    of: str = ""


@dataclass(frozen=True, slots=True)
class Told:
    """What one plugin was told."""

    plugin: str
    hook: str
    call_id: str
    event: str = ""
    call_sid: str = ""
    at: float = 0.0


@dataclass(frozen=True, slots=True)
class Overdue:
    """A call that was seen so many seconds past its deadline."""

    call_id: str
    at: float
    seconds: float


@dataclass(slots=True)
class Record:
    """All that is known of a run. `workspaces` by agent's identity; `tells`: the tell-hooks of each plugin.

    `settled` says when each call was settled, by the network's clock; None where nobody watched, as with `told`.
    `statuses`: what each call (by id) and leg (by CallSid) was committed as, one after the other.
    """

    legs: Mapping[str, NetworkLeg]
    log: Iterable[LogEntry]
    store: Store
    delivered: Sequence[Delivered]
    workspaces: Mapping[str, str]
    troubles: Sequence[Trouble] = ()
    told: Sequence[Told] | None = None
    tells: Mapping[str, frozenset[str]] = field(default_factory=dict)
    overdue: Sequence[Overdue] = ()
    settled: Mapping[str, float] | None = None
    statuses: Mapping[str, Sequence[str]] = field(default_factory=dict)


@dataclass(slots=True)
class Story:
    """One call as it really was: its legs at the network, and when each was where. `row` is the store's record."""

    row: Row
    intents: list[str] = field(default_factory=list)
    rivals: int = 0
    """Dials of that time to the same number whose outcome nobody learned: a leg without a callback may be anybody's."""
    agent: NetworkLeg | None = None
    customers: list[NetworkLeg] = field(default_factory=list)
    rings: list[Interval] = field(default_factory=list)
    inside: dict[str, list[Interval]] = field(default_factory=lambda: defaultdict(list))

    @property
    def id(self) -> str:
        return str(self.row["id"])

    @property
    def legs(self) -> list[NetworkLeg]:
        return [*self.customers, *([self.agent] if self.agent else [])]

    @property
    def names(self) -> set[str]:
        """What a trouble may be of that touched this call."""
        return {"", self.id, str(self.row["conference_sid"]), *self.intents, *(leg.sid for leg in self.legs)}

    @property
    def life(self) -> Interval:
        """From its first leg to the end of its last, by the network's clock."""
        ends = [leg.ended_at for leg in self.legs]
        last = max((end for end in ends if end is not None), default=0.0)
        return min((leg.created_at for leg in self.legs), default=0.0), float("inf") if None in ends else last


def tell(record: Record) -> list[Story]:
    """Put the network's log and the store's records together, call by call."""
    with record.store.read() as tx:
        rows = tx.all("all_calls", workspace="", status="", limit=10**9)
        agents = {row["call_id"]: row["call_sid"] for row in tx.all("all_agent_legs")}
        intents = tx.all("all_intents")
    stories = [Story(row, agent=record.legs.get(agents.get(row["id"], ""))) for row in rows]
    by_id = {story.id: story for story in stories}
    by_intent = {str(row["id"]): by_id[row["call_id"]] for row in intents}
    by_leg = {story.agent.sid: story for story in stories if story.agent}
    for intent, story in by_intent.items():
        story.intents.append(intent)
    for leg in record.legs.values():
        if leg.intent in by_intent:
            by_intent[leg.intent].customers.append(leg)
            by_leg[leg.sid] = by_intent[leg.intent]
    _add_intervals(record, by_leg)
    _count_rivals(record, stories)
    return stories


#: Seconds for which a dial may be without an outcome, at the longest.
UNKNOWN_FOR = 150.0


def _count_rivals(record: Record, stories: Iterable[Story]) -> None:
    with record.store.read() as tx:
        keys = [str(row["key"]).split(":") for row in tx.all("all_event_keys")]
    unknown = {key[1] for key in keys if key[0] == "dial" and key[2] == "unknown"}
    lost = [story for story in stories if unknown & set(story.intents)]
    for story in lost:
        for other in lost:
            near = abs(other.life[0] - story.life[0]) < UNKNOWN_FOR
            story.rivals += other is not story and near and other.row["to_number"] == story.row["to_number"]


def _add_intervals(record: Record, by_leg: Mapping[str, Story]) -> None:
    began: dict[tuple[str, str], float] = {}
    for entry in record.log:
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
