"""How requests reach Twilio: one connection each, time-outs on all of it, and no request that leaves too late.

Loaded on first use, by processes that ask Twilio: requests and the SDK take a tenth of a second to import.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from typing import Any
from urllib.parse import urlsplit

import requests
from requests.adapters import HTTPAdapter
from twilio.base.exceptions import TwilioRestException, TwilioServiceException
from twilio.http import HttpClient
from twilio.http.response import Response
from urllib3 import HTTPConnectionPool, HTTPSConnectionPool
from urllib3.connection import HTTPConnection, HTTPSConnection
from urllib3.exceptions import NewConnectionError

from dialer.crash import crash_point
from dialer.settings import is_loopback

#: Seconds to connect and to wait for an answer: the SDK itself would wait for ever.
TIMEOUT = (3.05, 10.0)
#: The same for what may be asked again, which is all but the making of a call: somebody may be alone meanwhile.
TIMEOUT_OF_REPEATABLE = (3.05, 4.0)
#: Seconds after which a connection that stands at last is not used any more. No time-out bounds resolving a name,
#: and a dial that nobody waits for must not leave: its intent counts as unknown after 15 s.
CONNECT_LIMIT = 10.0
#: Seconds that we stay away from a busy Twilio at most: an agent is waiting.
LONGEST_WAIT = 30.0
#: Bytes of a file that are in memory at a time.
PIECE = 65_536


#: What the SDK raises for an answer that is not what was asked for, in Twilio's older form and in that of RFC 9457.
TWILIO_ERRORS = (TwilioRestException, TwilioServiceException)


class TooManyRequests(Exception):
    """Twilio did not process a request (429, error 20429) and says how many seconds to stay away."""

    def __init__(self, seconds: float) -> None:
        super().__init__(f"Twilio is busy, for {seconds:.0f} s")
        self.seconds = seconds


class Transport(HttpClient):  # type: ignore[misc]  # the SDK has no types
    """The SDK's requests, sent to `api_base` in place of api.twilio.com where that is a simulator's."""

    def __init__(self, api_base: str) -> None:
        super().__init__(logging.getLogger("dialer.twilio"), is_async=False, timeout=TIMEOUT[1])
        self.api_base = api_base

    def request(
        self,
        method: str,
        url: str,
        params: Any = None,
        data: Any = None,
        headers: Any = None,
        auth: Any = None,
        timeout: float | None = None,
        allow_redirects: bool = False,
    ) -> Response:
        """Send one request, once; raises what requests raises, and TooManyRequests."""
        with self._session() as session:
            answer = session.request(
                method,
                rebase(url, self.api_base),
                params=params,
                data=data,
                headers=headers,
                auth=auth,
                timeout=time_out_of(method, url),
                allow_redirects=allow_redirects,
            )
        wait = answer.headers.get("Retry-After", "")
        if answer.status_code == 429 and wait.isdecimal():
            raise TooManyRequests(min(float(wait), LONGEST_WAIT))
        return Response(answer.status_code, answer.text, dict(answer.headers))

    def stream(self, url: str, auth: tuple[str, str]) -> Iterator[bytes]:
        """The body of a file at Twilio's, piece by piece; raises what requests and the SDK raise, also halfway."""
        where = rebase(url, self.api_base)
        with self._session() as session, session.get(where, auth=auth, timeout=TIMEOUT, stream=True) as answer:
            if not answer.ok:
                raise TwilioRestException(answer.status_code, url, "There is no such file, or not for this key")
            yield from answer.iter_content(PIECE)

    def _session(self) -> requests.Session:
        session = requests.Session()
        session.trust_env = not is_loopback(urlsplit(self.api_base).hostname or "")
        session.mount("http://", PunctualAdapter())
        session.mount("https://", PunctualAdapter())
        return session


def time_out_of(method: str, url: str) -> tuple[float, float]:
    """Seconds to connect and to wait for the answer to such a request."""
    makes_call = method == "POST" and urlsplit(url).path.endswith(("/Calls.json", "/Participants.json"))
    return TIMEOUT if makes_call else TIMEOUT_OF_REPEATABLE


def rebase(url: str, api_base: str) -> str:
    """Send what is meant for api.twilio.com to the configured base; at Twilio itself every host keeps its name."""
    if urlsplit(api_base).hostname == "api.twilio.com":
        return url
    parts = urlsplit(url)
    return f"{api_base.rstrip('/')}{parts.path}" + (f"?{parts.query}" if parts.query else "")


class _Punctual:
    """A connection that refuses to be used when it took too long to stand: nothing has been sent then."""

    def __init__(self, *args: Any, **options: Any) -> None:
        super().__init__(*args, **options)
        self._begun = time.monotonic()

    def connect(self) -> None:
        super().connect()  # type: ignore[misc]  # mixed into urllib3's connections below
        if time.monotonic() - self._begun > CONNECT_LIMIT:
            self.close()  # type: ignore[attr-defined]
            raise NewConnectionError(self, "connected too late")  # type: ignore[arg-type]

    def getresponse(self) -> Any:
        crash_point("rest.in_flight")
        return super().getresponse()  # type: ignore[misc]


class _HttpConnection(_Punctual, HTTPConnection):
    """Plain, to a simulator."""


class _HttpsConnection(_Punctual, HTTPSConnection):
    """To Twilio."""


class _HttpPool(HTTPConnectionPool):
    ConnectionCls = _HttpConnection


class _HttpsPool(HTTPSConnectionPool):
    ConnectionCls = _HttpsConnection


class PunctualAdapter(HTTPAdapter):
    """Requests over punctual connections, with no repeats of its own."""

    def init_poolmanager(self, *args: Any, **options: Any) -> None:
        super().init_poolmanager(*args, **options)
        self.poolmanager.pool_classes_by_scheme = {"http": _HttpPool, "https": _HttpsPool}
