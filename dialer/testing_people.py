"""The people in the tests of plugins: the agent with a call, and the customer with a phone."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

from dialer.calls import Call
from dialer.hookspecs import CallEvent
from dialer.plugin_set import Verdict
from dialer.records import find_call, told_event
from dialer.simulator import Call as NetworkLeg

if TYPE_CHECKING:
    from dialer.testing import Dialer


@dataclass(frozen=True)
class Phone:
    """The customer's phone."""

    dialer: Dialer
    leg: NetworkLeg

    def answers(self) -> None:
        """Pick up, if it rings."""
        self._does(self.dialer.world.network.pick_up)

    def declines(self) -> None:
        """Refuse the call while it rings: it is busy."""
        self._does(self.dialer.world.network.decline)

    def hangs_up(self) -> None:
        self._does(self.dialer.world.network.hang_up)

    def presses(self, digits: str) -> None:
        """Press keys, such as 12#."""
        self.dialer.world.network.press(self.leg.sid, digits)
        self.dialer.lasts(0.3)

    @property
    def number(self) -> str:
        return self.leg.to

    @property
    def heard(self) -> list[str]:
        """The sentences that were spoken to it."""
        return self.dialer.spoken_to(self.leg.sid)

    def _does(self, what: Callable[[str], None]) -> None:
        what(self.leg.sid)
        self.dialer.lasts(0.3)


@dataclass(frozen=True)
class AgentCall:
    """A call from the agent's side."""

    dialer: Dialer
    leg: NetworkLeg

    @property
    def phone(self) -> Phone:
        """The phone that was dialled for this call, the last one if there were several."""
        record = self.record
        leg = record.leg("customer")
        if leg is None:
            why = f" (rule {record.rule}): {record.reason}" if record.rule else ""
            raise AssertionError(f"no phone was dialled for this call, it is {record.status}{why}")
        return Phone(self.dialer, self.dialer.world.network.call(leg.call_sid))

    def hangs_up(self) -> None:
        """The agent hangs up."""
        self.dialer.world.network.hang_up(self.leg.sid)
        self.dialer.lasts(0.3)

    @property
    def record(self) -> Call:
        """Dialer's record of the call as it is now: what hooks get."""
        world = self.dialer.world
        with world.dialer.store.read() as tx:
            call = find_call(tx, "call_of_leg", call_sid=self.leg.sid, account_sid=world.account_sid)
        assert call is not None, "Dialer has not heard of this call: let some time pass with dialer.lasts(1)"
        return call

    @property
    def status(self) -> str:
        return self.record.status

    @property
    def rule(self) -> str:
        """The machine's word for why it was refused."""
        return self.record.rule

    @property
    def reason(self) -> str:
        """The sentence about why it was refused."""
        return self.record.reason

    @property
    def heard(self) -> list[str]:
        """The sentences that were spoken to the agent."""
        return self.dialer.spoken_to(self.leg.sid)

    @property
    def verdicts(self) -> list[Verdict]:
        """What the plugin said to each question about this call."""
        rows = self._rows("verdicts_of_call")
        return [Verdict(row["plugin"], row["hook"], row["answer"], row["milliseconds"], row["error"]) for row in rows]

    @property
    def events(self) -> list[CallEvent]:
        """What happened to the call, the plugin's own events included."""
        return [told_event(row) for row in self._rows("events_of_call", after=0)]

    def _rows(self, statement: str, **values: Any) -> list[Mapping[str, Any]]:
        record = self.record
        with self.dialer.world.dialer.store.read() as tx:
            return tx.all(statement, call_id=record.id, workspace=record.workspace, **values)
