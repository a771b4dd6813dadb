"""Two clocks: the machine's, which may be set, and a steady one; and how what is scheduled follows when it is set.

Times in the store are by the machine's clock. The dispatcher goes by it as it was until it has noticed that it was set,
and then moves what it has scheduled along, in one transaction. What the web workers have scheduled may be by the old
clock, the new one or one between them, and was meant for now or in a moment: it is due at once.
"""

from __future__ import annotations

import logging
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from dialer.service import Service
    from dialer.store import Tx

log = logging.getLogger("dialer.clock")

#: Seconds by which the clock must have been set at once to matter; less is drift, and followed.
STEP = 1.0
_STEADY = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
#: What a step moves.
SHIFTED = ("shift_waiting", "shift_breakers", "shift_intents", "shift_missing")


def steady_seconds() -> float:
    """Seconds since the machine started, its sleep included where the system counts that."""
    return time.clock_gettime(_STEADY)


def boot_id() -> str:
    """What names this start of the machine; empty where nothing does."""
    try:
        return Path("/proc/sys/kernel/random/boot_id").read_text().strip()
    except OSError:
        return ""


@dataclass(slots=True)
class KeptClock:
    """The clock by which the times in the store were written: even, while somebody sets the machine's.

    `ahead` is how far it is ahead of the steady clock. `mind` makes the store follow a step, and then this clock.
    """

    dialer: Service
    boot: str = field(default_factory=boot_id)
    ahead: float = field(init=False)
    _kept: float | None = field(init=False, default=None)

    def __post_init__(self) -> None:
        self.ahead = self.dialer.clock() - self.dialer.steady()

    def now(self) -> float:
        """Epoch seconds, by the clock that the times in the store mean."""
        return self.dialer.steady() + self.ahead

    def mind(self) -> float:
        """Look whether the clock was set; gives the seconds by which what is scheduled was moved (mostly 0).

        The first look compares with what an earlier process has kept. Raises StoreError, and is then to be repeated.
        """
        ahead = self._measured()
        if self._kept is None:
            return self._begin(ahead)
        step = ahead - self.ahead
        if abs(step) >= STEP:
            return self._follow(step, ahead)
        self.ahead = ahead
        if abs(ahead - self._kept) >= STEP / 2:
            self._keep(ahead)
        return 0.0

    def _measured(self) -> float:
        """How far the machine's clock is ahead; a look that took long (we were stopped amid it) says nothing."""
        before, wall, after = self.dialer.steady(), self.dialer.clock(), self.dialer.steady()
        return wall - before if after - before < STEP / 10 else self.ahead

    def _begin(self, ahead: float) -> float:
        with self.dialer.store.read() as tx:
            kept, newest = tx.one("kept_clock"), tx.one("newest_moment")
        step = 0.0
        if kept and self.boot and kept["boot_id"] == self.boot:
            step = ahead - kept["ahead"]
        elif newest and newest["at"] is not None:  # the steady clock began anew: only a step back can be seen
            step = min(0.0, self.dialer.steady() + ahead - newest["at"])
        if abs(step) >= STEP:
            return self._follow(step, ahead)
        self.ahead = ahead
        self._keep(ahead)
        return 0.0

    def _follow(self, step: float, ahead: float) -> float:
        """Move all that was scheduled by the old clock, and have every open call looked at."""
        before = self.ahead
        try:
            with self.dialer.store.write() as tx:
                now = self.dialer.steady() + ahead
                for statement in SHIFTED:
                    tx.run(statement, step=step)
                tx.run("shift_jobs", step=step, now=now)
                tx.run("wake_open_calls", now=now)
                tx.run("note_step", step=step, now=now)
                tx.run("count", name="clock_steps", label="")
                self._write(tx, ahead)
                self.ahead = ahead  # while we hold the store: nobody sees moved times by the old clock
        except BaseException:
            self.ahead = before
            raise
        self._kept = ahead
        log.warning("the clock was set %s by %.1f s: all that is scheduled moved along", _way(step), abs(step))
        return step

    def _keep(self, ahead: float) -> None:
        with self.dialer.store.write() as tx:
            self._write(tx, ahead)
        self._kept = ahead

    def _write(self, tx: Tx, ahead: float) -> None:
        tx.run("keep_clock", boot_id=self.boot, ahead=ahead, noted_at=self.dialer.steady() + ahead)


def _way(step: float) -> str:
    return "forward" if step > 0 else "back"
