"""`dialer simulate`: many calls through the shipped code in virtual time, checked against the invariants."""

from __future__ import annotations

import json
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, fields
from pathlib import Path
from random import Random

import click

from dialer.simulator.invariants import check, tell
from dialer.simulator.knobs import Faults, Knobs
from dialer.simulator.model import AgentPlan
from dialer.simulator.phones import PHONES
from dialer.simulator.world import FAST, World

#: Calls in one world: more of them share nothing but the machine's memory.
BATCH = 1000
CALLS_PER_SECOND = 2.0
WORKSPACES = ("ws_demo", "ws_other")
#: What `--faults all` means, as probabilities.
ALL_FAULTS = Faults(
    webhook_lost=0.01,
    webhook_unreachable=0.01,
    webhook_answer_lost=0.01,
    webhook_late=0.02,
    webhook_repeated=0.02,
    webhook_reordered=0.05,
    rest_refused=0.01,
    rest_timeout_done=0.01,
    rest_timeout_undone=0.01,
    rest_500_done=0.01,
    rest_500_undone=0.01,
    rest_429=0.01,
    rest_late=0.01,
)


@dataclass(slots=True)
class Played:
    """What many calls came to."""

    calls: int
    seed: int
    outcomes: Counter[str] = field(default_factory=Counter)
    breaches: dict[str, list[str]] = field(default_factory=dict)
    faults: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0

    def as_json(self) -> dict[str, object]:
        return {
            "calls": self.calls,
            "seed": self.seed,
            "outcomes": dict(sorted(self.outcomes.items())),
            "invariants": {name: len(found) for name, found in self.breaches.items()},
            "calls_per_second": round(self.calls / self.seconds, 1) if self.seconds else 0.0,
            "faults": dict(sorted(self.faults.items())),
        }


def play(calls: int, seed: int, faults: Faults, tick: Callable[[int], None] = lambda done: None) -> Played:
    """Play so many calls in worlds of their own, a thousand each; `tick` hears how many are done."""
    played = Played(calls, seed)
    started = time.perf_counter()
    for first in range(0, calls, BATCH):
        count = min(BATCH, calls - first)
        with tempfile.TemporaryDirectory(prefix="dialer-simulate-") as folder:
            world = play_world(Path(folder), count, seed * 1_000_003 + first, faults)
            for story in tell(world):
                played.outcomes[str(story.row["status"])] += 1
            for name, found in check(world).items():
                played.breaches.setdefault(name, []).extend(found)
            played.faults.update(world.network.injected)
            world.dialer.store.close()
        tick(count)
    played.seconds = time.perf_counter() - started
    return played


def play_world(folder: Path, calls: int, seed: int, faults: Faults) -> World:
    """One world: agents of two workspaces call the scripted phones, and leave when they please."""
    from dialer_plugins.number_policy import NumberPolicy

    world = World(
        folder,
        seed,
        knobs=Knobs(cps=FAST),
        faults=faults,
        plugins=(NumberPolicy(),),
        workspaces=WORKSPACES,
        agents_each=20,
    )
    random = Random(seed)
    phones = sorted(PHONES)
    for _ in range(calls):
        agent = random.choice(world.agents)
        leaves = random.uniform(0, 15) if random.random() < 0.25 else None
        plan = AgentPlan(hang_up_after_bridged=random.uniform(0.2, 20), hang_up_after=leaves)
        world.dial(agent, random.choice(phones), plan)
        world.run(random.expovariate(CALLS_PER_SECOND))
    world.settle()
    return world


def read_faults(text: str) -> Faults:
    """`none`, `all`, or `name=probability,...`; raises BadParameter with the names there are."""
    if text in ("none", "all"):
        return ALL_FAULTS if text == "all" else Faults()
    chosen: dict[str, float] = {}
    names = [one.name for one in fields(Faults)]
    for part in text.split(","):
        name, _, value = part.strip().partition("=")
        try:
            chosen[name] = float(value)
        except ValueError:
            raise click.BadParameter(f"{part!r} is not name=probability") from None
        if name not in names or not 0 <= chosen[name] <= 1:
            raise click.BadParameter(f"{part!r}: a probability from 0 to 1 of {', '.join(names)}")
    return Faults(**chosen)


@click.command()
@click.option("--calls", default=1000, show_default=True, type=click.IntRange(1), help="How many calls.")
@click.option("--seed", default=1, show_default=True, help="The same seed plays the same calls.")
@click.option("--faults", default="none", show_default=True, help="none, all, or name=probability,...")
@click.option("--json", "as_json", is_flag=True, help="One JSON document.")
def simulate(calls: int, seed: int, faults: str, as_json: bool) -> None:
    """Play calls through the shipped code in virtual time and check what must hold."""
    chosen = read_faults(faults)
    with click.progressbar(length=calls, label="calls", hidden=as_json, file=sys.stderr) as bar:
        played = play(calls, seed, chosen, bar.update)
    if as_json:
        click.echo(json.dumps(played.as_json()))
    else:
        print_played(played)
    if any(played.breaches.values()):
        raise SystemExit(1)


def print_played(played: Played) -> None:
    for status, count in sorted(played.outcomes.items()):
        click.echo(f"{status:12} {count:8}")
    for name, found in played.breaches.items():
        click.echo(f"{name:22} {'holds' if not found else f'BROKEN {len(found)} times'}")
        for breach in found[:5]:
            click.echo(f"    {breach}")
    for name, count in sorted(played.faults.items()):
        click.echo(f"fault {name:22} {count:8}")
    broken = sum(map(len, played.breaches.values()))
    verdict = f"{broken} BREACHES" if broken else "every promise held"
    rate = f"{played.calls / played.seconds:.0f} calls per second"
    click.echo(f"{played.calls} calls, seed {played.seed}: {verdict} ({rate})")
