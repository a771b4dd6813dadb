"""What one plugin's function answers to one hook, made safe: plain, checked, and in words.

All of it is done where the function ran, in the plugin's own thread: how an answer compares, prints or copies itself
is the plugin's code, too.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from dialer.calls import Call
from dialer.hookspecs import FAILS_CLOSED, CallEvent, Refusal, Remark, Route, Unanswered, answer_fault, plain
from dialer.isolation import Pool
from dialer.tables import one_line

COULD_NOT_CHECK = "The call could not be checked."


class Failed(Exception):
    """What a plugin raised, in words of one line that are ours."""


@dataclass(frozen=True, slots=True)
class Implementation:
    """One plugin's function for one hook. Without a pool it is called right here."""

    plugin: str
    hook: str
    function: Callable[..., Any]
    arguments: tuple[str, ...]
    pool: Pool | None

    def __call__(self, call: Call, event: CallEvent | None = None) -> Any:
        # Its own copy of the only part of a call that can be changed.
        given = {"call": replace(call, options=dict(call.options)), "event": event}
        return self.function(**{name: given[name] for name in self.arguments})

    def judged(self, call: Call) -> tuple[Any, str]:
        """The answer as plain values, and what is wrong with it; raises Failed."""
        try:
            answer = plain(self(call))
            return answer, "" if answer is None else one_line(answer_fault(self.hook, answer))
        except (Exception, SystemExit) as error:
            raise Failed(said(error)).with_traceback(error.__traceback__) from None


def safe_answer(one: Implementation) -> Refusal | None:
    """What counts when there is no good answer."""
    return Refusal(COULD_NOT_CHECK, f"plugin-error:{one.plugin}") if one.hook in FAILS_CLOSED else None


def named(refusal: Refusal, plugin: str) -> Refusal:
    """The refusal with a rule that starts with the plugin's name, so that nobody speaks for another."""
    if refusal.rule == plugin or refusal.rule.startswith(f"{plugin}:"):
        return refusal
    return Refusal(refusal.reason, f"{plugin}:{refusal.rule}".rstrip(":"))


def said(error: BaseException) -> str:
    """An error in one line, however badly it puts itself."""
    try:
        return one_line(f"{type(error).__name__}: {error}"[:300])
    except Exception:  # how an error reads is the plugin's code, too
        return type(error).__name__


def in_words(answer: object) -> str:
    """An answer as an admin reads it in the record of the call."""
    if isinstance(answer, Refusal):
        return f"refused ({answer.rule}): {answer.reason}"
    if isinstance(answer, Remark):
        return answer.text
    if isinstance(answer, Route):
        return answer.to if answer.ring_seconds is None else f"{answer.to} for {answer.ring_seconds} s"
    if isinstance(answer, Unanswered):
        return answer.try_number or answer.sentence or "the usual sentence"
    if isinstance(answer, dict):
        return ", ".join(f"{name}={value}" for name, value in answer.items())
    return "" if answer is None else str(answer)
