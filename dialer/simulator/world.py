"""The shipped application and the simulated network in one process and in virtual time, from one seed.

No threads, no sockets, no wall clock: the driver hands the network's webhooks to the WSGI application and the
application's REST requests to the network, and lets the jobs run in between, each in a greenlet of its process. Only
this, `chaos`, `trace` and `invariants` know Dialer.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from functools import cache, partial
from pathlib import Path
from random import Random
from typing import Any
from urllib.parse import urlsplit

from greenlet import getcurrent

from dialer import crash
from dialer.app import create_app, create_service
from dialer.jobs import Worker
from dialer.plugins import FixedPlugins, PluginSet
from dialer.service import Service
from dialer.settings import Calls, Settings
from dialer.simulator import rest
from dialer.simulator.chaos import Disk, Process, ProcessStore, Task, pass_crash_point, sleep, strikes
from dialer.simulator.evidence import injected, network_leg
from dialer.simulator.inhabitants import CALLER_ID, PUBLIC_URL, Agent, add_people, make_settings
from dialer.simulator.knobs import Faults, Knobs
from dialer.simulator.model import AgentPlan, Call, WebAnswer, WebRequest
from dialer.simulator.network import Network
from dialer.simulator.record import Delivered, Overdue, Record, Trouble
from dialer.simulator.recorder import TELLS, Recorder
from dialer.simulator.rest_routes import RestRequest, RestResponse
from dialer.simulator.rest_sdk import InProcessClient
from dialer.simulator.trace import WATCHED, Trace
from dialer.simulator.turns import EVERYBODY, Turns
from dialer.simulator.wsgi import post
from dialer.store.sqlite import SqliteStore
from dialer.transport import time_out_of
from dialer.twilio import Carrier

__all__ = ["CALLER_ID", "DOWNTIME", "FAST", "PUBLIC_URL", "START", "Agent", "World"]

START = 1_790_000_000.0
#: Seconds from the death of a process to its next life, from and to.
DOWNTIME = (0.1, 5.0)
#: The account's pace in a world: far above what is played, unless a test is about it.
FAST = 1000.0
#: What has to be known of the processes' commits: how calls and legs change, when calls are settled, jobs are due.
NEEDED = frozenset({"save_call", "save_leg", "add_job", "retry_job"})


@dataclass(slots=True)
class World:
    """One Dialer and one network. `folder` holds the database; everything else follows from the seed.

    `rest_seconds`: how long Twilio takes to answer a REST request; with 0 no request takes any time, not even one that
    is never answered. `traced`: keep a history that can be printed. `start`: when it begins, in epoch seconds.
    """

    folder: Path
    seed: int = 0
    knobs: Knobs = field(default_factory=lambda: Knobs(cps=FAST))
    faults: Faults = field(default_factory=Faults)
    plugins: Iterable[object] | PluginSet = ()
    calls: Calls = field(default_factory=Calls)
    workspaces: tuple[str, ...] = ("ws_demo",)
    agents_each: int = 2
    pace: float = FAST
    rest_seconds: float = 0.0
    traced: bool = False
    start: float = START
    network: Network = field(init=False)
    settings: Settings = field(init=False)
    dialer: Service = field(init=False)
    worker: Worker = field(init=False)
    agents: list[Agent] = field(init=False)
    disk: Disk = field(init=False)
    trace: Trace = field(init=False)
    web: Process | None = field(init=False, default=None)
    dispatcher: Process | None = field(init=False, default=None)
    offset: float = 0.0
    delivered: list[Delivered] = field(default_factory=list)
    troubles: list[Trouble] = field(default_factory=list)
    overdue: list[Overdue] = field(default_factory=list)
    settled: dict[str, float] = field(default_factory=dict)
    statuses: defaultdict[str, list[str]] = field(default_factory=lambda: defaultdict(list))
    application_sid: str = ""
    account_sid: str = ""
    _plugins: FixedPlugins = field(init=False)
    _random: Random = field(init=False)
    _wsgi: Callable[..., Iterable[bytes]] = field(init=False)
    _turns: Turns | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self._random = Random(self.seed)
        self.network = Network(start=self.start, seed=self.seed, knobs=self.knobs, faults=self.faults)
        self.settings = make_settings(self.network, self.folder, self.calls, self.pace)
        account = self.settings.accounts[0]
        self.account_sid, self.application_sid = account.sid, account.app_sid
        made = self.plugins if isinstance(self.plugins, PluginSet) else PluginSet.of(self.plugins, inline=True)
        self._plugins = FixedPlugins(made)
        self.disk = Disk(self.network, self.troubles)
        self.trace = Trace(self.network, on=self.traced)
        crash.watch(pass_crash_point)
        store = SqliteStore(self.folder / "world.db", durable=False)
        self.dialer = create_service(self.settings, store=store, **self._shared())
        self._start_web()
        self._start_dispatcher()
        self.agents = add_people(store, self.workspaces, self.agents_each, self.start)

    def dial(self, agent: Agent, to: str, plan: AgentPlan | None = None, **params: str) -> Call:
        """An agent's browser connects; gives the agent's leg."""
        wanted = {"To": to, "workspaceId": agent.workspace, **params}
        if strikes(self.network, "clock_jumps"):
            self.network.later(self.network.uniform(0.0, 20.0), self._set_clock)
        return self.network.connect(self.account_sid, self.application_sid, agent.identity, wanted, plan)

    def run(self, seconds: float) -> None:
        """Let that much virtual time pass."""
        end = self.network.now + seconds
        if self._turns:
            self._turns.stale = True
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

    def drain(self, seconds: float = 3600.0) -> None:
        """Run until no job waits any more, deliveries to plugins among them; that long at most, if no call is open."""
        end = self.network.now if self._open() else self.network.now + seconds
        while self.network.now < end and not (self._turns and self._turns.next_job() is None):
            self.run(1.0)

    def record(self) -> Record:
        """All that the invariants are checked against."""
        legs = {call.sid: network_leg(call) for call in self.network.calls.values()}
        plugins = [plugin.instance for plugin in self._plugins.current().plugins]
        recorder = next((plugin for plugin in plugins if isinstance(plugin, Recorder)), None)
        return Record(
            legs,
            self.network.log,
            self.dialer.store,
            self.delivered,
            {agent.identity: agent.workspace for agent in self.agents},
            [*self.troubles, *injected(self.network, legs)],
            recorder.told if recorder else None,
            {"recorder": TELLS} if recorder else {},
            self.overdue,
            self.settled,
            self.statuses,
        )

    def _step(self) -> None:
        """What is to be done at this moment: webhooks, then the dispatcher's turn."""
        for request in self.network.take_requests():
            self._serve(request)
        if self._turns:
            self._turns.take()

    def _next_due(self) -> float:
        due = self.network.next_due()
        return min([*([due] if due is not None else []), *(self._turns.next_due() if self._turns else [])])

    def _open(self) -> bool:
        with self.dialer.store.read() as tx:
            row = tx.one("open_calls")
        return bool(row and row["open"]) or any(call.end_time is None for call in self.network.calls.values())

    # The web server

    def _serve(self, request: WebRequest) -> None:
        if self.web is None:
            self.trace.webhook(request, 0, "connection refused, the web server is down")
            self.network.answer(request.id, WebAnswer.failure("connect"))
        else:
            Task(self.web, partial(self._answer, request)).go()

    def _answer(self, request: WebRequest) -> None:
        """One request in the web server; when that is killed, the connection breaks."""
        answer = WebAnswer.failure("reset")
        try:
            answer = self._perform(request)
        finally:
            self.network.answer(request.id, answer)

    def _perform(self, request: WebRequest) -> WebAnswer:
        path, status = urlsplit(request.url).path, 0
        try:
            answer = self.post(request.url, request.form, request.headers)
            status = answer.status
            return answer
        finally:
            done = Delivered(self.network.now, request.purpose, request.call_sid, path, tuple(request.form), status)
            self.delivered.append(done)
            self.trace.webhook(request, status)

    def post(self, url: str, form: Iterable[tuple[str, str]], headers: dict[str, str]) -> WebAnswer:
        """Hand one request to the application as it is now."""
        return post(self._wsgi, url, form, headers)

    # Twilio's REST API

    def _ask_twilio(self, request: RestRequest) -> RestResponse:
        """One REST request of a job: on its way, at Twilio's, and its answer on the way back."""
        task, sent, faults = getcurrent(), self.network.now, self.network.injected.total()
        process, about = (task.process, task.about) if isinstance(task, Task) else (None, "")
        if process:
            process.step("before a REST request")
            sleep(self.network, self._half_way())
        response = rest.handle(self.network, request)
        if self.network.injected.total() > faults:
            self.troubles.append(Trouble("lost", sent, self.network.now, about))
        self.trace.request(request, response, about)
        if process:
            patience = time_out_of(request.method, request.path)[1]
            back = patience if response.failed == "timeout" and self.rest_seconds else self._half_way()
            until = self.network.now + back
            if until - sent > 2 * self.rest_seconds:  # time in which nobody could do more for that call
                self.troubles.append(Trouble("waiting", sent, until, about.removeprefix(EVERYBODY)))
            sleep(self.network, back)
            process.step("after a REST request")
        return response

    def _half_way(self) -> float:
        """Seconds that a request or its answer is on the way."""
        return self.network.uniform(0.2, 1.0) * self.rest_seconds if self.rest_seconds else 0.0

    # Lives and deaths

    def _process(self, name: str) -> Process:
        return Process(name, self.network, self._bury)

    def _shared(self) -> dict[str, Any]:
        """What all processes of this world have: plugins, clocks and chance."""
        return {
            "plugins": self._plugins,
            "clock": lambda: self.network.now + self.offset,
            "steady": lambda: self.network.now,
            "carriers": self._carriers(),
            "random_hex": lambda count: f"{self._random.getrandbits(count * 8):0{count * 2}x}",
        }

    def _store_of(self, process: Process) -> ProcessStore:
        return ProcessStore(self.dialer.store, process, self.disk, self._saw, WATCHED if self.traced else NEEDED)

    def _start_web(self) -> None:
        self.web = self._process("web")
        app = create_app(self.settings, store=self._store_of(self.web), **self._shared())
        self._wsgi = app.wsgi_app

    def _start_dispatcher(self) -> None:
        self.dispatcher = process = self._process("dispatcher")
        service = create_service(self.settings, store=self._store_of(process), **self._shared())
        self.worker = Worker(service, self._carriers(), Random(self._random.getrandbits(64)))
        self._turns = Turns(process, self.worker, self.dialer.store, self.trace, self.overdue)

    def _bury(self, process: Process, where: str) -> None:
        """Have another life of the process begin after a while."""
        down = self.network.uniform(*DOWNTIME)
        self.trace.note(process.name, f"killed {where}, down for {down:.1f} s")
        self.troubles.append(Trouble("down", self.network.now, self.network.now + down))
        if process is self.web:
            self.web = None
            self.network.later(down, self._start_web)
        elif process is self.dispatcher:
            self.dispatcher = self._turns = None
            self.network.later(down, self._start_dispatcher)

    def _set_clock(self) -> None:
        """Somebody sets the machine's clock: by much or little, forward or back."""
        step = 10 ** self.network.uniform(0.0, 3.5) * (1 if self.network.chance(0.5) else -1)
        self.offset += step
        self.troubles.append(Trouble("clock", self.network.now, self.network.now))
        self.trace.note("clock", f"set by {step:+.1f} s")

    def _saw(self, process: Process, statement: str, values: dict[str, Any], result: Any) -> None:
        """A process has committed that."""
        if statement == "save_call" and values["deadline"] is None:
            self.settled.setdefault(values["id"], self.network.now)
        if statement in ("save_call", "save_leg"):
            self.statuses[values["id"] if statement == "save_call" else values["call_sid"]].append(values["status"])
        if self._turns and "run_at" in values:
            self._turns.expect(values["run_at"])
        self.trace.committed(process.name, statement, values, result, self.network.now + self.offset)

    def _carriers(self) -> Callable[[str], Carrier]:
        client, account = InProcessClient(self._ask_twilio), self.settings.accounts[0]
        return cache(lambda account_sid: Carrier(account, "https://api.twilio.com", client))
