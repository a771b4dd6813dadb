"""Work owed to the outside, done after the commit that caused it: at least once, and dialling at most once.

A job is a row. Claiming it moves its `run_at` one lease into the future, so that the work of a process that dies is due
again by itself. Each handler looks at the call as it is now and does nothing that is no longer owed.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from random import Random

from dialer import twiml
from dialer.calls import Call, Effect, agent_present
from dialer.crash import crash_point
from dialer.dialling import dial
from dialer.errors import PluginError
from dialer.logs import log_line
from dialer.machine import owed
from dialer.reconcile import reconcile
from dialer.records import add_job, find_call, postpone, record_truth, told_event
from dialer.service import Service
from dialer.store import Row
from dialer.twilio import Carrier, LegTruth

log = logging.getLogger("dialer.jobs")

#: Seconds that a claimed job is left alone: longer than the slowest handler's time-outs together.
LEASE = 60.0
#: Seconds between tries of a delivery, after Svix's schedule; then it is dead until somebody replays it.
DELIVERY_RETRIES = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 36000.0)
#: Seconds between tries of a job of our own, the last for as long as it is owed: somebody may be alone meanwhile.
CORE_RETRIES = (0.5, 1.0, 1.0, 1.0, 2.0, 2.0, 4.0, 8.0, 15.0)


@dataclass(frozen=True, slots=True)
class Result:
    """What a handler came to: a word, and the seconds until the job must run again (0: it is done)."""

    word: str
    again: float = 0.0


#: A delivery that was begun so often and never came to an end: its plugin hangs, or takes the process down with it.
MOST_ATTEMPTS = len(DELIVERY_RETRIES) + 1
GIVEN_UP = Result("given up: begun again and again, and never finished", again=-1.0)


@dataclass(slots=True)
class Worker:
    """Runs jobs. `carriers` gives the Carrier of an account; `random` jitters the retries."""

    dialer: Service
    carriers: Callable[[str], Carrier]
    random: Random

    def sweep(self, limit: int = 100) -> int:
        """Queue a look at Twilio for every call that stayed in one state past its deadline; gives their number."""
        now = self.dialer.clock()
        with self.dialer.store.read() as tx:
            if not tx.all("overdue_calls", now=now, limit=1):
                return 0
        with self.dialer.store.write() as tx:
            rows = tx.all("overdue_calls", now=now, limit=limit)
            for row in rows:
                call = find_call(tx, "call", call_id=row["id"], workspace=row["workspace"])
                if call:
                    postpone(tx, call, now)
                    add_job(tx, call, "reconcile", f"{call.id}:reconcile", now)
        return len(rows)

    def due(self) -> list[str]:
        """Whose jobs are due: the plugins', and "" for our own."""
        with self.dialer.store.read() as tx:
            return sorted(row["plugin"] for row in tx.all("due_plugins", now=self.dialer.clock()))

    def claim(self, plugin: str, limit: int) -> list[Row]:
        """Take due jobs of one plugin, or our own: whatever must end first, looks at Twilio last."""
        now = self.dialer.clock()
        with self.dialer.store.write() as tx:
            taken = tx.all("due_jobs", now=now, lease=now + LEASE, plugin=plugin, limit=limit)
        return sorted(taken, key=lambda job: (job["kind"] == "reconcile", job["id"]))

    def watch(self) -> int:
        """Ask Twilio for all legs that talk, at once, and have calls looked at whose leg is not among them.

        One request for up to a thousand calls; it finds who was left alone when every callback of it was lost.
        """
        with self.dialer.store.read() as tx:
            ours = tx.all("talking_legs")
        for account_sid in {row["account_sid"] for row in ours}:
            talking = self.carriers(account_sid).talking_legs()
            missing = [row for row in ours if row["account_sid"] == account_sid and row["call_sid"] not in talking]
            with self.dialer.store.write() as tx:
                for row in missing:
                    tx.run("wake_call", call_id=row["call_id"], workspace=row["workspace"], now=self.dialer.clock())
        return len(ours)

    def run(self, job: Row) -> None:
        """Do one claimed job and write down what came of it; a failure is retried, never raised."""
        started = time.perf_counter()
        level = logging.INFO
        try:
            result = GIVEN_UP if job["attempts"] > MOST_ATTEMPTS and job["plugin"] else HANDLERS[job["kind"]](self, job)
        except Exception as error:  # of the network, Twilio or a plugin: the job stays owed
            result = Result(f"failed: {type(error).__name__}: {error}", self._retry(job))
            level = logging.WARNING
        crash_point("job.before_finish")
        self._finish(job, result)
        notes = {
            "call": job["call_id"],
            "leg": job["call_sid"],
            "plugin": job["plugin"],
            "outcome": result.word,
        }
        if result.again > 0:
            notes["again_in"] = f"{result.again:.0f}s"
        log_line(log, level, f"job {job['kind']}", notes, time.perf_counter() - started)

    def _retry(self, job: Row) -> float:
        """Seconds until the next try; negative when a delivery has had its last."""
        waits = DELIVERY_RETRIES if job["kind"] == "deliver" else CORE_RETRIES
        attempt = int(job["attempts"])
        if job["kind"] == "deliver" and attempt > len(waits):
            return -1.0
        return waits[min(attempt, len(waits)) - 1] * self.random.uniform(0.8, 1.2)

    def _finish(self, job: Row, result: Result) -> None:
        now = self.dialer.clock()
        with self.dialer.store.write() as tx:
            if result.again > 0:
                tx.run("retry_job", job_id=job["id"], run_at=now + result.again, result=result.word)
            else:
                status = "dead" if result.again < 0 else "done"
                tx.run("finish_job", job_id=job["id"], status=status, result=result.word, now=now)


def run_dial(worker: Worker, job: Row) -> Result:
    """Dial the customer, once; where nobody has seen the agent, Twilio is asked for him first."""
    call = still_owed(worker, job)
    if call is None:
        return Result("no longer owed")
    carrier = worker.carriers(call.account_sid)
    carrier.prepare()
    agent = call.leg("agent")
    if agent and not agent_present(call):
        store_truth(worker, call, carrier.leg(agent.call_sid))
    word, again = dial(worker.dialer, carrier, call.id, call.workspace)
    return Result(word, again)


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


def run_reconcile(worker: Worker, job: Row) -> Result:
    with worker.dialer.store.read() as tx:
        call = find_call(tx, "call", call_id=job["call_id"], workspace=job["workspace"])
    if call is None:
        return Result("no such call")
    return Result(reconcile(worker.dialer, worker.carriers(call.account_sid), call.id, call.workspace))


def run_delivery(worker: Worker, job: Row) -> Result:
    """Tell one plugin of one event; it may raise, and is then told again later."""
    plugins = worker.dialer.plugins.current()
    if job["plugin"] not in plugins.names:
        return Result("plugin is off")
    with worker.dialer.store.read() as tx:
        call = find_call(tx, "call", call_id=job["call_id"], workspace=job["workspace"])
        event = tx.one("event", event_id=job["event_id"], workspace=job["workspace"])
    if call is None or event is None:
        raise PluginError(f"event {job['event_id']} of {job['call_id']} is gone from the store")
    plugins.tell(job["plugin"], job["hook"], call, told_event(event))
    crash_point("job.after_plugin")
    return Result(f"told {job['hook']}")


def still_owed(worker: Worker, job: Row) -> Call | None:
    """The call, if its present state still owes this job's effect."""
    with worker.dialer.store.read() as tx:
        call = find_call(tx, "call", call_id=job["call_id"], workspace=job["workspace"])
    effect = Effect(job["kind"], job["call_sid"]).key
    return call if call and any(due.key == effect for due in owed(call)) else None


HANDLERS: Mapping[str, Callable[[Worker, Row], Result]] = {
    "dial": run_dial,
    "hang_up": run_hang_up,
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
