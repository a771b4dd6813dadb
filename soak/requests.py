"""Bad input at scale: generated requests through the shipped WSGI application, each answer judged.

Requests come in batches: each begins with the same store, so that what a request finds follows from the seed and its
number, and the store does not grow. `python -m soak requests --seed S --only N` plays one again, with its batch.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import re
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, cast

import click
from sqlite_utils.utils import sqlite3

from dialer.auth import SCOPES, add_key
from dialer.openapi import OPERATIONS
from dialer.simulator.world import PUBLIC_URL, START, World
from dialer.store.sqlite import SqliteStore
from dialer.voice import webhooks
from dialer.webhook import FastLane
from soak.generator import Made, Sender

BATCH = 2000
#: Seconds of the application's clock between two requests: some keys run into their limits.
PACE = 0.02
#: Each so many of the webhooks are sent again, through Flask's routes: the answer must be the same.
AGAIN = 16
#: What a line of refusal begins with, so that it names the thing.
NAMED = re.compile(r"(field \S|header \S|the body )")
#: Memory is measured after each so many requests, and counts after these: until then caches fill.
MEASURED = 10 * BATCH
WARM_UP = 100_000
PAGE = os.sysconf("SC_PAGE_SIZE")

Wsgi = Callable[..., Iterable[bytes]]


@dataclass(slots=True)
class Reply:
    status: int
    headers: dict[str, str]
    body: bytes


class Target:
    """A Dialer with calls in every state, and what is needed to ask it."""

    def __init__(self, folder: Path) -> None:
        self.world = World(folder)
        logging.getLogger("dialer").setLevel(logging.CRITICAL)  # alarms are no breaches here, and there are many
        self.fast = cast(FastLane, self.world._wsgi)
        self.flask: Wsgi = self.fast.rest
        self.store = cast(SqliteStore, self.world.dialer.store)
        for agent in self.world.agents:
            for to in ("+14155550101", "+14155550103", "+14155550102", "12345"):
                self.world.dial(agent, to)
        self.world.run(4.0)
        self.sender = self._sender()
        self.database: Any = self.store._write_connection()
        self._first = sqlite3.connect(":memory:")
        self.database.backup(self._first)

    def begin_batch(self) -> None:
        """The store as it was at first."""
        self._first.backup(self.database)

    def ask(self, made: Made, number: int = 0, *, through: Wsgi | None = None) -> Reply:
        """One request, at its moment of the batch; through Flask's routes alone if so asked."""
        self.world.network.now = START + 60 + PACE * (number % BATCH)
        given: list[Any] = []

        def start_response(status: str, headers: list[tuple[str, str]], *_: Any) -> None:
            given[:] = int(status.split()[0]), dict(headers)

        answer = (through or self.fast)(made.environ(), start_response)
        body = b"".join(answer)
        if hasattr(answer, "close"):
            answer.close()
        return Reply(given[0], given[1], body)

    def changes(self) -> int:
        """Rows written so far."""
        return int(self.database.total_changes)

    def rows(self) -> dict[str, int]:
        """How many rows each table has."""
        names = [row[0] for row in self.database.execute("SELECT name FROM sqlite_master WHERE type = 'table'")]
        return {name: self.database.execute(f"SELECT count(*) FROM {name}").fetchone()[0] for name in names}

    def close(self) -> None:
        self._first.close()
        self.store.close()

    def _sender(self) -> Sender:
        dialer = self.world.dialer
        account = dialer.settings.accounts[0]
        with dialer.store.write() as tx:
            keys = [add_key(tx, "ws_demo", agent, SCOPES, now=START) for agent in ("", "ws_demo_agent_0")]
            rows = tx._execute("SELECT id, intent, conference FROM calls").fetchall()  # type: ignore[attr-defined]
            calls = [dict(row) for row in rows]
            for call in calls:
                legs = tx.all("legs", call_id=call["id"], workspace="ws_demo")
                found = {leg["role"]: leg["call_sid"] for leg in legs}
                call |= {"agent": "", "customer": "CA" + "c" * 32} | found
        fields = {path: OPERATIONS[view].required for path, view in webhooks.views.items()}
        return Sender(PUBLIC_URL, account.sid, account.tokens[0].reveal(), keys, calls, fields)


def judge(made: Made, reply: Reply, changed: bool) -> str:
    """What is wrong with an answer; nothing when all is well."""
    if reply.status >= 500:
        return f"answered {reply.status}: {reply.body[:200]!r}"
    if not made.webhook:
        return _judge_api(made, reply)
    if not made.signed and (changed or reply.status < 400) and made.method != "OPTIONS":
        return f"not signed, and answered {reply.status}{', and something was stored' if changed else ''}"
    if made.signed and reply.status not in (200, 204, 400, 404):
        return f"signed, and answered {reply.status}"
    text = reply.headers.get("Content-Type", "").startswith("text/plain")
    if reply.status == 400 and not (text and NAMED.match(reply.body.decode())):
        return f"a refusal that names nothing: {reply.body[:200]!r}"
    return ""


def _judge_api(made: Made, reply: Reply) -> str:
    open_to_all = made.path in ("/healthz", "/readyz", "/v1/openapi.json") or made.method == "OPTIONS"
    if not (made.keyed or open_to_all) and reply.status not in (401, 404, 405, 429):
        return f"no good key, and answered {reply.status}"
    if reply.status < 400 or made.method == "HEAD" or not made.path.startswith("/v1/"):
        return ""
    error = json.loads(reply.body).get("error", {})
    return "" if error.get("code") and error.get("message") else f"an error of another shape: {reply.body[:200]!r}"


@dataclass(slots=True)
class Result:
    """What a run came to. `memory` are (requests so far, resident bytes)."""

    seed: int
    count: int = 0
    seconds: float = 0.0
    processor: float = 0.0
    unsigned: int = 0
    statuses: Counter[int] = field(default_factory=Counter)
    breaches: list[tuple[int, str]] = field(default_factory=list)
    memory: list[tuple[int, int]] = field(default_factory=list)

    def figure(self) -> str:
        failed = sum(count for status, count in self.statuses.items() if status >= 500)
        accepted = sum("not signed" in text for _, text in self.breaches)
        return f"generated requests: {self.count:,}, {failed} answered 500, {accepted} unsigned accepted"

    def growth(self) -> float:
        """Bytes of memory for each request, by least squares over what was measured after the warm-up."""
        points = [point for point in self.memory if point[0] >= WARM_UP]
        if len(points) < 2:
            return 0.0
        x0, y0 = (sum(point[axis] for point in points) / len(points) for axis in (0, 1))
        return sum((x - x0) * (y - y0) for x, y in points) / sum((x - x0) ** 2 for x, _ in points)


def drive(target: Target, seed: int, numbers: range, *, tell: Callable[[str], None] | None = None) -> Result:
    """Send requests by number, and judge each answer."""
    result, started, used = Result(seed), time.perf_counter(), time.process_time()
    for number in numbers:
        if number % BATCH == 0 or number == numbers.start:
            target.begin_batch()
        if number % MEASURED == 0:
            gc.collect()
            result.memory.append((result.count, resident()))
        _send(target, result, number)
        if tell and result.count % 100_000 == 0:
            rate = result.count / (time.perf_counter() - started)
            memory = f"{resident() / 1e6:.0f} MB"
            tell(f"{result.count:,} sent, {rate:,.0f} a second, {memory}, {len(result.breaches)} breaches")
    result.seconds, result.processor = time.perf_counter() - started, time.process_time() - used
    return result


def _send(target: Target, result: Result, number: int) -> None:
    made, before = target.sender.make(result.seed, number), target.changes()
    try:
        reply = target.ask(made, number)
    except Exception as error:  # as a server would answer it
        reply = Reply(500, {}, repr(error).encode())
    fault = judge(made, reply, target.changes() != before) or (number % AGAIN == 0 and differs(target, made, reply))
    result.count += 1
    result.unsigned += made.webhook and not made.signed
    result.statuses[reply.status] += 1
    if fault:
        result.breaches.append((number, fault))


def differs(target: Target, made: Made, reply: Reply) -> str:
    """How Flask's routes answer the same webhook, if otherwise than the short way past them did."""
    if not made.webhook:
        return ""
    again = target.ask(made, through=target.flask)
    same = (again.status, again.body) == (reply.status, reply.body)
    return "" if same else f"answered {reply.status} {reply.body[:200]!r}, by Flask {again.status} {again.body[:200]!r}"


def resident() -> int:
    """Bytes of memory that this process holds."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * PAGE


def explain(target: Target, seed: int, number: int) -> list[str]:
    """One request and its answer, after all that its batch sent before."""
    drive(target, seed, range(number - number % BATCH, number))
    if number % BATCH == 0:
        target.begin_batch()
    logging.getLogger("dialer").setLevel(logging.INFO)
    made, before = target.sender.make(seed, number), target.changes()
    try:
        reply = target.ask(made, number)
    except Exception as error:
        reply = Reply(500, {}, repr(error).encode())
    answered = f"answered {reply.status} {reply.headers} {reply.body[:2000]!r}"
    return [f"{made.method} {made.target!r}", repr(made), answered, judge(made, reply, target.changes() != before)]


@click.command()
@click.option("--count", default=2_000_000, show_default=True, help="How many requests.")
@click.option("--seed", default=1, show_default=True)
@click.option("--only", type=int, help="Play this one again, with what its batch sent before it, and show it.")
@click.option("--growth", default=4.0, show_default=True, help="Bytes of memory that a request may leave behind.")
def requests(count: int, seed: int, only: int | None, growth: float) -> None:
    """Bad input: generated requests to every endpoint; none fails, none unsigned is taken, memory stays flat."""
    with tempfile.TemporaryDirectory() as folder:
        target = Target(Path(folder))
        if only is not None:
            click.echo("\n".join(explain(target, seed, only)))
            return
        click.echo(f"{count:,} requests from seed {seed}, batches of {BATCH:,}, each with the same store")
        result = drive(target, seed, range(count), tell=click.echo)
        target.close()
    for number, fault in result.breaches[:20]:
        click.echo(f"request {number}: {fault}\n  replay: python -m soak requests --seed {seed} --only {number}")
    statuses = ", ".join(f"{status}: {found:,}" for status, found in sorted(result.statuses.items()))
    click.echo(f"answers: {statuses}; not signed: {result.unsigned:,}")
    rate, alone = result.count / result.seconds, result.count / result.processor
    click.echo(f"{rate:,.0f} requests a second, {alone:,.0f} with a core of its own")
    click.echo(f"memory: {resident() / 1e6:.0f} MB, {result.growth():.2f} bytes more for each request (limit {growth})")
    click.echo(f"{result.figure()}, seed {seed}")
    if result.breaches or result.growth() > growth:
        sys.exit(1)
