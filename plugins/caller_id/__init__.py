"""Choose the number that the customer sees: near to him, used in turn, and of one agent at a time if wanted."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

from dialer import Call, Host, Refusal, Remark, Setting, hookimpl
from dialer.numbers import E164
from dialer_plugins.caller_id import pool
from dialer_plugins.caller_id.areas import DISTANCES, distance
from dialer_plugins.caller_id.pool import Wish


@dataclass(frozen=True, eq=False)
class CallerId:
    """Choose the caller ID from the workspace's numbers: local presence, rotation, a number per agent at a time."""

    numbers: Annotated[tuple[str, ...], Setting("the numbers to choose from; empty: all of the workspace")] = ()
    local_presence: Annotated[bool, Setting("prefer numbers near the customer's")] = True
    locked: Annotated[bool, Setting("never two agents on one number at once; refuse calls beyond that")] = False
    sticky_days: Annotated[
        int, Setting("days for which a customer sees the same number again; 0: never", numbers=(0, 3650))
    ] = 0
    cooldown_seconds: Annotated[
        int, Setting("rest of a number between two calls, if another is there", numbers=(0, 604_800))
    ] = 0
    host: Host = field(default_factory=Host)

    # A write to its own database, which may wait for another worker's.
    budget_seconds = 1.0

    def __post_init__(self) -> None:
        for number in self.numbers:
            if not E164.fullmatch(number):
                raise ValueError(f"numbers {number!r:.60} is not a number in E.164 such as +14155550199")

    @hookimpl
    def validate_call(self, call: Call) -> Refusal | Remark | None:
        if not self.locked:
            return None
        number = self._choose(call)
        if number is None and pool.heal(self.host, call.workspace):
            number = self._choose(call)
        if number is None:
            return Refusal("All numbers to call from are in use. Please try again in a moment.", "caller_id:no-number")
        return Remark(f"{number} is held for this call: {DISTANCES[distance(number, call.to)]}")

    @hookimpl
    def choose_caller_id(self, call: Call) -> str | None:
        return self._choose(call)

    @hookimpl
    def call_started(self, call: Call) -> None:
        pool.confirm(self.host, call)

    @hookimpl
    def call_ended(self, call: Call) -> None:
        pool.release(self.host, call)

    def _choose(self, call: Call) -> str | None:
        """The number that this call holds, or now takes."""
        owned = self.host.numbers(call.workspace)
        numbers = [number for number in owned if number in self.numbers] if self.numbers else owned
        if not numbers:
            self.host.log.warning("workspace %s has none of the numbers to choose from", call.workspace)
            return None
        wish = Wish(self.local_presence, self.locked, self.sticky_days * 86_400.0, float(self.cooldown_seconds))
        number: str | None = pool.take(self.host, call, numbers, wish)
        return number
