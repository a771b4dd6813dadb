"""Disorder: the six usual events of a call in every order, each doubled and each missing, come to one end.

Every sequence is a call of its own: whole webhooks through the application, then the jobs, whose looks at Twilio find
what was missing. The dial request was sent before the first event, and is answered before it or between any two.
"""

from __future__ import annotations

import io
import logging
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from functools import cache
from itertools import permutations
from pathlib import Path
from random import Random
from urllib.parse import urlencode

import pytest
from werkzeug.test import run_wsgi_app

from dialer import machine
from dialer.app import create_app
from dialer.auth import add_agent, add_workspace
from dialer.calls import Call
from dialer.dialling import Claim, Outcome, claim, settle
from dialer.jobs import Worker
from dialer.plugins import FixedPlugins, PluginSet
from dialer.records import find_call
from dialer.settings import Account, Calls, Server, Settings
from dialer.signature import signature_of
from dialer.store.sqlite import SqliteStore
from dialer.tables import Secret, Source
from dialer.twilio import Carrier, LegTruth

URL, TOKEN, START = "https://dialer.example", "token", 1_790_000_000
ACCOUNT = Account("AC" + "1" * 32, (Secret(TOKEN),), calls_per_second=1e9)
#: When each event really happened, in seconds after the start, and when the last of them was heard.
HAPPENED = {"agent-join": 1, "initiated": 2, "ringing": 3, "in-progress": 5, "customer-join": 6, "completed": 48}
SIX, TALKED, HEARD = tuple(HAPPENED), 43, 60
DIAL_ANSWER = "201"
Sequence = tuple[str, ...]
Kind = Callable[[Sequence, int], Iterator[Sequence]]
ORDERS: tuple[Sequence, ...] = tuple(permutations(SIX))


def as_they_are(order: Sequence, number: int) -> Iterator[Sequence]:
    yield (DIAL_ANSWER, *order)


def with_each_doubled(order: Sequence, number: int) -> Iterator[Sequence]:
    """The order with each event a second time, at any later place: all of them are used, over the orders."""
    for index, event in enumerate(order, 1):
        place = index + (number + index) % (len(order) - index + 1)
        yield (DIAL_ANSWER, *order[:place], event, *order[place:])


def with_each_missing(order: Sequence, number: int) -> Iterator[Sequence]:
    """The order without each event; in its place the dial request is answered."""
    for event in order:
        yield tuple(DIAL_ANSWER if one == event else one for one in order)


@dataclass
class Played:
    """One call: its legs, what was posted of it, and where."""

    number: int
    sequence: Sequence
    keys: set[str] = field(default_factory=set)

    @property
    def agent_sid(self) -> str:
        return f"CA{self.number * 2:032x}"

    @property
    def customer_sid(self) -> str:
        return f"CA{self.number * 2 + 1:032x}"


class Twilio(Carrier):
    """What Twilio says when it is asked: both legs of every call have long ended."""

    def leg(self, call_sid: str) -> LegTruth:
        is_customer = int(call_sid[2:], 16) % 2
        return LegTruth(call_sid, "completed", START, TALKED if is_customer else HEARD)

    def participants(self, conference_sid: str, name: str) -> frozenset[str]:
        return frozenset()

    def end_conference(self, conference_sid: str, name: str) -> bool:
        return False


class Stage:
    """The application over a store in a folder, and its jobs."""

    def __init__(self, folder: Path) -> None:
        self.now = float(START)
        self.store = SqliteStore(folder / "dialer.db", durable=False)
        settings = Settings(
            source=Source(folder / "dialer.toml"),
            instance=folder,
            server=Server(public_url=URL),
            calls=Calls(dial_when="requested"),
            accounts=(ACCOUNT,),
        )
        plugins = FixedPlugins(PluginSet.of([], inline=True))
        app = create_app(settings, plugins=plugins, store=self.store, clock=lambda: self.now)
        logging.getLogger("dialer").setLevel(logging.ERROR)
        self.wsgi = app.wsgi_app
        carrier = Twilio(ACCOUNT, "http://127.0.0.1:9")
        self.worker = Worker(app.extensions["dialer"], lambda account_sid: carrier, Random(0))
        with self.store.write() as tx:
            add_workspace(tx, "ws", "ws", START)
            add_agent(tx, "ws", "alice", "Alice", "agent", START)
            tx.run("add_number", workspace="ws", number="+14155550199", created_at=START)

    def play(self, played: Played) -> None:
        """The browser calls, the customer is dialled, and the sequence of events comes in."""
        self.now = START
        caller = {"Caller": "client:alice", "To": "+14155550101", "CallStatus": "ringing"}
        self.post("/v1/voice/twiml", CallSid=played.agent_sid, **caller)
        call = self.call(played)
        claimed = claim(self.worker.dialer, call.id, call.workspace)
        assert claimed.call
        self.now = START + HEARD
        for event in played.sequence:
            self.happen(event, played, claimed, call)
        if "completed" in played.sequence:  # no look at Twilio is needed to know
            known = self.call(played)
            customer = known.leg("customer")
            assert customer and (known.status, customer.status, known.duration) == ("completed", "completed", TALKED)

    def happen(self, event: str, played: Played, claimed: Claim, call: Call) -> None:
        if event == DIAL_ANSWER:
            settle(self.worker.dialer, claimed, Outcome("accepted", played.customer_sid))
        elif event.endswith("-join"):
            self.joins(event.removesuffix("-join"), played, call)
        else:
            self.customer_is(event, played, call)

    def joins(self, role: str, played: Played, call: Call) -> None:
        sid, number = (played.agent_sid, "1") if role == "agent" else (played.customer_sid, "2")
        conference = f"CF{played.number:032x}"
        self.post(
            "/v1/voice/conference-status",
            StatusCallbackEvent="participant-join",
            CallSid=sid,
            ConferenceSid=conference,
            FriendlyName=call.conference,
            ParticipantLabel=role,
            SequenceNumber=number,
            Timestamp=time_of(f"{role}-join"),
        )
        played.keys.add(f"conference:{conference}:{number}:participant-join:{sid}")

    def customer_is(self, status: str, played: Played, call: Call) -> None:
        number = ("initiated", "ringing", "in-progress", "completed").index(status)
        fields = {"CallSid": played.customer_sid, "CallStatus": status, "SequenceNumber": str(number)}
        if status == "completed":
            fields["CallDuration"] = str(TALKED)
        self.post(f"/v1/voice/status?intent={call.intent}", Timestamp=time_of(status), **fields)
        played.keys.add(f"status:{played.customer_sid}:{number}:{status}")

    def post(self, path: str, **fields: str) -> None:
        """One signed webhook, which must be answered well."""
        form = [("AccountSid", ACCOUNT.sid), *fields.items()]
        body = urlencode(form).encode()
        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": path.partition("?")[0],
            "QUERY_STRING": path.partition("?")[2],
            "CONTENT_TYPE": "application/x-www-form-urlencoded",
            "CONTENT_LENGTH": str(len(body)),
            "wsgi.input": io.BytesIO(body),
            "HTTP_X_TWILIO_SIGNATURE": signature_of(URL + path, form, TOKEN),
        }
        _, status, _ = run_wsgi_app(self.wsgi, environ)
        assert status[0] == "2", (path, fields, status)

    def call(self, played: Played) -> Call:
        with self.store.read() as tx:
            call = find_call(tx, "call_of_leg", call_sid=played.agent_sid, account_sid=ACCOUNT.sid)
        assert call
        return call

    def comes_to_rest(self) -> None:
        """Let the dispatcher work for half an hour."""
        for _ in range(60):
            self.now += 30
            while self.worker.sweep(1000):
                pass
            for job in self.worker.claim("", 10**9):
                self.worker.run(job)
            with self.store.read() as tx:
                if not tx.all("open_calls")[0]["open"] and not tx.all("due_plugins", now=1e12):
                    return
        raise AssertionError("calls are still open, or jobs still owed")


@cache
def time_of(event: str) -> str:
    return format_datetime(datetime.fromtimestamp(START + HAPPENED[event], UTC))


def end_of(call: Call) -> str:
    """What must not depend on the order of events."""
    legs = sorted((leg.role, leg.status, leg.joined, leg.left) for leg in call.legs)
    return repr((call.status, call.dial, call.duration, call.answered_at, call.ended_by, call.reason, legs))


def play_all(folder: Path, kinds: Iterable[Kind], orders: Iterable[Sequence] = ORDERS) -> int:
    """Play every sequence as a call and compare their ends; gives how many there were."""
    stage = Stage(folder)
    sequences = (sequence for place, order in enumerate(orders) for kind in kinds for sequence in kind(order, place))
    calls = [Played(number, sequence) for number, sequence in enumerate(sequences)]
    for played in calls:
        stage.play(played)
    stage.comes_to_rest()
    ends: dict[str, dict[str, Sequence]] = defaultdict(dict)
    for played in calls:
        call, gone = stage.call(played), missing_from(played.sequence)
        assert_true_end(call, gone)
        ends[gone][end_of(call)] = played.sequence
    assert all(len(found) == 1 for found in ends.values()), ends
    assert_stored_once(stage, calls)
    stage.store.close()
    return len(calls)


def missing_from(sequence: Sequence) -> str:
    return next((event for event in SIX if event not in sequence), "")


def assert_true_end(call: Call, gone: str) -> None:
    """The end is what happened, as far as it can be known without the event that is gone."""
    agent, customer = call.leg("agent"), call.leg("customer")
    assert agent and customer
    assert len(call.legs) == 2
    assert (call.status, call.dial, call.duration, call.deadline) == ("completed", "accepted", TALKED, None)
    assert (agent.status, customer.status) == ("completed", "completed")
    assert (agent.joined, customer.joined) == (gone != "agent-join", gone != "customer-join")
    earliest = "customer-join" if gone == "in-progress" else "in-progress"
    assert call.answered_at is not None
    assert int(call.answered_at) == START + HAPPENED[earliest]
    if gone != "completed":  # without it both legs are found ended
        assert call.ended_by == "customer"


def assert_stored_once(stage: Stage, calls: list[Played]) -> None:
    """Every event that came is on record once, and nobody was hung up on or told what is not so."""
    database = stage.store.database()
    stored = Counter(key for (key,) in database.execute("SELECT key FROM events WHERE source = 'webhook'"))
    posted = {key for played in calls for key in played.keys}
    assert set(stored) == posted | {f"twiml:{played.agent_sid}" for played in calls}
    assert set(stored.values()) == {1}
    jobs = list(database.execute("SELECT DISTINCT kind, result FROM jobs WHERE result <> 'no longer owed'"))
    assert {kind for kind, _ in jobs} <= {"reconcile", "end_conference"}
    assert not [result for _, result in jobs if "fail" in result]


@pytest.mark.timeout(300)
def test_the_six_in_any_order_and_with_each_missing(tmp_path: Path, record_property: Callable[..., None]) -> None:
    count = play_all(tmp_path, (as_they_are, with_each_missing))
    record_property("figure", f"disorder: {count:,} sequences, all orders of six events and each one missing, one end")
    assert count == 720 + 720 * 6


@pytest.mark.timeout(300)
def test_the_six_in_any_order_with_each_doubled(tmp_path: Path, record_property: Callable[..., None]) -> None:
    count = play_all(tmp_path, (with_each_doubled,))
    record_property("figure", f"disorder: {count:,} sequences, all orders of six events with each one doubled, one end")
    assert count == 720 * 6


def test_no_sequence_is_played_twice() -> None:
    kinds: tuple[Kind, ...] = (as_they_are, with_each_doubled, with_each_missing)
    sequences = [sequence for place, order in enumerate(ORDERS) for kind in kinds for sequence in kind(order, place)]
    assert len(set(sequences)) == len(sequences) == 9360


def take_any_status(old: str, new: str) -> str:
    return new or old


def test_without_the_rank_guard_the_order_shows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(machine, "_higher", take_any_status)
    with pytest.raises(AssertionError):
        play_all(tmp_path, (as_they_are,), ORDERS[-3:])
