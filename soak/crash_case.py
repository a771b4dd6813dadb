"""One run of a crash scenario: the Dialer it runs against, what it waits for, looks at and does, and what broke."""

from __future__ import annotations

import http.client
import signal
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlencode, urlsplit

from dialer.simulator.invariants import Trouble
from soak.processes import Starvation, wait_until
from soak.stack import Stack, What
from soak.truth import calls, events, find_breaches, find_lost_deliveries, jobs

#: Seconds in which everything must have happened, the slowest of Dialer's own waits (35 s) included.
PATIENCE = 75.0


@dataclass
class Case:
    """One run of one scenario; `random` moves its moments about, without one they are as they stand."""

    folder: Path
    random: Random | None = None
    breaches: list[str] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    starved: int = 0
    """Seconds in which the machine had no processor for Dialer: nobody can be blamed for those."""

    def expect(self, holds: bool, otherwise: str) -> None:
        if not holds:
            self.breaches.append(otherwise)

    def draw(self, usual: int, most: int) -> int:
        """Which passing of a point it is."""
        return self.random.randint(1, most) if self.random else usual

    def pause(self, usual: float, most: float) -> None:
        time.sleep(self.random.uniform(0.0, most) if self.random else usual)

    @contextmanager
    def stack(self, **settings: Any) -> Iterator[Stack]:
        """A running Dialer, judged at the end of the block."""
        stack = Stack(self.folder, **{"plugins": "recorder", "workers": 1, **settings})
        with stack, Starvation(stack.all_pids) as starvation:
            yield stack
            if not stack.wait_settled(PATIENCE):
                self.breaches.append(f"calls are still open after {PATIENCE:.0f} s")
            if not wait_until(stack.idle, PATIENCE, look=0.1):
                self.breaches.append(f"jobs are still owed after {PATIENCE:.0f} s")
            self.starved += len(starvation.spells)
            self.troubles += [Trouble("down", *spell) for spell in starvation.spells]
            self.breaches += [*find_breaches(stack, self.troubles), *find_lost_deliveries(stack)]
            self.expect_calm(stack)

    def expect_calm(self, stack: Stack) -> None:
        """Nobody died who was not to die, and nothing was raised that nobody expected."""
        planned = [what for what in stack.crash_at if what != "web" and "STOP" not in stack.crash_at[what]]
        self.expect(stack.deaths == planned, f"died: {stack.deaths}, not {planned}")
        logs = stack.log_of("web") + stack.log_of("dispatcher")
        passed = logs.count("crash point ")
        self.expect(passed == len(stack.crash_at), f"{passed} crash points were passed, not {len(stack.crash_at)}")
        self.expect("Traceback" not in logs, f"an exception: {logs.partition('Traceback')[2][:4000]}")

    @contextmanager
    def down(self) -> Iterator[None]:
        """A process cannot work while the block lasts."""
        start = time.time()
        yield
        self.troubles.append(Trouble("down", start, time.time()))

    def await_point(self, stack: Stack, what: What, point: str) -> bool:
        """Wait until a process has come to its crash point."""
        passed = wait_until(lambda: f"crash point {point}" in stack.log_of(what), PATIENCE)
        self.expect(passed, f"{what} never came to {point}")
        return passed

    def await_death(self, stack: Stack, what: What, point: str) -> None:
        """Wait until a process has died at its crash point by SIGKILL."""
        if not self.await_point(stack, what, point):
            return
        if what == "web":
            died = wait_until(lambda: "was sent SIGKILL" in stack.log_of("web"), PATIENCE)
        else:
            died = stack.processes[what].wait(PATIENCE) == -signal.SIGKILL
        self.expect(died, f"{what} did not die by SIGKILL at {point}")

    def expect_call(self, stack: Stack, status: str, legs: int = 1, **values: object) -> None:
        """The one call is on record with this status (and values), and the customer was dialled that often."""
        found = [{name: call[name] for name in ("status", *values)} for call in calls(stack)]
        self.expect(found == [{"status": status, **values}], f"on record are {found}, not one call {status} {values}")
        dialled = len(customers(stack))
        self.expect(dialled == legs, f"the customer was dialled {dialled} times, not {legs}")


def agent_hangs_up(stack: Stack) -> None:
    stack.control(f"calls/{agents(stack)[0]['sid']}/hangup", {})


def agents(stack: Stack) -> list[dict[str, Any]]:
    """The agents' legs at the network, oldest first."""
    return [leg for leg in stack.network_calls() if leg["direction"] == "inbound"]


def customers(stack: Stack) -> list[dict[str, Any]]:
    """The legs that dial requests have made."""
    return [leg for leg in stack.network_calls() if leg["direction"] != "inbound"]


def happened(stack: Stack, kind: str) -> list[str]:
    """The legs to which that happened, by the network's log."""
    return [line["call_sid"] for line in stack.network_log() if line["kind"] == kind]


def counts(stack: Stack) -> dict[str, int]:
    """How many rows there are of what must not come twice."""
    return {"calls": len(calls(stack)), "events": len(events(stack)), "jobs": len(jobs(stack))}


def first_answer(stack: Stack) -> str:
    """What the network itself got for its first webhook."""
    return str(stack.webhooks()[0]["answer"]["body"])


def send_again(
    stack: Stack, sent: Mapping[str, Any], times: int, then: Callable[[], None] = lambda: None
) -> list[tuple[int, str]]:
    """Send a webhook that often in one moment, as it was sent; `then` runs when all are on their way."""
    barrier = threading.Barrier(times + 1)

    def send() -> tuple[int, str]:
        parts = urlsplit(sent["url"])
        connection = http.client.HTTPConnection("127.0.0.1", stack.web_port, timeout=PATIENCE)
        connection.connect()
        barrier.wait()
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        form = urlencode([(name, value) for name, value in sent["form"]])
        connection.request(sent["method"], target, form, {**sent["headers"], "Host": parts.netloc})
        response = connection.getresponse()
        with closing(connection), response:
            return response.status, response.read().decode()

    with ThreadPoolExecutor(times) as pool:
        answers = [pool.submit(send) for _ in range(times)]
        barrier.wait()
        then()
        return [answer.result() for answer in answers]


def second_instance(stack: Stack) -> dict[str, str]:
    """The variables of a dispatcher of the same store that does not see the first one's lock: a mistake to survive."""
    other = stack.folder / "other"
    other.mkdir()
    (other / "told").symlink_to(stack.folder / "told")
    return {
        "DIALER_INSTANCE": str(other),
        "DIALER_CONFIG": str(stack.folder / "dialer.toml"),
        "DIALER_STORE": f"sqlite:///{stack.database}",
    }
