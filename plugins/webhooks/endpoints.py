"""One receiver: its address, its secrets, and what it wants to hear of."""

from __future__ import annotations

import base64
import re
from dataclasses import dataclass
from ipaddress import IPv4Network, IPv6Network, ip_network
from typing import Annotated, Literal, get_args
from urllib.parse import urlsplit

from dialer import Secret, Setting

EventType = Literal[
    "call.started",
    "call.rejected",
    "call.status",
    "call.machine_detection",
    "call.conference",
    "call.recording",
    "call.ended",
]
EVENT_TYPES: tuple[str, ...] = get_args(EventType)
#: What `dialer webhooks test` sends, to whoever it is told to.
TEST = "dialer.test"
Network = IPv4Network | IPv6Network


def _url(text: str) -> str:
    """An absolute URL; its ValueError does not repeat it, since it may hold a password."""
    url = urlsplit(text)
    if url.scheme not in ("http", "https") or not url.hostname or url.port == 0:
        raise ValueError("must be a URL such as https://crm.example.com/dialer")
    if url.username or url.password or url.fragment:
        raise ValueError("must be a URL without user, password and fragment")
    if not re.fullmatch(r"[!-~]{1,2000}", text):
        raise ValueError("must be of ASCII letters without spaces, 2000 at most (write the host in xn-- form)")
    return text


def _signing_secret(secret: Secret) -> Secret:
    text = secret.reveal()
    if not text.startswith("whsec_"):
        raise ValueError("must be whsec_ and 24 to 64 bytes in base64 (dialer webhooks secret makes one)")
    coded = text.removeprefix("whsec_").rstrip("=")
    try:
        length = len(base64.b64decode(coded + "=" * (-len(coded) % 4), validate=True))
    except ValueError:
        raise ValueError("is whsec_ and something that is not base64") from None
    if not 24 <= length <= 64:
        raise ValueError(f"has {length} bytes after whsec_, not 24 to 64 (dialer webhooks secret makes one)")
    return secret


@dataclass(frozen=True, kw_only=True)
class Endpoint:
    """A receiver of events."""

    url: Annotated[str, Setting("where events are posted to", parse=_url)]
    secret: Annotated[Secret, Setting("signs them: whsec_ and base64", parse=_signing_secret)]
    previous_secret: Annotated[
        Secret | None, Setting("signs them too, while secrets are rotated", parse=_signing_secret)
    ] = None
    events: Annotated[tuple[EventType, ...], Setting("which events; empty: all")] = ()
    workspaces: Annotated[tuple[str, ...], Setting("whose calls; empty: all")] = ()

    def wants(self, kind: str, workspace: str) -> bool:
        """Whether an event of this type is for it."""
        if self.workspaces and workspace not in self.workspaces:
            return False
        return kind == TEST or not self.events or kind in self.events

    @property
    def secrets(self) -> tuple[str, ...]:
        """In clear, the current one first."""
        both = (self.secret, self.previous_secret)
        return tuple(secret.reveal() for secret in both if secret)


def network(text: str) -> Network:
    """A network such as 10.1.0.0/16, or a single address; raises ValueError."""
    return ip_network(text, strict=True)
