"""What `/metrics` tells: figures of the whole installation, read from the store, and those that each process counts.

The names stand in docs/metrics.md. Nothing here is loaded before it is used, so that processes start fast.
"""

from __future__ import annotations

import logging
import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cache, wraps
from pathlib import Path
from typing import TYPE_CHECKING, ParamSpec

if TYPE_CHECKING:
    from prometheus_client import CollectorRegistry, Counter, Histogram
    from prometheus_client.core import Metric
    from prometheus_client.registry import Collector

    from dialer.service import Service
    from dialer.store import Row

P = ParamSpec("P")

log = logging.getLogger("dialer.metrics")

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"
_SHARED = "PROMETHEUS_MULTIPROC_DIR"
#: Bytes that a process sets aside for each of its files: some 5,000 figures.
_RESERVED = 1 << 20
#: Seconds: webhooks are answered within milliseconds, plugins get 250 ms, and Twilio waits 15 s.
BUCKETS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0)
#: Why a signature is refused; a reason that is none of these counts as "other", so that nobody invents labels.
REFUSALS = frozenset({
    "no signature", "malformed signature", "malformed request target", "no auth token to check with",
    "body is neither a form nor covered by bodySHA256", "signature does not match", "body does not match bodySHA256",
    "unknown account", "not a form",
})  # fmt: skip


@dataclass(frozen=True, slots=True)
class Figures:
    """What one process counts, and where it is registered."""

    registry: CollectorRegistry
    webhooks: Counter
    webhook_seconds: Histogram
    refused: Counter
    hook_seconds: Histogram
    hook_errors: Counter


@cache
def figures() -> Figures:
    """This process's own, made on first use."""
    _reserve()
    from prometheus_client import CollectorRegistry, Counter, Histogram

    registry = CollectorRegistry()
    return Figures(
        registry,
        Counter("dialer_webhooks", "Webhooks answered.", ["path", "status"], registry=registry),
        Histogram("dialer_webhook_seconds", "Time to answer a webhook.", ["path"], registry=registry, buckets=BUCKETS),
        Counter("dialer_signatures_refused", "Requests that Twilio did not sign.", ["reason"], registry=registry),
        Histogram("dialer_hook_seconds", "Time a plugin's hook took.", ["plugin", "hook"], registry=registry,
                  buckets=BUCKETS),
        Counter("dialer_hook_errors", "Hooks that failed or took too long.", ["plugin", "hook"], registry=registry),
    )  # fmt: skip


def share(instance: Path) -> None:
    """Have the web workers and the dispatcher of one installation count together; to be called before they count.

    Old figures go when no process that wrote them is left: as long as one is, a counter must not fall. Where the
    folder cannot be made, each process counts alone.
    """
    folder = Path(os.environ.get(_SHARED) or instance / "metrics")
    try:
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        files = [path for path in folder.glob("*_*.db") if path.stem.rpartition("_")[2].isdigit()]
        if not any(_alive(int(path.stem.rpartition("_")[2])) for path in files):
            for path in files:
                path.unlink(missing_ok=True)
    except OSError as error:
        log.warning("the figures of several processes are not put together: %s", error)
        os.environ.pop(_SHARED, None)
    else:
        os.environ[_SHARED] = str(folder)


def _reserve() -> None:
    """Take the disk's room for what this process counts: a full disk would end it in the middle of a count."""
    if _SHARED not in os.environ:
        return
    try:
        for kind in ("counter", "histogram"):
            with (Path(os.environ[_SHARED]) / f"{kind}_{os.getpid()}.db").open("ab") as file:
                os.posix_fallocate(file.fileno(), 0, _RESERVED)
    except OSError as error:
        log.warning("this process counts alone: %s", error)
        os.environ.pop(_SHARED, None)


def _alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    except PermissionError:
        return True
    return True


_told: list[str] = []


def _harmless(count: Callable[P, None]) -> Callable[P, None]:
    """A count that is lost rather than what it counts; the first loss is told."""

    @wraps(count)
    def guarded(*args: P.args, **kwargs: P.kwargs) -> None:
        try:
            count(*args, **kwargs)
        except Exception as error:
            if not _told:
                _told.append(f"this process loses figures: {type(error).__name__}: {error}")
                log.warning(_told[0])

    return guarded


@_harmless
def count_webhook(path: str, status: int, seconds: float) -> None:
    """Count a webhook that was answered."""
    webhooks, times = _of_webhook(path, status)
    webhooks.inc()
    times.observe(seconds)


@cache
def _of_webhook(path: str, status: int) -> tuple[Counter, Histogram]:
    return figures().webhooks.labels(path, status), figures().webhook_seconds.labels(path)


@_harmless
def count_refusal(reason: str) -> None:
    """Count a request whose signature was refused."""
    figures().refused.labels(reason if reason in REFUSALS else "other").inc()


@_harmless
def count_hook(plugin: str, hook: str, seconds: float, *, failed: bool) -> None:
    """Count one call of a plugin's hook."""
    figures().hook_seconds.labels(plugin, hook).observe(seconds)
    if failed:
        figures().hook_errors.labels(plugin, hook).inc()


def exposition(dialer: Service) -> bytes:
    """All of it in Prometheus' text format; raises StoreError."""
    return generate(_Given(list(from_store(dialer)))) + generate(all_processes())


def generate(source: Collector) -> bytes:
    from prometheus_client import generate_latest

    return generate_latest(source)


def all_processes() -> Collector:
    """What the processes counted: all that share it, or this one."""
    if _SHARED not in os.environ:
        return figures().registry
    from prometheus_client import CollectorRegistry
    from prometheus_client.multiprocess import MultiProcessCollector

    together = CollectorRegistry()
    MultiProcessCollector(together)  # type: ignore[no-untyped-call]
    return together


class _Given:
    """Metrics in hand, as what generate_latest asks."""

    def __init__(self, metrics: list[Metric]) -> None:
        self.metrics = metrics

    def collect(self) -> list[Metric]:
        return self.metrics


def from_store(dialer: Service) -> Iterator[Metric]:
    """The figures of the whole installation: what is open by its indexes, what has been by its counters."""
    with dialer.store.read() as tx:
        now = dialer.clock()
        open_calls, open_dials = tx.all("count_open_calls"), tx.all("count_open_dials")
        jobs, resting = tx.all("count_pending_jobs", now=now), tx.all("count_resting_plugins", now=now)
        waiting, dead = tx.all("count_waiting_jobs"), tx.all("count_dead_jobs")
        events, counters = tx.one("count_events"), tx.all("counts")
    yield _gauge("dialer_calls_open", "Calls that are not settled.", "status", open_calls)
    yield _gauge("dialer_dials_open", "Dial requests without an outcome.", "state", open_dials)
    yield _gauge("dialer_jobs_pending", "Jobs to be done, now or later.", "plugin", jobs, "pending")
    yield _gauge("dialer_jobs_due", "Jobs to be done now.", "plugin", jobs, "due")
    yield _ages(jobs, now)
    yield _gauge("dialer_jobs_waiting", "Deliveries that wait for a plugin that is off.", "plugin", waiting)
    yield _gauge("dialer_jobs_dead", "Deliveries given up, until somebody replays them.", "plugin", dead)
    yield _gauge("dialer_plugins_resting", "Workspaces for which a failing plugin rests.", "plugin", resting)
    counted = {(row["name"], row["label"]): float(row["count"]) for row in counters}
    yield _counter("dialer_calls_ended", "Calls that have ended.", "status", "calls_ended", counted)
    yield _counter("dialer_dials", "Dial requests by outcome.", "state", "dials", counted)
    yield _counter("dialer_repairs", "Differences found by asking Twilio.", "kind", "repairs", counted)
    yield _counter("dialer_clock_steps", "Times the machine's clock was set.", "", "clock_steps", counted)
    yield _counter("dialer_events", "Events stored.", "", "events", {("events", ""): _count(events)})


def _count(row: Row | None) -> float:
    return float(row["count"] or 0) if row else 0.0


def _gauge(name: str, text: str, label: str, rows: list[Row], column: str = "count") -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    metric = GaugeMetricFamily(name, text, labels=[label])
    for row in rows:
        metric.add_metric([_plugin(row[label])], float(row[column]))
    return metric


def _ages(jobs: list[Row], now: float) -> Metric:
    from prometheus_client.core import GaugeMetricFamily

    metric = GaugeMetricFamily("dialer_jobs_oldest_due_seconds", "How long the longest is due.", labels=["plugin"])
    for row in jobs:
        metric.add_metric([_plugin(row["plugin"])], max(0.0, now - row["oldest"]))
    return metric


def _counter(name: str, text: str, label: str, kept: str, counted: Mapping[tuple[str, str], float]) -> Metric:
    from prometheus_client.core import CounterMetricFamily

    metric = CounterMetricFamily(name, text, labels=[label] if label else [])
    found = {labelled: count for (name, labelled), count in counted.items() if name == kept}
    for labelled, count in (found if label else {"": found.get("", 0.0)}).items():
        metric.add_metric([labelled] if label else [], count)
    return metric


def _plugin(name: str) -> str:
    """Jobs without a plugin are Dialer's own."""
    return name or "dialer"
