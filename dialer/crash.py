"""Named points at which a test may have the process killed, to prove that nothing hangs on its survival."""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from itertools import count

_NAME, _NTH, _SIGNAL = (os.environ.get("DIALER_CRASH_AT", "") + "::").split(":")[:3]
_passed = count(1)
_watcher: Callable[[str], None] | None = None


def watch(passed: Callable[[str], None] | None) -> None:
    """Have a function called with the name of each point that is passed, as a simulation wants to; None ends it."""
    global _watcher
    _watcher = passed


def crash_point(name: str) -> None:
    """Die here as by `kill -9` when DIALER_CRASH_AT is `name` (or `name:n`, at the n-th passing).

    With `name:n:STOP` the process stands still instead, until it is sent SIGCONT.
    """
    if _watcher is not None:
        _watcher(name)
    if name == _NAME and next(_passed) == int(_NTH or 1):
        os.write(2, f"crash point {name}\n".encode())
        # To this very thread: any other would have to be scheduled before it stops us, and we would go on meanwhile.
        signal.raise_signal(signal.Signals[f"SIG{_SIGNAL or 'KILL'}"])
