"""What happens to a plugin's hooks in service and rarely in tests: news twice and in any order, two threads at once."""

from __future__ import annotations

import sys
import threading
from collections.abc import Callable, Iterable, Sequence
from random import Random
from typing import Any

from dialer.rehearsal import Told

#: A hook's name, and how it is asked or told.
Work = tuple[str, Callable[[], Any]]
Raised = tuple[str, BaseException]
#: Threads change places so often, in seconds, and get so long.
SWITCH, PATIENCE = 1e-5, 60.0


class Hangs(Exception):
    """It does not come back."""


def in_disorder(told: Sequence[Told], seed: int) -> list[Told]:
    """The same news in another order, a fifth of them missing and a fifth of them twice."""
    random = Random(seed)
    news = [one for one in told if random.random() > 0.2]
    news += [one for one in news if random.random() < 0.2]
    random.shuffle(news)
    return news


def in_one_thread(work: Iterable[Work]) -> list[Raised]:
    """Do it all; gives what was raised."""
    raised: list[Raised] = []
    for hook, do in work:
        try:
            do()
        except KeyboardInterrupt:
            raise
        except BaseException as error:
            raised.append((hook, error))
    return raised


def in_two_threads(work: Sequence[Work]) -> list[Raised]:
    """Do it all in two threads that disturb each other as often as Python can."""
    raised: list[Raised] = []
    threads = [
        threading.Thread(target=lambda: raised.extend(in_one_thread(work)), name=f"stress-{number}", daemon=True)
        for number in range(2)
    ]
    usual = sys.getswitchinterval()
    sys.setswitchinterval(SWITCH)
    try:
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(PATIENCE)
    finally:
        sys.setswitchinterval(usual)
    hung = [("a hook", Hangs(f"two threads are not through after {PATIENCE:g} s"))]
    return [*raised, *(hung if any(thread.is_alive() for thread in threads) else [])]
