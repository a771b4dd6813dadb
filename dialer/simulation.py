"""`dialer simulate`: many calls through the shipped code in virtual time, checked against the invariants."""

from __future__ import annotations

import json
import logging
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field, fields
from multiprocessing import get_context
from pathlib import Path
from random import Random

import click

from dialer.plugin_set import PluginSet
from dialer.simulator.chaos import ALL_FAULTS, WorldFaults
from dialer.simulator.invariants import Story, check, tell
from dialer.simulator.knobs import Knobs
from dialer.simulator.model import AgentPlan
from dialer.simulator.phones import PHONES
from dialer.simulator.recorder import Recorder
from dialer.simulator.world import FAST, World

#: Calls in one world: few, so that the death of a process touches few.
BATCH = 40
CALLS_PER_SECOND = 1.0
#: Seconds that Twilio takes to answer a request.
REST_SECONDS = 0.2
#: Virtual seconds within which whoever was made late has come: a leg after 60 s, a browser that was loaded anew.
LATECOMERS = 65.0
#: Virtual seconds for calls to be settled, and then for plugins to be told.
SETTLE, DRAIN = 400.0, 3600.0
WORKSPACES = ("ws_demo", "ws_other")


@dataclass(frozen=True, slots=True)
class Plan:
    """One world of a run: which, how many calls, from which seed, with which faults."""

    world: int
    calls: int
    seed: int
    faults: WorldFaults


@dataclass(frozen=True, slots=True)
class Breach:
    """A promise that was broken, in words, and in which world of the run."""

    world: int
    text: str

    @property
    def call(self) -> str:
        """The id of the guilty call; empty where none is named."""
        first = self.text.partition(":")[0]
        return first if first.startswith("call_") else ""


@dataclass(slots=True)
class Played:
    """What many calls came to."""

    calls: int
    seed: int
    outcomes: Counter[str] = field(default_factory=Counter)
    breaches: dict[str, list[Breach]] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    @property
    def first_breach(self) -> Breach | None:
        """The one to look into: of the first world that has one, of a call if possible."""
        every = [breach for found in self.breaches.values() for breach in found]
        return min(every, key=lambda breach: (breach.world, not breach.call), default=None)

    def add(self, other: Played) -> None:
        """Count in what other calls came to."""
        self.outcomes += other.outcomes
        self.faults += other.faults
        for name, found in other.breaches.items():
            self.breaches.setdefault(name, []).extend(found)

    def as_json(self) -> dict[str, object]:
        return {
            "calls": self.calls,
            "seed": self.seed,
            "outcomes": dict(sorted(self.outcomes.items())),
            "invariants": {name: len(found) for name, found in self.breaches.items()},
            "calls_per_second": round(self.calls / self.seconds, 1) if self.seconds else 0.0,
            "faults": dict(sorted(self.faults.items())),
        }


def plans(calls: int, seed: int, faults: WorldFaults) -> list[Plan]:
    """The worlds that so many calls are played in."""
    return [
        Plan(first // BATCH, min(BATCH, calls - first), seed * 1_000_003 + first, faults)
        for first in range(0, calls, BATCH)
    ]


def play(
    calls: int,
    seed: int,
    faults: WorldFaults,
    tick: Callable[[int], None] = lambda done: None,
    *,
    processes: int = 1,
    world: int | None = None,
) -> Played:
    """Play so many calls, or one world of them; `tick` hears how many are done. Any number of processes plays alike."""
    played = Played(calls, seed)
    started = time.perf_counter()
    chosen = [plan for plan in plans(calls, seed, faults) if world in (None, plan.world)]
    for plan, part in zip(chosen, play_all(chosen, processes), strict=True):
        played.add(part)
        tick(plan.calls)
    played.seconds = time.perf_counter() - started
    return played


def play_all(chosen: list[Plan], processes: int) -> Iterator[Played]:
    """What each world came to, in their order."""
    if processes == 1:
        yield from map(play_plan, chosen)
        return
    with ProcessPoolExecutor(processes, mp_context=get_context("spawn")) as pool:
        yield from pool.map(play_plan, chosen)


def play_plan(plan: Plan) -> Played:
    """Play one world and judge it."""
    played = Played(plan.calls, plan.seed)
    with quiet_folder() as folder:
        world = play_world(folder, plan)
        record = world.record()
        played.outcomes.update(str(story.row["status"]) for story in tell(record))
        for name, found in check(record).items():
            played.breaches[name] = [Breach(plan.world, text) for text in found]
        played.faults.update(world.network.injected)
        world.dialer.store.close()
    return played


@contextmanager
def quiet_folder() -> Iterator[Path]:
    """A folder for one world, and no log: what goes wrong there goes wrong on purpose."""
    logging.disable(logging.CRITICAL)
    try:
        with tempfile.TemporaryDirectory(prefix="dialer-simulate-") as folder:
            yield Path(folder)
    finally:
        logging.disable(logging.NOTSET)


def play_world(folder: Path, plan: Plan, *, traced: bool = False, plugins: PluginSet | None = None) -> World:
    """One world: agents of two workspaces call the scripted phones, and leave when they please.

    Every other world has a plugin that listens to everything: telling it is half of the work.
    """
    from dialer_plugins.number_policy import NumberPolicy

    world = World(
        folder,
        plan.seed,
        knobs=Knobs(cps=FAST),
        faults=plan.faults,
        plugins=plugins or (NumberPolicy(), Recorder()),
        workspaces=WORKSPACES,
        agents_each=20,
        rest_seconds=REST_SECONDS,
        traced=traced,
    )
    random = Random(plan.seed)
    phones = sorted(PHONES)
    for _ in range(plan.calls):
        agent = random.choice(world.agents)
        leaves = random.uniform(0, 15) if random.random() < 0.25 else None
        habits = AgentPlan(hang_up_after_bridged=random.uniform(0.2, 20), hang_up_after=leaves)
        world.dial(agent, random.choice(phones), habits)
        world.run(random.expovariate(CALLS_PER_SECOND))
    world.run(LATECOMERS)
    world.settle(SETTLE)
    world.drain(DRAIN)
    return world


def trace(plan: Plan, wanted: str) -> list[str] | None:
    """The history of the call whose id starts so, line by line; None when this world has none."""
    with quiet_folder() as folder:
        world = play_world(folder, plan, traced=True)
        record = world.record()
        story = next((story for story in tell(record) if story.id.startswith(wanted)), None)
        verdict = [f"BROKEN {name}: {text}" for name, texts in check(record).items() for text in texts]
        world.dialer.store.close()
    if story is None:
        return None
    history = world.trace.history(story.names - {""} | {story.id}, story.life)
    return [*headings(story), *history, *([line for line in verdict if story.id in line] or ["every promise held"])]


def headings(story: Story) -> list[str]:
    row = story.row
    return [
        f"{story.id} of {row['agent']} ({row['workspace']}) to {row['to_number']}: {row['status']}, dial {row['dial']}",
        *(f"  agent's leg {leg.sid}: {leg.status}" for leg in [story.agent] if leg),
        *(f"  customer's leg {leg.sid}: {leg.status}" for leg in story.customers),
    ]


def read_faults(text: str) -> WorldFaults:
    """`none`, `all`, or `name=probability,...`; raises BadParameter with the names there are."""
    if text in ("none", "all"):
        return ALL_FAULTS if text == "all" else WorldFaults()
    chosen: dict[str, float] = {}
    names = [one.name for one in fields(WorldFaults)]
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        try:
            chosen[name] = float(value)
        except ValueError:
            raise click.BadParameter(f"{part!r} is not name=probability") from None
        if name not in names or not 0 <= chosen[name] <= 1:
            raise click.BadParameter(f"{part!r}: a probability from 0 to 1 of {', '.join(names)}")
    return WorldFaults(**chosen)


@click.command()
@click.option("--calls", default=1000, show_default=True, type=click.IntRange(1), help="How many calls.")
@click.option("--seed", default=1, show_default=True, help="The same seed plays the same calls.")
@click.option("--faults", default="none", show_default=True, help="none, all, or name=probability,...")
@click.option("--processes", default=1, show_default=True, type=click.IntRange(1), help="How many play at once.")
@click.option("--world", type=click.IntRange(0), help=f"Only this one of the worlds of {BATCH} calls.")
@click.option(
    "--trace", "traced", is_flag=False, flag_value="guilty", help="Print the history of CALL, or of the first guilty."
)
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def simulate(
    calls: int, seed: int, faults: str, processes: int, world: int | None, traced: str | None, as_json: bool
) -> None:
    """Play calls through the shipped code in virtual time and check what must hold."""
    chosen = read_faults(faults)
    if traced not in (None, "guilty"):
        print_trace(plans(calls, seed, chosen), world, str(traced))
        return
    with click.progressbar(length=calls, label="calls", hidden=as_json, file=sys.stderr) as bar:
        played = play(calls, seed, chosen, bar.update, processes=processes, world=world)
    if as_json:
        click.echo(json.dumps(played.as_json()))
    else:
        print_played(played, f"dialer simulate --calls {calls} --seed {seed} --faults {faults}")
    guilty = played.first_breach
    if guilty is None:
        return
    if traced and not as_json:
        print_trace(plans(calls, seed, chosen), guilty.world, guilty.call)
    raise SystemExit(1)


def print_trace(worlds: list[Plan], number: int | None, wanted: str) -> None:
    """Print the history of one call; exit 1 when there is no such call."""
    for plan in worlds:
        if number in (None, plan.world) and (lines := trace(plan, wanted)) is not None:
            click.echo("\n".join(lines))
            return
    raise click.ClickException(f"no call of this run starts with {wanted}")


def print_played(played: Played, command: str) -> None:
    for status, count in sorted(played.outcomes.items()):
        click.echo(f"{status:12} {count:8}")
    for name, found in played.breaches.items():
        click.echo(f"{name:22} {'holds' if not found else f'BROKEN {len(found)} times'}")
        for breach in found[:5]:
            click.echo(f"    {breach.text}")
    for name, count in sorted(played.faults.items()):
        click.echo(f"fault {name:22} {count:8}")
    if guilty := played.first_breach:
        click.echo(f"replay: {command} --world {guilty.world} --trace {guilty.call}".rstrip())
    broken = sum(map(len, played.breaches.values()))
    verdict = f"{broken} BREACHES" if broken else "every promise held"
    rate = f"{played.calls / played.seconds:.0f} calls per second"
    click.echo(f"{played.calls} calls, seed {played.seed}: {verdict} ({rate})")
