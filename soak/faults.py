"""Each fault of the network on the way between Dialer and Twilio, in both directions, with a few calls each."""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from dialer.simulator.invariants import Trouble
from soak.deployment import Deployment
from soak.judge import judge, read_truth
from soak.nemesis import troubles_of
from soak.proxy import KINDS, Fault, Kind, Proxy

#: Calls for each fault and direction.
CALLS = 2
#: Seconds for which nobody listens, or nobody takes connections: longer than Dialer waits for one.
CLOSED: dict[Kind, float] = {"refuse": 1.5, "deaf": 4.0}
#: The others strike single exchanges, and each call that is struck has a number that says by what.
STRUCK = tuple(kind for kind in KINDS if kind not in CLOSED)
#: Seconds until every call is settled: 35 for a dial of which nothing is ever found, and what Dialer waits around it.
PATIENCE = 110.0
#: Of a call's webhooks: Twilio gives up after 15 s, so some of them must come through.
SHARE = 0.4


@dataclass(slots=True)
class Outcome:
    """What came of the calls: breaches, the kinds that struck, and for each number how often it was dialled."""

    breaches: dict[str, list[str]]
    settled: bool
    struck: dict[str, set[Kind]]
    dialled: dict[str, int]


def numbers(side: str, kind: Kind) -> Iterator[str]:
    """The numbers of the calls that are struck so."""
    place = (*KINDS,).index(kind) + (0 if side == "rest" else 50)
    yield from (f"+141560{place:02}{number:03}" for number in range(CALLS))


def faults(side: str) -> Iterator[Fault]:
    """The faults that strike single exchanges: of REST the dial request, of the webhooks any of a call."""
    for kind in STRUCK:
        prefix = next(numbers(side, kind))[1:-3].encode()
        if side == "rest":
            yield Fault(kind, seconds=2.0, match=b"\r\n\r\nTo=%2B" + prefix)
        else:
            yield Fault(kind, seconds=2.0, match=b"To=%2B" + prefix, share=SHARE)


def strike_all(folder: Path, seed: int) -> Outcome:
    """Place the calls while the network breaks, wait until they are settled, and judge."""
    deployment = Deployment(folder)
    with Proxy(deployment.simulator_port, seed) as rest, Proxy(deployment.web_port, seed) as web:
        deployment.rest_port, deployment.webhook_port = rest.port, web.port
        with deployment:
            closed = [Trouble("down", *moments) for moments in close_each(deployment, rest, web)]
            rest.set(*faults("rest"))
            web.set(*faults("web"))
            for side in ("rest", "web"):
                place_calls(deployment, side, STRUCK)
            settled = deployment.wait_settled(PATIENCE)
            deployment.stop("simulator")
            rows = list(deployment.rows())
            truth = read_truth(rows)
            breaches = judge(deployment.store(), truth, closed + troubles_of((rest, web)))
    struck = {"rest": {hit.kind for hit in rest.hits}, "web": {hit.kind for hit in web.hits}}
    return Outcome(breaches, settled, struck, count_dials(rows))


def close_each(deployment: Deployment, rest: Proxy, web: Proxy) -> Iterator[tuple[float, float]]:
    """Let nobody listen for a while, on one side and then on the other, while calls are placed; gives the moments."""
    for side, proxy in (("rest", rest), ("web", web)):
        for kind, seconds in CLOSED.items():
            start = time.time()
            proxy.set(Fault(kind))
            place_calls(deployment, side, (kind,))
            time.sleep(seconds)
            proxy.set()
            yield start, time.time()


def place_calls(deployment: Deployment, side: str, kinds: tuple[Kind, ...]) -> None:
    for kind in kinds:
        for number in numbers(side, kind):
            deployment.place_call(number)


def count_dials(rows: list[list[object]]) -> dict[str, int]:
    """How many legs to each number were made over REST."""
    found: dict[str, int] = {}
    for kind, *values in rows:
        if kind == "leg" and not str(values[1]).startswith("client:"):
            found[str(values[2])] = found.get(str(values[2]), 0) + 1
    return found
