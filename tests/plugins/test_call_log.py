"""call_log: one line for each call that ended, whatever is told twice and wherever a process died."""

import json
import os
import threading
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from dialer import Call, Host, Leg
from dialer.tables import settings_of
from dialer_plugins.call_log import CallLog
from dialer_plugins.call_log.lines import FIELDS

ANSWERS = "+14155550101"
MORNING = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC
DAY = 86_400.0


def ended(number: int = 1, **values: Any) -> Call:
    given = {
        "agent": "alice",
        "to": ANSWERS,
        "from_": "+14155550199",
        "status": "completed",
        "ended_by": "customer",
        "requested_at": MORNING,
        "answered_at": MORNING + 5.25,
        "ended_at": MORNING + 65.5,
        "duration": 60,
        "legs": (Leg("CA1", "agent", "completed"),),
    }
    return Call(**{"id": f"call_{number}", "workspace": "ws", "conference": f"ws-{number}", **given, **values})


class Clock:
    def __init__(self) -> None:
        self.now = MORNING

    def __call__(self) -> float:
        return self.now


def make_log(tmp_path: Path, clock: Clock | None = None, **wish: Any) -> CallLog:
    return CallLog(**wish, host=Host("call_log", folder=tmp_path, clock=clock or Clock()))


def lines(path: Path) -> list[dict[str, Any]]:
    return [json.loads(text) for text in path.read_text().splitlines()] if path.exists() else []


def ids(path: Path) -> list[str]:
    return [line["id"] for line in lines(path)]


def test_a_line_tells_the_whole_call(tmp_path: Path) -> None:
    make_log(tmp_path).call_ended(ended())
    (line,) = lines(tmp_path / "calls.jsonl")
    assert tuple(line) == FIELDS
    assert line["requested_at"] == "2026-09-21T14:13:20.000+00:00"
    assert line["ended_at"] == "2026-09-21T14:14:25.500+00:00"
    assert (line["to"], line["from"], line["duration"]) == (ANSWERS, "+14155550199", 60)
    assert line["legs"] == [{"call_sid": "CA1", "role": "agent", "status": "completed"}]


def test_only_its_owner_reads_the_file(tmp_path: Path) -> None:
    before = os.umask(0)
    try:
        make_log(tmp_path, file=str(tmp_path / "new" / "log.jsonl")).call_ended(ended())
    finally:
        os.umask(before)
    assert (tmp_path / "new" / "log.jsonl").stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "new").stat().st_mode & 0o777 == 0o700


def test_what_is_told_twice_is_written_once(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    for number in (1, 2, 1, 2, 1):
        log.call_ended(ended(number))
    make_log(tmp_path).call_ended(ended(1))  # another process
    assert ids(tmp_path / "calls.jsonl") == ["call_1", "call_2"]


def test_a_line_written_before_a_crash_is_not_written_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log = make_log(tmp_path)
    log.call_ended(ended(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", _die)  # after the write, before its key is on record
        with pytest.raises(KeyboardInterrupt):
            log.call_ended(ended(2))
    later = make_log(tmp_path)
    for number in (3, 2, 1):
        later.call_ended(ended(number))
    assert ids(tmp_path / "calls.jsonl") == ["call_1", "call_2", "call_3"]


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def test_half_a_line_is_cut_off_and_written_again(tmp_path: Path) -> None:
    log = make_log(tmp_path)
    log.call_ended(ended(1))
    with (tmp_path / "calls.jsonl").open("a") as file:
        file.write('{"id":"call_2","works')
    log.call_ended(ended(2))
    assert ids(tmp_path / "calls.jsonl") == ["call_1", "call_2"]


def test_a_foreign_file_is_left_as_it_is(tmp_path: Path) -> None:
    path = tmp_path / "other.log"
    path.write_text("not ours")
    make_log(tmp_path, file="other.log").call_ended(ended(1))
    assert path.read_text().startswith("not ours")


def test_a_full_disk_is_an_error_and_leaves_no_half_line(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    log, write = make_log(tmp_path), os.write
    log.call_ended(ended(1))
    with monkeypatch.context() as patch:
        patch.setattr(os, "write", lambda descriptor, data: write(descriptor, data[:9]))
        with pytest.raises(OSError, match="only a part of the line"):
            log.call_ended(ended(2))
    log.call_ended(ended(2))
    assert ids(tmp_path / "calls.jsonl") == ["call_1", "call_2"]


def test_a_day_has_a_file_of_its_own(tmp_path: Path) -> None:
    clock = Clock()
    log = make_log(tmp_path, clock, keep=2)
    for day in range(5):
        log.call_ended(ended(day))
        log.call_ended(ended(10 + day))
        clock.now += DAY
    assert ids(tmp_path / "calls.jsonl") == ["call_4", "call_14"]
    assert ids(tmp_path / "calls.jsonl.1") == ["call_3", "call_13"]
    assert ids(tmp_path / "calls.jsonl.2") == ["call_2", "call_12"]
    assert not (tmp_path / "calls.jsonl.3").exists()
    assert (tmp_path / "calls.jsonl.1").stat().st_mode & 0o777 == 0o600


def test_a_call_of_a_file_that_was_rotated_is_not_written_again(tmp_path: Path) -> None:
    clock = Clock()
    log = make_log(tmp_path, clock)
    log.call_ended(ended(1))
    clock.now += DAY
    log.call_ended(ended(2))
    log.call_ended(ended(1))
    assert ids(tmp_path / "calls.jsonl") == ["call_2"]


def test_a_file_that_is_full_is_rotated(tmp_path: Path) -> None:
    log, long = make_log(tmp_path, rotate="size", max_megabytes=1, keep=3), "x" * 600_000
    for number in range(3):
        log.call_ended(ended(number, reason=long))
    assert [ids(tmp_path / f"calls.jsonl{end}") for end in ("", ".1", ".2")] == [["call_2"], ["call_1"], ["call_0"]]


def test_never_is_never(tmp_path: Path) -> None:
    clock = Clock()
    log = make_log(tmp_path, clock, rotate="never")
    for number in range(3):
        log.call_ended(ended(number))
        clock.now += DAY
    assert len(ids(tmp_path / "calls.jsonl")) == 3


@pytest.mark.parametrize(("numbers", "to"), [("masked", "+1******0101"), ("none", "")])
def test_numbers_can_be_masked_or_left_out(tmp_path: Path, numbers: str, to: str) -> None:
    make_log(tmp_path, numbers=numbers).call_ended(ended(reason=f"no answer from {ANSWERS}"))
    (line,) = lines(tmp_path / "calls.jsonl")
    assert line["to"] == to
    assert ANSWERS not in json.dumps(line)
    assert "+14155550199" not in json.dumps(line)


def test_fields_can_be_left_out(tmp_path: Path) -> None:
    make_log(tmp_path, leave_out=("legs", "agent")).call_ended(ended())
    (line,) = lines(tmp_path / "calls.jsonl")
    assert tuple(line) == tuple(name for name in FIELDS if name not in ("legs", "agent"))


def test_workspaces_can_have_files_of_their_own(tmp_path: Path) -> None:
    make_log(tmp_path, file="acme.jsonl").call_ended(ended(1, workspace="acme"))
    make_log(tmp_path).call_ended(ended(2))
    assert ids(tmp_path / "acme.jsonl") == ["call_1"]
    assert ids(tmp_path / "calls.jsonl") == ["call_2"]


def test_threads_do_not_mix_lines(tmp_path: Path) -> None:
    log = make_log(tmp_path, rotate="size", max_megabytes=1, keep=30)
    calls = [ended(number, reason="y" * 50_000) for number in range(40)]
    threads = [threading.Thread(target=lambda: [log.call_ended(call) for call in calls]) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    found = [one for path in tmp_path.glob("calls.jsonl*") for one in ids(path)]
    assert sorted(found) == sorted(call.id for call in calls)


@settings(max_examples=40)
@given(st.text(max_size=80), st.text(max_size=40))
def test_any_text_is_one_line(tmp_path_factory: pytest.TempPathFactory, reason: str, agent: str) -> None:
    folder = tmp_path_factory.mktemp("log")
    make_log(folder).call_ended(ended(1, reason=reason, agent=agent))
    with (folder / "calls.jsonl").open("rb") as file:
        (line,) = file.readlines()
    assert (json.loads(line)["reason"], json.loads(line)["agent"]) == (reason, agent)


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"file": "logs/calls.jsonl"}, "file 'logs/calls.jsonl' must be a file name"),
        ({"file": "../calls.jsonl"}, "file '../calls.jsonl' must be a file name"),
        ({"file": ""}, "file '' must be a file name"),
        ({"file": "/var/log/"}, "file '/var/log/' must be a file name"),
        ({"leave_out": ("colour",)}, "leave_out 'colour' is no field"),
        ({"leave_out": ("id",)}, "leave_out 'id' is no field"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        CallLog(**wrong)


def test_every_call_of_a_story_has_its_line(make_stage: Any) -> None:
    stage = make_stage(plugins=[CallLog()], faults={"webhook_repeated": 0.5, "webhook_reordered": 0.3})
    talkers = [stage.agent_dials(ANSWERS) for _ in range(3)]
    stage.phone().answers()
    stage.lasts(20)
    for talker in talkers:
        talker.hangs_up()
    stage.ends()
    written = lines(stage.world.folder / "plugins" / "call_log" / "calls.jsonl")
    assert sorted(line["id"] for line in written) == sorted(talker.call.id for talker in talkers)
    assert {line["status"] for line in written} <= {"completed", "canceled", "no-answer"}


def test_the_call_it_is_given_is_not_changed(tmp_path: Path) -> None:
    call = ended()
    before = replace(call)
    make_log(tmp_path, numbers="none").call_ended(call)
    assert call == before


def test_the_readme_shows_every_setting() -> None:
    readme = (Path(__file__).parent.parent.parent / "plugins" / "call_log" / "README.md").read_text()
    for name, (_, setting, _) in settings_of(CallLog).items():
        assert f"| `{name}` |" in readme
        assert setting.meaning
    assert [name for name in FIELDS if f"`{name}`" not in readme] == []
