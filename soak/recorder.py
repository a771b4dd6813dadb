"""A plugin that writes down what it is told, a line each in `told`, and has conferences recorded if asked to."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated

from dialer import Call, CallEvent, hookimpl
from dialer.tables import Setting


@dataclass(frozen=True)
class Recorder:
    """The plugin `recorder`."""

    record: Annotated[bool, Setting("have conferences recorded")] = False

    @hookimpl
    def conference_options(self, call: Call) -> dict[str, str] | None:
        return {"record": "record-from-start"} if self.record else None

    @hookimpl
    def call_started(self, call: Call) -> None:
        self._write("call_started", call)

    @hookimpl
    def call_status(self, call: Call, event: CallEvent) -> None:
        self._write("call_status", call, event)

    @hookimpl
    def conference_event(self, call: Call, event: CallEvent) -> None:
        self._write("conference_event", call, event)

    @hookimpl
    def recording_ready(self, call: Call, event: CallEvent) -> None:
        self._write("recording_ready", call, event)

    @hookimpl
    def call_ended(self, call: Call) -> None:
        self._write("call_ended", call)

    def _write(self, hook: str, call: Call, event: CallEvent | None = None) -> None:
        """One write of one line, so that no death leaves half of one."""
        said = {"name": event.name, "at": event.at, "leg": event.call_sid, "status": event.status} if event else {}
        line = {"hook": hook, "call": call.id, **said}
        descriptor = os.open(Path(os.environ["DIALER_INSTANCE"], "told"), os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600)
        try:
            os.write(descriptor, json.dumps(line).encode() + b"\n")
        finally:
            os.close(descriptor)
