"""What follows when nobody answers: the usual sentence, one of a plugin's, another number, or time for the agent."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

import pytest

from dialer import Call, Refusal, Unanswered, hookimpl
from dialer.calls import new_role
from dialer.hookspecs import answer_fault
from dialer.simulator import AgentPlan
from dialer.unanswered import MOST_TRIES

ANSWERS, BUSY, NEVER, UNREACHABLE, VOICEMAIL = (f"+1415555010{digit}" for digit in range(1, 6))


@dataclass(eq=False)
class Follows:
    """Answers with what the test says, and counts how often it was asked."""

    answers: dict[str, Unanswered]
    refused: str = ""
    asked: list[tuple[str, int]] = field(default_factory=list)

    @hookimpl
    def validate_call(self, call: Call) -> Refusal | None:
        return Refusal("Not that one.") if call.to == self.refused else None

    @hookimpl
    def handle_unanswered(self, call: Call) -> Unanswered | None:
        self.asked.append((call.to, call.tries))
        return self.answers.get(call.to)


def intents(talker: Any) -> list[tuple[str, bool]]:
    rows = sorted(talker.rows("intents_of_call"), key=lambda row: row["created_at"])
    return [(row["state"], bool(row["call_sid"])) for row in rows]


def test_the_next_number_is_dialled_once_and_the_call_is_what_became_of_it(make_stage: Any) -> None:
    follows = Follows({BUSY: Unanswered(try_number=ANSWERS, ring_seconds=17)})
    stage = make_stage(plugins=(follows,))
    talker = stage.agent_dials(BUSY, plan=AgentPlan(hang_up_after_bridged=6))
    stage.ends()
    call = talker.call
    assert [leg.to for leg in stage.dialled()] == [BUSY, ANSWERS]
    assert (call.status, call.to, call.ended_by) == ("completed", ANSWERS, "agent")
    assert (call.ring_seconds, call.tries) == (17, 1)
    assert [leg.role for leg in call.legs] == ["agent", "tried", "customer"]
    assert (talker.heard, follows.asked) == ([], [(BUSY, 0)])
    assert intents(talker) == [("done", True), ("accepted", True)]
    assert "unanswered-try" in talker.events()


def test_a_sentence_of_the_plugins_own_is_spoken(make_stage: Any) -> None:
    stage = make_stage(plugins=(Follows({BUSY: Unanswered("Busy. Try after lunch.")}),))
    talker = stage.agent_dials(BUSY)
    stage.ends()
    assert (talker.call.status, talker.heard) == ("busy", ["Busy. Try after lunch."])
    assert [row["hook"] for row in talker.rows("verdicts_of_call")][-1] == "handle_unanswered"


def test_without_an_answer_the_usual_sentence_is_spoken(make_stage: Any) -> None:
    follows = Follows({})
    stage = make_stage(plugins=(follows,))
    talker = stage.agent_dials(UNREACHABLE)
    stage.ends()
    assert (talker.call.status, talker.heard) == ("failed", ["The number could not be reached."])
    assert follows.asked == [(UNREACHABLE, 0)]


def test_the_agent_may_be_given_time(make_stage: Any) -> None:
    stage = make_stage(plugins=(Follows({BUSY: Unanswered(stay_seconds=30)}),))
    talker = stage.agent_dials(BUSY)
    stage.lasts(20)
    assert (talker.call.status, talker.leg.end_time) == ("busy", None)
    stage.world.settle()
    assert talker.heard == ["The number is busy."]


def test_the_next_number_is_checked_like_the_first(make_stage: Any) -> None:
    stage = make_stage(plugins=(Follows({BUSY: Unanswered(try_number=NEVER)}, refused=NEVER),))
    talker = stage.agent_dials(BUSY)
    stage.ends()
    assert (talker.call.status, talker.heard, len(stage.dialled())) == ("busy", ["Not that one."], 1)


def test_numbers_are_not_tried_for_ever(make_stage: Any) -> None:
    stage = make_stage(plugins=(Follows({BUSY: Unanswered(try_number=BUSY)}),))
    talker = stage.agent_dials(BUSY)
    stage.ends()
    assert len(stage.dialled()) == MOST_TRIES + 1
    assert talker.heard == [f"Nobody answered, at {MOST_TRIES + 1} numbers."]


def test_an_agent_who_leaves_ends_the_trying(make_stage: Any) -> None:
    follows = Follows({NEVER: Unanswered(try_number=ANSWERS)})
    stage = make_stage(plugins=(follows,))
    talker = stage.agent_dials(NEVER)
    talker.hangs_up()
    stage.ends()
    assert (talker.call.status, len(stage.dialled()), follows.asked) == ("canceled", 1, [])


class Broken:
    """Fails when asked."""

    @hookimpl
    def handle_unanswered(self, call: Call) -> Unanswered | None:
        raise RuntimeError("no idea")


def test_a_plugin_that_fails_leaves_the_usual_sentence(make_stage: Any) -> None:
    stage = make_stage(plugins=(Broken(),))
    talker = stage.agent_dials(BUSY)
    stage.ends()
    assert talker.heard == ["The number is busy."]


@pytest.mark.parametrize("seed", range(4))
def test_every_promise_holds_under_faults(make_stage: Any, seed: int) -> None:
    faults = dict.fromkeys(("webhook_lost", "webhook_late", "webhook_repeated", "webhook_reordered"), 0.1)
    follows = Follows({BUSY: Unanswered(try_number=NEVER, ring_seconds=5), NEVER: Unanswered(try_number=ANSWERS)})
    stage = make_stage(plugins=(follows,), faults=faults, seed=seed)
    for _ in range(15):
        stage.agent_dials(BUSY, plan=AgentPlan(hang_up_after_bridged=4))
    stage.ends()
    made = [leg.to for leg in stage.dialled()]
    assert made.count(BUSY) <= 15
    assert made.count(ANSWERS) <= made.count(BUSY)
    assert ANSWERS in made


@pytest.mark.parametrize(
    ("answer", "fault"),
    [
        (Unanswered(), ""),
        (Unanswered("Busy.", stay_seconds=600), ""),
        (Unanswered(try_number=ANSWERS, ring_seconds=5), ""),
        ("Busy.", "is not an Unanswered"),
        (Unanswered(3), "needs texts"),  # type: ignore[arg-type]
        (Unanswered(stay_seconds=601), "is not 0 to 600"),
        (Unanswered("x" * 1001), "more than 1000"),
        (Unanswered("Busy.", try_number=ANSWERS), "can have no sentence"),
        (Unanswered(try_number="0101"), "is not a number in E.164"),
        (Unanswered(try_number=ANSWERS, ring_seconds=4), "is not 5 to 600"),
    ],
)
def test_an_answer_is_one_thing_or_the_other(answer: object, fault: str) -> None:
    found = answer_fault("handle_unanswered", answer)
    assert fault in found if fault else found == ""


def test_a_leg_of_a_number_that_was_given_up_is_a_stray(make_stage: Any) -> None:
    stage = make_stage(plugins=(Follows({BUSY: Unanswered(try_number=NEVER)}),))
    talker = stage.agent_dials(BUSY)
    stage.lasts(5)
    old = next(row["id"] for row in talker.rows("intents_of_call") if row["state"] == "done")
    assert new_role(talker.call, old) == "stray"
    assert new_role(talker.call, talker.call.intent) == "stray"  # it has its leg already
    talker.hangs_up()
    stage.ends()


@dataclass(eq=False)
class RecordsBusyOnly:
    """Records the first number, and not the next."""

    @hookimpl
    def dial_options(self, call: Call) -> dict[str, str]:
        return {"record": "true"} if call.to == BUSY else {"call_reason": "second try"}


def test_the_next_number_has_options_of_its_own(make_stage: Any) -> None:
    stage = make_stage(plugins=(Follows({BUSY: Unanswered(try_number=ANSWERS)}), RecordsBusyOnly()))
    talker = stage.agent_dials(BUSY, plan=AgentPlan(hang_up_after_bridged=6))
    stage.ends()
    assert (talker.call.options, stage.world.network.recordings) == ({"call_reason": "second try"}, {})


def test_the_next_number_does_not_wait_for_a_slow_answer_to_the_first_dial(make_stage: Any) -> None:
    stage = make_stage(plugins=(Follows({BUSY: Unanswered(try_number=ANSWERS)}),), rest_seconds=3.0)
    talker = stage.agent_dials(BUSY)
    stage.lasts(3.5)
    assert talker.call.to == ANSWERS
    sent = [row["sent_at"] for row in talker.rows("intents_of_call")]
    assert None not in sent
    talker.hangs_up()
    stage.ends()
