"""A plugin that floods: the log with lines, the call with events, the dispatcher with deliveries to be made again."""

from __future__ import annotations

from dataclasses import dataclass, field

from dialer import Call, CallEvent, Host, hookimpl
from dialer.errors import RetryLater

#: Lines of the log for each question, characters of each, and events that it tries to add for each delivery.
LINES, LENGTH, EVENTS = 1000, 5000, 300


@dataclass(frozen=True, eq=False)
class Floods:
    """Floods whatever it reaches."""

    host: Host = field(default_factory=Host)

    @hookimpl
    def choose_caller_id(self, call: Call) -> None:
        self._log(call)

    @hookimpl
    def dial_options(self, call: Call) -> dict[str, str]:
        return {f"option_{number}": "x" * LENGTH for number in range(LINES)}

    @hookimpl
    def handle_unanswered(self, call: Call) -> None:
        self._log(call)

    @hookimpl
    def call_started(self, call: Call) -> None:
        self._log(call)
        for number in range(EVENTS):
            self.host.add_event(call, "flood", {"text": "x" * 1000}, key=str(number))

    @hookimpl
    def call_status(self, call: Call, event: CallEvent) -> None:
        for number in range(EVENTS):
            self.host.add_event(call, "flood", {"text": "x" * 1000}, key=f"{event.name} {number}")

    @hookimpl
    def conference_event(self, call: Call, event: CallEvent) -> None:
        raise RetryLater(0.0, "once more, at once")

    @hookimpl
    def call_ended(self, call: Call) -> None:
        self._log(call)
        raise RetryLater(0.0, "once more, at once")

    def _log(self, call: Call) -> None:
        for number in range(LINES):
            self.host.log.error("line %d of %s: %s", number, call.id, "x" * LENGTH)
