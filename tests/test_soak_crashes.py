"""Every crash point for real, once: processes die by SIGKILL or stand still in mid-call, and all comes right."""

from __future__ import annotations

import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from dialer.simulator.invariants import Trouble
from soak import crash_case
from soak.crash_scenarios import ANSWERS, SCENARIOS, Kill
from soak.crashes import run_all, run_scenario
from soak.stack import ROOT, Stack, wait_until
from soak.truth import find_breaches

#: The rows of the table of crash and fault points that are played here, and not only in simulated histories.
ROWS = {1, 2, 3, 5, 6, 7, 8, 9, 10, 11, 12, 24, 25, 26, 27, 33, 34, 35, 36}


@pytest.mark.timeout(240)
def test_every_crash_point_once(record_property: Callable[[str, object], None]) -> None:
    verdicts = list(run_all(list(SCENARIOS), times=1, seed=None, at_once=8))
    wrong = {verdict.name: verdict.breaches for verdict in verdicts if verdict.breaches}
    assert {int(name.split()[0]) for name in SCENARIOS} == ROWS
    assert wrong == {}
    right = len(verdicts) - len(wrong)
    record_property("figure", f"crash points: {right} of {len(SCENARIOS)}, each once, 0 lost, 0 doubled")


def test_a_point_that_is_never_passed_proves_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(crash_case, "PATIENCE", 5.0)
    monkeypatch.setitem(SCENARIOS, "none", Kill("dispatcher", "dial.before_claim", passing=2))
    breaches = run_scenario("none").breaches
    assert "dispatcher never came to dial.before_claim" in breaches


def test_what_is_wrong_is_seen(tmp_path: Path) -> None:
    with Stack(tmp_path, plugins="recorder") as stack:
        stack.place_call(ANSWERS)
        assert stack.wait_settled(30.0)
        assert wait_until(lambda: not find_breaches(stack), 10.0)  # the last deliveries follow the end
        stack.store().database().execute("DELETE FROM events WHERE name = 'participant-leave'")  # type: ignore[attr-defined]
        stack.store().database().execute("UPDATE calls SET status = 'busy'")  # type: ignore[attr-defined]
        found = find_breaches(stack, [Trouble("down", 0.0, 1.0)])
    assert [breach.partition(":")[0] for breach in found] == ["recorded as it was", *["events stored once"] * 2]


def test_nothing_is_left_of_a_stack_whose_own_process_is_killed(tmp_path: Path) -> None:
    code = (
        "import sys, time; from pathlib import Path; from soak.stack import STARTED, Stack\n"
        f"with Stack(Path({str(tmp_path)!r})) as stack:\n"
        "    print(*(pid for what in STARTED for pid in stack.pids(what)), flush=True)\n"
        "    time.sleep(60)\n"
    )
    parent = subprocess.Popen((sys.executable, "-c", code), cwd=ROOT, stdout=subprocess.PIPE, text=True)
    with parent:
        assert parent.stdout
        pids = [int(pid) for pid in parent.stdout.readline().split()]
        parent.send_signal(signal.SIGKILL)
    assert len(pids) == 5
    assert wait_until(lambda: not any(_runs(pid) for pid in pids), 10.0)


def _runs(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False
