"""A clock that others move, the things scheduled on it, and chance from a seed."""

from __future__ import annotations

import heapq
import random
from collections.abc import Callable

from dialer.simulator.running import Timer


class Clock:
    """Virtual or real time in seconds: nothing happens unless somebody calls advance()."""

    def __init__(self, start: float, seed: int) -> None:
        self.now = start
        self._random = random.Random(seed)
        self._chance = random.Random(seed + 1)
        """A stream of its own, so that a fault does not change the SIDs."""
        self._heap: list[tuple[float, int, Timer]] = []
        self._order = 0
        self._cancelled = 0

    def next_due(self) -> float | None:
        """When the earliest scheduled thing happens; None: nothing is scheduled."""
        heap = self._heap
        while heap and heap[0][2].action is None:
            heapq.heappop(heap)
            self._cancelled -= 1
        return heap[0][0] if heap else None

    def advance(self, to: float) -> None:
        """Run all that is due up to that moment, in order, and set the clock to it."""
        heap = self._heap
        while heap and heap[0][0] <= to:
            due, _, timer = heapq.heappop(heap)
            action, arguments = timer.action, timer.arguments
            if action is None:
                self._cancelled -= 1
                continue
            timer.action, timer.arguments = None, ()  # no cycle is left behind for the collector
            self.now = max(self.now, due)
            action(*arguments)
        self.now = max(self.now, to)

    def later(self, delay: float, action: Callable[..., None], *arguments: object) -> Timer:
        """Schedule an action that many seconds from now."""
        timer = Timer(self.now + delay, action, arguments)
        self._order += 1
        heapq.heappush(self._heap, (timer.due, self._order, timer))
        return timer

    def cancel(self, timer: Timer | None) -> None:
        """Make a scheduled action never happen; no effect on one that has."""
        if timer is None or timer.action is None:
            return
        timer.action, timer.arguments = None, ()
        self._cancelled += 1
        if self._cancelled > 1000 and self._cancelled * 2 > len(self._heap):
            self._heap[:] = [item for item in self._heap if item[2].action is not None]
            heapq.heapify(self._heap)
            self._cancelled = 0

    def sid(self, prefix: str) -> str:
        """A new SID: two letters and 32 hexadecimal digits."""
        return f"{prefix}{self._random.getrandbits(128):032x}"

    def random_bits(self, count: int) -> int:
        """That many bits from the seed."""
        return self._random.getrandbits(count)

    def uniform(self, low: float, high: float) -> float:
        """A random number from the seed."""
        return self._random.uniform(low, high)

    def chance(self, probability: float) -> bool:
        """Whether something of that probability happens now."""
        return probability > 0.0 and self._chance.random() < probability
