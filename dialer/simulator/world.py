"""The shipped application and the simulated network in one process and in virtual time, from one seed.

No threads, no sockets, no wall clock: the driver hands the network's webhooks to the WSGI application and the
application's REST requests to the network, and lets the jobs run in between. Only this and `invariants` know Dialer.
"""

from __future__ import annotations

import contextlib
import io
import logging
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlencode, urlsplit

from dialer.app import create_app
from dialer.dispatcher import SWEEP, WATCH
from dialer.jobs import Worker
from dialer.plugins import FixedPlugins, PluginSet
from dialer.service import Service
from dialer.settings import Account, Calls, Server, Settings
from dialer.simulator import rest
from dialer.simulator.knobs import Faults, Knobs
from dialer.simulator.model import AgentPlan, Call, WebAnswer, WebRequest
from dialer.simulator.network import Network
from dialer.simulator.rest_sdk import InProcessClient
from dialer.store.sqlite import SqliteStore
from dialer.tables import Secret, Source
from dialer.twilio import Carrier

START = 1_790_000_000.0
PUBLIC_URL = "https://dialer.example"
CALLER_ID = "+14155550199"
#: Seconds within which the dispatcher picks a due job up.
PICK_UP = 0.05
#: The account's pace in a world: far above what is played, unless a test is about it.
FAST = 1000.0


@dataclass(frozen=True, slots=True)
class Delivered:
    """One webhook that the application was given, and the HTTP status it answered with."""

    at: float
    purpose: str
    call_sid: str | None
    path: str
    form: tuple[tuple[str, str], ...]
    status: int


@dataclass(slots=True)
class Agent:
    """Somebody at a browser, in a workspace of this world."""

    identity: str
    workspace: str


@dataclass(slots=True)
class World:
    """One Dialer and one network. `folder` holds the database; everything else follows from the seed."""

    folder: Path
    seed: int = 0
    knobs: Knobs = field(default_factory=lambda: Knobs(cps=FAST))
    faults: Faults = field(default_factory=Faults)
    plugins: Iterable[object] = ()
    calls: Calls = field(default_factory=Calls)
    workspaces: tuple[str, ...] = ("ws_demo",)
    agents_each: int = 2
    pace: float = FAST
    network: Network = field(init=False)
    dialer: Service = field(init=False)
    worker: Worker = field(init=False)
    agents: list[Agent] = field(init=False)
    delivered: list[Delivered] = field(default_factory=list)
    application_sid: str = ""
    account_sid: str = ""
    _wsgi: Callable[..., Iterable[bytes]] = field(init=False)
    _next_sweep: float = START
    _next_watch: float = START

    def __post_init__(self) -> None:
        random = Random(self.seed)
        self.network = Network(start=START, seed=self.seed, knobs=self.knobs, faults=self.faults)
        settings = self._settings()
        app = create_app(
            settings,
            plugins=FixedPlugins(PluginSet.of(self.plugins, inline=True)),
            store=SqliteStore(self.folder / "world.db", durable=False),
            clock=lambda: self.network.now,
            random_hex=lambda count: f"{random.getrandbits(count * 8):0{count * 2}x}",
        )
        logging.getLogger("dialer").setLevel(logging.ERROR)
        self.dialer = app.extensions["dialer"]
        self._wsgi = app.wsgi_app
        self.worker = Worker(self.dialer, self._carriers(settings), Random(self.seed + 1))
        self.agents = self._people()

    def dial(self, agent: Agent, to: str, plan: AgentPlan | None = None, **params: str) -> Call:
        """An agent's browser connects; gives the agent's leg."""
        wanted = {"To": to, "workspaceId": agent.workspace, **params}
        return self.network.connect(self.account_sid, self.application_sid, agent.identity, wanted, plan)

    def run(self, seconds: float) -> None:
        """Let that much virtual time pass."""
        end = self.network.now + seconds
        while (due := self._next_due()) <= end:
            self.network.advance(due)
            self._step()
        self.network.advance(end)
        self._step()

    def settle(self, seconds: float = 600.0) -> None:
        """Run until no call is open any more, that long at most."""
        end = self.network.now + seconds
        while self.network.now < end and self._open():
            self.run(1.0)

    def _step(self) -> None:
        for request in self.network.take_requests():
            self.network.answer(request.id, self._perform(request))
        if self.network.now >= self._next_sweep:
            self._next_sweep = self.network.now + SWEEP
            self.worker.sweep()
        if self.network.now >= self._next_watch:
            self._next_watch = self.network.now + WATCH
            with contextlib.suppress(Exception):  # as the dispatcher does: Twilio did not answer, the next look will
                self.worker.watch()
        for plugin in self.worker.due():
            for job in self.worker.claim(plugin, limit=100):
                self.worker.run(job)

    def _next_due(self) -> float:
        with self.dialer.store.read() as tx:
            job = tx.one("next_job")
        run_at = job["run_at"] if job else None
        times = [self._next_sweep, self._next_watch, self.network.next_due()]
        times.append(None if run_at is None else max(run_at, self.network.now) + PICK_UP)
        return min(time for time in times if time is not None)

    def _open(self) -> bool:
        with self.dialer.store.read() as tx:
            row = tx.one("open_calls")
        return bool(row and row["open"]) or any(call.end_time is None for call in self.network.calls.values())

    def _perform(self, request: WebRequest) -> WebAnswer:
        answer = self.post(request.url, request.form, request.headers)
        path = urlsplit(request.url).path
        self.delivered.append(
            Delivered(self.network.now, request.purpose, request.call_sid, path, tuple(request.form), answer.status)
        )
        return answer

    def post(self, url: str, form: Iterable[tuple[str, str]], headers: dict[str, str]) -> WebAnswer:
        """Hand one request to the application, as it would come through a server."""
        parts, body = urlsplit(url), urlencode(list(form)).encode()
        given: dict[str, Any] = {}

        def start_response(status: str, response_headers: list[tuple[str, str]], *_: Any) -> None:
            given["status"], given["headers"] = int(status.split()[0]), dict(response_headers)

        environ = {
            "REQUEST_METHOD": "POST",
            "PATH_INFO": parts.path,
            "QUERY_STRING": parts.query,
            "RAW_URI": parts.path + (f"?{parts.query}" if parts.query else ""),
            "SERVER_NAME": "dialer.example",
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
        content = b"".join(self._wsgi(environ, start_response))
        return WebAnswer(given["status"], given["headers"], content)

    def _settings(self) -> Settings:
        account = self.network.add_account()
        key_sid, secret = self.network.add_key(account.sid)
        application = self.network.add_application(
            account.sid,
            voice_url=f"{PUBLIC_URL}/v1/voice/twiml",
            voice_fallback_url=f"{PUBLIC_URL}/v1/voice/fallback",
            status_callback=f"{PUBLIC_URL}/v1/voice/status",
        )
        self.network.add_number(account.sid, CALLER_ID)
        self.account_sid, self.application_sid = account.sid, application.sid
        return Settings(
            source=Source(self.folder / "dialer.toml"),
            instance=self.folder,
            server=Server(public_url=PUBLIC_URL),
            calls=self.calls,
            accounts=(
                Account(
                    sid=account.sid,
                    tokens=(Secret(account.auth_token),),
                    api_key=key_sid,
                    api_secret=Secret(secret),
                    app_sid=application.sid,
                    calls_per_second=self.pace,
                ),
            ),
        )

    def _carriers(self, settings: Settings) -> Callable[[str], Carrier]:
        client = InProcessClient(lambda request: rest.handle(self.network, request))

        @cache
        def carrier(account_sid: str) -> Carrier:
            account = settings.account(account_sid)
            assert account is not None
            return Carrier(account, "https://api.twilio.com", client)

        return carrier

    def _people(self) -> list[Agent]:
        agents = []
        with self.dialer.store.write() as tx:
            for workspace in self.workspaces:
                tx.run("add_workspace", id=workspace, name=workspace, created_at=START)
                tx.run("add_number", workspace=workspace, number=CALLER_ID, created_at=START)
                for number in range(self.agents_each):
                    agent = Agent(f"{workspace}_agent_{number}", workspace)
                    values = {"identity": agent.identity, "workspace": workspace, "name": agent.identity}
                    tx.run("add_agent", **values, role="agent", created_at=START)
                    agents.append(agent)
        return agents
