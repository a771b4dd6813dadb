"""The shipped application under the calls of a simulated network, in one process, its webhooks and jobs on threads."""

from __future__ import annotations

import gc
import logging
from collections.abc import Callable, Iterable
from concurrent.futures import Future, ThreadPoolExecutor, wait
from pathlib import Path
from random import Random
from threading import Lock
from typing import Any
from urllib.parse import parse_qs, urlencode, urlsplit

from flask import Flask

from dialer import hookimpl
from dialer.app import create_app
from dialer.auth import add_agent, add_workspace
from dialer.calls import Call
from dialer.hookspecs import CallEvent
from dialer.jobs import Worker
from dialer.plugins import FixedPlugins, PluginSet
from dialer.settings import Account, Server, Settings
from dialer.simulator import rest
from dialer.simulator.knobs import Knobs
from dialer.simulator.model import AgentPlan, WebAnswer, WebRequest
from dialer.simulator.network import Network
from dialer.simulator.phones import PHONES
from dialer.simulator.rest_sdk import InProcessClient
from dialer.store import Store
from dialer.tables import Secret, Source
from dialer.twilio import Carrier

START = 1_790_000_000.0
PUBLIC_URL = "https://dialer.example"
WORKSPACE, AGENT, CALLER_ID = "ws_power", "power_alice", "+14155550199"
THREADS = 4
#: Virtual seconds between looks: what became due meanwhile comes at once, so that threads have to share commits.
TICK = 0.25


class Listener:
    """A plugin that every event is owed to."""

    @hookimpl
    def call_started(self, call: Call) -> None: ...

    @hookimpl
    def call_status(self, call: Call, event: CallEvent) -> None: ...

    @hookimpl
    def conference_event(self, call: Call, event: CallEvent) -> None: ...

    @hookimpl
    def call_ended(self, call: Call) -> None: ...


class Traffic:
    """Calls of one network through one application after another; `promise` is told of every answer that binds us."""

    def __init__(self, folder: Path, seed: int, promise: Callable[[str], None]) -> None:
        self.random = Random(seed)
        self.network = Network(START, seed, Knobs(cps=1000.0))
        self.settings = make_settings(self.network, folder)
        self.promise = promise
        self._one_request = Lock()

    def play(self, store: Store, calls: int) -> None:
        """So many calls from dial to end, then stop the application: its last connection closes the database."""
        app = make_app(self.settings, store, lambda: self.network.now)
        worker = Worker(app.extensions["dialer"], self._carrier, Random(1))
        with ThreadPoolExecutor(THREADS) as pool:
            starts = sorted(self.network.now + self.random.uniform(0, calls / 4) for _ in range(calls))
            while starts or any(call.end_time is None for call in self.network.calls.values()):
                self._tick(pool, app, worker)
                while starts and starts[0] <= self.network.now:
                    starts.pop(0)
                    self._dial()
        store.close()
        gc.collect()  # of the threads' own connections

    def _tick(self, pool: ThreadPoolExecutor, app: Flask, worker: Worker) -> None:
        self.network.advance(self.network.now + TICK)
        requests = self.network.take_requests()
        answers = [pool.submit(self._perform, app, request) for request in requests]
        worker.sweep()
        jobs: list[Future[Any]] = [
            pool.submit(worker.run, job) for plugin in worker.due() for job in worker.claim(plugin, limit=100)
        ]
        wait([*answers, *jobs])
        for request, answer in zip(requests, answers, strict=True):
            self.network.answer(request.id, answer.result())

    def _dial(self) -> None:
        plan = AgentPlan(hang_up_after_bridged=self.random.uniform(0.2, 8), hang_up_after=self.random.uniform(0.5, 30))
        number = self.random.choice(sorted(PHONES))
        account = self.settings.accounts[0]
        self.network.connect(account.sid, account.app_sid, AGENT, {"To": number, "workspaceId": WORKSPACE}, plan)

    def _perform(self, app: Flask, request: WebRequest) -> WebAnswer:
        status, headers, content = post(app, request.url, request.form, request.headers)
        if status // 100 == 5:
            raise RuntimeError(f"{request.url} was answered {status}: {content.decode()}")
        key = promised_key(urlsplit(request.url).path, dict(request.form))
        if status // 100 == 2 and key:
            self.promise(key)
        return WebAnswer(status, headers, content)

    def _carrier(self, account_sid: str) -> Carrier:
        account = self.settings.account(account_sid)
        assert account is not None
        return Carrier(account, "https://api.twilio.com", InProcessClient(self._at_twilio))

    def _at_twilio(self, request: rest.RestRequest) -> rest.RestResponse:
        """One request at a time; that a call is asked for promises that it was written down as asked for."""
        if request.method == "POST" and request.path.endswith("/Calls.json"):
            self.promise(f"dial:{parse_qs(urlsplit(request.form.get('Url')).query)['intent'][0]}:sending:1")
        with self._one_request:
            return rest.handle(self.network, request)


def promised_key(path: str, form: dict[str, str]) -> str:
    """The key of the event that a webhook of ours must have left; empty for those that need not leave one."""
    number = form.get("SequenceNumber", "")
    if path.endswith("/conference-status"):
        return f"conference:{form['ConferenceSid']}:{number}:{form['StatusCallbackEvent']}:{form.get('CallSid', '')}"
    if path.endswith("/status"):
        return f"status:{form['CallSid']}:{number}:{form['CallStatus']}"
    kinds = {"/v1/voice/twiml": "twiml", "/v1/voice/conference-join": "join"}
    return f"{kinds[path]}:{form['CallSid']}" if path in kinds else ""


def make_settings(network: Network, folder: Path) -> Settings:
    """Settings for a new account of the network."""
    account = network.add_account()
    urls = {"voice_url": f"{PUBLIC_URL}/v1/voice/twiml", "status_callback": f"{PUBLIC_URL}/v1/voice/status"}
    application = network.add_application(account.sid, **urls)
    network.add_number(account.sid, CALLER_ID)
    tokens = (Secret(account.auth_token),)
    ours = Account(account.sid, tokens, app_sid=application.sid, calls_per_second=1000.0)
    return Settings(
        source=Source(folder / "dialer.toml"),
        instance=folder,
        server=Server(public_url=PUBLIC_URL),
        accounts=(ours,),
    )


def make_app(settings: Settings, store: Store, clock: Callable[[], float]) -> Flask:
    """The shipped application with one plugin that listens."""
    app = create_app(settings, plugins=FixedPlugins(PluginSet.of([Listener()], inline=True)), store=store, clock=clock)
    logging.getLogger("dialer").setLevel(logging.CRITICAL)
    return app


def set_up(store: Store) -> None:
    """A workspace with an agent and a number."""
    with store.write() as tx:
        add_workspace(tx, WORKSPACE, WORKSPACE, START)
        add_agent(tx, WORKSPACE, AGENT, "Alice", "agent", START)
        tx.run("add_number", workspace=WORKSPACE, number=CALLER_ID, created_at=START)


def post(
    app: Flask, url: str, form: Iterable[tuple[str, str]], headers: dict[str, str]
) -> tuple[int, dict[str, str], bytes]:
    """Status, headers and body that the application answers one webhook with."""
    parts = urlsplit(url)
    path = parts.path + (f"?{parts.query}" if parts.query else "")
    body = urlencode(list(form))
    answer = app.test_client().post(path, data=body, headers=headers, content_type="application/x-www-form-urlencoded")
    return answer.status_code, dict(answer.headers), answer.data
