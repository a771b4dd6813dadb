"""When nobody answers: another number of the same customer, a sentence of one's own, or time for the agent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal

import click

from dialer import Call, Host, Setting, Unanswered, hookimpl
from dialer.hookspecs import TEXT_LENGTH
from dialer_plugins.next_number import commands, numbers

Outcome = Literal["busy", "no-answer", "failed"]


@dataclass(frozen=True, eq=False)
class NextNumber:
    """Try a customer's next number when one is busy, not answered or not reached, or say what is best done now."""

    try_after: Annotated[tuple[Outcome, ...], Setting("what another number is tried after")] = (
        "busy",
        "no-answer",
        "failed",
    )
    most: Annotated[int, Setting("further numbers that one call tries", numbers=(0, 5))] = 2
    ring_seconds: Annotated[int, Setting("how long they ring; 0: as long as the first", numbers=(0, 600))] = 0
    busy: Annotated[str, Setting("what the agent hears when the line was busy; empty: as always")] = ""
    no_answer: Annotated[str, Setting("what he hears when nobody answered")] = ""
    failed: Annotated[str, Setting("what he hears when the number was not reached")] = ""
    stay_seconds: Annotated[int, Setting("how long he stays on the line before he hears it", numbers=(0, 600))] = 0
    host: Host = field(default_factory=Host)

    def __post_init__(self) -> None:
        for name in ("busy", "no_answer", "failed"):
            if len(getattr(self, name)) > TEXT_LENGTH:
                raise ValueError(f"{name} has more than {TEXT_LENGTH} characters")
        if 0 < self.ring_seconds < 5:
            raise ValueError(f"ring_seconds must be 5 to 600, or 0, not {self.ring_seconds}")

    @hookimpl
    def handle_unanswered(self, call: Call) -> Unanswered | None:
        customer = call.leg("customer")
        outcome = customer.status if customer else ""
        if outcome in self.try_after and call.tries < self.most:
            following = numbers.next_of(self.host, call)
            if following:
                return Unanswered(try_number=following, ring_seconds=self.ring_seconds or None)
        sentences = {"busy": self.busy, "no-answer": self.no_answer, "failed": self.failed}
        sentence = sentences.get(outcome, "")
        return Unanswered(sentence, stay_seconds=self.stay_seconds) if sentence or self.stay_seconds else None

    @hookimpl
    def register_commands(self) -> click.Group:
        group: click.Group = commands.group(self.host)
        return group
