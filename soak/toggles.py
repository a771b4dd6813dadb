"""Changes of the plugins of a running Dialer, one after the other: by the command line, by hand, and broken ones."""

from __future__ import annotations

import json
import os
import subprocess
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from itertools import chain, repeat
from pathlib import Path
from random import Random

from dialer.errors import DialerError
from dialer.loopback import ask
from soak.deployment import Deployment
from soak.installation import PACE
from soak.stack import PYTHON, wait_until

#: The plugins that are toggled: all are `soak.stamp`. And one that is installed and cannot be imported.
NAMES, LOST = ("alpha", "beta", "gamma", "delta"), "lost"
#: One round of changes, shuffled. A broken one is mended by another change, so it counts as two.
ROUND = ("enable", "disable", "order", "settings", "rewrite", "overwrite", "twice", "broken", "broken")
#: Seconds between the two halves of a file that is written in place.
HALF = 0.02
#: Seconds in which each process must have noticed a broken change, on a machine that is busy.
NOTICED = 20.0

#: A set as it is asked for: each plugin and its `generation`, in order.
Asked = tuple[tuple[str, int], ...]


@dataclass(frozen=True, slots=True)
class Reign:
    """From when on a set was asked for, and by what kind of change."""

    start: float
    asked: Asked
    how: str


@dataclass
class Toggler:
    """Changes dialer.toml again and again, and knows what it asked for at any time."""

    deployment: Deployment
    random: Random
    listed: list[str] = field(default_factory=lambda: [*NAMES[:2]])
    generations: dict[str, int] = field(default_factory=lambda: dict.fromkeys(NAMES, 0))
    reigns: list[Reign] = field(default_factory=list)
    made: list[tuple[float, str]] = field(default_factory=list)
    """When each change was made, and of which kind."""
    breaches: list[str] = field(default_factory=list)
    last: int = 0

    @property
    def file(self) -> Path:
        return self.deployment.folder / "dialer.toml"

    @property
    def asked(self) -> Asked:
        return tuple((name, self.generations[name]) for name in self.listed)

    def begin(self) -> None:
        """What is asked for before the first change."""
        self.reigns.append(Reign(0.0, self.asked, "start"))

    def run(self, count: int, seconds: float) -> None:
        """Make so many changes, spread over so many seconds if each is quick enough."""
        kinds, begun = rounds(self.random), time.monotonic()
        while len(self.made) < count:
            due = begun + seconds * len(self.made) / count
            time.sleep(max(0.0, due - time.monotonic()))
            self.change(next(kinds) if len(self.made) < count - 1 else "rewrite")

    def all_on(self) -> None:
        """Have every plugin on, so that whatever waits for one of them is told."""
        self.listed = [*NAMES]
        self._by_hand("rewrite")

    def change(self, kind: str) -> None:
        """Make one change, and note from when on it holds."""
        kinds: dict[str, Callable[[], None]] = {
            "enable": self._enable, "disable": self._disable, "order": self._order, "settings": self._settings,
            "broken": self._broken, "twice": self._twice,
        }  # fmt: skip
        kinds.get(kind, lambda: self._edit(kind))()

    # By the command line

    def _enable(self) -> None:
        off = [name for name in NAMES if name not in self.listed]
        if not off:
            return self._disable()
        name = self.random.choice(off)
        self.listed.append(name)
        return self._command("enable", name, "--set", f"generation={self._next(name)}")

    def _disable(self) -> None:
        if len(self.listed) == 1:
            return self._enable()
        name = self.random.choice(self.listed)
        self.listed.remove(name)
        return self._command("disable", name)

    def _order(self) -> None:
        if len(self.listed) == 1:
            return self._enable()
        self.listed.append(self.listed.pop(0))
        return self._command("order", *self.listed)

    def _settings(self) -> None:
        name = self.random.choice(self.listed)
        self._command("enable", name, "--set", f"generation={self._next(name)}")

    def _command(self, *arguments: str) -> None:
        command = (*PYTHON, "dialer", "plugins", *arguments)
        done = subprocess.run(
            command,
            env=self.deployment.environ,
            cwd=self.deployment.folder,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode:
            self.breaches.append(f"dialer plugins {' '.join(arguments)} ended with {done.returncode}: {done.stderr}")
        self._note(arguments[0])

    # By hand

    def _edit(self, kind: str) -> None:
        self._another_list()
        self._by_hand(kind)

    def _twice(self) -> None:
        """Two changes at once: the second counts, though the clock of the file system may not tell them apart."""
        self._edit("rewrite")
        self._edit("rewrite")

    def _by_hand(self, kind: str) -> None:
        text = self.text()
        if kind == "rewrite":
            self._put(text)
        else:
            half = text.index("enabled") + 12  # within the list: no TOML
            with self.file.open("w") as file:
                file.write(text[:half])
                file.flush()
                time.sleep(HALF)
                file.write(text[half:])
        self._note(kind)

    def _broken(self) -> None:
        """A change that cannot be used, and the mending of it."""
        what = self.random.choice([*self._broken_texts()])
        if what == "gone":
            self.file.unlink()
        else:
            self._put(self._broken_texts()[what])
        self.made.append((time.time(), "broken"))
        if not wait_until(self._noticed, NOTICED, look=0.05):
            self.breaches.append(f"a broken change ({what}) is not shown by /readyz after {NOTICED:.0f} s")
        self._edit("rewrite")

    def _broken_texts(self) -> dict[str, str]:
        good = self.text()
        return {
            "gone": "",
            "empty": "",
            "no TOML": good.replace("[plugins]", "[plugins"),
            "half": good[: good.index("enabled") + 12],
            "no such plugin": good.replace("enabled = [", 'enabled = ["nobody", '),
            "cannot be imported": good.replace("enabled = [", f'enabled = ["{LOST}", '),
            "no such setting": good.replace("generation", "generatoin"),
            "no number": good.replace("generation = ", 'generation = "many" # '),
            "no such section": good + "[plugin]\n",
        }

    def _noticed(self) -> bool:
        try:
            return bool(ask(f"http://127.0.0.1:{self.deployment.web_port}/readyz")["config"] != "current")
        except DialerError:
            return False

    def _another_list(self) -> None:
        """Another choice of plugins, in another order, all with new settings: it shares nothing with the last one."""
        self.listed = self.random.sample(NAMES, self.random.randint(1, len(NAMES)))
        self.last += 1
        self.generations |= dict.fromkeys(self.listed, self.last)

    def text(self) -> str:
        """dialer.toml as it is to be."""
        tables = "".join(f"[plugins.{name}]\ngeneration = {self.generations[name]}\n" for name in NAMES)
        return f"[twilio]\ncalls_per_second = {PACE}\n[plugins]\nenabled = {json.dumps(self.listed)}\n{tables}"

    def _put(self, text: str) -> None:
        """Replace the file as a whole."""
        beside = self.file.with_name("dialer.toml.by-hand")
        beside.write_text(text)
        os.replace(beside, self.file)

    def _next(self, name: str) -> int:
        self.last += 1
        self.generations[name] = self.last
        return self.last

    def _note(self, how: str) -> None:
        """A change holds from when the file was put in its place: by the file system's own clock."""
        at = self.file.stat().st_ctime_ns / 1e9
        self.reigns.append(Reign(at, self.asked, how))
        self.made.append((at, how))


def rounds(random: Random) -> Iterator[str]:
    """Kinds of changes without end, each as often as in a round."""
    return chain.from_iterable(random.sample(ROUND, len(ROUND)) for _ in repeat(None))


def kinds_of(made: Iterable[tuple[float, str]]) -> str:
    """How many changes of which kind."""
    return ", ".join(f"{count} {kind}" for kind, count in sorted(Counter(kind for _, kind in made).items()))


def install(site: Path, plugins: Sequence[tuple[str, str]]) -> None:
    """Make plugins some of those installed, for whoever has this folder on his path: their names and where they are."""
    about = site / "soak_plugins-1.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: soak-plugins\nVersion: 1\n")
    lines = "".join(f"{name} = {target}\n" for name, target in plugins)
    (about / "entry_points.txt").write_text(f"[dialer.plugins]\n{lines}")
