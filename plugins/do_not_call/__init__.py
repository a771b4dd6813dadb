"""Refuse numbers that are on a do-not-call list, and keep evidence of every check."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated

import click

from dialer import Call, Host, Refusal, Remark, Setting, hookimpl
from dialer_plugins.do_not_call import commands, lists
from dialer_plugins.do_not_call.moments import moment

#: Lists named in a remark, which has a thousand characters.
NAMED = 8


@dataclass(frozen=True, eq=False)
class DoNotCall:
    """Refuse numbers on the do-not-call lists of the workspace, or of all; fill them with dialer do_not_call."""

    reason: Annotated[str, Setting("what the agent hears")] = "That number is on a do-not-call list."
    required: Annotated[tuple[str, ...], Setting("lists without which no call is placed")] = ()
    max_age_days: Annotated[
        int, Setting("days since its last import after which a required list is too old; 0: never", numbers=(0, 3650))
    ] = 0
    host: Host = field(default_factory=Host)

    def __post_init__(self) -> None:
        if not 0 < len(self.reason.strip()) <= 500:
            raise ValueError("reason must be a sentence of 1 to 500 characters")
        for name in self.required:
            if not lists.NAME.fullmatch(name):
                raise ValueError(f"required {name!r:.60} is no name of a list: letters, digits, _ . and -, 60 at most")
        if self.max_age_days and not self.required:
            raise ValueError("max_age_days is about required lists; name them in required")

    @hookimpl
    def validate_call(self, call: Call) -> Refusal | Remark | None:
        now = self.host.clock()
        there = lists.lists_of(self.host, call.workspace)
        found = lists.find(self.host, call.workspace, call.to, now)
        if found:
            return Refusal(self.reason, f"do_not_call:{found[0].list}")
        return self._refuse_unchecked(there, now) or Remark(_remark(there, now))

    @hookimpl
    def call_started(self, call: Call) -> None:
        if call.status != "rejected":
            return
        found = lists.find(self.host, call.workspace, call.to, call.requested_at)
        lists.count_hit(self.host, call, found)
        for entry in found:
            self.host.add_event(call, "listed", _detail(entry, call), key=f"{entry.workspace}:{entry.list}")

    @hookimpl
    def register_commands(self) -> click.Group:
        group: click.Group = commands.group(self.host)
        return group

    def _refuse_unchecked(self, there: list[lists.List], now: float) -> Refusal | None:
        """Refuse when a required list is not there, or too old: the number may be on it."""
        changed = {one.name: one.imported_at for one in there}
        oldest = now - self.max_age_days * 86_400 if self.max_age_days else 0.0
        for name in self.required:
            if changed.get(name, -1.0) < oldest:
                what, rule = ("too old", "list-too-old") if name in changed else ("missing", "list-missing")
                reason = f"The do-not-call list {name} is {what}. Please ask your administrator."
                return Refusal(reason, f"do_not_call:{rule}")
        return None


def _remark(there: list[lists.List], now: float) -> str:
    names = [f"{one.name}{'' if one.workspace else ' (of all)'} of {moment(one.imported_at)}" for one in there[:NAMED]]
    more = f" and {len(there) - NAMED} more" if len(there) > NAMED else ""
    return f"not listed at {moment(now)} on: {', '.join(names) or 'no list is there'}{more}"


def _detail(entry: lists.Entry, call: Call) -> dict[str, str]:
    return {
        "list": entry.list,
        "list_of": entry.workspace or "all workspaces",
        "number": entry.number,
        "reason": entry.reason,
        "added_at": moment(entry.added_at),
        "expires_at": moment(entry.expires_at),
        "checked_at": moment(call.requested_at),
    }
