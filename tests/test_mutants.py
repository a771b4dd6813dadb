"""Wrong variants of the protocol, each caught by the checker: one that nobody notices would be a hole in the net."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from dialer import calls, dialling, machine, reconcile, voice, webhook
from dialer.calls import LEG_RANK, Call, Effect, Leg, dial_due
from dialer.jobs import Worker
from dialer.records import find_call
from dialer.service import Service
from dialer.simulation import plans, play_plan
from dialer.simulator.chaos import ALL_FAULTS
from dialer.store.statements import STATEMENTS
from dialer.webhook import Answer

#: Histories in which a mutant must have been caught.
BOUND = 1000

Patch = pytest.MonkeyPatch


def retries_on_time_out(patch: Patch) -> None:
    """A request without an answer is simply repeated."""
    send = dialling.send

    def twice(*args: Any) -> dialling.Outcome:
        outcome = send(*args)
        return send(*args) if outcome.state == "unknown" else outcome

    patch.setattr(dialling, "send", twice)


def has_no_intent_row(patch: Patch) -> None:
    """The customer is dialled first, and what came of it written down afterwards."""

    def claim(dialer: Service, call_id: str, workspace: str) -> dialling.Claim:
        with dialer.store.read() as tx:
            call = find_call(tx, "call", call_id=call_id, workspace=workspace)
        if call is None or not dial_due(call):
            return dialling.Claim(word="no longer owed")
        return dialling.Claim(call, 1, at=dialer.steady())

    patch.setattr(dialling, "claim", claim)


def redials_early(patch: Patch) -> None:
    """A dial that nobody saw for three seconds is sent once more."""
    dial_fact = reconcile._dial_fact

    def plan_anew(tx: Any, call: Call, intent: Any, state: str, *rest: Any) -> Call:
        return dial_fact(tx, call, intent, "planned" if state == "absent" else state, *rest)

    patch.setattr(reconcile, "ABSENT_AFTER", 3.0)
    patch.setattr(reconcile, "LOOKS", 1)
    patch.setattr(reconcile, "_dial_fact", plan_anew)
    patch.setitem(machine.DIAL_NEXT, "unknown", {"accepted", "absent", "planned"})


def has_no_rank_guard(patch: Patch) -> None:
    """Whatever comes last counts."""
    patch.setattr(machine, "_higher", lambda old, new: new if new in LEG_RANK else old)


def never_sweeps(patch: Patch) -> None:
    """A callback that is lost is lost."""
    patch.setattr(Worker, "sweep", lambda self, limit=100: 0)


def signs_off_before_the_commit(patch: Patch) -> None:
    """Twilio is told that all is well, whether the commit comes to pass or not."""
    answer = webhook.answer

    def hopeful(*args: Any) -> Answer:
        given = answer(*args)
        return Answer(204) if given.status == 500 else given

    patch.setattr(webhook, "answer", hopeful)


def misses_that_the_agent_is_gone(patch: Patch) -> None:
    """Nobody looks whether the agent is still there."""
    for module in (calls, machine, voice):
        patch.setattr(module, "agent_gone", lambda call: False)


def never_cancels(patch: Patch) -> None:
    """An agent who leaves leaves the customer's leg as it is."""

    def only_strays(call: Call, leg: Leg) -> bool:
        return bool(call.end_requested_by) or leg.role == "stray"

    patch.setattr(machine, "_must_end", only_strays)


def leaves_the_agent(patch: Patch) -> None:
    """A customer who is gone is nothing that the agent's leg is told of."""
    patch.setattr(machine, "_part_with_agent", lambda call, agent: Effect("nothing"))


def gives_up_at_once(patch: Patch) -> None:
    """A dial without an answer is taken for one that made nothing."""
    patch.setattr(dialling, "outcome_of", lambda error: dialling.Outcome("rejected", rule="x", reason="x"))


def waits_out_the_leases_of_the_dead(patch: Patch) -> None:
    """What a dispatcher had taken when it died is left alone for a minute."""
    patch.setitem(STATEMENTS, "wake_jobs", "UPDATE jobs SET run_at = :now WHERE :latest < 0")


def forgets_to_tell(patch: Patch) -> None:
    """A plugin is not told what a process that died had begun to tell it."""
    patch.setitem(STATEMENTS, "wake_jobs", "UPDATE jobs SET status = 'done' WHERE status = 'doing' AND :now < :latest")


@dataclass(frozen=True)
class Mutant:
    mutate: Callable[[Patch], None]
    breaks: str


#: Those that the list of promises names.
NAMED = [
    Mutant(retries_on_time_out, "dialled at most once"),
    Mutant(has_no_intent_row, "dialled at most once"),
    Mutant(redials_early, "dialled at most once"),
    Mutant(has_no_rank_guard, "no way back"),
    Mutant(never_sweeps, "every call ends"),
    Mutant(signs_off_before_the_commit, "events stored once"),
    Mutant(misses_that_the_agent_is_gone, "nobody alone"),
    Mutant(never_cancels, "nobody alone"),
]
MORE = [
    Mutant(leaves_the_agent, "nobody alone"),
    Mutant(gives_up_at_once, "recorded as it was"),
    Mutant(waits_out_the_leases_of_the_dead, "nobody alone"),
    Mutant(forgets_to_tell, "plugins told"),
]


def caught_by(mutant: Mutant) -> str:
    """Which world caught it, and after how many calls; empty when none did."""
    with pytest.MonkeyPatch.context() as patch:
        mutant.mutate(patch)
        played = 0
        for plan in plans(BOUND, 1, ALL_FAULTS):
            played += plan.calls
            if play_plan(plan).breaches[mutant.breaks]:
                return f"{mutant.mutate.__name__} (world {plan.world} of seed 1, {played} calls)"
    return ""


@pytest.mark.timeout(600)
def test_each_mutant_is_caught(record_property: Callable[[str, object], None]) -> None:
    caught = {mutant.mutate.__name__: caught_by(mutant) for mutant in NAMED}
    found = [how for how in caught.values() if how]
    record_property("figure", f"mutants caught: {len(found)} of {len(NAMED)}: {', '.join(found)}")
    assert [name for name, how in caught.items() if not how] == []


@pytest.mark.timeout(300)
@pytest.mark.parametrize("mutant", MORE, ids=lambda mutant: str(mutant.mutate.__name__))
def test_further_mutants_are_caught(mutant: Mutant) -> None:
    assert caught_by(mutant)


def test_without_a_mutation_nothing_is_caught() -> None:
    for plan in plans(80, 1, ALL_FAULTS):
        assert not any(play_plan(plan).breaches.values())
