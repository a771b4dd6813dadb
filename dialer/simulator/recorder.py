"""A plugin that remembers what it was told, to check that every plugin hears of everything."""

from __future__ import annotations

from dataclasses import dataclass, field

from dialer.calls import Call
from dialer.hookspecs import CallEvent, hookimpl
from dialer.simulator.record import Told

#: The hooks that it listens to.
TELLS = frozenset({"call_started", "call_status", "conference_event", "call_ended"})


@dataclass(frozen=True)
class Recorder:
    """Stands outside of all processes, as the CRM of a real plugin does."""

    told: list[Told] = field(default_factory=list)

    @hookimpl
    def call_started(self, call: Call) -> None:
        self.told.append(Told("recorder", "call_started", call.id))

    @hookimpl
    def call_status(self, call: Call, event: CallEvent) -> None:
        self._hear("call_status", call, event)

    @hookimpl
    def conference_event(self, call: Call, event: CallEvent) -> None:
        self._hear("conference_event", call, event)

    @hookimpl
    def call_ended(self, call: Call) -> None:
        self.told.append(Told("recorder", "call_ended", call.id))

    def _hear(self, hook: str, call: Call, event: CallEvent) -> None:
        self.told.append(Told("recorder", hook, call.id, event.name, event.call_sid, event.at))
