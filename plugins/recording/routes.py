"""GET /plugins/recording/calls/<call id>: the recording, whole or in parts, for keys of the call's own workspace."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from socket import socket

from flask import Blueprint, Response, request

from dialer import Host, principal
from dialer.auth import ApiError
from dialer_plugins.recording import archive
from dialer_plugins.recording.access import read
from dialer_plugins.recording.archive import Kept
from dialer_plugins.recording.storage import MEDIA_TYPES, NotKept

#: A download holds a thread of the web server: so many at once in a process, each for so many seconds.
MOST_DOWNLOADS, SEND_SECONDS = 2, 120.0


def blueprint(host: Host, clock: Callable[[], float] = time.monotonic) -> Blueprint:
    routes, places = Blueprint("recording", __name__), threading.BoundedSemaphore(MOST_DOWNLOADS)

    @routes.get("/calls/<call_id>")
    def recording(call_id: str) -> Response:
        """The call's recording; of several the first, or the one that `?sid=` names."""
        asks = principal()
        kept = _chosen(archive.of_call(host, asks.workspace, call_id), asks.agent)
        span = _span(kept)
        start, stop = span or (0, kept.bytes)
        with ExitStack() as held:
            _take(places, held)
            try:
                pieces = read(host, kept, f"key {asks.key_id}", "api", start, stop)
            except NotKept as error:
                host.log.error("%s", error)
                raise ApiError(404, "not-kept", "the recording is on record, and not where it was kept") from None
            response = _response(kept, _in_time(pieces, clock, request.environ.get("gunicorn.socket")), span)
            response.call_on_close(held.pop_all().close)
        return response

    return routes


def _chosen(found: list[Kept], agent: str) -> Kept:
    """The recording that is asked for; a key of an agent is for his own calls."""
    sid = request.args.get("sid", "")
    mine = [kept for kept in found if sid in ("", kept.sid) and agent in ("", kept.agent)]
    if not mine:
        raise ApiError(404, "not-found", "there is no recording of such a call")
    there = [kept for kept in mine if kept.purged_at is None]
    if not there:
        raise ApiError(410, "purged", "the recording was deleted when its time was over")
    return there[0]


def _take(places: threading.BoundedSemaphore, held: ExitStack) -> None:
    if not places.acquire(blocking=False):
        raise ApiError(503, "busy", f"{MOST_DOWNLOADS} recordings are being sent already, try again", retry_after=10)
    held.callback(places.release)


def _in_time(pieces: Iterator[bytes], clock: Callable[[], float], connection: socket | None) -> Iterator[bytes]:
    """The pieces while there is time; raises TimeoutError, which closes the connection, when there is none.

    A reader that takes nothing at all is cut off by the time limit of gunicorn's socket.
    """
    until = clock() + SEND_SECONDS
    for piece in pieces:
        left = until - clock()
        if left <= 0:
            raise TimeoutError(f"a recording was not read within {SEND_SECONDS:.0f} seconds")
        if connection:
            connection.settimeout(left)
        yield piece


def _span(kept: Kept) -> tuple[int, int] | None:
    """The one part that is asked for; None for the whole, which also answers a question for several parts."""
    wanted, unless = request.range, request.if_range
    if wanted is None or wanted.units != "bytes" or len(wanted.ranges) != 1:
        return None
    if unless.date is not None or unless.etag not in (None, kept.sha256):
        return None
    found: tuple[int, int] | None = wanted.range_for_length(kept.bytes)
    if found is None:
        raise ApiError(416, "range", f"the recording has {kept.bytes} bytes")
    return found


def _response(kept: Kept, pieces: Iterator[bytes], span: tuple[int, int] | None) -> Response:
    ending = kept.name.rpartition(".")[2]
    start, stop = span or (0, kept.bytes)
    response = Response(pieces, 206 if span else 200, content_type=MEDIA_TYPES[ending])
    response.content_length = stop - start
    response.set_etag(kept.sha256)
    response.headers["Accept-Ranges"] = "bytes"
    response.headers["Cache-Control"] = "private, no-store"
    response.headers["Content-Disposition"] = f'inline; filename="{kept.call_id}-{kept.sid}.{ending}"'
    if span:
        response.headers["Content-Range"] = f"bytes {start}-{stop - 1}/{kept.bytes}"
    return response
