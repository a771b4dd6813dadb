"""A plugin that raises in every hook; in validate_call, which costs the call, for one number in ten only."""

from __future__ import annotations

from typing import ClassVar

from dialer import Call, CallEvent, hookimpl

#: The last digit of the numbers whose calls it cannot check.
UNCHECKED = "7"


class Raises:
    """Raises; at once, so that a machine that is busy makes no call fail that it could have checked."""

    budget_seconds: ClassVar[float] = 5.0

    @hookimpl
    def validate_call(self, call: Call) -> None:
        if call.to.endswith(UNCHECKED):
            raise RuntimeError("cannot check this")

    @hookimpl
    def choose_caller_id(self, call: Call) -> str:
        raise KeyError(call.id)

    @hookimpl
    def name_conference(self, call: Call) -> str:
        raise SystemExit(1)

    @hookimpl
    def route_call(self, call: Call) -> None:
        raise RecursionError("too deep")

    @hookimpl
    def dial_options(self, call: Call) -> dict[str, str]:
        raise ValueError("no options")

    @hookimpl
    def conference_options(self, call: Call) -> dict[str, str]:
        raise OSError("no options either")

    @hookimpl
    def handle_unanswered(self, call: Call) -> None:
        raise LookupError("nothing follows")

    @hookimpl
    def call_started(self, call: Call) -> None:
        raise ConnectionError("nobody there")

    @hookimpl
    def call_status(self, call: Call, event: CallEvent) -> None:
        raise ConnectionError("nobody there")

    @hookimpl
    def conference_event(self, call: Call, event: CallEvent) -> None:
        raise ConnectionError("nobody there")

    @hookimpl
    def call_ended(self, call: Call) -> None:
        raise SystemExit(1)
