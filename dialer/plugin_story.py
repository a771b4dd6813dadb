"""What plugins had to do with one call, in sentences: what each said, and what it was told or is still to be told."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from dialer.hookspecs import FAILS_CLOSED
from dialer.printing import moment

#: What an answer to a hook does, and what none does.
_SAID = {
    "validate_call": ("let the call pass: {}", "let the call pass"),
    "choose_caller_id": ("chose the caller ID {}", "left the caller ID"),
    "name_conference": ("named the conference {}", "left the conference's name"),
    "route_call": ("sent the call to {}", "left the number to dial"),
    "dial_options": ("set for the dialled call: {}", "set nothing for the dialled call"),
    "conference_options": ("set for the conference: {}", "set nothing for the conference"),
    "handle_unanswered": ("said what follows, as nobody answered: {}", "left what follows to Dialer"),
}


def plugin_story(verdicts: Iterable[Mapping[str, Any]], jobs: Iterable[Mapping[str, Any]]) -> list[str]:
    """One sentence for each answer in the order of the questions, then one for each delivery."""
    return [*_answers(verdicts), *_deliveries(jobs)]


def _answers(verdicts: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for verdict in verdicts:
        hook, answer, took = verdict["hook"], verdict["answer"], f"{verdict['milliseconds']:.1f} ms"
        some, none = _SAID.get(hook, ("answered " + hook + ": {}", "had no answer to " + hook))
        if verdict["error"]:
            so = "so the call was refused" if hook in FAILS_CLOSED else "so it had no say"
            yield f"{verdict['plugin']} failed at {hook}, {so}: {verdict['error']} ({took})"
        elif answer.startswith("refused ("):
            rule, _, reason = answer.removeprefix("refused (").partition("): ")
            yield f"{verdict['plugin']} refused the call: {reason} (rule {rule}, {took})"
        else:
            yield f"{verdict['plugin']} {some.format(answer) if answer else none} ({took})"


def _deliveries(jobs: Iterable[Mapping[str, Any]]) -> Iterator[str]:
    for job in jobs:
        if job["kind"] == "deliver":
            yield f"{job['plugin']} {_delivery(job)}"


def _delivery(job: Mapping[str, Any]) -> str:
    what, result, tries = job["hook"], job["result"], _times(job["attempts"])
    if job["status"] == "done":
        again = f", after {tries}" if job["attempts"] > 1 else ""
        return f"was {result} at {moment(job['done_at'])}{again}"
    if job["status"] == "dead":
        return f"was never told {what}, given up after {tries}: {result} (dialer deliveries replay {job['id']})"
    if job["status"] == "waiting":
        return f"is to be told {what} once it is on again, until {moment(job['run_at'])}: {result}"
    if job["status"] == "doing":
        return f"is being told {what}"
    if not result:
        return f"is to be told {what}"
    return f"is to be told {what} again at {moment(job['run_at'])}, after {tries}: {result}"


def _times(attempts: int) -> str:
    return "no try" if not attempts else "1 try" if attempts == 1 else f"{attempts} tries"
