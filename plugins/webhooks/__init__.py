"""Tell other systems of every event, after Standard Webhooks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated

import click

try:
    import standardwebhooks  # noqa: F401  # what the modules below sign with
except ImportError:
    raise ImportError("the library standardwebhooks is missing: pip install 'dialer[webhooks]'") from None

from dialer import Call, CallEvent, Host, RetryLater, Setting, hookimpl
from dialer_plugins.waiting import seconds_asked
from dialer_plugins.webhooks import commands, receipts
from dialer_plugins.webhooks.endpoints import Endpoint, Network, network
from dialer_plugins.webhooks.messages import Message, of_call
from dialer_plugins.webhooks.posting import NotSent, post
from dialer_plugins.webhooks.receipts import Receiver


@dataclass(frozen=True, eq=False)
class Webhooks:
    """Post every event of calls to your own URLs, signed after Standard Webhooks; dialer webhooks tests them."""

    endpoints: Annotated[tuple[Endpoint, ...], Setting("who is told")] = ()
    allow_private: Annotated[tuple[str, ...], Setting("private networks that may be posted to")] = ()
    host: Host = field(default_factory=Host)

    def __post_init__(self) -> None:
        for text in self.allow_private:
            try:
                network(text)
            except ValueError as error:
                raise ValueError(f"allow_private {error}; write a network such as 10.1.0.0/16") from None
        urls = [endpoint.url for endpoint in self.endpoints]
        for place, url in enumerate(urls, 1):
            if url in urls[: place - 1]:
                raise ValueError(f"endpoints entry {place}: url: is that of entry {urls.index(url) + 1}")
            if url.startswith("http:") and not self.allow_private:
                raise ValueError(f"endpoints entry {place}: url: must start with https://, but for allow_private")

    @property
    def networks(self) -> list[Network]:
        return [network(text) for text in self.allow_private]

    @hookimpl
    def call_started(self, call: Call) -> None:
        kind = "call.rejected" if call.status == "rejected" else "call.started"
        self._tell(kind, call, call.requested_at)

    @hookimpl
    def call_status(self, call: Call, event: CallEvent) -> None:
        kind = "call.machine_detection" if event.name == "machine-detection" else "call.status"
        self._tell(kind, call, event.at, event)

    @hookimpl
    def conference_event(self, call: Call, event: CallEvent) -> None:
        self._tell("call.conference", call, event.at, event)

    @hookimpl
    def recording_ready(self, call: Call, event: CallEvent) -> None:
        self._tell("call.recording", call, event.at, event)

    @hookimpl
    def call_ended(self, call: Call) -> None:
        self._tell("call.ended", call, call.ended_at or self.host.clock())

    @hookimpl
    def register_commands(self) -> click.Group:
        group: click.Group = commands.group(self)
        return group

    def _tell(self, kind: str, call: Call, at: float, event: CallEvent | None = None) -> None:
        """Send to everyone who wants this and has not got it; raises RetryLater with who is left, and why."""
        wanted = [endpoint for endpoint in self.endpoints if endpoint.wants(kind, call.workspace)]
        if not wanted:
            return
        left = list(self._send_to_all(wanted, call.workspace, of_call(kind, call, at, event)))
        if left:
            received = len(wanted) - len(left)
            text = "; ".join(why for _, why in left)
            more = f" ({received} of {len(wanted)} endpoints are done)" if received else ""
            raise RetryLater(min(wait for wait, _ in left), text + more)

    def _send_to_all(self, endpoints: list[Endpoint], workspace: str, message: Message) -> Iterator[tuple[float, str]]:
        """Send to each of them, those that work first; gives the seconds to wait and the reason for who is left."""
        pairs = [(receipts.receiver(self.host, workspace, one.url), one) for one in endpoints]
        for to, endpoint in sorted(pairs, key=lambda pair: pair[0].failures):
            if receipts.has(self.host, to, message.id):
                continue
            if to.gone_at is not None:
                receipts.note_missed(self.host, to)
            elif (rest := to.rests_until - self.host.clock()) > 0:
                yield rest, f"{place(to.url)} rests for {rest:.0f} s, after: {to.reason}"
            elif why := self.send(endpoint, to, message):
                yield why

    def send(self, endpoint: Endpoint, to: Receiver, message: Message) -> tuple[float, str] | None:
        """Send once, and keep what came of it; gives the seconds to wait and the reason if it must be sent again."""
        asked = 0.0
        try:
            headers = message.headers(endpoint.secrets, self.host.clock())
            answer = post(endpoint.url, message.body.encode(), headers, self.networks)
        except NotSent as error:
            why = str(error)
        else:
            if 200 <= answer.status < 300:
                receipts.note_received(self.host, to, message.id)
                return None
            if answer.status == 410:
                receipts.note_gone(self.host, to)
                self.host.log.error(
                    "%s answered 410 and is told nothing more%s; mend it, then: dialer webhooks enable URL",
                    place(to.url), f" of {to.workspace}" if to.workspace else "",
                )  # fmt: skip
                return None
            asked = min(seconds_asked(answer.retry_after, self.host.clock()), 86_400.0)
            why = f"answered {answer.status}" + (
                ", and redirects are not followed" if 300 <= answer.status < 400 else ""
            )
        rest = receipts.note_failure(self.host, to, why, asked)
        return rest, f"{place(to.url)}: {why}"


def place(url: str) -> str:
    """The URL without its query, in which some keep a password."""
    return url.partition("?")[0]
