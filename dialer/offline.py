"""No network for plugins under test: what they try is noted with file and line, and refused as if nobody were there.

What C code does by itself (libpq, say) is not seen. This machine's own addresses can be reached.
"""

from __future__ import annotations

import errno
import importlib
import inspect
import os
import socket
import sys
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from types import FrameType
from typing import Any
from unittest.mock import patch

from dialer.settings import is_loopback

#: Where code is that has no file.
NOWHERE = Path(os.devnull)
#: What names resolve to: addresses that are nobody's (RFC 5737).
_NOWHERE = "192.0.2.{}"


@dataclass(frozen=True, slots=True)
class Request:
    """A place that tries to reach the network: `what` is METHOD URL or host:port, `endless`: without a time-out.

    `times` is how often it was heard of, which several layers of one request do.
    """

    where: str
    what: str
    endless: bool
    times: int = 1


class Refused(ConnectionRefusedError):
    """There is no network here."""


class Requests:
    """What was tried so far: one entry for each place in the code, since one request is seen by several layers.

    `own`: the folders (or files) of the plugins' code.
    """

    def __init__(self, *own: Path) -> None:
        self.own = [*own]
        self._found: dict[str, Request] = {}
        self._names: dict[str, str] = {}

    def __iter__(self) -> Iterator[Request]:
        return iter([*self._found.values()])

    def __len__(self) -> int:
        return len(self._found)

    def clear(self) -> None:
        self._found.clear()

    def note(self, what: str, *, endless: bool) -> None:
        """Note a try, as the outermost layer calls it; it is endless if any layer says so."""
        where = place(self.own)
        known = self._found.get(where, Request(where, what, endless, 0))
        self._found[where] = replace(known, endless=endless or known.endless, times=known.times + 1)

    def resolve(self, host: str) -> str:
        """The address that stands for a name."""
        address = _NOWHERE.format(len(self._names) % 254 + 1)
        return next((known for known, name in self._names.items() if name == host), None) or self._add(address, host)

    def refuse(self, address: Any, seconds: float | None) -> None:
        """Note a connection that is tried; raises Refused."""
        host, port = address[:2]
        what = f"{self._names.get(host, host)}:{port}"
        self.note(what, endless=seconds is None)
        raise Refused(errno.ECONNREFUSED, f"there is no network here, and nothing answers in place of {what}")

    def _add(self, address: str, host: str) -> str:
        self._names[address] = host
        return address


@contextmanager
def offline(*own: Path) -> Iterator[Requests]:
    """No network inside of the block; gives what was tried. `own`: the folders of the plugins' code."""
    seen = Requests(*own)
    with ExitStack() as stack:
        for owner, name, replacement in (
            (socket, "getaddrinfo", _getaddrinfo(seen, socket.getaddrinfo)),
            (socket.socket, "connect", _connect(seen, socket.socket.connect)),
            (socket.socket, "connect_ex", _connect(seen, socket.socket.connect_ex)),
            *_of_libraries(seen),
        ):
            stack.enter_context(patch.object(owner, name, replacement))
        yield seen


def code_of(plugin: object) -> Path:
    """The folder, or the one file, that a plugin's code is in."""
    cls = plugin if isinstance(plugin, type) else type(plugin)
    try:
        return home(cls.__module__, inspect.getfile(cls))
    except (TypeError, OSError):  # typed in, or made by exec
        return NOWHERE


def home(module: str, file: str) -> Path:
    """The package that a module is in, or the module's file where it is in none."""
    path = Path(file).resolve()
    return path.parent if "." in module or path.stem == "__init__" else path


def place(own: Iterable[Path], frame: FrameType | None = None) -> str:
    """file:line of whoever is at work in these folders; else of the caller who is nearest, and no library."""
    found: FrameType | None = frame or sys._getframe(1)
    fallback = ""
    while found is not None:
        file = Path(found.f_code.co_filename)
        if any(file.resolve().is_relative_to(folder) for folder in own):
            return f"{file}:{found.f_lineno}"
        if not fallback and not _is_library(file):
            fallback = f"{file}:{found.f_lineno}"
        found = found.f_back
    return fallback or "a library's own thread"


def _is_library(file: Path) -> bool:
    homes = {"site-packages", f"python3.{sys.version_info[1]}", "dialer"}
    return str(file).startswith("<") or not homes.isdisjoint(file.parts)


def _getaddrinfo(seen: Requests, plain: Callable[..., Any]) -> Callable[..., Any]:
    def getaddrinfo(host: Any, port: Any, *args: Any, **options: Any) -> Any:
        name = host.decode() if isinstance(host, bytes) else host
        if name is None or is_loopback(name):
            return plain(host, port, *args, **options)
        return plain(seen.resolve(name), port, *args, **options)

    return getaddrinfo


def _connect(seen: Requests, plain: Callable[..., Any]) -> Callable[..., Any]:
    def connect(self: socket.socket, address: Any) -> Any:
        if self.family in (socket.AF_INET, socket.AF_INET6) and not is_loopback(address[0]):
            seen.refuse(address, self.gettimeout())
        return plain(self, address)

    return connect


def _of_libraries(seen: Requests) -> Iterator[tuple[Any, str, Callable[..., Any]]]:
    """What knows URLs and the time-out of reading, which sockets learn once they are connected."""
    from urllib3 import HTTPConnectionPool

    yield HTTPConnectionPool, "urlopen", _urlopen(seen, HTTPConnectionPool.urlopen)
    if "httpx" in sys.modules:
        httpx: Any = importlib.import_module("httpx")
        for transport, name in ((httpx.HTTPTransport, "handle_request"),
                                (httpx.AsyncHTTPTransport, "handle_async_request")):  # fmt: skip
            yield transport, name, _handle_request(seen, getattr(transport, name))


def _urlopen(seen: Requests, plain: Callable[..., Any]) -> Callable[..., Any]:
    from urllib3.util import Timeout

    def urlopen(self: Any, method: str, url: str, *args: Any, **options: Any) -> Any:
        if not is_loopback(self.host):
            given = options.get("timeout", Timeout.DEFAULT_TIMEOUT)
            limit = self.timeout if given is Timeout.DEFAULT_TIMEOUT else given
            limit = limit if isinstance(limit, Timeout) else Timeout.from_float(limit)
            steps = (limit.connect_timeout, limit.read_timeout) if limit.total is None else ()
            endless = any(Timeout.resolve_default_timeout(step) is None for step in steps)
            seen.note(f"{method} {self.scheme}://{self.host}{url.partition('?')[0]}", endless=endless)
        return plain(self, method, url, *args, **options)

    return urlopen


def _handle_request(seen: Requests, plain: Callable[..., Any]) -> Callable[..., Any]:
    def handle_request(self: Any, request: Any) -> Any:
        if not is_loopback(request.url.host):
            limits = request.extensions.get("timeout", {})
            endless = any(limits.get(step) is None for step in ("connect", "read"))
            seen.note(f"{request.method} {request.url.copy_with(query=None)}", endless=endless)
        return plain(self, request)

    return handle_request
