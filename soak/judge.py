"""Judges a load that is over: the network's record and Dialer's store, through the invariants; and its figures."""

from __future__ import annotations

import re
from array import array
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from dialer import demo
from dialer.simulator.invariants import Delivered, NetworkLeg, Record, Trouble, check
from dialer.store import Store
from soak.stack import AGENTS

_INTENT = re.compile(r"[?&]intent=(di_[0-9a-f]+)")


@dataclass(frozen=True, slots=True)
class Happened:
    """One line of the network's log, as far as it matters here."""

    at: float
    kind: str
    call_sid: str | None


@dataclass(slots=True)
class Attempts:
    """Each attempt of a webhook: when it was due, how many seconds its answer took from then, its status (0: none)."""

    due: array[float] = field(default_factory=lambda: array("d"))
    seconds: array[float] = field(default_factory=lambda: array("d"))
    status: array[int] = field(default_factory=lambda: array("i"))

    def latencies(self, keep: Callable[[float], bool] = lambda due: True) -> list[float]:
        """The milliseconds of those that were answered, sorted; of those that were due at moments to be kept."""
        rows = zip(self.due, self.seconds, self.status, strict=True)
        return sorted(seconds * 1000.0 for due, seconds, status in rows if status and keep(due))

    @property
    def not_2xx(self) -> int:
        """How many were answered otherwise, or not at all."""
        return sum(1 for status in self.status if status // 100 != 2)


@dataclass(slots=True)
class Truth:
    """What the network wrote down."""

    legs: dict[str, NetworkLeg] = field(default_factory=dict)
    log: list[Happened] = field(default_factory=list)
    delivered: list[Delivered] = field(default_factory=list)
    attempts: Attempts = field(default_factory=Attempts)


def read_truth(rows: Iterable[Sequence[Any]]) -> Truth:
    """Put the rows of a network's record together."""
    truth = Truth()
    for kind, *values in rows:
        READERS[kind](truth, *values)
    return truth


def _read_leg(
    truth: Truth, sid: str, from_: str, to: str, created: float, status: str, ended: float | None, url: str
) -> None:
    intent = _INTENT.search(url)
    identity = from_.removeprefix("client:") if from_.startswith("client:") else ""
    truth.legs[sid] = NetworkLeg(sid, status, identity, intent[1] if intent else "", created, ended)


def _read_entry(truth: Truth, at: float, kind: str, call_sid: str | None, conference_sid: str | None) -> None:
    truth.log.append(Happened(at, kind, call_sid))


def _read_attempt(
    truth: Truth, due: float, answered: float, status: int, url: str, form: dict[str, str], purpose: str
) -> None:
    for column, value in ((truth.attempts.due, due), (truth.attempts.seconds, answered - due)):
        column.append(value)
    truth.attempts.status.append(status)
    if status // 100 == 2:
        path = urlsplit(url).path
        truth.delivered.append(Delivered(due, purpose, form.get("CallSid"), path, tuple(form.items()), status))


READERS: dict[str, Callable[..., None]] = {"leg": _read_leg, "log": _read_entry, "try": _read_attempt}


def judge(store: Store, truth: Truth, troubles: Sequence[Trouble]) -> dict[str, list[str]]:
    """Each invariant with what broke it. `troubles`: what was done to Dialer meanwhile."""
    workspaces = dict.fromkeys(AGENTS, demo.WORKSPACE)
    return check(Record(truth.legs, truth.log, store, truth.delivered, workspaces, troubles))


def percentile(sorted_values: Sequence[float], share: float) -> float:
    """The value that this share of them does not pass; 0 of none."""
    return sorted_values[min(len(sorted_values) - 1, int(len(sorted_values) * share))] if sorted_values else 0.0
