"""A scripted application on the simulated network: what it answers by path, and what it was told."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from urllib.parse import parse_qsl, urlsplit

import pytest
from twilio.rest import Client

from dialer.simulator import AgentPlan, Call, Faults, Knobs, Network, Params, WebAnswer, WebRequest
from dialer.simulator.rest_sdk import connect_client

HOST = "https://app.example"
OWN = "+14155550199"
Page = str | WebAnswer | None | Callable[[WebRequest], "str | WebAnswer | None"]
"""TwiML, a whole answer, None for no answer at all, or a function that gives one of these."""


@pytest.fixture
def network() -> Network:
    """A network for the tests of the REST API; it starts at a full second."""
    return Network(start=1_800_000_000.0, seed=1, knobs=Knobs(cps=100.0))


@pytest.fixture
def client(network: Network) -> Client:
    """The SDK's client of an account with one number, in place of sockets."""
    account = network.add_account()
    network.add_number(account.sid, OWN)
    return connect_client(network, account)


@dataclass
class Heard:
    """One request that reached the application."""

    at: float
    purpose: str
    path: str
    fields: dict[str, str]
    request: WebRequest

    @property
    def event(self) -> str:
        return self.fields.get("StatusCallbackEvent") or self.fields.get("CallStatus", "")


@dataclass
class Story:
    """An account with one application, driven through virtual time."""

    network: Network
    pages: dict[str, Page] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)
    on_heard: Callable[[Heard], None] | None = None

    def __post_init__(self) -> None:
        self.account = self.network.add_account()
        self.app = self.network.add_application(
            self.account.sid, voice_url=f"{HOST}/voice", status_callback=f"{HOST}/status"
        )
        self.network.add_number(self.account.sid, OWN, voice_url=f"{HOST}/voice")
        self.start = self.network.now

    def run(self, seconds: float = 60.0) -> None:
        """Let that much time pass."""
        network, end = self.network, self.network.now + seconds
        while (due := network.next_due()) is not None and due <= end:
            network.advance(due)
            for request in network.take_requests():
                self.serve(request)
        network.advance(end)

    def serve(self, request: WebRequest) -> None:
        path = urlsplit(request.url).path
        form = request.form or parse_qsl(urlsplit(request.url).query, keep_blank_values=True)
        heard = Heard(self.network.now, request.purpose, path, dict(form), request)
        self.heard.append(heard)
        page = self.pages.get(path, WebAnswer(204))
        page = page(request) if callable(page) else page
        if isinstance(page, str):
            page = WebAnswer(200, {"Content-Type": "text/xml; charset=utf-8"}, page.encode())
        if page is not None:
            self.network.answer(request.id, page)
        if self.on_heard is not None:
            self.on_heard(heard)

    def connect(self, to: str = "+14155550101", plan: AgentPlan | None = None, **params: str) -> Call:
        """A browser calls the application."""
        return self.network.connect(self.account.sid, self.app.sid, "alice", {"To": to, **params}, plan)

    def call(self, to: str = "+14155550101", **params: str | list[str]) -> Call:
        """An outbound call over REST that subscribes to everything."""
        given: dict[str, str | list[str]] = {
            "To": to,
            "From": OWN,
            "Url": f"{HOST}/join",
            "StatusCallback": f"{HOST}/status",
            "StatusCallbackEvent": ["initiated", "ringing", "answered", "completed"],
            **params,
        }
        return self.network.create_call(self.account.sid, Params({k: v for k, v in given.items() if v != ""}))

    def told(self, purpose: str, call: Call | None = None) -> list[Heard]:
        """The requests of one purpose, of one call if given."""
        return [
            heard
            for heard in self.heard
            if heard.purpose == purpose and (call is None or heard.request.call_sid == call.sid)
        ]

    def statuses(self, call: Call) -> list[str]:
        """CallStatus of its status callbacks, in their own order."""
        told = sorted(self.told("status", call), key=lambda heard: int(heard.fields["SequenceNumber"]))
        return [heard.fields["CallStatus"] for heard in told]

    def events(self) -> list[str]:
        """Conference events, in their own order."""
        told = sorted(self.told("conference"), key=lambda heard: int(heard.fields["SequenceNumber"]))
        return [heard.event for heard in told]

    def alerts(self) -> list[int]:
        return [alert.code for alert in self.account.alerts]

    def kinds(self, call: Call | None = None) -> list[str]:
        """Kinds of the log's entries, of one call if given, without the web."""
        web = ("request", "response")
        log = self.network.log
        return [e.kind for e in log if e.kind not in web and (call is None or e.call_sid == call.sid)]

    def entries(self, kind: str) -> list[dict[str, object]]:
        return [entry.detail for entry in self.network.log if entry.kind == kind]


Play = Callable[..., Story]


@pytest.fixture
def play() -> Play:
    """Make a story: play(knobs=..., faults=..., seed=..., **pages by path without the slash)."""

    def make(
        knobs: Knobs | None = None, faults: Faults | None = None, seed: int = 1, **pages: Page
    ) -> Story:
        network = Network(1_700_000_000.0, seed, knobs or Knobs(cps=float("inf")), faults)
        return Story(network, {f"/{path}": page for path, page in pages.items()})

    return make
