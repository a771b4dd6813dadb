"""The load: the simulated network in a process of its own, with calls begun by an open-loop schedule from a seed.

The simulator plays Twilio, so webhooks are signed, due at their moment whatever the server does, and sent again by
Twilio's rules. What really happened is written to a file as it happens: legs, who was where, each webhook attempt.
"""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from random import Random
from typing import IO, Any

import click

from dialer.simulator.model import AgentPlan, Call
from dialer.simulator.network import Network
from dialer.simulator.realtime import Sent, Simulator
from dialer.simulator.server import serve
from dialer.simulator.server_config import load as load_config

#: Webhooks of an average call of this load, all attempts at the first try: found by counting.
WEBHOOKS_PER_CALL = 13.1
#: Seconds between two writings of the record: short, so that none of them holds up a webhook.
DRAIN = 0.1
#: Seconds that a full call lasts once both talk.
TALK = (1.0, 5.0)
#: Seconds between looks whether all calls have ended.
LOOK = 0.2
#: Seconds for which the network remembers what has ended, and webhooks between two drains: the record has it all.
KEEP, MOST_SENT = 60.0, 100_000
#: Log entries that the checks are about.
KEPT = frozenset({"ring-start", "ring-stop", "conference-enter", "conference-exit"})
#: Scripted phones beside those that answer and talk, and the share of the calls that goes to each.
OTHERS = (("+14155550106", 0.1), ("+14155550110", 0.02), ("+14155550109", 0.02))


@dataclass(frozen=True, slots=True)
class Plan:
    """How much load: webhooks a second, for so many seconds, of calls drawn from the seed."""

    rate: float
    seconds: float
    seed: int


@dataclass(slots=True)
class Schedule:
    """Begins calls at Poisson moments on the network's own clock, however slow the server is."""

    network: Network
    plan: Plan
    identities: tuple[str, ...]
    random: Random = field(init=False)
    until: float = field(init=False)
    begun: int = 0

    def __post_init__(self) -> None:
        self.random = Random(self.plan.seed)
        self.until = self.network.now + self.plan.seconds
        self._next()

    def _next(self) -> None:
        wait = self.random.expovariate(self.plan.rate / WEBHOOKS_PER_CALL)
        if self.network.now + wait < self.until:
            self.network.later(wait, self._begin)

    def _begin(self) -> None:
        self._next()
        self.begun += 1
        to, talk = self._number(), self.random.uniform(*TALK)
        account = next(iter(self.network.accounts.values()))
        application = next(iter(account.applications))
        identity = self.random.choice(self.identities)
        self.network.connect(account.sid, application, identity, {"To": to}, AgentPlan(talk))

    def _number(self) -> str:
        """Mostly a number of its own, since nobody calls one and the same customer all the time."""
        left = self.random.random()
        for number, share in OTHERS:
            left -= share
            if left < 0:
                return number
        return f"+1415{self.random.randint(600, 999)}{self.random.randint(0, 9999):04}"


@dataclass(slots=True)
class Recorder:
    """Takes the truth out of the running simulator and writes it down, one JSON array a line."""

    simulator: Simulator
    out: IO[str]
    pending: list[Sent] = field(default_factory=list)

    def drain(self) -> None:
        """Write what is new; the simulator's own log and list of requests are emptied by it."""
        self.out.writelines(json.dumps(row) + "\n" for row in (*self._entries(), *self._attempts()))

    def finish(self) -> None:
        """Write the rest, and the legs that never ended."""
        self.drain()
        living = [call for call in self.simulator.network.calls.values() if call.end_time is None]
        self.out.writelines(json.dumps(leg_row(call)) + "\n" for call in living)
        self.out.flush()

    def _entries(self) -> Iterator[list[Any]]:
        network = self.simulator.network
        while network.log:
            entry = network.log.popleft()
            if entry.kind in KEPT:
                yield ["log", entry.at, entry.kind, entry.call_sid, entry.conference_sid]
            elif entry.kind == "call-ended" and entry.call_sid in network.calls:
                yield leg_row(network.calls[entry.call_sid])

    def _attempts(self) -> Iterator[list[Any]]:
        while self.simulator.sent:
            self.pending.append(self.simulator.sent.popleft())
        unanswered = []
        for sent in self.pending:
            if sent.answer is None:
                unanswered.append(sent)
            else:
                yield attempt_row(sent)
        self.pending = unanswered


def leg_row(call: Call) -> list[Any]:
    return ["leg", call.sid, call.caller or call.from_, call.to, call.date_created, call.status, call.end_time,
            call.urls.voice_url]  # fmt: skip


def attempt_row(sent: Sent) -> list[Any]:
    """One attempt: when it was due and answered, its HTTP status (0: none came), and what names its event."""
    assert sent.answer is not None
    request, form = sent.request, dict(sent.request.form)
    names = ("CallSid", "ConferenceSid", "SequenceNumber", "StatusCallbackEvent", "CallStatus")
    fields = {name: form[name] for name in names if name in form}
    return ["try", request.at, sent.answered_at, sent.answer.status, request.url, fields, request.purpose]


async def play(config_path: str, record: Path, plan: Plan, identities: tuple[str, ...]) -> None:
    """Serve until SIGTERM; SIGUSR1 begins the load."""
    begin, stop = asyncio.Event(), asyncio.Event()
    loop = asyncio.get_running_loop()
    loop.add_signal_handler(signal.SIGUSR1, begin.set)
    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop.set)
    config = replace(load_config(config_path), keep_seconds=KEEP, keep_requests=MOST_SENT)
    async with serve(config) as (simulator, base):
        with record.open("w") as out:
            recorder = Recorder(simulator, out)
            work = (drain_forever(recorder), load(simulator, plan, identities, begin))
            tasks = [asyncio.create_task(one) for one in work]
            print(f"the network is at {base}", flush=True)
            await stop.wait()
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
            recorder.finish()


async def load(simulator: Simulator, plan: Plan, identities: tuple[str, ...], begin: asyncio.Event) -> None:
    """Play the plan until its last call has ended, and say so."""
    await begin.wait()
    network = simulator.catch_up()
    schedule = Schedule(network, plan, identities)
    simulator.wake()
    while network.now < schedule.until or network.next_due() is not None or network.exchanges:
        await asyncio.sleep(LOOK)
    print(f"played {schedule.begun} calls", flush=True)


async def drain_forever(recorder: Recorder) -> None:
    while True:
        await asyncio.sleep(DRAIN)
        recorder.drain()


@click.command()
@click.option("--config", required=True, help="The simulator's configuration, a JSON file.")
@click.option("--record", required=True, type=click.Path(path_type=Path), help="Where to write what happened.")
@click.option("--rate", default=150.0, help="Webhooks a second.")
@click.option("--seconds", default=30.0)
@click.option("--seed", default=1)
@click.option("--identity", "identities", multiple=True, required=True, help="Of an agent who calls.")
def main(config: str, record: Path, rate: float, seconds: float, seed: int, identities: tuple[str, ...]) -> None:
    """Play the network: SIGUSR1 begins the load, SIGTERM ends all."""
    asyncio.run(play(config, record, Plan(rate, seconds, seed), identities))


if __name__ == "__main__":
    main()
