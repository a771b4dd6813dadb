"""Judges what stamps say: that each request had one set of plugins throughout, and that changes were live in time."""

from __future__ import annotations

import json
from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from itertools import pairwise
from pathlib import Path
from typing import Any

from dialer.store import Row
from soak.deployment import Deployment
from soak.toggles import Asked, Reign
from soak.truth import calls, jobs

#: Seconds by which the clock of the file system lags behind ours.
TICK = 0.02
#: Seconds that a set may take from the file to its last plugin.
BUILDING = 10.0
#: The hooks that every stamp answers.
ALL_ANSWER = ("validate_call", "dial_options", "conference_options")


@dataclass(frozen=True, slots=True)
class Sight:
    """A plugin of this build was at work in this process."""

    at: float
    pid: int
    build: str


@dataclass
class Stamps:
    """What the plugins wrote down, and what stands in the store of their answers.

    `builds`: of each set, when its last plugin was made, and the plugins with their settings.
    """

    builds: dict[str, tuple[float, Asked]] = field(default_factory=dict)
    sights: list[Sight] = field(default_factory=list)
    told: Counter[tuple[str, str, str]] = field(default_factory=Counter)
    torn: list[str] = field(default_factory=list)
    requests: int = 0


def read_stamps(deployment: Deployment) -> Stamps:
    """Put together what is known, and look whether any request is torn."""
    stamps = Stamps()
    for line in map(json.loads, Path(deployment.folder, "stamps").read_text().splitlines()):
        if line["what"] == "made":
            before = stamps.builds.get(line["build"], (0.0, ()))[1]
            stamps.builds[line["build"]] = line["at"], (*before, (line["name"], line["generation"]))
        else:
            stamps.sights.append(Sight(line["at"], line["pid"], line["build"]))
            stamps.told[line["name"], line["what"], line["call"]] += 1
    owed = defaultdict(set)
    for job in jobs(deployment):
        if job["kind"] == "deliver":
            owed[job["call_id"], job["hook"]].add(str(job["plugin"]))
    for call in calls(deployment):
        with deployment.store().read() as tx:
            verdicts = tx.all("verdicts_of_call", call_id=call["id"], workspace=call["workspace"])
        stamps.requests += 1
        stamps.torn += look_at(stamps, call, verdicts, owed[call["id"], "call_started"])
    return stamps


def look_at(stamps: Stamps, call: Row, verdicts: Sequence[Row], owed: set[str]) -> Iterator[str]:
    """One call's request: all its hooks must have been asked of one build, of all of its plugins, in their order."""
    said = {
        row["plugin"]: json.loads(row["answer"]) for row in verdicts if row["hook"] == "validate_call" and row["answer"]
    }
    builds = {one["build"] for one in said.values()}
    failed = [f"{row['plugin']}: {row['hook']}: {row['error']}" for row in verdicts if row["error"]]
    if failed or len(builds) != 1:
        yield f"{call['id']}: {'; '.join(failed) or f'asked of {len(builds)} builds: {sorted(builds)}'}"
        return
    build = builds.pop()
    stamps.sights += [Sight(one["at"], one["pid"], build) for one in said.values()]
    asked = stamps.builds[build][1]
    yield from (f"{call['id']}: {fault}" for fault in differences(call, verdicts, said, asked, build))
    if owed != {name for name, _ in asked}:
        yield f"{call['id']}: {sorted(owed)} are told of its start, and {asked} decided on it"


def differences(call: Row, verdicts: Sequence[Row], said: Mapping[str, Any], asked: Asked, build: str) -> Iterator[str]:
    """Where one hook's answers are not those of the build that answered another."""
    names, answers = [name for name, _ in asked], defaultdict[str, list[tuple[str, str]]](list)
    for row in verdicts:
        answers[row["hook"]].append((row["plugin"], row["answer"]))
    for hook in ALL_ANSWER:
        if [plugin for plugin, _ in answers[hook]] != names:
            yield f"{hook} was asked of {answers[hook]}, and not of {names}"
    expected = {
        "name_conference": [(names[0], f"{build}-{call['id']}")],
        "dial_options": [(name, f"call_reason={build}") for name in names],
        "conference_options": [(name, f"max_participants={10 + number % 200}") for name, number in asked],
    }
    yield from (f"{hook} answered {answers[hook]}" for hook, wanted in expected.items() if answers[hook] != wanted)
    if {(name, one["generation"]) for name, one in said.items()} != {*asked}:
        yield f"{said} are not the settings of {asked}"
    if call["plugins"] != ", ".join(f"{name} 1" for name in names):
        yield f"its record names {call['plugins']}, and not {names}"


@dataclass(frozen=True, slots=True)
class Follow:
    """How long a process took to have a change, and how."""

    pid: int
    reign: Reign
    seconds: float


def follow(stamps: Stamps, reigns: Sequence[Reign], pids: Sequence[int]) -> tuple[list[Follow], list[str]]:
    """After how many seconds each process had each change, and the changes that one never had.

    One that was gone again within a second need not have been seen by everybody.
    """
    found, missed = [], []
    for reign, after in pairwise((*reigns[1:], Reign(float("inf"), (), ""))):
        for pid in pids:
            had = _first(stamps, reign, after, pid)
            if had is not None:
                found.append(Follow(pid, reign, max(0.0, had - reign.start)))
            elif after.start - reign.start > 1.0:
                missed.append(f"process {pid} never had {reign.asked} ({reign.how} at {reign.start:.3f})")
    return found, missed


def late_uses(stamps: Stamps, reigns: Sequence[Reign]) -> Iterator[tuple[Sight, float]]:
    """When a set was still used after another was asked for: and how many seconds after."""
    ends = {build: _end(reigns, at, asked) for build, (at, asked) in stamps.builds.items()}
    for sight in stamps.sights:
        end = ends[sight.build]
        if sight.at > end:
            yield sight, sight.at - end


def never_asked_for(stamps: Stamps, reigns: Sequence[Reign]) -> list[str]:
    """Sets that were used, and that nobody asked for."""
    used = {sight.build for sight in stamps.sights}
    ends = {build: _end(reigns, *stamps.builds[build]) for build in used}
    return [f"build {build} is of {stamps.builds[build][1]}" for build, end in ends.items() if end == float("-inf")]


def _first(stamps: Stamps, reign: Reign, after: Reign, pid: int) -> float | None:
    """When a process first had what was asked for, while it was or soon after."""
    times = [
        at
        for build, (at, asked) in stamps.builds.items()
        if build.startswith(f"{pid}_") and asked == reign.asked and reign.start - TICK <= at < after.start + BUILDING
    ]
    return min(times, default=None)


def _end(reigns: Sequence[Reign], made: float, asked: Asked) -> float:
    """When the set that a build is of was no longer asked for; minus infinity if it never was before."""
    for reign, after in reversed([*pairwise((*reigns, Reign(float("inf"), (), "")))]):
        if reign.asked == asked and reign.start - TICK <= made:
            return after.start
    return float("-inf")
