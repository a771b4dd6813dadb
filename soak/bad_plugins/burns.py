"""A plugin that computes and never comes to an end, in whatever it is asked and told."""

from __future__ import annotations

from typing import NoReturn

from dialer import Call, CallEvent, hookimpl


def burn() -> NoReturn:
    """Keep a processor busy, and Python's lock with it."""
    number = 0
    while True:
        number = (number * 1103515245 + 12345) % 2147483648


class Burns:
    """Burns processor time."""

    @hookimpl
    def choose_caller_id(self, call: Call) -> None:
        burn()

    @hookimpl
    def dial_options(self, call: Call) -> None:
        burn()

    @hookimpl
    def handle_unanswered(self, call: Call) -> None:
        burn()

    @hookimpl
    def call_started(self, call: Call) -> None:
        burn()

    @hookimpl
    def call_status(self, call: Call, event: CallEvent) -> None:
        burn()

    @hookimpl
    def call_ended(self, call: Call) -> None:
        burn()
