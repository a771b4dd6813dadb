"""One POST to an address that was checked, and to no other: whatever a name resolves to a moment later.

Without proxies, redirects, cookies and repetitions, and over within 15 seconds, whatever the receiver does.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
from collections.abc import Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from ipaddress import IPv4Address, IPv6Address, IPv6Network, ip_address
from urllib.parse import urlsplit

from dialer_plugins.webhooks.endpoints import Network

#: Seconds for one request from the first byte of it to the last of the answer, and for each address until it takes us.
SECONDS, CONNECT_SECONDS = 15.0, 5.0
#: How much of an answer is read.
ANSWER_BYTES = 64 * 1024
#: Addresses of a name that are tried.
MOST_ADDRESSES = 3

Address = IPv4Address | IPv6Address
#: IPv6 networks whose addresses stand for IPv4 ones in their last 32 bits (RFC 6052, RFC 8215, RFC 4291).
_CARRY_IPV4 = tuple(map(IPv6Network, ("64:ff9b::/96", "64:ff9b:1::/48", "::/96")))


class NotSent(Exception):
    """There was no answer; says why."""


@dataclass(frozen=True, slots=True)
class Answer:
    """What the receiver answered."""

    status: int
    retry_after: str
    text: str


def post(url: str, body: bytes, headers: Mapping[str, str], allowed: Sequence[Network]) -> Answer:
    """Post once; raises NotSent."""
    to = urlsplit(url)
    host, secure = to.hostname or "", to.scheme == "https"
    port = to.port or (443 if secure else 80)
    addresses = resolve(host, port, allowed, secure=secure)
    connection = _Connection(host, port, addresses, ssl.create_default_context() if secure else None)
    path = (to.path or "/") + (f"?{to.query}" if to.query else "")
    try:
        return connection.post(path, body, headers)
    except ssl.SSLCertVerificationError as error:
        raise NotSent(f"its certificate is not good: {error.verify_message}") from None
    except (OSError, http.client.HTTPException, ValueError) as error:
        late = connection.late or isinstance(error, TimeoutError)
        raise NotSent(f"no answer within {SECONDS:g} s" if late else f"{type(error).__name__}: {error}") from None
    finally:
        connection.close()


def resolve(host: str, port: int, allowed: Sequence[Network], *, secure: bool) -> list[str]:
    """The addresses of a host, if it has good ones only; raises NotSent."""
    try:
        found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)
    except (OSError, UnicodeError) as error:
        raise NotSent(f"{host} cannot be resolved: {error}") from None
    addresses = list(dict.fromkeys(str(one[4][0]) for one in found))
    for text in addresses:
        if why := forbidden(ip_address(text), allowed, secure=secure):
            raise NotSent(f"{host} is {text}, {why}")
    return addresses[:MOST_ADDRESSES]


def forbidden(address: Address, allowed: Sequence[Network], *, secure: bool = True) -> str:
    """Why nothing may be sent to an address; empty if it may.

    Only what is public is good, and what is listed; an IPv6 address is as good as the IPv4 one that it stands for.
    """
    meant: list[Address] = [*_carried(address)] or [address]
    if all(_is_listed(one, allowed) for one in meant):
        return ""
    if not all(map(_is_public, meant)):
        return "which is not a public address; allow_private can list its network"
    return "" if secure else "and http:// is for networks that allow_private lists; use https://"


def _is_listed(address: Address, allowed: Iterable[Network]) -> bool:
    return any(address in network for network in allowed if network.version == address.version)


def _is_public(address: Address) -> bool:
    site_local = isinstance(address, IPv6Address) and address.is_site_local
    return address.is_global and not (address.is_multicast or address.is_reserved or site_local)


def _carried(address: Address) -> Iterable[IPv4Address]:
    """The IPv4 addresses that traffic to an IPv6 address may end up at."""
    if isinstance(address, IPv4Address):
        return
    if address.ipv4_mapped:
        yield address.ipv4_mapped
    elif address.sixtofour:
        yield address.sixtofour
    elif address.teredo:
        yield from address.teredo
    elif any(address in network for network in _CARRY_IPV4) and int(address) > 1:  # ::1 is itself
        yield IPv4Address(int(address) & 0xFFFFFFFF)


def _text(answer: http.client.HTTPResponse) -> str:
    """What can be read of an answer's body; its status counts without."""
    with suppress(OSError, http.client.HTTPException):
        return answer.read(ANSWER_BYTES).decode(errors="replace")
    return ""


class _Connection(http.client.HTTPConnection):
    """To the addresses that it is given, by the name that the certificate must have; cut when the time is up."""

    def __init__(self, host: str, port: int, addresses: Sequence[str], context: ssl.SSLContext | None) -> None:
        super().__init__(host, port, timeout=SECONDS)
        self.auto_open = 0  # never by name
        self.default_port = 443 if context else 80
        self.addresses = addresses
        self.context = context
        self.late = False

    def post(self, path: str, body: bytes, headers: Mapping[str, str]) -> Answer:
        self._reach()
        timer = threading.Timer(SECONDS, self._cut)
        timer.daemon = True
        timer.start()
        try:
            if isinstance(self.sock, ssl.SSLSocket):
                self.sock.do_handshake()
            self.request("POST", path, body, dict(headers))
            answer = self.getresponse()
            if self.late:  # what was cut off may look like an answer
                raise TimeoutError
            return Answer(answer.status, answer.getheader("Retry-After") or "", _text(answer))
        finally:
            timer.cancel()

    def _reach(self) -> None:
        """Open the socket, to the first address that takes us; the handshake waits for its timer."""
        for last, address in enumerate(self.addresses, 1 - len(self.addresses)):
            try:
                self.sock = socket.create_connection((address, self.port), CONNECT_SECONDS)
                break
            except OSError:
                if last == 0:
                    raise
        self.sock.settimeout(SECONDS)
        if self.context:
            self.sock = self.context.wrap_socket(self.sock, server_hostname=self.host, do_handshake_on_connect=False)

    def _cut(self) -> None:
        self.late = True
        with suppress(OSError, AttributeError):  # it is closed already
            self.sock.shutdown(socket.SHUT_RDWR)
