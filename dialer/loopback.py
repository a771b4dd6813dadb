"""Ask the servers of this machine: JSON over HTTP, never through a proxy."""

from __future__ import annotations

import http.client
import json
import urllib.error
import urllib.request
from typing import Any

from dialer.errors import DialerError

_opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))


class NotReachable(DialerError):
    """A server does not answer, or its address is taken."""


def ask(url: str, body: dict[str, Any] | None = None, *, key: str = "", seconds: float = 10.0) -> dict[str, Any]:
    """GET, or POST a JSON body; raises NotReachable, and DialerError with the server's own words when it refuses."""
    request = urllib.request.Request(url, None if body is None else json.dumps(body).encode())
    request.add_header("Content-Type", "application/json")
    if key:
        request.add_header("Authorization", f"Bearer {key}")
    try:
        with _opener.open(request, timeout=seconds) as response:
            answer: dict[str, Any] = json.load(response)
            return answer
    except urllib.error.HTTPError as error:
        with error:
            raise DialerError(f"{url}: {error.code} {_message(error.read())}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        raise NotReachable(f"{url} does not answer ({_reason(error)})") from None


def _message(body: bytes) -> str:
    """The sentence in an error answer of Dialer's API or of the simulator's."""
    try:
        found = json.loads(body)
        return str(found["error"]["message"] if "error" in found else found["message"])
    except (ValueError, KeyError, TypeError):
        return body.decode(errors="replace")[:200]


def _reason(error: Exception) -> str:
    inner = getattr(error, "reason", error)
    return str(getattr(inner, "strerror", None) or inner or type(inner).__name__)
