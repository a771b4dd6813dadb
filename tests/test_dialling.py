"""Dialling at most once: what each way of failing proves, over real sockets, and what is done about the unknown."""

from __future__ import annotations

import logging
import socket
import struct
import threading
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import replace
from typing import Any

import pytest

from dialer import jobs
from dialer.calls import Call, Event
from dialer.dialling import BACKOFF, Outcome, claim, dial, request_options, send, settle
from dialer.records import Fact, add_call, find_call, record
from dialer.service import Service
from dialer.settings import Account
from dialer.simulator import Faults
from dialer.simulator.world import World
from dialer.store import Row
from dialer.tables import Secret
from dialer.twilio import Carrier

ACCOUNT = Account(sid="AC" + "1" * 32, tokens=(Secret("token"),))
SID = "CA" + "c" * 32
NEVER = "+14155550103"
RESET = struct.pack("ii", 1, 0)


class Peer:
    """A server on loopback that reads each request whole and then does one thing with the connection."""

    def __init__(self, then: Callable[[socket.socket], None]) -> None:
        self.then = then
        self.requests: list[bytes] = []
        self.held: list[socket.socket] = []
        self.socket = socket.create_server(("127.0.0.1", 0))
        self.thread = threading.Thread(target=self.serve, daemon=True)
        self.thread.start()

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.socket.getsockname()[1]}"

    def serve(self) -> None:
        with suppress(OSError):
            while True:
                connection, _ = self.socket.accept()
                self.requests.append(read_request(connection))
                self.held.append(connection)
                self.then(connection)

    def close(self) -> None:
        self.socket.shutdown(socket.SHUT_RDWR)
        self.thread.join()
        for one in (self.socket, *self.held):
            one.close()


def read_request(connection: socket.socket) -> bytes:
    data = b""
    while b"\r\n\r\n" not in data:
        data += connection.recv(65536)
    head, _, body = data.partition(b"\r\n\r\n")
    length = next(int(line.split(b":")[1]) for line in head.split(b"\r\n") if line.lower().startswith(b"content-len"))
    while len(body) < length:
        body += connection.recv(65536)
    return head + b"\r\n\r\n" + body


def answers(status: str, body: str = "", *headers: str) -> Callable[[socket.socket], None]:
    head = "\r\n".join([f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers])

    def then(connection: socket.socket) -> None:
        connection.sendall(f"{head}\r\n\r\n{body}".encode())
        connection.close()

    return then


def resets(connection: socket.socket) -> None:
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, RESET)
    connection.close()


def breaks_off(connection: socket.socket) -> None:
    connection.sendall(b'HTTP/1.1 201 Created\r\nContent-Length: 500\r\n\r\n{"sid": "CA')
    connection.close()


def says_nothing(connection: socket.socket) -> None:
    """The connection stays open until the test is over."""


@pytest.fixture
def peer_that(monkeypatch: pytest.MonkeyPatch) -> Iterator[Callable[[Callable[[socket.socket], None]], Peer]]:
    monkeypatch.setattr("dialer.transport.TIMEOUT", (0.5, 0.3))
    peers: list[Peer] = []

    def make(then: Callable[[socket.socket], None]) -> Peer:
        peers.append(Peer(then))
        return peers[-1]

    yield make
    for peer in peers:
        peer.close()


@pytest.fixture
def world(stage: Any) -> World:
    found: World = stage.world
    return found


def waiting(world: World, number: int = 0, to: str = NEVER) -> Call:
    """A call whose agent is in his conference: the next thing is to dial."""
    now, agent = world.dialer.clock(), f"CA{number:032x}"
    call = Call(f"call_{number}", "ws_demo", world.agents[0].identity, to, "+14155550199", f"conference-{number}")
    call = replace(call, account_sid=world.account_sid, intent=f"di_{number:032x}", requested_at=now)
    with world.dialer.store.write() as tx:
        add_call(tx, call, "<Response/>", now)
        joined = Event("join", now, "agent", agent, status="in-progress")
        fact = Fact(f"join:{agent}", "participant-join", "webhook", joined)
        after = record(tx, call, fact, now=now, plugins=none(world))
    assert after
    return after


def none(world: World) -> Any:
    return world.dialer.plugins.current()


def now_of(dialer: Service, call: Call) -> Call:
    with dialer.store.read() as tx:
        found = find_call(tx, "call", call_id=call.id, workspace=call.workspace)
    assert found
    return found


ERROR = '{{"code": {}, "message": "no", "status": 400, "more_info": "x"}}'
PROBLEM = '{"type": "https://x.example/21215", "title": "no", "status": 422, "code": 21215, "detail": "not there"}'
PROVES = [
    (resets, "unknown", "no-answer"),
    (lambda connection: connection.close(), "unknown", "no-answer"),
    (says_nothing, "unknown", "no-answer"),
    (breaks_off, "unknown", "no-answer"),
    (answers("500 Internal Server Error", ERROR.format(20500)), "unknown", "twilio-20500"),
    (answers("503 Service Unavailable", "<html>"), "unknown", "twilio-503"),
    (answers("408 Request Timeout"), "unknown", "twilio-408"),
    (answers("302 Found", "", "Location: http://127.0.0.1:9/"), "unknown", "twilio-302"),
    (answers("201 Created", "<html>created</html>"), "unknown", "no-answer"),
    (answers("201 Created", ""), "unknown", "no-answer"),
    (answers("201 Created", "{}"), "unknown", "no-answer"),
    (answers("201 Created", "[]"), "unknown", "no-answer"),
    (answers("201 Created", '{"sid": null}'), "unknown", "no-answer"),
    (answers("201 Created", f'{{"sid": "{SID}"}}'), "accepted", ""),
    (answers("400 Bad Request", ERROR.format(21211)), "rejected", "twilio-21211"),
    (answers("401 Unauthorized", ERROR.format(20003)), "rejected", "twilio-20003"),
    (answers("404 Not Found", ERROR.format(20404)), "rejected", "twilio-20404"),
    (answers("403 Forbidden", "nonsense"), "rejected", "twilio-403"),
    (answers("429 Too Many Requests", ERROR.format(20429)), "planned", "twilio-20429"),
    (answers("429 Too Many Requests", "", "Retry-After: 7"), "planned", "twilio-20429"),
    (
        answers("422 Unprocessable Content", PROBLEM, "Content-Type: application/problem+json"),
        "rejected",
        "twilio-21215",
    ),
]


@pytest.mark.parametrize(("then", "state", "rule"), PROVES)
def test_an_outcome_is_what_the_wire_proves_and_one_post_is_sent(
    world: World, peer_that: Any, then: Any, state: str, rule: str
) -> None:
    peer, call = peer_that(then), waiting(world)
    carrier = Carrier(ACCOUNT, peer.url)
    outcome = send(world.dialer, carrier, call)
    assert (outcome.state, outcome.rule) == (state, rule)
    assert outcome.call_sid == (SID if state == "accepted" else "")
    assert [request.partition(b"\r\n")[0] for request in peer.requests] == [
        b"POST /2010-04-01/Accounts/%s/Calls.json HTTP/1.1" % ACCOUNT.sid.encode()
    ]
    word, _ = dial(world.dialer, carrier, call.id, call.workspace)
    assert word.startswith(state)
    again, _ = dial(world.dialer, carrier, call.id, call.workspace)
    assert again.startswith("planned" if state == "planned" else "no longer owed")
    assert len(peer.requests) == (3 if state == "planned" else 2)


@pytest.mark.parametrize(("asked", "waited"), [("7", 7.0), ("3600", 30.0)])
def test_a_busy_twilio_is_given_the_time_it_asks_for(world: World, peer_that: Any, asked: str, waited: float) -> None:
    peer, call = peer_that(answers("429 Too Many Requests", "", f"Retry-After: {asked}")), waiting(world)
    assert dial(world.dialer, Carrier(ACCOUNT, peer.url), call.id, call.workspace)[1] == waited


def test_a_clock_that_was_set_back_does_not_hold_up_dials(world: World) -> None:
    first, second = waiting(world, 0), waiting(world, 1)
    assert claim(world.dialer, first.id, first.workspace).call
    world.network.now -= 3600
    assert claim(world.dialer, second.id, second.workspace).call


def test_what_never_left_is_proof_that_nothing_was_made(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dialer.transport.TIMEOUT", (0.2, 0.3))
    with socket.create_server(("127.0.0.1", 0)) as gone:
        refused = f"http://127.0.0.1:{gone.getsockname()[1]}"
    full = socket.socket()
    full.bind(("127.0.0.1", 0))
    full.listen(0)
    silent = f"http://127.0.0.1:{full.getsockname()[1]}"
    fill = [socket.socket() for _ in range(3)]
    for one in fill:
        one.setblocking(False)
        one.connect_ex(full.getsockname())
    call = waiting(world)
    outcomes = [
        send(world.dialer, Carrier(ACCOUNT, url), call) for url in (refused, silent, "http://nonexistent.invalid")
    ]
    assert [(one.state, one.rule) for one in outcomes] == [("planned", "unreachable")] * 3
    for one in (full, *fill):
        one.close()


def test_a_dial_whose_connection_stands_too_late_never_leaves(world: World, monkeypatch: pytest.MonkeyPatch) -> None:
    call = waiting(world)
    monkeypatch.setattr("dialer.transport.CONNECT_LIMIT", -1.0)  # as if the name had taken that long to resolve
    with socket.create_server(("127.0.0.1", 0)) as peer:
        outcome = send(world.dialer, Carrier(ACCOUNT, f"http://127.0.0.1:{peer.getsockname()[1]}"), call)
        connection, _ = peer.accept()
        with connection:
            assert connection.recv(100) == b""
    assert (outcome.state, outcome.rule) == ("planned", "unreachable")


def test_the_request_carries_the_intent_in_every_url(world: World, peer_that: Any) -> None:
    peer, call = peer_that(answers("201 Created", f'{{"sid": "{SID}"}}')), waiting(world)
    send(world.dialer, Carrier(ACCOUNT, peer.url), call)
    body = peer.requests[0].partition(b"\r\n\r\n")[2].decode()
    assert body.count(f"%3Fintent%3D{call.intent}") == 3
    assert body.count("%23ct%3D2000%26rt%3D4000%26rc%3D5%26rp%3Dall") == 3
    assert [f"StatusCallbackEvent={name}" in body for name in ("initiated", "ringing", "answered", "completed")] == [
        True
    ] * 4
    assert "Timeout=30" in body
    assert "TimeLimit=7200" in body


def test_only_one_of_many_workers_claims_a_call(world: World) -> None:
    call, begin = waiting(world), threading.Barrier(8)

    def work(_: int) -> Any:
        begin.wait()
        return claim(world.dialer, call.id, call.workspace)

    with ThreadPoolExecutor(8) as pool:
        claims = list(pool.map(work, range(8)))
    assert sorted(one.word for one in claims) == [""] + ["no longer owed"] * 7
    assert [one.call.dial for one in claims if one.call] == ["sending"]


def test_a_slow_worker_and_a_second_one_send_one_request(world: World, peer_that: Any) -> None:
    def slowly(connection: socket.socket) -> None:
        time.sleep(0.1)
        answers("201 Created", f'{{"sid": "{SID}"}}')(connection)

    peer, call = peer_that(slowly), waiting(world)
    carrier = Carrier(ACCOUNT, peer.url)
    with ThreadPoolExecutor(4) as pool:
        words = sorted(pool.map(lambda _: dial(world.dialer, carrier, call.id, call.workspace)[0], range(4)))
    assert (words, len(peer.requests)) == (["accepted"] + ["no longer owed"] * 3, 1)


@pytest.mark.parametrize(("pace", "at_once", "wait"), [(1.0, 1, 1.0), (3.0, 3, 1.0), (0.5, 1, 2.0), (0.1, 1, 10.0)])
def test_claims_keep_to_the_accounts_pace(make_stage: Any, pace: float, at_once: int, wait: float) -> None:
    world = make_stage(pace=pace).world
    calls = [waiting(world, number, f"+1415555{number:04d}") for number in range(at_once + 1)]
    claims = [claim(world.dialer, call.id, call.workspace) for call in calls]
    assert [one.call is not None for one in claims] == [True] * at_once + [False]
    assert claims[-1].wait == pytest.approx(wait, abs=0.001)
    assert claims[-1].word == "waiting for the account's pace"
    world.network.now += claims[-1].wait
    assert claim(world.dialer, calls[-1].id, calls[-1].workspace).call


def test_what_provably_made_nothing_is_repeated_ever_later_and_then_given_up(world: World) -> None:
    call = waiting(world)
    carrier: Any = Unreachable()
    waits = []
    while (wait := dial(world.dialer, carrier, call.id, call.workspace)[1]) > 0:
        waits.append(wait)
        world.network.now += wait
    assert (tuple(waits), carrier.asked) == (BACKOFF, len(BACKOFF) + 1)
    after = now_of(world.dialer, call)
    assert (after.dial, after.status, after.rule) == ("rejected", "failed", "unreachable")
    assert after.reason == "The telephone network could not be reached. Please try again later."


class Unreachable:
    """A carrier whose every connection is refused."""

    asked = 0

    def dial(self, *_: Any) -> str:
        from requests.exceptions import ConnectTimeout

        self.asked += 1
        raise ConnectTimeout


def test_an_agent_who_leaves_between_two_tries_ends_them(world: World) -> None:
    call, carrier = waiting(world), Unreachable()
    dial(world.dialer, carrier, call.id, call.workspace)  # type: ignore[arg-type]
    left = Event("leave", world.network.now, "agent", call.legs[0].call_sid, by="agent")
    with world.dialer.store.write() as tx:
        fact = Fact("left", "participant-leave", "webhook", left)
        record(tx, now_of_tx(tx, call), fact, now=world.network.now, plugins=none(world))
    assert dial(world.dialer, carrier, call.id, call.workspace) == ("no longer owed", 0.0)  # type: ignore[arg-type]
    assert (carrier.asked, now_of(world.dialer, call).status) == (1, "canceled")


def now_of_tx(tx: Any, call: Call) -> Call:
    found = find_call(tx, "call", call_id=call.id, workspace=call.workspace)
    assert found
    return found


def dies_after_claim(worker: jobs.Worker, job: Row) -> jobs.Result:
    return jobs.Result(claim(worker.dialer, job["call_id"], job["workspace"]).word)


def dies_after_post(worker: jobs.Worker, job: Row) -> jobs.Result:
    """The request went out, nobody wrote down what came of it, and no callback arrives from now on."""
    claimed = claim(worker.dialer, job["call_id"], job["workspace"])
    assert claimed.call
    send(worker.dialer, worker.carriers(claimed.call.account_sid), claimed.call)
    return jobs.Result("")


def handle_dials_with(monkeypatch: pytest.MonkeyPatch, handler: Any) -> None:
    monkeypatch.setattr(jobs, "HANDLERS", {**jobs.HANDLERS, "dial": handler})


def deaf(stage: Any) -> None:
    stage.world.network.faults = Faults(webhook_lost=1.0)


def hearing(stage: Any) -> None:
    stage.world.network.faults = Faults()


def times(talker: Any) -> dict[str, float]:
    return {row["name"]: row["received_at"] for row in talker.rows("events_of_call", after=0)}


def test_a_dial_that_died_is_unknown_after_15_seconds_and_absent_after_35(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle_dials_with(monkeypatch, dies_after_claim)
    talker = stage.agent_dials(NEVER)
    stage.ends()
    at = times(talker)
    assert 15 <= at["dial-unknown"] - at["dial-sending"] < 18
    assert 35 <= at["dial-absent"] - at["dial-sending"] < 45
    assert (talker.call.status, talker.call.rule, stage.dialled()) == ("failed", "not-placed", [])
    assert talker.rows("intents_of_call")[0]["looks"] >= 3
    assert talker.heard == ["The call was not placed. You may dial again."]


def test_looks_that_fail_do_not_count_towards_absent(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    handle_dials_with(monkeypatch, dies_after_claim)
    talker = stage.agent_dials(NEVER)
    stage.lasts(16)
    stage.world.network.faults = Faults(rest_500_undone=1.0)
    stage.lasts(60)
    assert (talker.call.dial, talker.rows("intents_of_call")[0]["looks"]) == ("unknown", 0)
    hearing(stage)
    stage.ends()
    assert (talker.call.dial, talker.rows("intents_of_call")[0]["looks"]) == ("absent", 3)


def test_a_leg_that_no_callback_told_of_is_found_in_the_list(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    handle_dials_with(monkeypatch, dies_after_post)
    monkeypatch.setattr("dialer.voice.call_of", lambda tx, hook, sid: None)  # as if no status ever came
    talker = stage.agent_dials("+14155550108")
    stage.lasts(25)
    assert talker.call.dial == "accepted"
    assert talker.call.leg("customer").call_sid == stage.dialled()[0].sid
    sources = {row["name"]: row["source"] for row in talker.rows("events_of_call", after=0)}
    assert sources["dial-unknown"] == sources["leg-" + talker.call.leg("customer").status] == "reconcile"
    assert len(stage.dialled()) == 1


def test_a_leg_that_two_calls_may_have_made_is_nobodys(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    handle_dials_with(monkeypatch, dies_after_post)
    monkeypatch.setattr("dialer.voice.call_of", lambda tx, hook, sid: None)
    first = stage.agent_dials("+14155550108")
    handle_dials_with(monkeypatch, dies_after_claim)
    second = stage.agent_dials("+14155550108", stage.world.agents[1])
    stage.lasts(60)
    assert [talker.call.dial for talker in (first, second)] == ["unknown", "unknown"]
    assert [talker.call.leg("customer") for talker in (first, second)] == [None, None]
    stage.lasts(120)  # long enough for both to be given up, one a little before the other
    assert [talker.call.dial for talker in (first, second)] == ["absent", "absent"]
    assert [talker.call.leg("customer") for talker in (first, second)] == [None, None]


def test_a_call_that_somebody_else_made_before_is_not_adopted(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    carrier = stage.world.worker.carriers(stage.world.account_sid)
    carrier.dial(NEVER, "+14155550199", {"twiml": "<Response><Hangup/></Response>"})
    stage.lasts(5)
    handle_dials_with(monkeypatch, dies_after_claim)
    talker = stage.agent_dials(NEVER)
    stage.ends()
    assert (talker.call.dial, talker.call.leg("customer")) == ("absent", None)


def test_a_leg_that_appears_after_it_was_given_up_is_hung_up_with_an_alarm(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    handle_dials_with(monkeypatch, dies_after_claim)
    talker = stage.agent_dials(NEVER)
    stage.lasts(50)
    assert talker.call.dial == "absent"
    alarms: list[str] = []
    handler = logging.Handler()
    handler.emit = lambda record: alarms.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("dialer").addHandler(handler)
    carrier = stage.world.worker.carriers(stage.world.account_sid)
    carrier.dial(NEVER, talker.call.from_, request_options(stage.world.dialer, talker.call))
    stage.lasts(3)
    (late,) = stage.dialled()
    assert late.status == "canceled"
    assert [alarm for alarm in alarms if "late_leg" in alarm] == [
        f"late_leg: {talker.call.id} was given up, and has a customer leg {late.sid} now"
    ]
    assert (talker.call.status, talker.call.settled) == ("failed", True)


@pytest.mark.parametrize(("stood_still", "came_to"), [(3.9, "accepted"), (4.1, "planned")])
def test_a_process_that_stood_still_after_its_claim_does_not_dial(
    world: World, peer_that: Any, stood_still: float, came_to: str
) -> None:
    peer, call, moments = peer_that(answers("201 Created", f'{{"sid": "{SID}"}}')), waiting(world), [0.0, stood_still]
    dialer = replace(world.dialer, steady=lambda: moments.pop(0))
    word, again = dial(dialer, Carrier(ACCOUNT, peer.url), call.id, call.workspace)
    after = now_of(dialer, call)
    assert (after.dial, len(peer.requests)) == (came_to, came_to == "accepted")
    assert (word, again) == (("accepted", 0.0) if came_to == "accepted" else ("planned held-up", BACKOFF[0]))


def test_a_callback_before_the_answer_binds_the_leg_and_the_answer_adds_nothing(world: World) -> None:
    call = waiting(world)
    claimed = claim(world.dialer, call.id, call.workspace)
    early = Event("leg", world.network.now, "customer", SID, status="ringing")
    with world.dialer.store.write() as tx:
        fact = Fact("status:1", "leg-ringing", "webhook", early)
        record(tx, now_of_tx(tx, call), fact, now=world.network.now, plugins=none(world))
    before = now_of(world.dialer, call)
    assert settle(world.dialer, claimed, Outcome("accepted", SID)) == 0.0
    assert (now_of(world.dialer, call), before.dial) == (before, "accepted")
