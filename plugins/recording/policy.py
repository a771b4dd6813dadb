"""Whether a call is recorded, and how: by the first rule that fits it, and by chance that the call's id decides."""

from __future__ import annotations

import hashlib
import re
from dataclasses import dataclass
from typing import Annotated, Literal

from dialer import Call, Setting
from dialer.hookspecs import DIAL_OPTIONS

Record = Literal["no", "dual", "conference"]
Format = Literal["wav", "mp3"]
_PREFIX = re.compile(r"\+[0-9]{1,15}")


def read_announcement(text: str) -> str:
    """A sentence or the https URL of a sound, or nothing; raises ValueError."""
    if text.startswith("http://"):
        raise ValueError("must be a sentence, or the URL of a sound that begins with https://")
    if text and not DIAL_OPTIONS["announcement"].accepts(text):
        raise ValueError("must be one line of up to 500 characters")
    return text


def _read_prefixes(prefixes: tuple[str, ...]) -> tuple[str, ...]:
    for prefix in prefixes:
        if not _PREFIX.fullmatch(prefix):
            raise ValueError(f"{prefix!r:.40} must be + and the first digits of numbers, such as +44")
    return prefixes


@dataclass(frozen=True)
class Rule:
    """What is done about the calls that fit; an empty list fits all."""

    record: Annotated[Record, Setting("each voice in a channel, all in one, or none")]
    workspaces: Annotated[tuple[str, ...], Setting("calls of these workspaces")] = ()
    agents: Annotated[tuple[str, ...], Setting("calls of these agents")] = ()
    prefixes: Annotated[tuple[str, ...], Setting("calls to numbers that begin so", parse=_read_prefixes)] = ()
    directions: Annotated[tuple[Literal["outbound", "inbound"], ...], Setting("calls in these directions")] = ()
    percent: Annotated[float, Setting("of these calls, so many are recorded", numbers=(0, 100))] = 100.0
    announcement: Annotated[str | None, Setting("in place of the other; empty: none", parse=read_announcement)] = None

    def fits(self, call: Call) -> bool:
        return (
            (not self.workspaces or call.workspace in self.workspaces)
            and (not self.agents or call.agent in self.agents)
            and (not self.prefixes or call.to.startswith(self.prefixes))
            and (not self.directions or call.direction in self.directions)
        )


@dataclass(frozen=True, slots=True)
class Policy:
    """What is done about one call. `record` is no, dual or conference; `why` names the rule and the chance."""

    record: str
    announcement: str
    why: str

    def in_words(self) -> str:
        """As it stands with the call."""
        if self.record == "no":
            return f"not recorded: {self.why}"
        told = f"announced as {self.announcement!r}" if self.announcement else "not announced"
        return f"recorded ({self.record}), {told}: {self.why}"


def decide(call: Call, rules: tuple[Rule, ...], otherwise: Rule) -> Policy:
    """The policy for a call; the same for every call of the same id."""
    place, rule = next(((place, rule) for place, rule in enumerate(rules, 1) if rule.fits(call)), (0, otherwise))
    why = f"rule {place}" if place else "no rule fits"
    if rule.record == "no":
        return Policy("no", "", why)
    if rule.percent < 100:
        drawn = chance(call.id)
        why = f"{why}, drew {drawn:.2f} of {rule.percent:g} %"
        if drawn >= rule.percent:
            return Policy("no", "", why)
    announcement = otherwise.announcement if rule.announcement is None else rule.announcement
    return Policy(rule.record, announcement or "", why)


def chance(call_id: str) -> float:
    """A number from 0 to 100, evenly spread over calls, that nobody can choose."""
    return int.from_bytes(hashlib.sha256(call_id.encode()).digest()[:8]) / 2**64 * 100
