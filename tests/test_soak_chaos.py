"""Real processes under load while they are killed, stopped, and their disk and network fail."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import closing
from pathlib import Path

import pytest
from sqlite_utils import Database

from dialer.store import open_store
from soak.chaos import Verdict, run
from soak.faults import CALLS, CLOSED, STRUCK, Outcome, numbers, strike_all
from soak.judge import judge
from soak.load import Plan
from soak.nemesis import KILLS, Strike, schedule

pytestmark = pytest.mark.timeout(180)
SEED = 1


@pytest.fixture(scope="module")
def network_faults(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Future[Outcome]]:
    """Begun before the others: it mostly waits for Twilio's silence to be long enough."""
    with ThreadPoolExecutor(1) as pool:
        yield pool.submit(strike_all, tmp_path_factory.mktemp("faults"), SEED)


@pytest.fixture(scope="module")
def folders(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Path]:
    return {name: tmp_path_factory.mktemp("short") for name in SHORT_RUNS}


@pytest.fixture(scope="module")
def short_runs(folders: dict[str, Path]) -> Iterator[dict[str, Future[Verdict]]]:
    """Side by side, since each mostly waits for the ends of its calls."""
    with ThreadPoolExecutor(len(SHORT_RUNS)) as pool:
        yield {
            name: pool.submit(run, name, folders[name], plan, strikes, disk=name == SMALL_DISK)
            for name, (plan, strikes) in SHORT_RUNS.items()
        }


SMALL_DISK, FILE_LIMIT, STOPPED = "disk full (small disk)", "disk full (file size limit)", "SIGSTOP"
SHORT_RUNS = {
    SMALL_DISK: (Plan(60.0, 6.0, SEED), [Strike(2.0, "fill disk", 2.0)]),
    FILE_LIMIT: (Plan(60.0, 6.0, SEED), [Strike(2.0, "fill disk", 2.0)]),
    STOPPED: (Plan(60.0, 6.0, SEED), [Strike(1.5, "pause worker", 1.5), Strike(3.5, "pause dispatcher", 2.0)]),
}


def expect_good(verdict: Verdict) -> None:
    assert not any(verdict.breaches.values()), verdict.breaches
    assert verdict.settled


def test_nothing_is_lost_or_doubled_by_kills_under_load(
    tmp_path: Path, network_faults: Future[Outcome], record_property: Callable[[str, object], None]
) -> None:
    verdict = run("kill -9 every 2 s", tmp_path, Plan(150.0, 30.0, SEED), schedule(SEED, 30.0, 2.0, KILLS))
    record_property("figure", verdict.figure())
    expect_good(verdict)
    assert {blow.what for blow in verdict.blows} == set(KILLS) or verdict.starved


@pytest.mark.parametrize("name", [SMALL_DISK, FILE_LIMIT])
def test_full_disk_is_answered_with_500_and_recovered_from(
    name: str, short_runs: dict[str, Future[Verdict]], record_property: Callable[[str, object], None]
) -> None:
    verdict = short_runs[name].result()
    record_property("figure", verdict.figure())
    expect_good(verdict)
    refused = [due for due, status in verdict.answers() if status == 500]
    assert refused, "the disk was not full"
    assert max(refused) < verdict.blows[0].end + 1.0, "it did not recover by itself"


def test_stopped_processes_go_on_as_if_nothing_were(
    short_runs: dict[str, Future[Verdict]], record_property: Callable[[str, object], None]
) -> None:
    verdict = short_runs[STOPPED].result()
    record_property("figure", verdict.figure())
    expect_good(verdict)
    assert len(verdict.blows) == 2


def test_the_judge_sees_what_is_missing(short_runs: dict[str, Future[Verdict]], folders: dict[str, Path]) -> None:
    """One that is content with anything would have been content above, too."""
    truth, path = short_runs[STOPPED].result().truth, folders[STOPPED] / "dialer.db"
    broken = Database(path)
    broken.execute("DELETE FROM events WHERE id = (SELECT max(id) FROM events WHERE key LIKE 'status:%')")
    broken.execute("UPDATE calls SET status = 'busy' WHERE id = (SELECT id FROM calls WHERE status = 'completed')")
    broken.conn.commit()
    broken.close()
    with closing(open_store(f"sqlite:///{path}")) as store:
        found = judge(store, truth, [])
    assert len(found["events stored once"]) == len(found["recorded as it was"]) == 1


def test_no_fault_of_the_network_dials_twice_or_loses_a_call(
    network_faults: Future[Outcome], record_property: Callable[[str, object], None]
) -> None:
    outcome = network_faults.result()
    assert not any(outcome.breaches.values()), outcome.breaches
    assert outcome.settled
    assert outcome.struck["rest"] == outcome.struck["web"] == set(STRUCK)
    for kind in (*CLOSED, *STRUCK):
        dials = [outcome.dialled.get(number, 0) for number in numbers("rest", kind)]
        assert dials == [0 if kind in ("drop", "deny") else 1] * CALLS, f"{kind}: {dials}"
    assert max(outcome.dialled.values()) == 1
    record_property(
        "figure", f"network faults, {len((*CLOSED, *STRUCK))} kinds, both ways, {CALLS} calls each: 0 dialled twice"
    )
