"""What people ask of a running call: done once, said when done, refused with a reason in the wrong state."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from dialer import Call, controls, hookimpl

ANSWERS, VOICEMAIL, NEVER = "+14155550101", "+14155550105", "+14155550103"


class Recorded:
    """Records the customer's leg."""

    @hookimpl
    def dial_options(self, call: Call) -> dict[str, str]:
        return {"record": "true"}


class RecordedTogether:
    """Records the conference."""

    @hookimpl
    def conference_options(self, call: Call) -> dict[str, str]:
        return {"record": "record-from-start"}


def ask(stage: Any, talker: Any, name: str, key: str) -> None:
    controls.ask_for(stage.world.dialer, talker.call, name, by="api", key=key)
    stage.lasts(1)


@pytest.mark.parametrize("plugin", [Recorded(), RecordedTogether()])
def test_a_recording_is_paused_and_goes_on(make_stage: Any, plugin: object) -> None:
    stage = make_stage(plugins=(plugin,))
    talker = stage.agent_dials(ANSWERS)
    stage.lasts(5)
    ask(stage, talker, "recording-pause", "1")
    (recording,) = stage.world.network.recordings.values()
    paused = recording.status
    ask(stage, talker, "recording-pause", "1")
    ask(stage, talker, "recording-resume", "2")
    assert (paused, recording.status) == ("paused", "in-progress")
    done = [name for name in talker.events() if name.startswith("recording-") and name.endswith(("ed", "done"))]
    assert done == [
        "recording-pause-requested",
        "recording-pause-done",
        "recording-resume-requested",
        "recording-resume-done",
    ]
    talker.hangs_up()
    stage.ends()


def test_what_twilio_refuses_is_said(stage: Any) -> None:
    talker = stage.agent_dials(ANSWERS)
    stage.lasts(5)
    ask(stage, talker, "recording-pause", "1")
    (failed,) = [row for row in talker.rows("events_of_call", after=0) if row["name"] == "recording-pause-failed"]
    assert "Twilio refused (20404)" in failed["payload"]


def test_a_call_that_has_ended_has_nothing_to_pause(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    talker.hangs_up()
    stage.ends()
    with pytest.raises(controls.NotNow, match="not connected"):
        controls.ask_for(stage.world.dialer, talker.call, "recording-pause", by="api", key="1")
    with pytest.raises(controls.NotNow, match="has ended: canceled"):
        controls.hang_up(stage.world.dialer, talker.call, by="plugin:x", payload={})


def test_a_control_that_could_not_be_done_in_time_is_given_up(make_stage: Any) -> None:
    stage = make_stage(plugins=(Recorded(),))
    talker = stage.agent_dials(ANSWERS)
    stage.lasts(5)
    stage.world.network.faults = type(stage.world.network.faults)(rest_500_undone=1.0)
    ask(stage, talker, "recording-pause", "1")
    stage.lasts(controls.STALE)
    stage.world.network.faults = type(stage.world.network.faults)()
    stage.lasts(15)
    assert "recording-pause-failed" in talker.events()


def test_a_machine_hears_the_message_and_the_agent_is_let_go(stage: Any) -> None:
    talker = stage.agent_dials(VOICEMAIL)
    stage.lasts(12)
    controls.leave_message(stage.world.dialer, talker.call, by="plugin:voicemail", say="Please call us back.")
    stage.lasts(2)
    (machine,) = stage.dialled()
    assert stage.heard(machine) == ["Please call us back."]
    assert (talker.leg.end_time is not None, talker.heard) == (True, [])
    stage.ends()
    call = talker.call
    assert (call.status, talker.events().count("message-left")) == ("completed", 1)
    assert call.ended_by == "plugin:voicemail"


def test_a_message_is_left_though_the_agent_hangs_up_at_once(stage: Any) -> None:
    talker = stage.agent_dials(VOICEMAIL)
    stage.lasts(12)
    controls.leave_message(stage.world.dialer, talker.call, by="plugin:voicemail", say="Please call us back.")
    stage.world.network.hang_up(talker.leg.sid)
    stage.lasts(5)
    assert stage.heard(stage.dialled()[0]) == ["Please call us back."]
    stage.ends()


def test_who_asks_for_the_end_gets_it_even_while_a_message_plays(stage: Any) -> None:
    talker = stage.agent_dials(VOICEMAIL)
    stage.lasts(12)
    controls.leave_message(stage.world.dialer, talker.call, by="plugin:voicemail", say="word " * 200)
    stage.lasts(2)
    controls.hang_up(stage.world.dialer, talker.call, by="system", payload={})
    stage.lasts(2)
    assert stage.dialled()[0].end_time is not None
    stage.ends()


def test_no_message_is_left_where_nobody_answered(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    with pytest.raises(controls.NotNow, match="nobody has answered"):
        controls.leave_message(stage.world.dialer, talker.call, by="plugin:voicemail", say="x")


def test_what_was_asked_last_counts_though_twilio_failed_in_between(make_stage: Any) -> None:
    stage = make_stage(plugins=(Recorded(),))
    talker = stage.agent_dials(ANSWERS)
    stage.lasts(5)
    ask(stage, talker, "recording-pause", "1")
    network = stage.world.network
    network.faults = replace(network.faults, rest_500_undone=1.0)
    ask(stage, talker, "recording-resume", "2")
    network.faults = replace(network.faults, rest_500_undone=0.0)
    controls.ask_for(stage.world.dialer, talker.call, "recording-pause", by="api", key="3")
    stage.lasts(10)
    (recording,) = network.recordings.values()
    assert recording.status == "paused"
    assert {"recording-resume-failed", "recording-pause-done"} <= set(talker.events())
    talker.hangs_up()
    stage.ends()


def test_a_request_repeated_after_the_end_is_known(make_stage: Any) -> None:
    stage = make_stage(plugins=(Recorded(),))
    talker = stage.agent_dials(ANSWERS)
    stage.lasts(5)
    ask(stage, talker, "recording-pause", "1")
    talker.hangs_up()
    stage.ends()
    ask(stage, talker, "recording-pause", "1")
    with pytest.raises(controls.NotNow):
        ask(stage, talker, "recording-pause", "2")
    assert talker.events().count("recording-pause-requested") == 1


def test_a_message_that_twilio_would_refuse_is_refused(stage: Any) -> None:
    talker = stage.agent_dials(VOICEMAIL)
    stage.lasts(12)
    with pytest.raises(controls.NotNow, match="too long"):
        controls.leave_message(stage.world.dialer, talker.call, by="plugin:voicemail", say="&" * 900)
    talker.hangs_up()
    stage.ends()


def test_a_message_that_twilio_refuses_does_not_keep_the_call_alive(
    stage: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(controls, "LONGEST_TWIML", 10_000)
    talker = stage.agent_dials(VOICEMAIL)
    stage.lasts(12)
    controls.leave_message(stage.world.dialer, talker.call, by="plugin:voicemail", say="&" * 900)
    stage.world.network.hang_up(talker.leg.sid)
    stage.ends()
    assert "message-failed" in talker.events()
