"""Judges a finished Stack: what the network saw of it and what Dialer has on record, through the invariants."""

from __future__ import annotations

import json
import re
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any
from urllib.parse import urlsplit

from dialer import demo
from dialer.hookspecs import TOLD
from dialer.simulator.invariants import Delivered, NetworkLeg, Record, Told, Trouble, check
from dialer.simulator.model import Entry
from dialer.store import Row
from soak.stack import AGENTS, Stack

_INTENT = re.compile(r"[?&]intent=(di_[0-9a-f]+)")


def find_breaches(stack: Stack, troubles: Sequence[Trouble] = ()) -> list[str]:
    """What is not as it must be, a sentence each. `troubles`: what was done to Dialer meanwhile."""
    broken = check(read_record(stack, troubles))
    return [f"{name}: {breach}" for name, breaches in broken.items() for breach in breaches]


def read_record(stack: Stack, troubles: Sequence[Trouble] = ()) -> Record:
    """All that is known of a run."""
    log = stack.network_log()
    legs = {leg["sid"]: _leg(leg) for leg in stack.network_calls()}
    lost = [Trouble("lost", line["at"], line["at"], _about(line)) for line in log if line["kind"] == "fault"]
    return Record(
        legs,
        [Entry(*(line[name] for name in Entry.__slots__)) for line in log],
        stack.store(),
        [_delivered(sent) for sent in stack.webhooks()],
        dict.fromkeys(AGENTS, demo.WORKSPACE),
        [*troubles, *lost, *_unanswered(stack)],
        [_told(line) for line in told(stack)],
        {"recorder": frozenset(TOLD)} if "recorder" in stack.plugins else {},
    )


def find_lost_deliveries(stack: Stack) -> Iterator[str]:
    """Whatever the plugin is owed it was told, and twice only where that was begun twice."""
    owed, begun = Counter[str](), Counter[str]()
    for job in jobs(stack):
        if job["kind"] == "deliver":
            owed[job["hook"]] += 1
            begun[job["hook"]] += job["attempts"]
            if job["status"] != "done":
                yield f"delivery {job['id']} of {job['hook']} is {job['status']}: {job['result']}"
    heard = Counter(str(line["hook"]) for line in told(stack))
    for hook, times in owed.items():
        if not times <= heard[hook] <= begun[hook]:
            yield f"{hook}: owed {times}, begun {begun[hook]}, told {heard[hook]}"


def told(stack: Stack) -> list[dict[str, Any]]:
    """What the recorder was told, in order."""
    file = stack.folder / "told"
    return [json.loads(line) for line in file.read_text().splitlines()] if file.exists() else []


def calls(stack: Stack) -> list[Row]:
    """The calls on record, oldest first."""
    with stack.store().read() as tx:
        return tx.all("all_calls", workspace="", status="", limit=10**9)[::-1]


def events(stack: Stack) -> list[Row]:
    """All events on record, call by call."""
    return [row for call in calls(stack) for row in _of_call(stack, "events_of_call", call, after=0)]


def jobs(stack: Stack) -> list[Row]:
    """All jobs on record, call by call."""
    return [row for call in calls(stack) for row in _of_call(stack, "jobs_of_call", call)]


def _of_call(stack: Stack, statement: str, call: Row, **values: object) -> list[Row]:
    with stack.store().read() as tx:
        return tx.all(statement, call_id=call["id"], workspace=call["workspace"], **values)


def _leg(leg: dict[str, Any]) -> NetworkLeg:
    intent = _INTENT.search(leg["voiceUrl"] or "")
    identity = leg["caller"].removeprefix("client:")
    return NetworkLeg(
        leg["sid"], leg["status"], identity, intent[1] if intent else "", leg["createdAt"], leg["endedAt"]
    )


def _told(line: dict[str, Any]) -> Told:
    return Told(
        "recorder", line["hook"], line["call"], line.get("name", ""), line.get("leg", ""), line.get("at", 0.0)
    )


def _delivered(sent: dict[str, Any]) -> Delivered:
    status = sent["answer"]["status"] if sent["answer"] else 0
    form = tuple((name, value) for name, value in sent["form"])
    return Delivered(sent["at"], sent["purpose"], sent["callSid"], urlsplit(sent["url"]).path, form, status)


def _unanswered(stack: Stack) -> Iterator[Trouble]:
    """An attempt of a webhook that was not answered well was lost on the way."""
    for sent in stack.webhooks():
        if not sent["answer"] or sent["answer"]["status"] // 100 != 2:
            yield Trouble("lost", sent["at"], sent["at"] + sent["seconds"], sent["callSid"] or sent["conferenceSid"])


def _about(line: dict[str, Any]) -> str:
    """Whose a fault was: a leg's, a conference's, a dial intent's; that of a request for none of them is nobody's."""
    intent = _INTENT.search(line["detail"].get("url", ""))
    return str(intent[1] if intent else line["call_sid"] or line["conference_sid"] or "another")
