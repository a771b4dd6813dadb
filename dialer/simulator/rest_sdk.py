"""The twilio SDK with the simulator in Twilio's place: HTTP clients to give to twilio.rest.Client."""

from __future__ import annotations

import base64
import logging
import re
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any
from urllib.parse import parse_qsl, quote, urlsplit

import requests
from twilio.base.exceptions import TwilioRestException
from twilio.http import HttpClient
from twilio.http.http_client import TwilioHttpClient
from twilio.http.response import Response
from twilio.rest import Client
from urllib3.exceptions import MaxRetryError, NewConnectionError, ProtocolError

from dialer.simulator.account_records import Account
from dialer.simulator.model import Params
from dialer.simulator.network import Network
from dialer.simulator.rest import RestRequest, RestResponse, handle

_TWILIO = re.compile(r"https://[a-z0-9.-]+\.twilio\.com(?=/)")
_UNQUOTED = "!#$%&'()*+,/:;=?@[]~"  # what requests leaves alone in a path


class LoopbackClient(TwilioHttpClient):  # type: ignore[misc]
    """Sends what is meant for any host of twilio.com to a simulator's base URL, over HTTP."""

    def __init__(self, base_url: str, **options: Any) -> None:
        super().__init__(**options)
        self.base_url = base_url.rstrip("/")

    def request(self, method: str, url: str, *args: Any, **kwargs: Any) -> Response:
        return super().request(method, _TWILIO.sub(self.base_url, url), *args, **kwargs)


def connect_client(network: Network, account: Account, user: str = "", password: str = "") -> Client:
    """The SDK's client for an account of a network in this process; with an API key when one is given."""
    http_client = InProcessClient(partial(handle, network))
    return Client(user or account.sid, password or account.auth_token, account.sid, http_client=http_client)


class InProcessClient(HttpClient):  # type: ignore[misc]
    """Hands each request to a function, mostly `rest.handle` of a network; no socket is opened."""

    def __init__(self, answer: Callable[[RestRequest], RestResponse]) -> None:
        super().__init__(logging.getLogger(__name__), is_async=False)
        self.answer = answer

    def request(
        self,
        method: str,
        uri: str,
        params: Mapping[str, object] | None = None,
        data: Mapping[str, object] | None = None,
        headers: Mapping[str, str] | None = None,
        auth: tuple[str, str] | None = None,
        timeout: float | None = None,
        allow_redirects: bool = False,
    ) -> Response:
        """The answer; what requests raises when there is none or half of one."""
        response = self.answer(_read_request(method, uri, params or {}, data or {}, auth))
        if response.failed == "refused":
            raise _refused(uri)
        if response.failed == "timeout":
            raise requests.exceptions.ReadTimeout(f"no answer: {uri}")
        if response.failed == "reset":
            raise requests.exceptions.ConnectionError(ProtocolError("Connection aborted.", ConnectionResetError(104)))
        if response.failed == "half":
            raise requests.exceptions.ChunkedEncodingError(ProtocolError("Connection broken: IncompleteRead"))
        return Response(response.status, response.body.decode("utf-8", "replace"), response.headers)

    def stream(self, url: str, auth: tuple[str, str]) -> Iterator[bytes]:
        """The body of a file, in two pieces; it may break off between them."""
        response = self.answer(_read_request("GET", url, {}, {}, auth))
        if response.failed == "refused":
            raise _refused(url)
        if response.failed in ("timeout", "reset"):
            raise requests.exceptions.ConnectionError(f"no answer: {url}")
        if not 200 <= response.status < 300:
            raise TwilioRestException(response.status, url, "There is no such file, or not for this key")
        half = len(response.body) // 2
        yield response.body[:half]
        if response.failed == "half":
            raise requests.exceptions.ChunkedEncodingError("the connection broke off")
        yield response.body[half:]


def _refused(uri: str) -> requests.exceptions.ConnectionError:
    """The error as requests raises it, so that "never sent" can be told from a connection that broke."""
    reason = NewConnectionError(None, "Connection refused")  # type: ignore[arg-type]
    return requests.exceptions.ConnectionError(MaxRetryError(None, uri, reason))  # type: ignore[arg-type]


def _read_request(
    method: str,
    uri: str,
    params: Mapping[str, object],
    data: Mapping[str, object],
    auth: tuple[str, str] | None,
) -> RestRequest:
    parts = urlsplit(uri)
    query = [*parse_qsl(parts.query, keep_blank_values=True), *_pairs(params)]
    path = quote(parts.path, safe=_UNQUOTED)
    return RestRequest(method.upper(), path, Params(query), Params(_pairs(data)), _basic(auth))


def _pairs(values: Mapping[str, object]) -> Iterator[tuple[str, str]]:
    for name, value in values.items():
        several = value if isinstance(value, list | tuple) else [value]
        yield from ((name, str(each)) for each in several if each is not None)


def _basic(auth: tuple[str, str] | None) -> str | None:
    return "Basic " + base64.b64encode(":".join(auth).encode()).decode() if auth else None
