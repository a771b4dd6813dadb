"""A plugin that says, in several hooks of one request, which build of which set of plugins it belongs to."""

from __future__ import annotations

import itertools
import json
import os
import threading
from dataclasses import dataclass, field
from pathlib import Path
from typing import Annotated, ClassVar
from weakref import WeakKeyDictionary

from dialer import Call, Host, Remark, hookimpl
from dialer.tables import Setting

_numbers = itertools.count(1)
_builds: WeakKeyDictionary[threading.Thread, int] = WeakKeyDictionary()


@dataclass(frozen=True, eq=False)
class Stamp:
    """Marks each call with the set of plugins that decides on it."""

    generation: Annotated[int, Setting("tells one change of the settings from the next")] = 0
    host: Host = field(default_factory=Host)
    budget_seconds: ClassVar[float] = 5.0
    build: str = field(init=False, default="")

    def __post_init__(self) -> None:
        object.__setattr__(self, "build", f"{os.getpid()}_{_build()}")
        self._write("made")

    @hookimpl
    def validate_call(self, call: Call) -> Remark:
        said = {"build": self.build, "generation": self.generation, "pid": os.getpid(), "at": self.host.clock()}
        return Remark(json.dumps(said))

    @hookimpl
    def name_conference(self, call: Call) -> str:
        return f"{self.build}-{call.id}"

    @hookimpl
    def dial_options(self, call: Call) -> dict[str, str]:
        return {"call_reason": self.build}

    @hookimpl
    def conference_options(self, call: Call) -> dict[str, str]:
        return {"max_participants": str(10 + self.generation % 200)}

    @hookimpl
    def call_started(self, call: Call) -> None:
        self._write("call_started", call.id)

    @hookimpl
    def call_ended(self, call: Call) -> None:
        self._write("call_ended", call.id)

    def _write(self, what: str, call: str = "") -> None:
        """One write of one line, since several processes have the file open."""
        line = {"what": what, "name": self.host.name, "build": self.build, "generation": self.generation, "call": call}
        text = json.dumps({**line, "pid": os.getpid(), "at": self.host.clock()}) + "\n"
        place = Path(os.environ["DIALER_INSTANCE"], "stamps")
        descriptor = os.open(place, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o600)
        try:
            os.write(descriptor, text.encode())
        finally:
            os.close(descriptor)


def _build() -> int:
    """The number of the set that is being built: each is built by a thread of its own."""
    thread = threading.current_thread()
    if thread not in _builds:
        _builds[thread] = next(_numbers)
    return _builds[thread]
