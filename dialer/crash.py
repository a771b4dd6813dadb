"""Named points at which a test may have the process killed, to prove that nothing hangs on its survival."""

from __future__ import annotations

import os
import signal
from itertools import count

_NAME, _, _NTH = os.environ.get("DIALER_CRASH_AT", "").partition(":")
_passed = count(1)


def crash_point(name: str) -> None:
    """Die here as by `kill -9` when DIALER_CRASH_AT is `name` (or `name:n`, at the n-th passing)."""
    if name == _NAME and next(_passed) == int(_NTH or 1):
        os.kill(os.getpid(), signal.SIGKILL)
