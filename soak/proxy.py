"""A TCP proxy on loopback that breaks HTTP exchanges in the ways a network does, one exchange a connection."""

from __future__ import annotations

import asyncio
import re
import socket
import struct
import threading
import time
from collections.abc import Coroutine
from contextlib import closing, suppress
from dataclasses import dataclass, field
from random import Random
from types import TracebackType
from typing import Literal, Self, get_args

Kind = Literal["refuse", "deaf", "drop", "mute", "deny", "fail", "reset", "half", "delay"]
KINDS: tuple[Kind, ...] = get_args(Kind)

#: Connections that fill the queue of a listener which takes none: further ones stay without any answer.
FILLERS = 3
UNAVAILABLE = b"HTTP/1.1 503 Service Unavailable\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
_ABOUT = re.compile(rb"\b(di_[0-9a-f]{32}|CA[0-9a-f]{32})\b")
_LENGTH = re.compile(rb"(?i)\r\ncontent-length: *(\d+)")
_RESET = struct.pack("ii", 1, 0)


@dataclass(frozen=True, slots=True)
class Fault:
    """What becomes of an exchange.

    refuse: nobody listens. deaf: the connection never stands. These two are for all; the others strike a `share` of
    the exchanges, of those whose request has `match` in it:
    drop, mute: no answer comes; with drop the request is not even passed on. deny, fail: answered with 503; with deny
    the request is not passed on. reset, half: it is passed on, and the answer breaks off in its middle, with or
    without a reset. delay: the answer comes `seconds` later.
    """

    kind: Kind
    seconds: float = 0.0
    share: float = 1.0
    match: bytes = b""


@dataclass(slots=True)
class Hit:
    """An exchange that was struck: when, until when it was over, and the CallSid or dial intent that it was about."""

    kind: Kind
    about: str
    start: float
    end: float = float("inf")


@dataclass
class Proxy:
    """Stands between a client and a port of this machine while its block lasts. `hits`: what was struck."""

    target: int
    seed: int = 0
    port: int = 0
    hits: list[Hit] = field(default_factory=list)
    _faults: tuple[Fault, ...] = ()

    def __enter__(self) -> Self:
        self._random = Random(self.seed)
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="proxy", daemon=True)
        self._thread.start()
        self._tasks: set[asyncio.Task[None]] = set()
        self._server: asyncio.Server | None = None
        self._deaf: list[socket.socket] = []
        self._delay = 0.0
        self._call(self._listen())
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None) -> None:
        self._call(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    def set(self, *faults: Fault) -> None:
        """Strike with these from now on; without any, pass all on."""
        self._call(self._change(faults))

    def _call(self, work: Coroutine[None, None, None]) -> None:
        asyncio.run_coroutine_threadsafe(work, self._loop).result(10.0)

    async def _change(self, faults: tuple[Fault, ...]) -> None:
        self._faults = faults
        closed = next((fault.kind for fault in faults if fault.kind in ("refuse", "deaf")), None)
        if self._server is None or closed:
            self._stop_listening()
            if closed == "deaf":
                self._take_nobody()
            elif closed is None:
                await self._listen()

    async def _listen(self) -> None:
        self._server = await asyncio.start_server(self._serve, "127.0.0.1", self.port, backlog=1024)
        self.port = self._server.sockets[0].getsockname()[1]

    def _stop_listening(self) -> None:
        for one in self._deaf:
            one.close()
        self._deaf.clear()
        if self._server:
            self._server.close()
            self._server = None

    def _take_nobody(self) -> None:
        """Listen with a queue that is full: the kernel then ignores who comes."""
        listener = socket.create_server(("127.0.0.1", self.port), backlog=0)
        self._deaf.append(listener)
        for _ in range(FILLERS):
            filler = socket.socket()
            filler.setblocking(False)
            filler.connect_ex(("127.0.0.1", self.port))
            self._deaf.append(filler)

    async def _close(self) -> None:
        self._stop_listening()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        try:
            with suppress(OSError, EOFError, asyncio.CancelledError):  # a cancelled one is over: asyncio would complain
                await self._pass_on(reader, writer)
        finally:
            self._tasks.discard(task)
            writer.close()

    async def _pass_on(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        request = await read_message(reader)
        hit = self._drawn(request)
        try:
            await self._exchange(request, hit, reader, writer)
        finally:
            if hit:
                hit.end = time.time()

    async def _exchange(
        self, request: bytes, hit: Hit | None, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        kind = hit.kind if hit else None
        answer = UNAVAILABLE if kind in ("drop", "deny") else await self._ask(request)
        if kind in ("drop", "mute"):
            await reader.read()  # until the client has had enough
            return
        if kind == "fail":
            answer = UNAVAILABLE
        if kind == "delay":
            await asyncio.sleep(self._delay)
        if kind in ("reset", "half"):
            answer = answer[: -max(1, len(answer) // 4)]
        writer.write(answer)
        await writer.drain()
        if kind == "reset":
            writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    def _drawn(self, request: bytes) -> Hit | None:
        for fault in self._faults:
            if fault.match in request and self._random.random() < fault.share:
                about = _ABOUT.search(request)
                hit = Hit(fault.kind, about[0].decode() if about else "", time.time())
                self.hits.append(hit)
                self._delay = fault.seconds
                return hit
        return None

    async def _ask(self, request: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.target)
        with closing(writer):
            writer.write(request)
            return await read_message(reader)


async def read_message(reader: asyncio.StreamReader) -> bytes:
    """One HTTP request or answer with its body; raises EOFError when it breaks off."""
    head = await reader.readuntil(b"\r\n\r\n")
    if b"\r\ntransfer-encoding: chunked" in head.lower():
        return head + await reader.readuntil(b"0\r\n\r\n")
    length = _LENGTH.search(head)
    return head + (await reader.readexactly(int(length[1])) if length else b"")
