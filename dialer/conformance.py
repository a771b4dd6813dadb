"""`dialer plugins test`: what Dialer and its admins expect of every plugin, checked one by one, each with its fix."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from contextlib import suppress
from dataclasses import dataclass
from functools import cached_property, partial
from pathlib import Path
from statistics import median
from time import perf_counter
from typing import Any

from dialer.answers import Implementation, said
from dialer.calls import Call
from dialer.conformance_target import Target, readme_of
from dialer.discovery import BUDGET, Plugin, implementation, register
from dialer.errors import GiveUp, RetryLater
from dialer.hookspecs import ASKED, GATHERED
from dialer.offline import Requests, code_of, offline
from dialer.plugin_set import PluginSet
from dialer.plugin_view import description
from dialer.rehearsal import Rehearsal, made
from dialer.simulation import Plan, play_world, quiet_folder
from dialer.simulator.chaos import WorldFaults
from dialer.simulator.invariants import check
from dialer.simulator.recorder import Recorder
from dialer.simulator.world import World
from dialer.starts import IMPORT_SECONDS
from dialer.stress import Raised, Work, in_disorder, in_one_thread, in_two_threads
from dialer.tables import settings_of

#: What happens to news on their way. Twilio's API works and no process dies: what they leave half done is Dialer's.
DISORDER = WorldFaults(
    webhook_lost=0.01,
    webhook_unreachable=0.01,
    webhook_answer_lost=0.01,
    webhook_late=0.02,
    webhook_repeated=0.1,
    webhook_reordered=0.1,
    webhook_together=0.05,
    agent_leaves=0.05,
    agent_reloads=0.05,
)
#: The part of its time within a request that a plugin may take on an idle machine: in service it shares one.
QUICK = 0.25
#: Questions that are timed, of each hook.
TIMED = 200


@dataclass(frozen=True, slots=True)
class Check:
    """One expectation: whether it holds, what was seen, and what to do if it does not."""

    name: str
    ok: bool
    text: str
    fix: str = ""


def conformance(target: Target, settings: Mapping[str, Any], calls: int, seed: int) -> Iterator[Check]:
    """Check a plugin; when it cannot be imported or made, or hangs, what builds on that is left out."""
    probed = probe(target, settings)
    yield from first_checks(probed)
    if probed["failed"]:
        return
    cls = target.load()
    instance = made(cls, settings, target.name)
    hooks = hooks_check(target.name, instance)
    yield hooks
    yield from words_checks(target, cls)
    if hooks.ok:
        with quiet_folder() as folder, offline(code_of(instance)) as requests:
            yield from Trial(target.name, instance, folder, requests).checks(calls, seed)


def probe(target: Target, settings: Mapping[str, Any]) -> dict[str, Any]:
    """What importing and making the plugin does, seen in a process of its own."""
    with tempfile.TemporaryDirectory(prefix="dialer-probe-") as folder:
        outcome = Path(folder) / "outcome.json"
        task = {"value": target.value, "name": target.name, "paths": target.paths, "settings": settings}
        words = json.dumps({**task, "outcome": str(outcome)})
        command = (sys.executable, "-P", "-m", "dialer.conformance_probe", words)
        try:
            done = subprocess.run(command, capture_output=True, timeout=2 * IMPORT_SECONDS, check=False)
        except subprocess.TimeoutExpired:
            return {"failed": {"import": f"it is still not imported after {2 * IMPORT_SECONDS:g} s"}, "found": []}
        if not outcome.exists():
            code = done.returncode
            return {"failed": {"import": f"it ends the process that imports it, with code {code}"}, "found": []}
        found: dict[str, Any] = json.loads(outcome.read_text())
        return found


def first_checks(probed: Mapping[str, Any]) -> Iterator[Check]:
    """What is known of a plugin before it does anything."""
    failed, found = probed["failed"], probed["found"]
    yield _check("imports", [failed["import"]] if "import" in failed else [], "mend what the error names")
    fix = "do it in the hook that needs it; host.database() and host.folder are made at first use"
    for name, kind in (("no network at import", "network"), ("no work at import", "work")):
        yield _check(name, [f"{one['where']} {one['what']}" for one in found if one["kind"] == kind], fix)
    if "import" not in failed:
        fix = "give every setting a default that works; for one that has none, such as a token: --set KEY=VALUE"
        yield _check("starts with defaults", [failed["making"]] if "making" in failed else [], fix)


def hooks_check(name: str, instance: object) -> Check:
    """Its hooks are Dialer's, plain functions of call and event."""
    _, faults = register([Plugin(name, "", instance)])
    found = ", ".join(PluginSet([Plugin(name, "", instance)], inline=True).hooks_of(name)) if not faults else ""
    fix = "docs/hooks.md lists the hooks and what each takes: call, and event where it says so"
    return _check("hooks take call and event", [fault for _, fault in faults], fix, found)


def words_checks(target: Target, cls: Any) -> Iterator[Check]:
    """An admin can read what it is for, and what each setting means."""
    known = settings_of(cls) if hasattr(cls, "__dataclass_fields__") and isinstance(cls, type) else {}
    silent = [name for name, (_, setting, _) in known.items() if not setting.meaning]
    # A dataclass without words of its own gets its signature as docstring.
    wordless = not description(cls) or description(cls).startswith(f"{getattr(cls, '__name__', '')}(")
    missing = ["the class has no docstring"] * wordless + [f"{name} has no meaning" for name in silent]
    fix = 'write Annotated[type, Setting("what it is for")], and a docstring that says what the plugin does'
    yield _check("settings documented", missing, fix, ", ".join(known) or "it has none")
    readme = readme_of(target, cls)
    if readme is None:
        fix = "write one, and name it in pyproject.toml"
        yield Check("README has every setting", False, "no README was found", fix)
        return
    absent = [f"{name} is missing" for name in known if not re.search(rf"`{re.escape(name)}`", readme)]
    yield _check("README has every setting", absent, "add it to the table of settings, as `name`")


class Trial:
    """One plugin in a world of its own, without a network."""

    def __init__(self, name: str, instance: object, folder: Path, requests: Requests) -> None:
        self.name = name
        self.folder = folder
        self.requests = requests
        self.own = Plugin(name, "", instance)
        self.plugins = Rehearsal([self.own, Plugin("recorder", "", Recorder())], name)

    def checks(self, calls: int, seed: int) -> Iterator[Check]:
        """A world of calls with the plugin on, then the same questions and news in worse ways than a network's."""
        hung = self._hangs()
        if hung:
            yield _check("hooks quick", hung, _QUICK_FIX)
            return
        world = play_world(self.folder, Plan(0, calls, seed, DISORDER), plugins=self.plugins)
        self.plugins.attach(self.folder, lambda: world.dialer)  # as it is outside of the simulated processes
        yield self._promises(world, calls)
        yield self._bears_disorder(seed)
        yield self._quick()
        yield self._bears_threads()
        endless = [f"{one.where}: {one.what} waits for ever" for one in self.requests if one.endless]
        fix = "give it a time-out for connecting and for reading, such as timeout=(3, 10)"
        yield _check("time-outs on every request", endless, fix, f"{len(self.requests)} places ask the network")
        world.dialer.store.close()

    def _hangs(self) -> list[str]:
        """Its hooks within a request that do not answer at all, found where they hold up nobody."""
        folder = self.folder / "first"
        folder.mkdir()
        plugins = PluginSet([self.own])
        world = World(folder, plugins=Rehearsal([self.own], self.name))
        sample = Call("call_sample", "ws_demo", "ws_demo_agent_0", "+14155550101", "+14155550199", "sample")
        answers = [verdict for hook in ASKED for verdict in plugins.ask(hook, sample)[1]]
        answers += [verdict for hook in GATHERED for verdict in plugins.gather(hook, sample)[1]]
        world.dialer.store.close()
        return [f"{one.hook}: {one.error}" for one in answers if one.error.startswith("Overrun")]

    def _promises(self, world: World, calls: int) -> Check:
        notes = self.plugins.notes
        broken = [text for found in check(world.record()).values() for text in found]
        raised = [f"{one.hook}: {one.error}" for _, one in notes.asked if one.error]
        raised += [f"{one.hook}: {said(one.error)}" for one in notes.told if one.error and _is_fault(one.error)]
        fix = "news come late, twice, in any order or never: go by what call says now, and expect nothing of before"
        if broken and not raised:
            fix = "with this plugin on, a promise of Dialer's own is broken: please report it, with the seed"
        text = f"{calls} calls, asked {len(notes.asked)} and told {len(notes.told)} times"
        return _check("bears lost and repeated news", [*dict.fromkeys([*raised, *broken])], fix, text)

    def _bears_disorder(self, seed: int) -> Check:
        news = in_disorder(self.plugins.notes.told, seed)
        raised = in_one_thread((one.hook, partial(self._hook(one.hook), one.call, one.event)) for one in news)
        fix = "a delivery may be made twice and overtake another: remember what is done by call.id, in host.database()"
        return _check("bears any order", _faults(raised), fix)

    def _quick(self) -> Check:
        budget = self.own.budget
        shares, before = {}, [*self.requests]
        for hook in self._questions:
            took = [_seconds(self._hook(hook), call) for call in self._asked(hook)]
            if took:
                shares[hook] = median(took) / budget
        of = f"of its {budget * 1000:.0f} ms"
        slow = [f"{hook} takes {share:.0%} {of}" for hook, share in shares.items() if share > QUICK]
        if budget <= BUDGET:
            slow += [f"{one.where} asks the network within a request" for one in self.requests if one not in before]
        text = ", ".join(f"{hook} {share:.1%} {of}" for hook, share in shares.items())
        return _check("hooks quick", slow, _QUICK_FIX, text or "it is asked nothing within a request")

    def _bears_threads(self) -> Check:
        work: list[Work] = [
            (hook, partial(self._hook(hook), call)) for hook in self._questions for call in self._asked(hook)
        ]
        for one in self.plugins.notes.told[:TIMED]:
            work.append((one.hook, partial(self._hook(one.hook), one.call, one.event)))
        fix = "two threads ask at once: keep nothing that changes on the plugin, or guard it with a lock"
        return _check("bears two threads", _faults(in_two_threads(work)), fix)

    @cached_property
    def _questions(self) -> list[str]:
        return [hook for hook in (*ASKED, *GATHERED) if hook in self.plugins.hooks_of(self.name)]

    def _asked(self, hook: str) -> list[Call]:
        """The calls that it was asked about, and no more of them than are needed."""
        return [call for call, verdict in self.plugins.notes.asked if verdict.hook == hook][:TIMED]

    def _hook(self, hook: str) -> Implementation:
        found = implementation(self.plugins.manager, self.name, hook)
        assert found is not None
        return Implementation(self.name, hook, found.function, tuple(found.argnames), None)


_QUICK_FIX = "answer from memory or host.database(); do what takes longer in a hook that is told, such as call_ended"


def _check(name: str, faults: Iterable[str], fix: str, text: str = "") -> Check:
    found = [*faults]
    more = f" (and {len(found) - 3} more)" if len(found) > 3 else ""
    return Check(name, not found, "; ".join(found[:3]) + more if found else text, fix if found else "")


def _faults(raised: Iterable[Raised]) -> list[str]:
    """What was raised and should not have been, each once."""
    return [*dict.fromkeys(f"{hook}: {said(error)}" for hook, error in raised if _is_fault(error))]


def _is_fault(raised: BaseException) -> bool:
    """Whether it is the plugin's own, and not that the other side is down here, or that it asks for time."""
    error: BaseException | None = raised
    while error is not None:
        if isinstance(error, OSError | RetryLater | GiveUp):
            return False
        error = error.__cause__ or error.__context__
    return True


def _seconds(hook: Implementation, call: Call) -> float:
    began = perf_counter()
    with suppress(Exception):  # told by another check
        hook(call)
    return perf_counter() - began
