"""Work owed to the outside, done after the commit that caused it: at least once, and dialling at most once.

A job is a row. Claiming it moves its `run_at` one lease into the future, so that the work of a process that dies is due
again by itself. Each handler looks at the call as it is now and does nothing that is no longer owed.
"""

from __future__ import annotations

import logging
import time
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from random import Random

from dialer import deliveries, twiml
from dialer.calls import Call, Effect, Event, agent_present
from dialer.clock import KeptClock
from dialer.controls import perform, waits
from dialer.crash import crash_point
from dialer.deliveries import deliver
from dialer.dialling import Unsettled, dial, finish
from dialer.logs import log_line
from dialer.machine import owed
from dialer.reconcile import abandon_dials, reconcile
from dialer.records import Fact, add_job, find_call, postpone, record, record_truth, told_event
from dialer.service import Service
from dialer.store import Row, StoreError, Tx
from dialer.twilio import Carrier, LegTruth
from dialer.unanswered import handle_unanswered

log = logging.getLogger("dialer.jobs")

#: Seconds that a claimed job is left alone: longer than the slowest handler's time-outs together.
LEASE = 60.0
#: Seconds between tries of a job of our own, the last for as long as it is owed: somebody may be alone meanwhile.
CORE_RETRIES = (0.5, 1.0, 1.0, 1.0, 2.0, 2.0, 4.0, 8.0, 15.0)


@dataclass(frozen=True, slots=True)
class Result:
    """What a handler came to: a word, and the seconds until the job must run again (0: it is done).

    `untried` is the status of a job that was put off before it was begun: that is no attempt.
    """

    word: str
    again: float = 0.0
    untried: str = ""


#: A delivery that was begun so often and never came to an end: its plugin hangs, or takes the process down with it.
MOST_ATTEMPTS = len(deliveries.RETRIES) + 1
GIVEN_UP = Result("given up: begun again and again, and never finished", again=-1.0)


@dataclass(slots=True)
class Worker:
    """Runs jobs. `carriers` gives the Carrier of an account; `random` jitters the retries.

    `unsaved` and `unsettled`: outcomes of jobs, and of dials by their job, that the store did not take yet.
    """

    dialer: Service
    carriers: Callable[[str], Carrier]
    random: Random
    kept: KeptClock = field(init=False)
    unsaved: deque[tuple[Row, Result]] = field(default_factory=deque)
    unsettled: dict[int, Unsettled] = field(default_factory=dict)
    awake_since: float = 0.0

    def __post_init__(self) -> None:
        self.kept = KeptClock(self.dialer)
        self.dialer = replace(self.dialer, clock=self.kept.now)

    def mind_clock(self) -> float:
        """Follow the machine's clock if it was set; gives the seconds of that step, mostly 0. Call it at every turn."""
        return self.kept.mind()

    def wake(self) -> None:
        """Begin where an earlier process stopped: look at every open call, take what it had taken, and wait for nothing
        that it may have put off by a clock that was wrong. Only one dispatcher works on a store at a time."""
        self.mind_clock()
        plugins = self.dialer.plugins.current()
        with self.dialer.store.write() as tx:
            now = self.awake_since = self.dialer.clock()
            abandon_dials(tx, now, plugins)
            tx.run("wake_open_calls", now=now)
            tx.run("wake_jobs", now=now, latest=now + LEASE)

    def sweep(self, limit: int = 100) -> int:
        """Queue a look at Twilio for every call that stayed in one state past its deadline; gives their number."""
        self.save_outcomes()
        deliveries.wake(self.dialer)
        with self.dialer.store.read() as tx:
            if not tx.all("overdue_calls", now=self.dialer.clock(), limit=1):
                return 0
        with self.dialer.store.write() as tx:
            now = self.dialer.clock()
            rows = tx.all("overdue_calls", now=now, limit=limit)
            for row in rows:
                queue_look(tx, row["id"], row["workspace"], now)
        return len(rows)

    def due(self) -> list[str]:
        """Whose jobs are due: the plugins', and "" for our own."""
        with self.dialer.store.read() as tx:
            return sorted(row["plugin"] for row in tx.all("due_plugins", now=self.dialer.clock()))

    def claim(self, plugin: str, limit: int) -> list[Row]:
        """Take due jobs of one plugin, or our own: whatever must end first, looks at Twilio last."""
        with self.dialer.store.write() as tx:
            now = self.dialer.clock()
            lease = now + (deliveries.LEASE if plugin else LEASE)
            taken = tx.all("due_jobs", now=now, lease=lease, plugin=plugin, limit=limit)
        return sorted(taken, key=lambda job: (job["kind"] == "reconcile", job["id"]))

    def watch(self) -> int:
        """Ask Twilio for all legs that live, at once, and have calls looked at whose leg is not among them.

        One request for up to a thousand calls, and two more while phones ring; it finds who was left alone when every
        callback of it was lost.
        """
        with self.dialer.store.read() as tx:
            ours = tx.all("living_legs")
        for account_sid in sorted({row["account_sid"] for row in ours}):
            of_account = [row for row in ours if row["account_sid"] == account_sid]
            ringing = any(row["status"] != "in-progress" for row in of_account)
            living = self.carriers(account_sid).living_legs(ringing=ringing)
            with self.dialer.store.write() as tx:
                now = self.dialer.clock()
                for row in of_account:
                    if row["call_sid"] not in living:
                        queue_look(tx, row["call_id"], row["workspace"], now)
        return len(ours)

    def run(self, job: Row) -> None:
        """Do one claimed job and write down what came of it; a failure is retried, and only a StoreError raised."""
        started = time.perf_counter()
        level = logging.INFO
        try:
            result = GIVEN_UP if job["attempts"] > MOST_ATTEMPTS and job["plugin"] else HANDLERS[job["kind"]](self, job)
        except Exception as error:  # of the network, Twilio or a plugin: the job stays owed
            result = Result(f"failed: {type(error).__name__}: {error}", self._retry(job))
            level = logging.WARNING
        crash_point("job.before_finish")
        try:
            self._finish(job, result)
        except StoreError:
            self.unsaved.append((job, result))
            raise
        notes = {
            "call": job["call_id"],
            "leg": job["call_sid"],
            "plugin": job["plugin"],
            "outcome": result.word,
        }
        if result.again > 0:
            notes["again_in"] = f"{result.again:.0f}s"
        log_line(log, level, f"job {job['kind']}", notes, time.perf_counter() - started)

    def save_outcomes(self) -> None:
        """Store what came of jobs while the store did not answer: else they would wait until their lease is over."""
        while self.unsaved:
            self._finish(*self.unsaved[0])
            self.unsaved.popleft()

    def _retry(self, job: Row) -> float:
        """Seconds until the next try."""
        return CORE_RETRIES[min(int(job["attempts"]), len(CORE_RETRIES)) - 1] * self.random.uniform(0.8, 1.2)

    def _finish(self, job: Row, result: Result) -> None:
        with self.dialer.store.write() as tx:
            now = self.dialer.clock()
            if result.untried:
                values = {"status": result.untried, "run_at": now + result.again, "result": result.word}
                tx.run("hold_job", job_id=job["id"], **values)
            elif result.again > 0:
                tx.run("retry_job", job_id=job["id"], run_at=now + result.again, result=result.word)
            else:
                status = "dead" if result.again < 0 else "done"
                tx.run("finish_job", job_id=job["id"], status=status, result=result.word, now=now)


def queue_look(tx: Tx, call_id: str, workspace: str, now: float) -> None:
    """Have Twilio asked about a call now, and again when its state has lasted so long once more."""
    call = find_call(tx, "call", call_id=call_id, workspace=workspace)
    if call:
        postpone(tx, call, now)
        add_job(tx, call, "reconcile", f"{call.id}:reconcile", now)


def run_dial(worker: Worker, job: Row) -> Result:
    """Dial the customer, once; where nobody has seen the agent, Twilio is asked for him first.

    So it is where nobody may have heard of his leaving: the job is of a time before this dispatcher woke.
    """
    if job["id"] in worker.unsettled:
        return settle_dial(worker, job, worker.unsettled.pop(job["id"]))
    call = still_owed(worker, job)
    if call is None:
        return Result("no longer owed")
    carrier = worker.carriers(call.account_sid)
    carrier.prepare()
    agent = call.leg("agent")
    if agent and (not agent_present(call) or job["created_at"] <= worker.awake_since):
        store_truth(worker, call, carrier.leg(agent.call_sid))
    try:
        return Result(*dial(worker.dialer, carrier, call.id, call.workspace))
    except Unsettled as late:
        worker.unsettled[job["id"]] = late
        raise


def settle_dial(worker: Worker, job: Row, late: Unsettled) -> Result:
    """Store what came of a dial at a time when the store did not answer."""
    try:
        return Result(*finish(worker.dialer, late.claimed, late.outcome))
    except Unsettled as later:
        worker.unsettled[job["id"]] = later
        raise


def store_truth(worker: Worker, call: Call, truth: LegTruth) -> None:
    """Record what Twilio said of one leg."""
    plugins = worker.dialer.plugins.current()
    with worker.dialer.store.write() as tx:
        current = find_call(tx, "call", call_id=call.id, workspace=call.workspace) or call
        record_truth(tx, current, truth, source="rest", now=worker.dialer.clock(), plugins=plugins)


def run_hang_up(worker: Worker, job: Row) -> Result:
    """End one leg: cancel it while it rings, hang up when it talks. Repeating that is safe."""
    call = still_owed(worker, job)
    leg = next((leg for leg in call.legs if leg.call_sid == job["call_sid"]), None) if call else None
    if call is None or leg is None:
        return Result("no longer owed")
    crash_point("hangup.before")
    truth = worker.carriers(call.account_sid).end_leg(leg.call_sid, answered=leg.status == "in-progress")
    crash_point("hangup.after_post")
    store_truth(worker, call, truth)
    return Result(truth.status)


def run_announce(worker: Worker, job: Row) -> Result:
    """Tell the agent why there is no customer. His leg leaves the conference for it, and ends after the sentence."""
    call = still_owed(worker, job)
    if call is None:
        return Result("no longer owed")
    text = call.reason or UNANSWERED_SENTENCES.get(call.status, "The call has ended.")
    spoken = twiml.sentence(text, worker.dialer.settings.calls.language)
    if worker.carriers(call.account_sid).say_and_end(job["call_sid"], spoken):
        return Result("announced")
    return Result("the agent's leg takes no news yet, or has ended", again=1.0)


def run_end_conference(worker: Worker, job: Row) -> Result:
    """The customer left, and his exit should have ended the conference: make sure that the agent is not left in it."""
    call = still_owed(worker, job)
    if call is None:
        return Result("no longer owed")
    ended = worker.carriers(call.account_sid).end_conference(call.conference_sid, call.conference)
    return Result("ended" if ended else "had ended")


def run_follow_up(worker: Worker, job: Row) -> Result:
    """Nobody answered: have the plugins say what follows."""
    call = still_owed(worker, job)
    return Result(handle_unanswered(worker.dialer, call) if call else "no longer owed")


def run_leave_message(worker: Worker, job: Row) -> Result:
    """A machine answered: take its leg out of the conference to hear the message. Its leaving lets the agent go."""
    from dialer.transport import TWILIO_ERRORS

    call = still_owed(worker, job)
    if call is None:
        return Result("no longer owed")
    name, reason = "message-left", ""
    try:
        if not worker.carriers(call.account_sid).say_and_end(job["call_sid"], call.message):
            return Result("the leg takes no news yet, or has ended", again=1.0)
    except TWILIO_ERRORS as error:
        if error.status >= 500 or error.status in (401, 403, 429):
            raise
        name, reason = "message-failed", f"Twilio refused ({error.code or error.status})"
    plugins = worker.dialer.plugins.current()
    with worker.dialer.store.write() as tx:
        current, now = find_call(tx, "call", call_id=call.id, workspace=call.workspace) or call, worker.dialer.clock()
        event = Event("message-failed" if reason else "leave", now, "customer", job["call_sid"])
        fact = Fact(f"message:{job['call_sid']}", name, "job", event, {"reason": reason} if reason else {})
        record(tx, current, fact, now=now, plugins=plugins)
    return Result(f"{name} {reason}".strip())


def run_control(worker: Worker, job: Row) -> Result:
    """Do what somebody asked of a running call."""
    with worker.dialer.store.read() as tx:
        call = find_call(tx, "call", call_id=job["call_id"], workspace=job["workspace"])
        event = tx.one("event", event_id=job["event_id"], workspace=job["workspace"])
    if call is None or event is None:
        return Result("no such call")
    if waits(worker.dialer, job):
        return Result("an earlier control is under way", again=0.3)
    detail = told_event(event).detail
    return Result(perform(worker.dialer, worker.carriers(call.account_sid), call, event, detail))


def run_reconcile(worker: Worker, job: Row) -> Result:
    return Result(reconcile(worker.dialer, worker.carriers, job["call_id"], job["workspace"]))


def run_delivery(worker: Worker, job: Row) -> Result:
    """Tell one plugin of one event; it may raise, and is then told again later."""
    done = deliver(worker.dialer, job, worker.random)
    return Result(done.word, done.again, done.untried)


def still_owed(worker: Worker, job: Row) -> Call | None:
    """The call, if its present state still owes this job's effect."""
    with worker.dialer.store.read() as tx:
        call = find_call(tx, "call", call_id=job["call_id"], workspace=job["workspace"])
    effect = Effect(job["kind"], job["call_sid"]).key
    return call if call and any(due.key == effect for due in owed(call)) else None


HANDLERS: Mapping[str, Callable[[Worker, Row], Result]] = {
    "dial": run_dial,
    "hang_up": run_hang_up,
    "follow_up": run_follow_up,
    "control": run_control,
    "leave_message": run_leave_message,
    "announce": run_announce,
    "end_conference": run_end_conference,
    "reconcile": run_reconcile,
    "deliver": run_delivery,
}

#: What the agent hears when nobody came to the phone.
UNANSWERED_SENTENCES = {
    "busy": "The number is busy.",
    "no-answer": "Nobody answered.",
    "failed": "The number could not be reached.",
    "canceled": "The call was cancelled.",
}
