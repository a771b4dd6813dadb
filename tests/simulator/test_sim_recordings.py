"""Recordings of calls and conferences: how they begin, pause, end, and who is told."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dialer.simulator import Call, Params, TwilioError

if TYPE_CHECKING:
    from tests.simulator.conftest import Play, Story

TALK = "<Response><Pause length='60'/></Response>"
CALLBACK = "https://app.example/recording"


def talking(story: Story, **params: str) -> Call:
    story.pages["/join"] = TALK
    call = story.call(**params)
    story.run(3)
    return call


def test_a_call_recorded_from_the_start(play: Play) -> None:
    story = play()
    call = talking(
        story, to="+14155550106", Record="true", RecordingChannels="dual", RecordingStatusCallback=CALLBACK
    )
    story.run(10)
    (recording,) = call.recordings
    assert (recording.source, recording.channels, recording.duration) == ("OutboundAPI", 2, 3)
    final = story.told("status")[-1].fields
    assert (final["RecordingSid"], final["RecordingUrl"]) == (recording.sid, recording.url)
    assert final["RecordingDuration"] == "3"
    (told,) = story.told("recording")
    assert told.fields == {
        "AccountSid": story.account.sid,
        "CallSid": call.sid,
        "RecordingSid": recording.sid,
        "RecordingUrl": f"https://api.twilio.com/2010-04-01/Accounts/{story.account.sid}/Recordings/{recording.sid}",
        "RecordingStatus": "completed",
        "RecordingChannels": "2",
        "RecordingStartTime": "Tue, 14 Nov 2023 22:13:21 +0000",
        "RecordingSource": "OutboundAPI",
        "RecordingTrack": "both",
        "RecordingDuration": "3",
    }


def test_a_recording_that_twiml_starts_begins_where_it_stands_and_stops_nothing(play: Play) -> None:
    story = play()
    story.pages["/join"] = (
        f"<Response><Pause length='4'/><Start><Recording recordingStatusCallback='{CALLBACK}'/></Start>"
        "<Pause length='6'/></Response>"
    )
    call = story.call()
    story.run(20)
    (recording,) = call.recordings
    assert (recording.source, recording.channels, recording.track) == ("StartCallRecordingTwiML", 2, "both")
    assert recording.duration == 6
    assert [told.fields["RecordingStatus"] for told in story.told("recording")] == ["completed"]
    assert story.account.alerts == []


def test_starting_pausing_and_stopping(play: Play) -> None:
    story = play()
    call = talking(story)
    network = story.network
    params = {
        "RecordingStatusCallback": CALLBACK,
        "RecordingStatusCallbackEvent": ["in-progress", "completed"],
    }
    recording = network.start_recording(call, Params(params))
    story.run(4)
    assert network.find_recording(call, "Twilio.CURRENT") is recording
    network.update_recording(recording, Params({"Status": "paused", "PauseBehavior": "skip"}))
    story.run(5)
    assert network.recordings[recording.sid].status == "paused"
    network.update_recording(recording, Params({"Status": "in-progress"}))
    story.run(2)
    network.update_recording(recording, Params({"Status": "stopped"}))
    assert (recording.status, recording.duration) == ("processing", 6)
    story.run(2)
    assert recording.status == "completed"
    assert [h.fields["RecordingStatus"] for h in story.told("recording")] == ["in-progress", "completed"]
    assert call.status == "in-progress"
    with pytest.raises(TwilioError) as caught:
        network.find_recording(call, "Twilio.CURRENT")
    assert caught.value.code == 20404


def test_a_silent_pause_still_counts(play: Play) -> None:
    story = play()
    call = talking(story)
    recording = story.network.start_recording(call, Params())
    story.network.update_recording(recording, Params({"Status": "paused"}))
    story.run(5)
    story.network.update_recording(recording, Params({"Status": "in-progress"}))
    story.network.update_recording(recording, Params({"Status": "stopped"}))
    assert recording.duration == 5


def test_a_recording_of_nothing_is_absent(play: Play) -> None:
    story = play()
    call = talking(story)
    params = {"RecordingStatusCallback": CALLBACK, "RecordingStatusCallbackEvent": "absent"}
    recording = story.network.start_recording(call, Params(params))
    story.network.update_recording(recording, Params({"Status": "stopped"}))
    story.run(2)
    (told,) = story.told("recording")
    assert (told.fields["RecordingStatus"], told.fields["ErrorCode"]) == ("absent", "16101")


def test_refusals(play: Play) -> None:
    story = play()
    call = talking(story)
    recording = story.network.start_recording(call, Params())
    with pytest.raises(TwilioError) as caught:
        story.network.delete_recording(recording)
    assert caught.value.code == 20009
    for params in ({"Status": "absent"}, {}, {"Status": "paused", "PauseBehavior": "hum"}):
        with pytest.raises(TwilioError) as caught:
            story.network.update_recording(recording, Params(params))
        assert caught.value.code == 20422
    story.network.hang_up(call.sid)
    with pytest.raises(TwilioError) as caught:
        story.network.update_recording(recording, Params({"Status": "paused"}))
    assert caught.value.code == 16114
    with pytest.raises(TwilioError) as caught:
        story.network.start_recording(call, Params())
    assert caught.value.code == 21220
    story.run(2)
    story.network.delete_recording(recording)
    assert (story.network.recordings, call.recordings) == ({}, [])


def test_a_conference_is_recorded_from_its_start(play: Play) -> None:
    story = play(
        join="<Response><Dial><Conference waitUrl='' record='record-from-start'"
        " recordingStatusCallback='/recording'>room</Conference></Dial></Response>"
    )
    story.call()
    story.run(10)
    assert story.network.recordings == {}
    other = story.call("+14155550106")
    story.run(10)
    (conference,) = story.network.conferences.values()
    (recording,) = conference.recordings
    assert (recording.source, recording.channels, recording.call_sid) == ("Conference", 1, None)
    assert story.network.find_recording(conference, "Twilio.CURRENT") is recording
    story.network.update_conference(conference, Params({"Status": "completed"}))
    story.run(2)
    (told,) = story.told("recording")
    assert told.fields["ConferenceSid"] == conference.sid
    assert "CallSid" not in told.fields
    assert other.status == "completed"
    story.network.delete_recording(recording)
    assert conference.recordings == []


def test_a_participant_makes_the_conference_recorded(play: Play) -> None:
    story = play()
    params = {
        "From": "+14155550199",
        "ConferenceRecord": "true",
        "ConferenceRecordingStatusCallback": CALLBACK,
    }
    for number in ("+14155550101", "+14155550106"):
        story.network.create_participant(story.account.sid, "room", Params({"To": number, **params}))
    story.run(10)
    (conference,) = story.network.conferences.values()
    story.network.update_conference(conference, Params({"Status": "completed"}))
    story.run(2)
    assert [h.fields["RecordingSource"] for h in story.told("recording")] == ["Conference"]
