"""What plugins are told by the dispatcher: again until they take it, later while they fail, never for nothing.

A plugin that keeps failing gets a rest instead of its next event (its breaker is open), each workspace's on its own:
one customer's broken endpoint is not everybody's. What a plugin is owed when it is switched off waits for a day.
"""

from __future__ import annotations

import logging
from dataclasses import dataclass
from random import Random
from typing import Any

from dialer.crash import crash_point
from dialer.errors import DialerError, GiveUp, PluginError, RetryLater
from dialer.metrics import count_hook
from dialer.records import find_call, told_event
from dialer.service import Service
from dialer.store import Row, Store, Tx

log = logging.getLogger("dialer.deliveries")

#: Seconds between tries of a delivery, after Svix's schedule; then it is dead until somebody replays it.
RETRIES = (5.0, 300.0, 1800.0, 7200.0, 18000.0, 36000.0, 36000.0)
#: So many failures in a row within so many seconds open the breaker, first for so long, doubled up to the longest.
FAILURES, WINDOW, REST, LONGEST_REST = 5, 60.0, 30.0, 600.0
#: Seconds that a plugin gets for one delivery before it is taken for lost, and told again.
LEASE = 900.0
#: Seconds that a plugin may put a delivery off for at once.
LONGEST_DELAY = 86_400.0
#: Seconds that a delivery waits for a plugin that is off.
KEPT = 86_400.0
#: How the results of those begin that wait for the breaker.
RESTING = "rests"


@dataclass(frozen=True, slots=True)
class Delivered:
    """What one try came to: a word, seconds until the next (negative: none), the status of what was not even tried."""

    word: str
    again: float = 0.0
    untried: str = ""


def deliver(dialer: Service, job: Row, random: Random) -> Delivered:
    """Tell one plugin of one event; what it raises is told in the word."""
    plugin, workspace = job["plugin"], job["workspace"]
    with dialer.store.read() as tx:
        call = find_call(tx, "call", call_id=job["call_id"], workspace=workspace)
        event = tx.one("event", event_id=job["event_id"], workspace=workspace)
        breaker = tx.one("breaker", plugin=plugin, workspace=workspace)
    if call is None or event is None:
        return Delivered(f"failed: event {job['event_id']} of {job['call_id']} is gone from the store", -1.0)
    plugins = dialer.plugins.current()
    if not plugins.in_workspace(workspace).on(plugin):
        why = "set aside" if plugin in plugins.aside else "off"
        return Delivered(f"waits: plugin {plugin} is {why}", KEPT, "waiting")
    if breaker and (rest := _rest(dialer, breaker)):
        return Delivered(f"{RESTING}: {breaker['reason']}"[:300], rest, "pending")
    took, failed = 0.0, True
    try:
        took = plugins.tell(plugin, job["hook"], call, told_event(event))
        failed = False
    except PluginError as error:
        if asked := _asked_for(error, job, random):
            return asked
        with dialer.store.write() as tx:
            rest = _note_failure(tx, job, str(error), dialer.clock())
        return Delivered(f"failed: {error}", _next_try(job, rest, random))
    finally:
        count_hook(plugin, job["hook"], took / 1000, failed=failed)
    crash_point("job.after_plugin")
    if breaker:
        _close_breaker(dialer, job)
    return Delivered(f"told {job['hook']} in {took:.0f} ms")


def wake(dialer: Service) -> None:
    """Have what waits for plugins delivered where they are on again; what waited for a day is dead."""
    plugins = dialer.plugins.current()
    with dialer.store.read() as tx:
        waiting = tx.all("waiting_for_plugins")
    now = dialer.clock()
    for row in waiting:
        values = {"plugin": row["plugin"], "workspace": row["workspace"]}
        if plugins.in_workspace(row["workspace"]).on(row["plugin"]):
            with dialer.store.write() as tx:
                tx.run("wake_deliveries", now=now, **values)
        elif row["run_at"] <= now:
            with dialer.store.write() as tx:
                tx.run("bury_deliveries", now=now, result=f"plugin {row['plugin']} was off for a day", **values)


def replay(store: Store, now: float, job_id: int) -> int:
    """Deliver once more what is dead or waits; gives how many that are."""
    with store.write() as tx:
        return tx.run("replay_delivery", job_id=job_id, now=now)


def replay_all(store: Store, now: float, *, plugin: str = "", workspace: str = "", since: float = 0.0) -> int:
    """The same for all of a plugin or a workspace that were caused since then."""
    with store.write() as tx:
        return tx.run("replay_deliveries", plugin=plugin, workspace=workspace, since=since, now=now)


def find(store: Store, job_id: int) -> dict[str, Any]:
    """One delivery with its event; raises DialerError when there is none."""
    with store.read() as tx:
        job = tx.one("all_delivery", job_id=job_id)
        if job is None:
            raise DialerError(f"there is no delivery {job_id} (dialer deliveries list)")
        event = tx.one("event", event_id=job["event_id"], workspace=job["workspace"])
    return {**dict(job), "event": dict(event) if event else None}


def _rest(dialer: Service, breaker: Row) -> float:
    """Seconds that a plugin still rests; 0 for the one delivery that may try whether it works again."""
    now, until = dialer.clock(), breaker["open_until"]
    if not until:
        return 0.0
    if 0 < until - now <= LONGEST_REST:  # further off is no rest of ours: the clock was set back
        return float(until - now)
    with dialer.store.write() as tx:  # whoever comes second finds it changed, and waits for the first
        values = {"plugin": breaker["plugin"], "workspace": breaker["workspace"]}
        first = tx.run("probe_breaker", until=until, longest=now + REST, **values)
    return 0.0 if first else REST


def _note_failure(tx: Tx, job: Row, reason: str, now: float) -> float:
    """Count a failure; gives the seconds of rest if that opens the breaker, else 0."""
    plugin, workspace = job["plugin"], job["workspace"]
    row = tx.one("breaker", plugin=plugin, workspace=workspace)
    known = row if row and (row["opened"] or now - row["since"] <= WINDOW) else None
    failures, since = (known["failures"] + 1, known["since"]) if known else (1, now)
    opened = int(known["opened"]) if known else 0
    rest = 0.0
    if opened or failures >= FAILURES:
        rest = min(REST * 2**opened, LONGEST_REST)
        opened += 1
        of = f" for {workspace}" if workspace else ""
        log.error("plugin %s is told nothing%s for %.0f s, it failed %d times: %s", plugin, of, rest, failures, reason)
    tx.run(
        "save_breaker", plugin=plugin, workspace=workspace, failures=failures, since=since, opened=opened,
        open_until=now + rest if rest else 0.0, reason=reason[:300],
    )  # fmt: skip
    return rest


def _close_breaker(dialer: Service, job: Row) -> None:
    """It works again: nothing rests any longer."""
    values = {"plugin": job["plugin"], "workspace": job["workspace"]}
    with dialer.store.write() as tx:
        tx.run("close_breaker", **values)
        tx.run("end_rest", now=dialer.clock(), resting=f"{RESTING}:%", **values)


def _asked_for(error: PluginError, job: Row, random: Random) -> Delivered | None:
    """What the plugin itself wants to follow; one that knows what is wrong is not broken, and needs no rest."""
    why = error.__cause__
    if isinstance(why, GiveUp):
        return Delivered(f"given up: {error}", -1.0)
    if isinstance(why, RetryLater):
        return Delivered(f"put off: {error}", _next_try(job, min(why.seconds, LONGEST_DELAY), random))
    return None


def _next_try(job: Row, rest: float, random: Random) -> float:
    attempt = int(job["attempts"])
    if attempt > len(RETRIES):
        return -1.0
    return max(RETRIES[attempt - 1] * random.uniform(0.8, 1.2), rest)
