"""The network in real time: the pump that moves its clock, and the HTTP client that sends its webhooks."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from typing import Any
from urllib.parse import urlencode, urlsplit

import aiohttp
from yarl import URL

from dialer.simulator.model import WebAnswer, WebRequest
from dialer.simulator.network import Network
from dialer.simulator.server_config import SimulatorConfig, build_network

log = logging.getLogger("dialer.simulator")

LONGEST_SLEEP = 30.0
SHORTEST_SLEEP = 0.001  # keeps a network that always has something due from taking the processor
MAX_BODY = 1 << 20  # bytes read of an answer: more than any document that is allowed
SHOWN_BODY = 2000  # bytes of it that are kept for inspection


@dataclass(slots=True)
class Sent:
    """One webhook attempt and what came back, for whoever wants to look."""

    number: int
    request: WebRequest
    target: str
    """Where it really went: the loopback URL of a mapped public one; empty when it went nowhere."""
    seconds: float = 0.0
    answered_at: float = 0.0
    """By the network's clock, as `request.at` is: the difference is what the attempt took from when it was due."""
    answer: WebAnswer | None = None
    error: str = ""


class HostRefused(Exception):
    """A webhook to a host that is not on the allow-list."""


@dataclass
class Simulator:
    """The network with its clock tied to the wall, and everything that waits for it."""

    config: SimulatorConfig
    network: Network = field(init=False)
    sent: deque[Sent] = field(init=False)

    def __post_init__(self) -> None:
        self.network = build_network(self.config, time.time())
        self.sent = deque(maxlen=self.config.keep_requests)
        self._count = 0
        self._wake = asyncio.Event()
        self._tasks: set[asyncio.Task[None]] = set()
        self._session: aiohttp.ClientSession | None = None
        self._next_trim = 0.0

    def catch_up(self) -> Network:
        """The network at the present moment; whoever changes it calls `wake` afterwards."""
        try:
            self.network.advance(time.time())
        except Exception:
            # The thing that failed is off the schedule: the rest of the network goes on.
            log.exception("the simulated network failed; other calls go on")
        return self.network

    def wake(self) -> None:
        """Look again at what is due and what is to be sent."""
        self._wake.set()

    async def run(self) -> None:
        """Move the clock until cancelled, sleeping whenever nothing is due."""
        async with aiohttp.ClientSession(
            connector=aiohttp.TCPConnector(limit=500, force_close=True),
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=True,
            trust_env=False,
        ) as self._session:
            try:
                while True:
                    await self._turn_safely()
            finally:
                await self._stop_sending()

    async def _turn_safely(self) -> None:
        try:
            await self._turn()
        except Exception:
            log.exception("the simulated network failed; it goes on")
            await asyncio.sleep(SHORTEST_SLEEP)

    async def _turn(self) -> None:
        self._wake.clear()
        self.catch_up()
        self._trim()
        for request in self.network.take_requests():
            task = asyncio.create_task(self._exchange(request))
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)
        try:
            await asyncio.wait_for(self._wake.wait(), self._sleep_seconds())
        except TimeoutError:
            return

    def _sleep_seconds(self) -> float:
        due = self.network.next_due()
        if due is None:
            return LONGEST_SLEEP
        return min(max(due - time.time(), SHORTEST_SLEEP), LONGEST_SLEEP)

    async def _stop_sending(self) -> None:
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def _trim(self) -> None:
        """Forget what is old, now and then."""
        now = self.network.now
        if now >= self._next_trim:
            self.network.forget(now - self.config.keep_seconds)
            self._next_trim = now + min(60.0, self.config.keep_seconds)

    # Webhooks

    async def _exchange(self, request: WebRequest) -> None:
        self._count += 1
        sent = Sent(self._count, request, "")
        self.sent.append(sent)
        started = time.monotonic()
        answer = await self._perform(sent)
        sent.seconds = time.monotonic() - started
        sent.answered_at = time.time()
        sent.answer = replace(answer, body=answer.body[:SHOWN_BODY])
        if sent.error:
            # Without the query: that of a GET holds telephone numbers.
            log.warning("%s %s: %s", request.method, request.url.partition("?")[0], sent.error)
        try:
            self.catch_up().answer(request.id, answer)
        except Exception:
            log.exception("the simulated network failed on an answer to a %s webhook", request.purpose)
        self.wake()

    async def _perform(self, sent: Sent) -> WebAnswer:
        try:
            sent.target, host = find_target(self.config, sent.request.url)
            return await self._send(sent.request, sent.target, host)
        except HostRefused as error:
            sent.error = str(error)
            request = sent.request
            call = self.network.calls.get(request.call_sid or "")
            self.network.alert(request.account_sid, 11210, sent.error, call=call, url=request.url)
            return WebAnswer.failure("connect")
        except (aiohttp.ClientConnectorError, aiohttp.ConnectionTimeoutError, aiohttp.InvalidURL) as error:
            sent.error = f"not connected: {error}"
            return WebAnswer.failure("connect")
        except TimeoutError:
            sent.error = "timed out"
            return WebAnswer.failure("timeout")
        except (aiohttp.ClientError, OSError, ValueError) as error:
            sent.error = f"the connection broke: {error!r}"
            return WebAnswer.failure("reset")

    async def _send(self, request: WebRequest, target: str, host: str) -> WebAnswer:
        assert self._session is not None
        timeout = aiohttp.ClientTimeout(
            total=request.total_timeout,
            sock_connect=request.connect_timeout,
            sock_read=request.read_timeout,
        )
        headers = {**request.headers, "Host": host}
        if request.url.startswith("https:") and not target.startswith("https:"):
            headers["X-Forwarded-Proto"] = "https"  # as whatever ends TLS before an application says
        body = urlencode(request.form).encode() if request.method == "POST" else None
        async with self._session.request(
            request.method,
            URL(target, encoded=True),
            headers=headers,
            data=body,
            allow_redirects=False,
            timeout=timeout,
        ) as response:
            content = await _read_start(response)
            return WebAnswer(response.status, _read_headers(response.headers), content)


def _read_headers(headers: Mapping[str, str]) -> dict[str, str]:
    """One value a name: what is repeated, as Set-Cookie is, is joined by newlines."""
    joined: dict[str, str] = {}
    for name, value in headers.items():
        joined[name] = f"{joined[name]}\n{value}" if name in joined else value
    return joined


async def _read_start(response: aiohttp.ClientResponse) -> bytes:
    """The body, or as much of it as anybody may want."""
    parts: list[bytes] = []
    size = 0
    async for part in response.content.iter_any():
        parts.append(part)
        size += len(part)
        if size > MAX_BODY:
            break
    return b"".join(parts)


def find_target(config: SimulatorConfig, url: str) -> tuple[str, str]:
    """Where a webhook really goes, and its Host header. Raises HostRefused."""
    for public, local in config.public_urls.items():
        base = public.rstrip("/")
        rest = url[len(base) :]
        if url.startswith(base) and (not rest or rest[0] in "/?"):
            return local.rstrip("/") + rest, urlsplit(public).netloc
    parts = urlsplit(url)
    if parts.hostname not in config.allow_hosts:
        raise HostRefused(f"host {parts.hostname} is not on the simulator's allow-list; nothing was sent")
    return url, parts.netloc.rpartition("@")[2]


def show_sent(sent: Sent) -> dict[str, Any]:
    """One exchange as JSON."""
    request, answer = sent.request, sent.answer
    shown: dict[str, Any] = {
        "number": sent.number,
        "at": request.at,
        "purpose": request.purpose,
        "attempt": request.attempt,
        "method": request.method,
        "url": request.url,
        "sentTo": sent.target or None,
        "headers": request.headers,
        "form": request.form,
        "callSid": request.call_sid,
        "conferenceSid": request.conference_sid,
        "seconds": round(sent.seconds, 4),
        "error": sent.error or None,
        "answer": None,
    }
    if answer is not None and not answer.failed:
        body = answer.body.decode("utf-8", "replace")
        shown["answer"] = {"status": answer.status, "headers": answer.headers, "body": body}
    return shown
