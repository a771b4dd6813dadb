"""One request to a WSGI application in this process, as it would come through a server."""

from __future__ import annotations

import io
from collections.abc import Callable, Iterable
from typing import Any
from urllib.parse import urlencode, urlsplit

from dialer.simulator.model import WebAnswer


def post(
    application: Callable[..., Iterable[bytes]], url: str, form: Iterable[tuple[str, str]], headers: dict[str, str]
) -> WebAnswer:
    """POST a form over https; gives what the application answers."""
    parts, body = urlsplit(url), urlencode(list(form)).encode()
    given: dict[str, Any] = {}

    def start_response(status: str, response_headers: list[tuple[str, str]], *_: Any) -> None:
        given["status"], given["headers"] = int(status.split()[0]), dict(response_headers)

    environ = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": parts.path,
        "QUERY_STRING": parts.query,
        "RAW_URI": parts.path + (f"?{parts.query}" if parts.query else ""),
        "SERVER_NAME": parts.hostname,
        "SERVER_PORT": "443",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": "application/x-www-form-urlencoded; charset=UTF-8",
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.url_scheme": "https",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in headers.items()},
    }
    content = b"".join(application(environ, start_response))
    return WebAnswer(given["status"], given["headers"], content)
