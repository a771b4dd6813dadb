"""A plugin that worked until its last upgrade, and ends the process that imports it since."""

from __future__ import annotations

import os
from pathlib import Path

from dialer import Call, hookimpl

#: The file in the instance's folder that stands for the upgrade.
UPGRADED = "exits-upgraded"

if Path(os.environ.get("DIALER_INSTANCE", "instance"), UPGRADED).exists():
    os._exit(1)


class Exits:
    """Ends the process that imports it."""

    @hookimpl
    def call_ended(self, call: Call) -> None:
        """Is told, as long as it lives."""
