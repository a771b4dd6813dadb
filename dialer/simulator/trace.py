"""The history of one call as a person reads it: webhooks, requests, commits, deaths and faults in order of time."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import urlsplit

from dialer.simulator.model import WebRequest
from dialer.simulator.network import Network
from dialer.simulator.rest_routes import RestRequest, RestResponse

#: Statements whose commits are part of a history.
WATCHED = frozenset(
    {"save_call", "save_leg", "add_call", "add_event", "add_job", "finish_job", "retry_job", "due_jobs"}
)
#: Kinds of entries in the network's log that say what people and phones really did.
TRUTH = frozenset(
    {"call-created", "ring-start", "ring-stop", "answered", "conference-enter", "conference-exit", "call-ended", "lost"}
)
_NAMES = re.compile(r"(?:CA|CF)[0-9a-f]{32}|di_[0-9a-f]{32}|call_[0-9a-f]{24}")
_ESSENTIALS = ("CallStatus", "StatusCallbackEvent", "SequenceNumber", "ReasonParticipantLeft", "ErrorCode", "CallSid")


@dataclass(frozen=True, slots=True)
class Moment:
    """One line: when, who did it, what. `names` are the ids it is about; none for what concerns everybody."""

    at: float
    who: str
    text: str
    names: frozenset[str] = frozenset()


@dataclass(slots=True)
class Trace:
    """Collects moments while it is on."""

    network: Network
    on: bool = False
    moments: list[Moment] = field(default_factory=list)
    jobs: dict[int, str] = field(default_factory=dict)
    """What each job that was taken is about."""

    def note(self, who: str, text: str, about: str = "") -> None:
        """Something happened; it concerns the ids in `about`, or everybody."""
        if self.on:
            self.moments.append(Moment(self.network.now, who, text, frozenset(_NAMES.findall(about))))

    def webhook(self, request: WebRequest, status: int, problem: str = "killed before an answer") -> None:
        """A webhook was handed over, and answered so."""
        if not self.on:
            return
        form = dict(request.form)
        said = " ".join(f"{name}={_short(form[name])}" for name in _ESSENTIALS if name in form)
        path = urlsplit(request.url).path
        text = f"POST {path} ({request.purpose}, attempt {request.attempt}) {said} -> {status or problem}"
        self.note("webhook", text, f"{request.url} {request.call_sid} {request.conference_sid} {form}")

    def request(self, request: RestRequest, response: RestResponse, about: str) -> None:
        """A REST request was made for that call, and will be answered so."""
        if not self.on:
            return
        asked = {**dict(request.query.pairs()), **dict(request.form.pairs())}
        shown = " ".join(f"{name}={asked[name]}" for name in ("To", "Status") if name in asked)
        path = request.path.rpartition("/Accounts/")[2].partition("/")[2]
        came = " ".join(filter(None, [str(response.status or ""), response.failed and f"({response.failed})"]))
        self.note("REST", f"{request.method} {_short(path)} {shown} -> {came}", about)

    def committed(self, who: str, statement: str, values: dict[str, Any], result: Any, now: float) -> None:
        """A process has committed that."""
        if not self.on or statement == "save_leg" or result in (None, 0, []):
            return
        if statement == "due_jobs":
            for job in result:
                self.jobs[job["id"]] = f"{job['call_id']} {job['call_sid']}"
                self.note(who, f"takes job {job['id']} {job['kind']} {job['hook']}", self.jobs[job["id"]])
            return
        self.note(who, _in_words(statement, values, now), f"{values} {self.jobs.get(values.get('job_id', 0), '')}")

    def truth(self) -> Iterator[Moment]:
        """What the network's log says that people, phones and faults did."""
        for entry in self.network.log:
            names = frozenset(filter(None, (entry.call_sid, entry.conference_sid)))
            detail = " ".join(f"{name}={_short(str(value))}" for name, value in entry.detail.items() if value)
            if entry.kind == "fault":
                found = frozenset(_NAMES.findall(str(entry.detail.get("url", ""))))
                yield Moment(entry.at, "FAULT", detail, names | found or frozenset({"a list"}))
            elif entry.kind in TRUTH:
                yield Moment(entry.at, "network", f"{entry.kind} {_short(entry.call_sid or '')} {detail}", names)

    def history(self, names: Iterable[str], life: tuple[float, float]) -> list[str]:
        """The lines about any of these ids, and what concerned everybody in that time."""
        wanted = frozenset(names)
        first, last = life[0] - 1.0, life[1] + 30.0
        chosen = [
            one
            for one in [*self.moments, *self.truth()]
            if one.names & wanted or (not one.names and first <= one.at <= last)
        ]
        chosen.sort(key=lambda one: one.at)
        return [f"{one.at - life[0]:+10.3f}  {one.who:10}  {one.text}" for one in chosen]


def _short(text: str) -> str:
    """The text with each SID cut to what tells it from others."""
    return re.sub(r"\b(CA|CF|AC)([0-9a-f]{6})[0-9a-f]{26}", r"\1\2", text)


def _in_words(statement: str, values: dict[str, Any], now: float) -> str:
    if statement == "add_event":
        return f"stores event {values['name']} {values['status']} {_short(values['call_sid'])} ({values['source']})"
    if statement in ("save_call", "add_call"):
        due = values["deadline"]
        when = "settled" if due is None else f"looked at in {due - now:.1f} s"
        return f"call is {values['status']}, dial {values['dial']}, {when}"
    if statement == "add_job":
        wait = values["run_at"] - now
        return f"queues job {values['kind']} {values['hook']} {_short(values['call_sid'])} in {wait:.1f} s"
    wait = f", again in {values['run_at'] - now:.1f} s" if statement == "retry_job" else ""
    return f"job {values['job_id']} {json.dumps(values['result'])[:90]}{wait}"

