"""For tests of plugins: a Dialer with one plugin, people who call and answer, and time that is not waited for.

Put `pytest_plugins = ["dialer.testing"]` into the tests' conftest.py, and take the fixture `make_dialer`. The
application is the shipped one, the telephone network is simulated; there is no other network (docs/plugin-authors.md).

PYTEST_DONT_REWRITE: its assertions have sentences of their own, and test modules may import it before pytest does.
"""

from __future__ import annotations

import logging
import tempfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, fields
from datetime import datetime
from pathlib import Path
from typing import Any
from unittest.mock import patch

import pytest

from dialer.answers import said
from dialer.discovery import Plugin
from dialer.offline import Requests, code_of, offline
from dialer.plugin_set import Verdict
from dialer.rehearsal import Rehearsal, Told, made, name_of
from dialer.settings import Calls
from dialer.simulator import Knobs
from dialer.simulator.chaos import WorldFaults
from dialer.simulator.invariants import check
from dialer.simulator.world import FAST, START, World
from dialer.tables import unknown
from dialer.testing_people import AgentCall, Phone

__all__ = [
    "ANSWERS",
    "BUSY",
    "HANGS_UP",
    "NEVER_ANSWERS",
    "REFUSED_BY_TWILIO",
    "SLOW",
    "UNREACHABLE",
    "VOICEMAIL",
    "AgentCall",
    "DeadLetter",
    "Dialer",
    "MakeDialer",
    "Phone",
    "Told",
    "Verdict",
    "make_dialer",
]

#: Numbers and what happens there; docs/simulator.md has them all, and any other number does as ANSWERS.
ANSWERS, BUSY, NEVER_ANSWERS, UNREACHABLE, VOICEMAIL, HANGS_UP = (f"+1415555010{digit}" for digit in range(1, 7))
REFUSED_BY_TWILIO, SLOW = "+14155550107", "+14155550108"
_log = logging.getLogger("dialer")
_HANG_UP = ": somebody has to hang up (call.hangs_up(), call.phone.hangs_up())"


@dataclass(frozen=True, slots=True)
class DeadLetter:
    """What the plugin was not told in the end: after so many tries, and why."""

    hook: str
    call_id: str
    attempts: int
    reason: str


class Dialer:
    """A Dialer with one plugin, and the people around it. `name`: the plugin's; `world`: all that is behind.

    `unanswered`: what the test's plugins asked the network for; `clear()` it where that was the point of the test.
    """

    def __init__(self, world: World, plugins: Rehearsal, requests: Requests) -> None:
        self.world = world
        self.name = plugins.noted
        self._plugins = plugins
        self.unanswered = requests
        self._calls: list[AgentCall] = []

    def agent_dials(self, to: str, *, workspace: str = "", agent: int = 0, **params: str) -> AgentCall:
        """An agent calls a number, and a second goes by. `params` are what the page gives `device.connect`."""
        there = [one for one in self.world.agents if one.workspace == (workspace or self.world.workspaces[0])]
        if not there:
            raise LookupError(f"{workspace}: {unknown(workspace, self.world.workspaces, 'workspace')}")
        call = AgentCall(self, self.world.dial(there[agent], to, None, **params))
        self.lasts(1.0)
        self._calls.append(call)
        return call

    def lasts(self, seconds: float) -> None:
        """Let so much virtual time pass. An hour of it takes about a second."""
        self.world.run(seconds)

    def ends(self, *, plugin_fails: bool = False) -> None:
        """Play until all calls are over and all is told, for an hour at most.

        Raises AssertionError if somebody still talks, if a promise of Dialer's broke, if the plugin asked the network
        for what nothing answers, or if it failed and is not expected to.
        """
        self.world.settle()
        open_still = [call for call in self._calls if not call.record.settled]
        assert not open_still, "; ".join(f"{call.leg.to} is still {call.status}" for call in open_still) + _HANG_UP
        self.world.drain()
        broken = [text for found in check(self.world.record()).values() for text in found]
        assert not broken, "a promise of Dialer's is broken: " + "; ".join(broken)
        self.require_answered()
        assert plugin_fails or not self.failures, "the plugin failed: " + "; ".join(self.failures)

    def require_answered(self) -> None:
        """Raise AssertionError if the plugin asked the network for what nothing answers."""
        tried = [f"the plugin asked for {one.what} ({one.where})" for one in self.unanswered]
        advice = "nothing answers that: add the answer with the package responses, or serve it on 127.0.0.1"
        assert not tried, f"{'; '.join(tried)}; {advice}"

    @property
    def now(self) -> float:
        """The virtual time in epoch seconds: what host.clock() gives."""
        return self.world.dialer.clock()

    @property
    def plugin(self) -> Any:
        """The plugin."""
        return self._plugins.instance(self.name)

    def plugin_in(self, workspace: str) -> Any:
        """The plugin as this workspace has it."""
        return self._plugins.in_workspace(workspace).instance(self.name)

    @property
    def folder(self) -> Path:
        """The plugin's own folder, host.folder."""
        return self.world.folder / "plugins" / self.name

    @property
    def told(self) -> list[Told]:
        """Every try to tell the plugin something, those included that it failed at."""
        return [*self._plugins.notes.told]

    @property
    def failures(self) -> list[str]:
        """What the plugin raised or answered wrongly, one sentence each."""
        asked = [f"{one.hook}: {one.error}" for _, one in self._plugins.notes.asked if one.error]
        return asked + [f"{one.hook}: {said(one.error)}" for one in self.told if one.error]

    @property
    def dead_letters(self) -> list[DeadLetter]:
        """What the plugin was given up on."""
        records = [call.record for call in self._calls]
        with self.world.dialer.store.read() as tx:
            rows = [row for one in records for row in tx.all("jobs_of_call", call_id=one.id, workspace=one.workspace)]
        dead = [row for row in rows if row["plugin"] == self.name and row["status"] == "dead"]
        return [DeadLetter(row["hook"], row["call_id"], row["attempts"], row["result"]) for row in dead]

    def spoken_to(self, call_sid: str) -> list[str]:
        """The sentences that one leg heard."""
        log = self.world.network.log
        return [entry.detail["text"] for entry in log if entry.kind == "said" and entry.call_sid == call_sid]


class MakeDialer:
    """Makes Dialers for one test, and looks after them."""

    def __init__(self, folder: Path, requests: Requests) -> None:
        self._folder = folder
        self._requests = requests
        self.made: list[Dialer] = []

    def __call__(
        self,
        plugin: object,
        *,
        settings: Mapping[str, Any] | None = None,
        workspaces: Sequence[str] = ("acme",),
        settings_in: Mapping[str, Mapping[str, Any]] | None = None,
        off_in: Sequence[str] = (),
        starts: datetime | None = None,
        faults: Mapping[str, float] | None = None,
        seed: int = 0,
        **calls: Any,
    ) -> Dialer:
        """A Dialer with this plugin: a class with `settings` as dialer.toml has them, or an object.

        `settings_in` differ by workspace, `off_in` names workspaces where it is off; `faults` are probabilities by name
        (docs/simulator.md), drawn from `seed`; `starts` (with its time zone) is the time there; `calls` are settings of
        [calls], such as ring_seconds.
        """
        name = name_of(plugin)
        rehearsal = _rehearsal(plugin, name, settings or {}, settings_in or {}, off_in)
        world = World(
            Path(tempfile.mkdtemp(prefix="dialer-", dir=self._folder)),
            seed,
            knobs=Knobs(cps=FAST),
            faults=_faults(faults or {}),
            plugins=rehearsal,
            calls=Calls(**calls),
            workspaces=(*workspaces,),
            start=_epoch(starts) if starts else START,
        )
        _log.propagate = True  # caplog listens at the root
        self._requests.own.append(code_of(plugin))
        self.made.append(Dialer(world, rehearsal, self._requests))
        return self.made[-1]


@pytest.fixture
def make_dialer(tmp_path: Path) -> Iterator[MakeDialer]:
    """Make a Dialer with your plugin: `make_dialer(YourPlugin, settings={...})`."""
    propagates = _log.propagate
    with offline() as requests, _unanswered_noted(requests):
        maker = MakeDialer(tmp_path, requests)
        yield maker
    _log.propagate = propagates
    for dialer in maker.made:
        dialer.world.dialer.store.close()
    for dialer in maker.made:
        dialer.require_answered()


def _rehearsal(
    plugin: object,
    name: str,
    settings: Mapping[str, Any],
    settings_in: Mapping[str, Mapping[str, Any]],
    off_in: Sequence[str],
) -> Rehearsal:
    if (settings or settings_in) and not isinstance(plugin, type):
        raise TypeError(f"{name} is an object, which has its settings: give the class, or no settings")
    one = Plugin(name, "", made(plugin, settings, name) if isinstance(plugin, type) else plugin)
    differing: dict[str, list[Plugin]] = {workspace: [] for workspace in off_in}
    for workspace, own in settings_in.items():
        differing[workspace] = [Plugin(name, "", made(plugin, {**settings, **own}, name, workspace))]
    return Rehearsal([one], name, differing=differing)


def _faults(given: Mapping[str, float]) -> WorldFaults:
    names = [one.name for one in fields(WorldFaults)]
    for name in given:
        if name not in names:
            raise LookupError(f"{name}: {unknown(name, names, 'fault')}")
    return WorldFaults(**given)


def _epoch(moment: datetime) -> float:
    if moment.tzinfo is None:
        raise ValueError(f"starts={moment} needs a time zone: datetime(..., tzinfo=ZoneInfo('America/New_York'))")
    return moment.timestamp()


@contextmanager
def _unanswered_noted(requests: Requests) -> Iterator[None]:
    """Have requests noted for which the package responses, if a test uses it, has no answer: it only says so to
    the plugin, which may well survive that."""
    try:
        from responses.registries import FirstMatchRegistry, OrderedRegistry
    except ImportError:
        yield
        return

    def noting(plain: Callable[..., Any]) -> Callable[..., Any]:
        def find(self: Any, request: Any) -> Any:
            found = plain(self, request)
            if found[0] is None:
                requests.note(f"{request.method} {request.url}", endless=False)
            return found

        return find

    with ExitStack() as stack:
        for registry in (FirstMatchRegistry, OrderedRegistry):
            stack.enter_context(patch.object(registry, "find", noting(registry.find)))
        yield
