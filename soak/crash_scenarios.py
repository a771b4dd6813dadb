"""The crash scenarios by their row in the table of crash and fault points: who dies or stands still, and what then.

Those of which the row says no more than that a process dies are a line each of KILLS.
"""

from __future__ import annotations

import re
import signal
from collections import Counter
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

from soak.crash_case import (
    PATIENCE,
    Case,
    agent_hangs_up,
    agents,
    counts,
    customers,
    first_answer,
    happened,
    second_instance,
    send_again,
)
from soak.installation import AGENTS
from soak.processes import wait_until
from soak.stack import Stack, What
from soak.truth import calls, events, told

ANSWERS, NEVER_ANSWERS = "+14155550101", "+14155550103"
#: A failed callback would be repeated only when Twilio's 15 s for it are over: it is not.
NO_RETRIES = {"retry_delay": 20.0}
#: Seconds until the dispatcher is started again, as `dialer run` does it.
RESTART = 0.2

Scenario = Callable[[Case], None]


# Rows in which a process dies


@dataclass(frozen=True)
class Kill:
    """A process dies at a point of an ordinary call. `most`: up to which passing, when that is drawn.

    `or_not_placed`: it may be that another thread has claimed the dial then, and not sent it yet: nobody will.
    """

    what: What
    point: str
    passing: int = 1
    most: int = 1
    to: str = ANSWERS
    status: str = "completed"
    legs: int = 1
    rule: str = ""
    or_not_placed: bool = False
    settings: Mapping[str, Any] = field(default_factory=dict)
    call: Mapping[str, Any] = field(default_factory=dict)
    at_death: Callable[[Stack], None] | None = None

    def __call__(self, case: Case) -> None:
        passing = case.draw(self.passing, self.most)
        with case.stack(crash_at={self.what: f"{self.point}:{passing}"}, **self.settings) as stack:
            stack.place_call(self.to, **self.call)
            case.await_death(stack, self.what, self.point)
            with case.down():
                if self.at_death:
                    self.at_death(stack)
                case.pause(RESTART, 3.0)
                stack.restart_dead()
                stack.wait_ready(self.what)
            stack.wait_settled(PATIENCE)
            if self.or_not_placed and not customers(stack):
                case.expect_call(stack, "failed", 0, rule="not-placed")
            else:
                case.expect_call(stack, self.status, self.legs, rule=self.rule)


def lose_callbacks(stack: Stack) -> None:
    """From now on no event is told by the network, only asked for."""
    stack.set_faults(webhook_lost=1.0)


KILLS: dict[str, Kill] = {
    "1 twiml.before_commit": Kill("web", "twiml.before_commit"),
    "2 twiml.after_commit": Kill("web", "twiml.after_commit"),
    "5 event.before_commit, not repeated": Kill("web", "event.before_commit", settings={"knobs": NO_RETRIES}),
    "7 dial.before_claim": Kill("dispatcher", "dial.before_claim"),
    "8 dial.after_claim": Kill(
        "dispatcher", "dial.after_claim", status="failed", legs=0, rule="not-placed",
    ),
    "9 rest.in_flight": Kill("dispatcher", "rest.in_flight"),
    "9 rest.in_flight, callbacks lost": Kill(
        "dispatcher", "rest.in_flight", to=NEVER_ANSWERS, status="no-answer", at_death=lose_callbacks,
        settings={"knobs": {"creation_delay": 1.0}, "toml": "[calls]\nring_seconds = 18\n"},
    ),
    "10 dial.after_post": Kill("dispatcher", "dial.after_post"),
    "11 dial.after_record": Kill("dispatcher", "dial.after_record"),
    "24 rest.in_flight, the agent leaves": Kill(
        "dispatcher", "rest.in_flight", to=NEVER_ANSWERS, status="canceled", at_death=agent_hangs_up,
    ),
    "26 hangup.before": Kill(
        "dispatcher", "hangup.before", to=NEVER_ANSWERS, status="canceled", call={"hang_up_after": 2.0},
    ),
    "26 hangup.after_post": Kill(
        "dispatcher", "hangup.after_post", to=NEVER_ANSWERS, status="canceled", call={"hang_up_after": 2.0},
    ),
    "33 event.before_commit": Kill("web", "event.before_commit", passing=4, most=10),
    "33 event.after_commit": Kill("web", "event.after_commit", passing=4, most=10),
    "33 store.before_commit": Kill("web", "store.before_commit", passing=3, most=7),
    "33 store.after_commit": Kill("web", "store.after_commit", passing=3, most=7),
    "33 store.before_commit, dispatcher": Kill(
        "dispatcher", "store.before_commit", passing=3, most=16, or_not_placed=True,
    ),
    "33 store.after_commit, dispatcher": Kill(
        "dispatcher", "store.after_commit", passing=3, most=16, or_not_placed=True,
    ),
    "35 job.before_finish": Kill("dispatcher", "job.before_finish", passing=4, most=16, or_not_placed=True),
    "36 job.after_plugin": Kill("dispatcher", "job.after_plugin", passing=2, most=12, or_not_placed=True),
}  # fmt: skip


# Rows in which nobody dies, or more happens than a death


def same_request_at_once(case: Case) -> None:
    """Row 3: the agent's TwiML is asked for nine times in one moment: one call, and equal bytes."""
    with case.stack(workers=2) as stack:
        stack.kill("web", signal.SIGSTOP)
        stack.place_call(ANSWERS)
        wait_until(lambda: bool(stack.webhooks()), PATIENCE)
        answers = send_again(stack, stack.webhooks()[0], 8, then=lambda: stack.kill("web", signal.SIGCONT))
        case.expect({status for status, _ in answers} == {200}, f"answered with {Counter(s for s, _ in answers)}")
        stack.wait_settled(PATIENCE)
        bodies = {body for _, body in answers} | {first_answer(stack)}
        case.expect(len(bodies) == 1, f"{len(bodies)} different answers to one request")
        case.expect_call(stack, "completed")


def every_callback_twice(case: Case) -> None:
    """Row 6: all callbacks come twice, and at the end a dozen times at once: nothing is stored or owed twice."""
    with case.stack(workers=2, knobs={"duplicate_callbacks": 1.0}) as stack:
        stack.place_call(ANSWERS)
        stack.wait_settled(PATIENCE)
        wait_until(stack.idle, PATIENCE)
        before = counts(stack)
        for sent in stack.webhooks():
            answers = send_again(stack, sent, 12)
            case.expect({status for status, _ in answers} <= {200, 204}, f"answered with {answers}")
        case.expect(counts(stack) == before, f"rows before {before}, after {counts(stack)}")
        case.expect_call(stack, "completed")


def two_dispatchers(case: Case) -> None:
    """Row 12: a dispatcher stands still with a claimed dial, another one takes its jobs over, and both go on."""
    with case.stack(crash_at={"dispatcher": "dial.after_claim:1:STOP"}) as stack:
        stack.place_call(ANSWERS)
        case.await_point(stack, "dispatcher", "dial.after_claim")
        first = stack.processes["dispatcher"]
        with case.down():
            stack.start("dispatcher", second_instance(stack))
            claimed = wait_until(lambda: "job dial" in stack.log_of("dispatcher"), PATIENCE)
            case.expect(claimed, "the second dispatcher never got the job")
            case.pause(0.2, 2.0)
            first.send_signal(signal.SIGCONT)
        stack.wait_settled(PATIENCE)
        case.expect_call(stack, "completed")
        first.kill()
        first.wait()


def dispatcher_wakes_too_late(case: Case) -> None:
    """Row 12: as above, but the call counts as not placed when the first one wakes: it must not dial any more."""
    with case.stack(crash_at={"dispatcher": "dial.after_claim:1:STOP"}) as stack:
        stack.place_call(ANSWERS)
        case.await_point(stack, "dispatcher", "dial.after_claim")
        first = stack.processes["dispatcher"]
        stack.start("dispatcher", second_instance(stack))
        stack.wait_settled(PATIENCE)
        first.send_signal(signal.SIGCONT)
        case.pause(1.5, 3.0)
        case.expect_call(stack, "failed", legs=0, rule="not-placed")
        first.kill()
        first.wait()


def dispatcher_stands_still(case: Case) -> None:
    """Row 12: the only dispatcher stands still with a claimed dial: it does not send what has become old, but anew."""
    with case.stack(crash_at={"dispatcher": "dial.after_claim:1:STOP"}) as stack:
        stack.place_call(ANSWERS)
        case.await_point(stack, "dispatcher", "dial.after_claim")
        with case.down():
            case.pause(6.0, 14.0)
            stack.kill("dispatcher", signal.SIGCONT)
        stack.wait_settled(PATIENCE)
        case.expect_call(stack, "completed")


def agent_leaves_before_the_answer(case: Case) -> None:
    """Row 24: the agent hangs up between the dial request and its answer: what it made is ended before it rings."""
    with case.stack(crash_at={"dispatcher": "rest.in_flight:1:STOP"}, knobs={"creation_delay": 4.0}) as stack:
        stack.place_call(NEVER_ANSWERS)
        case.await_point(stack, "dispatcher", "rest.in_flight")
        with case.down():
            wait_until(lambda: bool(customers(stack)), PATIENCE)
            agent_hangs_up(stack)
            case.pause(0.5, 1.5)
            stack.kill("dispatcher", signal.SIGCONT)
        stack.wait_settled(PATIENCE)
        case.expect_call(stack, "canceled")
        case.expect(not happened(stack, "ring-start"), "the phone rang all the same")


def agent_leaves_while_queued(case: Case) -> None:
    """Row 25: the agent hangs up while the dial waits behind the account's calls per second: it never rings."""
    with case.stack(account={"cps": 0.1}) as stack:
        stack.place_call(ANSWERS)
        wait_until(lambda: len(customers(stack)) == 1, PATIENCE)
        stack.place_call(NEVER_ANSWERS, agent=AGENTS[1])
        wait_until(lambda: len(customers(stack)) == 2, PATIENCE)
        case.pause(0.5, 5.0)
        stack.control(f"calls/{agents(stack)[1]['sid']}/hangup", {})
        stack.wait_settled(PATIENCE)
        statuses = [call["status"] for call in calls(stack)]
        case.expect(statuses == ["completed", "canceled"], f"on record: {statuses}")
        second = customers(stack)[1]
        case.expect(second["status"] == "canceled", f"the queued leg ended as {second['status']}")
        case.expect(second["sid"] not in happened(stack, "ring-start"), "the phone rang all the same")


def hang_up_fails(case: Case) -> None:
    """Row 26: Twilio refuses and swallows what should end the leg, for a while: it is asked until the leg has ended."""
    with case.stack() as stack:
        stack.place_call(NEVER_ANSWERS)
        wait_until(lambda: bool(happened(stack, "ring-start")), PATIENCE)
        stack.set_faults(rest_500_undone=1.0)
        agent_hangs_up(stack)
        failed = wait_until(lambda: re.search("job hang_up.*failed", stack.log_of("dispatcher")) is not None, PATIENCE)
        case.expect(failed, "nothing failed")
        case.pause(1.5, 3.0)
        stack.set_faults(rest_500_undone=0.0)
        stack.wait_settled(PATIENCE)
        case.expect_call(stack, "canceled")


def customer_answers_too_late(case: Case) -> None:
    """Row 27: the customer answers when the agent has left and nobody could cancel yet: a word, and the end."""
    with case.stack() as stack:
        stack.place_call(NEVER_ANSWERS)
        wait_until(lambda: bool(happened(stack, "ring-start")), PATIENCE)
        stack.kill("dispatcher", signal.SIGSTOP)
        with case.down():
            agent_hangs_up(stack)
            wait_until(lambda: "event=leg-completed" in stack.log_of("web"), PATIENCE)
            case.pause(0.2, 1.0)
            customer = customers(stack)[0]["sid"]
            stack.control(f"calls/{customer}/pick-up", {})
            ended = wait_until(lambda: customers(stack)[0]["endedAt"] is not None, PATIENCE)
            stack.kill("dispatcher", signal.SIGCONT)
        case.expect(ended and customers(stack)[0]["endedBy"] == "program", "the customer was held until somebody came")
        case.expect(customer in happened(stack, "said"), "nothing was said to the customer")
        case.expect(customer not in happened(stack, "conference-enter"), "the customer was put into a conference")


def recording_callbacks_in_disorder(case: Case) -> None:
    """Row 34: the callbacks of a recording come twice and out of order, before and after the call's end."""
    toml = "[plugins.recorder]\nrecord = true\n"
    with case.stack(toml=toml, knobs={"duplicate_callbacks": 1.0}, faults={"webhook_reordered": 1.0}) as stack:
        stack.place_call(ANSWERS)
        stack.wait_settled(PATIENCE)
        wait_until(stack.idle, PATIENCE)
        names = Counter(event["name"] for event in events(stack))
        case.expect(names["recording-completed"] == 1, f"recordings on record: {names['recording-completed']}")
        heard = Counter(line["hook"] for line in told(stack))
        case.expect(heard["recording_ready"] == 1, f"the plugin was told of {heard['recording_ready']} recordings")
        case.expect_call(stack, "completed")


SCENARIOS: dict[str, Scenario] = {
    **KILLS,
    "3 the same request at once": same_request_at_once,
    "6 every callback twice": every_callback_twice,
    "12 two dispatchers": two_dispatchers,
    "12 a dispatcher stands still": dispatcher_stands_still,
    "12 a dispatcher wakes too late": dispatcher_wakes_too_late,
    "24 the agent leaves before the answer": agent_leaves_before_the_answer,
    "25 the agent leaves while queued": agent_leaves_while_queued,
    "26 hanging up fails": hang_up_fails,
    "27 the customer answers too late": customer_answers_too_late,
    "34 recordings in disorder": recording_callbacks_in_disorder,
}
#: Those that wait for Dialer's 35 s come first, so that the others go by meanwhile.
SLOWEST = ("8 dial.after_claim", "12 a dispatcher wakes too late", "9 rest.in_flight, callbacks lost")
