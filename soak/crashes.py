"""Each crash point for real: a process dies by SIGKILL at a named point of a call, or stands still; all comes right.

Every scenario has a Stack of its own and is judged by the network's truth and the store. One whose point was not
passed has failed: it proves nothing.
"""

from __future__ import annotations

import tempfile
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from random import Random

import click

from soak.crash_case import Case
from soak.crash_scenarios import SCENARIOS, SLOWEST


@dataclass(frozen=True)
class Verdict:
    """How one run of a scenario ended."""

    name: str
    time: int
    seconds: float
    starved: int
    breaches: list[str]


def run_scenario(name: str, time_: int = 0, seed: int | None = None) -> Verdict:
    """Run one scenario in a folder of its own; `time_` counts its runs, `seed` moves its moments about."""
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="dialer-crash-") as folder:
        random = None if seed is None else Random(f"{seed} {time_} {name}")
        case = Case(Path(folder), random)
        try:
            SCENARIOS[name](case)
        except Exception as error:
            case.breaches.append(f"{type(error).__name__}: {error}")
    return Verdict(name, time_, time.monotonic() - started, case.starved, case.breaches)


def run_all(names: Sequence[str], times: int, seed: int | None, at_once: int) -> Iterator[Verdict]:
    """Run scenarios, some side by side, since they mostly wait; gives the verdicts as they come."""
    ordered = sorted(names, key=lambda name: name not in SLOWEST)
    with ThreadPoolExecutor(at_once) as pool:
        futures = [pool.submit(run_scenario, name, time_, seed) for time_ in range(times) for name in ordered]
        try:
            for future in as_completed(futures):
                yield future.result()
        finally:
            pool.shutdown(cancel_futures=True)


@click.command()
@click.option("--times", default=20, show_default=True, help="How often each is run.")
@click.option("--seed", default=1, show_default=True, help="What moves the moments about; with it a run repeats.")
@click.option("--only", multiple=True, help="A scenario by the start of its name; as often as you like.")
@click.option("--at-once", default=6, show_default=True, help="How many run side by side.")
def crashes(times: int, seed: int, only: tuple[str, ...], at_once: int) -> None:
    """Kill real processes at every named point of a call, and see that all comes right."""
    names = [name for name in SCENARIOS if not only or name.startswith(only)]
    broken, starved = 0, 0
    for verdict in run_all(names, times, seed, at_once):
        broken += bool(verdict.breaches)
        starved += bool(verdict.starved)
        said = "; ".join(verdict.breaches) or "right"
        click.echo(f"{verdict.name} #{verdict.time}: {verdict.seconds:.1f} s, {said}")
        if verdict.breaches:
            again = f"--seed {seed} --times {verdict.time + 1} --only '{verdict.name}'"
            click.echo(f"  again: python -m soak crashes {again}")
    click.echo(f"{starved} runs had to wait for a processor, and were given that time")
    click.echo(f"crash points: {len(names)} points x {times}, {broken} not right, seed {seed}")
    if broken:
        raise SystemExit(1)
