"""Answering machine detection, sync and async."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from tests.simulator.conftest import Play

TALK = "<Response><Pause length='60'/></Response>"
MACHINE, PERSON = "+14155550105", "+14155550101"
AMD = "https://app.example/amd"


@pytest.mark.parametrize(
    ("to", "mode", "result", "seconds"),
    [
        (PERSON, "Enable", "human", 2.0),
        (PERSON, "DetectMessageEnd", "human", 2.0),
        (MACHINE, "Enable", "machine_start", 3.5),
        (MACHINE, "DetectMessageEnd", "machine_end_beep", 6.0),
    ],
)
def test_the_program_waits_for_the_result(play: Play, to: str, mode: str, result: str, seconds: float) -> None:
    story = play(join=TALK)
    call = story.call(to, MachineDetection=mode)
    story.run(20)
    (told,) = story.told("voice")
    assert (told.fields["AnsweredBy"], call.answered_by) == (result, result)
    assert call.answer_time is not None
    assert told.at - call.answer_time == pytest.approx(seconds, rel=0.25)


@pytest.mark.parametrize(("to", "result"), [(PERSON, "human"), (MACHINE, "machine_start")])
def test_the_program_does_not_wait(play: Play, to: str, result: str) -> None:
    story = play(join=TALK)
    call = story.call(to, MachineDetection="Enable", AsyncAmd="true", AsyncAmdStatusCallback=AMD)
    story.run(20)
    (voice,), (told,) = story.told("voice"), story.told("amd")
    assert call.answer_time is not None
    assert voice.at - call.answer_time < 0.1
    assert "AnsweredBy" not in voice.fields
    assert sorted(told.fields) == ["AccountSid", "AnsweredBy", "CallSid", "MachineDetectionDuration"]
    assert told.fields["AnsweredBy"] == result
    assert 1000 < int(told.fields["MachineDetectionDuration"]) < 5000


def test_no_result_in_time_is_unknown(play: Play) -> None:
    story = play(join=TALK)
    story.call(MACHINE, MachineDetection="DetectMessageEnd", MachineDetectionTimeout="3")
    story.run(20)
    assert story.told("voice")[0].fields["AnsweredBy"] == "unknown"


def test_async_without_a_callback_is_warned_about(play: Play) -> None:
    story = play(join=TALK)
    story.call(MachineDetection="Enable", AsyncAmd="true")
    assert story.alerts() == [21262]


def test_whoever_hangs_up_before_the_result(play: Play) -> None:
    story = play(join=TALK)
    call = story.call("+14155550109", MachineDetection="Enable")
    story.run(20)
    assert (call.status, call.answered_by, story.told("voice")) == ("completed", None, [])


def test_detection_on_a_dialled_number(play: Play) -> None:
    story = play(
        voice="<Response><Dial callerId='+14155550199'><Number machineDetection='Enable'"
        " amdStatusCallback='/amd'>+14155550105</Number></Dial></Response>"
    )
    story.connect()
    story.run(20)
    assert story.told("amd")[0].fields["AnsweredBy"] == "machine_start"
