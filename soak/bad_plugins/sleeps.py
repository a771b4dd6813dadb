"""A plugin that sleeps for a minute in whatever it is asked and told."""

from __future__ import annotations

import time

from dialer import Call, CallEvent, hookimpl

SECONDS = 60.0


class Sleeps:
    """Sleeps."""

    @hookimpl
    def choose_caller_id(self, call: Call) -> None:
        time.sleep(SECONDS)

    @hookimpl
    def route_call(self, call: Call) -> None:
        time.sleep(SECONDS)

    @hookimpl
    def dial_options(self, call: Call) -> None:
        time.sleep(SECONDS)

    @hookimpl
    def conference_options(self, call: Call) -> None:
        time.sleep(SECONDS)

    @hookimpl
    def handle_unanswered(self, call: Call) -> None:
        time.sleep(SECONDS)

    @hookimpl
    def call_started(self, call: Call) -> None:
        time.sleep(SECONDS)

    @hookimpl
    def call_status(self, call: Call, event: CallEvent) -> None:
        time.sleep(SECONDS)

    @hookimpl
    def call_ended(self, call: Call) -> None:
        time.sleep(SECONDS)
