"""Webhooks per second, Dialer beside a plain Flask view: `make bench`.

Both run under the same gunicorn at once and take turns under load. Each request is signed and sent once, all
are prepared before the clock starts, and every answer is checked.
"""

import argparse
import os
import re
import secrets
import selectors
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from multiprocessing import get_context
from multiprocessing.connection import Connection
from multiprocessing.process import BaseProcess
from pathlib import Path
from statistics import median, quantiles
from typing import NoReturn
from urllib.parse import urlencode

from sqlite_utils import Database

from dialer.auth import add_agent, add_workspace
from dialer.signature import signature_of
from dialer.store import open_store

ROOT = Path(__file__).parent.parent
GUNICORN = [sys.executable, "-m", "gunicorn", "-w", "2", "--threads", "4"]
CLIENTS = 8  # as many as there are threads to serve them
KEPT = 10  # requests on one connection: kept for long, most of them may sit on one worker by chance
PREPARED = 4000  # requests a second of a round: more than any server here answers
ACCOUNT, TOKEN = "AC" + "0" * 32, secrets.token_hex(16)
TWIML, STATUS = "/v1/voice/twiml", "/v1/voice/status"
STATUSES = ("initiated", "ringing", "in-progress", "completed")


# What Twilio sends.


def call_fields(call_sid: str) -> dict[str, str]:
    """Name what a browser's call brings along (Twilio docs, client)."""
    return {
        "AccountSid": ACCOUNT,
        "ApiVersion": "2010-04-01",
        "ApplicationSid": "AP" + "0" * 32,
        "CallSid": call_sid,
        "CallStatus": "ringing",
        "Caller": "client:bench_alice",
        "Called": "",
        "Direction": "inbound",
        "From": "client:bench_alice",
        "To": f"+141555501{int(call_sid[-2:], 16) % 100:02}",
        "workspaceId": "ws_bench",
    }


def status_fields(call_sid: str, number: int) -> dict[str, str]:
    """Name what a status callback brings along: 25 fields, as on a leg with a geography."""
    places = {side + part: "" for side in ("Caller", "Called", "From") for part in ("City", "State", "Zip")}
    return {
        **call_fields(call_sid),
        **places,
        "CallStatus": STATUSES[number],
        "CallDuration": "14",
        "CallbackSource": "call-progress-events",
        "Duration": "1",
        "SequenceNumber": str(number),
        "Timestamp": "Mon, 31 Mar 2025 19:04:12 +0000",
    }


def request_bytes(host: str, path: str, fields: dict[str, str]) -> bytes:
    body = urlencode(fields).encode()
    head = (
        f"POST {path} HTTP/1.1\r\nHost: {host}\r\nUser-Agent: TwilioProxy/1.1\r\nAccept: */*\r\n"
        f"Content-Type: application/x-www-form-urlencoded; charset=UTF-8\r\nContent-Length: {len(body)}\r\n"
        f"X-Twilio-Signature: {signature_of(f'http://{host}{path}', fields.items(), TOKEN)}\r\n\r\n"
    )
    return head.encode() + body


def twiml_requests(host: str, sids: Iterable[str]) -> Iterator[bytes]:
    return (request_bytes(host, TWIML, call_fields(sid)) for sid in sids)


def status_requests(host: str, sids: list[str]) -> Iterator[bytes]:
    """Give each call its four statuses, many calls going on at a time."""
    for start in range(0, len(sids), 50):
        for number in range(len(STATUSES)):
            yield from (
                request_bytes(host, STATUS, status_fields(s, number)) for s in sids[start : start + 50]
            )


# The load: one process a server, so that signing and measuring take nothing from it.


class Client:
    """One connection at a time, kept for KEPT requests, and the request that it waits on."""

    def __init__(self, address: tuple[str, int], selector: selectors.BaseSelector) -> None:
        self.address, self.selector = address, selector
        self.requests_left = 0
        self.sent_at = 0.0

    def send(self, request: bytes) -> None:
        self.sent_at = time.perf_counter()
        if not self.requests_left:
            self.connection = socket.create_connection(self.address, 10)
            self.selector.register(self.connection, selectors.EVENT_READ, self)
            self.requests_left = KEPT
        self.requests_left -= 1
        self.answer = b""
        self.connection.sendall(request)

    def receive(self) -> bool:
        """Read what is there; returns whether the answer is whole, raises RuntimeError unless it is good."""
        received = self.connection.recv(65536)
        self.answer += received
        head, found, body = self.answer.partition(b"\r\n\r\n")
        length = re.search(rb"(?i)\r\ncontent-length: *(\d+)", head)
        if not received or (found and head[9:10] != b"2") or b"<Say" in body:
            raise RuntimeError(f"not the answer expected: {self.answer.decode()}")
        if not found or len(body) < (int(length[1]) if length else 0):
            return False
        if not self.requests_left:
            self.close()
        return True

    def close(self) -> None:
        if self.connection.fileno() >= 0:
            self.selector.unregister(self.connection)
            self.connection.close()


def drive(address: tuple[str, int], requests: Iterable[bytes], seconds: float) -> tuple[list[float], float]:
    """Send the requests in order over all clients; returns each latency and the time in all, in seconds."""
    latencies: list[float] = []
    pending = iter(requests)
    with selectors.DefaultSelector() as selector:
        waiting = CLIENTS
        started = time.perf_counter()
        for _ in range(CLIENTS):
            Client(address, selector).send(next(pending))
        while waiting:
            for key, _ in selector.select(timeout=10) or stop("the server stopped answering"):
                client = key.data
                if client.receive():
                    now = time.perf_counter()
                    latencies.append(now - client.sent_at)
                    if now - started < seconds and (request := next(pending, None)):
                        client.send(request)
                    else:
                        client.close()
                        waiting -= 1
        return latencies, time.perf_counter() - started


def stop(reason: str) -> NoReturn:
    raise RuntimeError(reason)


def serve_load(pipe: Connection, port: int) -> None:
    """In a process of its own: answer (path, seconds) with the figures of one turn."""
    address, host, sids = ("127.0.0.1", port), f"127.0.0.1:{port}", [""]
    while True:
        path, seconds = pipe.recv()
        if path == TWIML:
            sids = [f"CA{secrets.token_hex(16)}" for _ in range(int(PREPARED * seconds))]
            requests = list(twiml_requests(host, sids))
        else:
            requests = list(status_requests(host, sids))
        latencies, took = drive(address, requests, seconds)
        if path == TWIML:
            sids = sids[: len(latencies)]  # the statuses that follow are of calls that were made
        pipe.send(Figures(len(latencies), len(latencies) / took, *percentiles(latencies)))


@dataclass(frozen=True, slots=True)
class Figures:
    """One turn: good answers, how many a second, and latencies in milliseconds."""

    answers: int
    rate: float
    p50: float
    p99: float


def percentiles(latencies: list[float]) -> tuple[float, float]:
    cuts = quantiles(latencies, n=100)
    return cuts[49] * 1000, cuts[98] * 1000


# The servers.


@dataclass(frozen=True, slots=True)
class Server:
    """A running gunicorn and the process that puts load on it."""

    name: str
    load: BaseProcess
    pipe: Connection

    def take_turn(self, path: str, seconds: float) -> Figures:
        self.pipe.send((path, seconds))
        figures: Figures = self.pipe.recv()  # EOFError: the load process failed and has said why
        return figures


@contextmanager
def running(name: str, app: str, cwd: Path, env: dict[str, str], log: Path) -> Iterator[Server]:
    """Start gunicorn on a free port with its load process; both are gone afterwards."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    inherited = {k: v for k, v in os.environ.items() if not k.startswith(("DIALER_", "TWILIO_"))}
    env = {**inherited, **env, "TWILIO_AUTH_TOKEN": TOKEN, "DIALER_PUBLIC_URL": f"http://127.0.0.1:{port}"}
    command = [*GUNICORN, "--bind", f"127.0.0.1:{port}", app]
    with log.open("wb") as output:
        process = subprocess.Popen(command, cwd=cwd, env=env, stdout=output, stderr=output)
    ours, theirs = get_context("fork").Pipe()
    load = get_context("fork").Process(target=serve_load, args=(theirs, port))
    try:
        wait_until_up(process, port, log)
        load.start()
        theirs.close()
        yield Server(name, load, ours)
    finally:
        if load.pid:
            load.kill()
        process.terminate()
        process.wait(40)  # gunicorn gives its workers 30 s


def wait_until_up(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Wait for a first answer; raises RuntimeError with the log if the server ends or 30 s pass."""
    for _ in range(300):
        time.sleep(0.1)
        if process.poll() is not None:
            break
        try:
            with socket.create_connection(("127.0.0.1", port), 10) as connection:
                connection.sendall(b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n")
                if connection.recv(1):
                    return
        except ConnectionError:
            pass
    raise RuntimeError(f"the server does not start:\n{log.read_text()}")


def prepare_instance(folder: Path) -> dict[str, str]:
    """Make a workspace with an agent and a number, and turn on a plugin; returns the environment."""
    (folder / "dialer.toml").write_text(
        '[plugins]\nenabled = ["number_policy"]\n\n[plugins.number_policy]\ncountries = ["US"]\n'
    )
    store, now = open_store(f"sqlite:///{folder / 'dialer.db'}"), time.time()
    with store.write() as tx:
        add_workspace(tx, "ws_bench", "Bench", now)
        add_agent(tx, "ws_bench", "bench_alice", "Alice", "agent", now)
        tx.run("add_number", workspace="ws_bench", number="+14155550199", created_at=now)
    store.close()
    return {
        "DIALER_INSTANCE": str(folder),
        "TWILIO_ACCOUNT_SID": ACCOUNT,
        "TWILIO_API_BASE": "http://127.0.0.1:9",  # no worker runs, so nothing is dialled
    }


def fsync_milliseconds(folder: Path) -> float:
    """Time the least that a durable commit costs on this disk."""
    times = []
    with (folder / "fsync").open("wb", buffering=0) as file:
        for _ in range(100):
            file.write(b"x" * 4096)
            started = time.perf_counter()
            os.fdatasync(file.fileno())
            times.append(time.perf_counter() - started)
    return median(times) * 1000


# The comparison.


def compare(path: str, peer: list[Figures], dialer: list[Figures]) -> None:
    ratios = [ours.rate / theirs.rate for ours, theirs in zip(dialer, peer, strict=True)]
    for name, turns in (("plain", peer), ("dialer", dialer)):
        p50, p99 = median(turn.p50 for turn in turns), median(turn.p99 for turn in turns)
        print(f"{path:18} {name:7} {median(turn.rate for turn in turns):9.0f} {p50:8.2f} {p99:8.2f}")
    print(f"{path:18} ratio   {median(ratios):9.2f}   (lowest {min(ratios):.2f}, highest {max(ratios):.2f})")


def run(rounds: int, seconds: float, folder: Path) -> None:
    turns: dict[tuple[str, str], list[Figures]] = {}
    answered = 0
    with (
        running("plain", "plain_peer:app", ROOT / "bench", {}, folder / "plain.log") as peer,
        running("dialer", "wsgi:app", ROOT, prepare_instance(folder), folder / "dialer.log") as dialer,
    ):
        for number in range(rounds + 1):
            for path in (TWIML, STATUS):
                for server in (peer, dialer) if number % 2 else (dialer, peer):
                    figures = server.take_turn(path, seconds if number else 0.3)
                    answered += figures.answers if server is dialer else 0
                    if number:  # the first round only warms up
                        turns.setdefault((server.name, path), []).append(figures)
    print(f"gunicorn -w 2 --threads 4, {CLIENTS} clients, {os.cpu_count()} cores, medians of {rounds} rounds")
    print(f"one fdatasync of 4 kB takes {fsync_milliseconds(folder):.2f} ms here\n")
    print(f"{'POST':18} {'':7} {'per second':>9} {'p50 ms':>7} {'p99 ms':>8}")
    for path in (TWIML, STATUS):
        compare(path, turns["plain", path], turns["dialer", path])
    stored = Database(folder / "dialer.db")["events"].count
    print(f"\ndialer answered {answered} requests and has {stored} events on record")
    if stored != answered:
        raise RuntimeError("answered 2xx must mean stored, once")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rounds", type=int, default=9, help="turns that each server takes on each path")
    parser.add_argument("--seconds", type=float, default=0.7, help="how long a turn is")
    options = parser.parse_args()
    (ROOT / "instance").mkdir(exist_ok=True)
    # Beside the real database, on the same disk: a folder in memory would make commits look free.
    with tempfile.TemporaryDirectory(prefix="bench-", dir=ROOT / "instance") as folder:
        run(options.rounds, options.seconds, Path(folder))


if __name__ == "__main__":
    main()
