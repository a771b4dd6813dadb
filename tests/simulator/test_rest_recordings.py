import struct
from collections.abc import Callable

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from dialer.simulator import Network, WebAnswer
from dialer.simulator.rest import RestRequest, handle

START = 1_800_000_000.0
OWN, CUSTOMER = "+14155550199", "+14155550101"
HOLD = "<Response><Pause length='600'/></Response>"


def play(network: Network, seconds: float, twiml: str = HOLD) -> None:
    """Let time pass; every webhook is answered with that TwiML."""
    end = network.now + seconds
    while (due := network.next_due()) is not None and due <= end:
        network.advance(due)
        for request in network.take_requests():
            network.answer(request.id, WebAnswer(200, {"Content-Type": "text/xml"}, twiml.encode()))
    network.advance(end)


def refusal(act: Callable[[], object]) -> tuple[int, int]:
    with pytest.raises(TwilioRestException) as caught:
        act()
    return caught.value.status, caught.value.code


@pytest.fixture
def call_sid(network: Network, client: Client) -> str:
    """A call in progress."""
    call = client.calls.create(to=CUSTOMER, from_=OWN, twiml=HOLD)
    play(network, 5)
    return str(call.sid)


def fetch_media(network: Network, uri: str) -> tuple[int, str, bytes]:
    response = handle(network, RestRequest("GET", uri))
    return response.status, response.headers["Content-Type"], response.body


def test_a_recording_from_start_to_file(network: Network, client: Client, call_sid: str) -> None:
    started = client.calls(call_sid).recordings.create(recording_channels="dual")
    assert (started.status, started.channels, started.source) == ("in-progress", 2, "StartCallRecordingAPI")
    play(network, 4)
    paused = client.calls(call_sid).recordings("Twilio.CURRENT").update(status="paused")
    assert (paused.sid, paused.status) == (started.sid, "paused")
    play(network, 4)
    client.calls(call_sid).recordings(started.sid).update(status="in-progress")
    play(network, 4)
    client.calls(call_sid).update(status="completed")
    play(network, 5)
    done = client.recordings(started.sid).fetch()
    assert (done.status, done.duration, started.duration) == ("completed", "12", None)
    assert [each.sid for each in client.calls(call_sid).recordings.list()] == [started.sid]
    assert client.calls(call_sid).recordings(started.sid).fetch().track == "both"


def test_a_call_that_is_not_in_progress_cannot_be_recorded(client: Client) -> None:
    call = client.calls.create(to=CUSTOMER, from_=OWN, twiml=HOLD)
    assert refusal(client.calls(call.sid).recordings.create)[0] == 400


def test_recordings_are_listed_filtered_and_removed(network: Network, client: Client, call_sid: str) -> None:
    sid = client.calls(call_sid).recordings.create().sid
    play(network, 4)
    client.calls(call_sid).update(status="completed")
    play(network, 5)
    assert [each.sid for each in client.recordings.list(call_sid=call_sid)] == [sid]
    assert [each.sid for each in client.recordings.list(date_created="2027-01-15")] == [sid]
    assert client.recordings.list(call_sid="CA" + "0" * 32) == []
    assert client.recordings.list(conference_sid="CF" + "0" * 32) == []
    assert client.recordings(sid).delete()
    assert refusal(client.recordings(sid).fetch) == (404, 20404)
    assert client.calls(call_sid).recordings.list() == []


def test_the_audio_is_silence_of_the_right_length(network: Network, client: Client, call_sid: str) -> None:
    sid = client.calls(call_sid).recordings.create(recording_channels="dual").sid
    play(network, 4)
    recording = network.recordings[sid]
    path = f"/2010-04-01/Accounts/{recording.account_sid}/Recordings/{sid}"
    assert handle(network, RestRequest("GET", f"{path}.wav")).status == 404
    client.calls(call_sid).update(status="completed")
    play(network, 5)
    assert recording.duration == 4
    status, kind, wav = fetch_media(network, path)
    assert (status, kind) == (200, "audio/x-wav")
    rate, size = struct.unpack("<I", wav[24:28])[0], struct.unpack("<I", wav[4:8])[0]
    assert (wav[:4], wav[8:12], rate, size) == (b"RIFF", b"WAVE", 8000, len(wav) - 8)
    assert wav.count(b"\xff") >= 4 * 8000 * 2
    status, kind, mp3 = fetch_media(network, f"{path}.mp3")
    assert (status, kind, len(mp3)) == (200, "audio/mpeg", 111 * 144)


def test_the_recordings_of_a_conference(network: Network, client: Client) -> None:
    twiml = "<Response><Dial><Conference record='record-from-start'>room</Conference></Dial></Response>"
    for number in (CUSTOMER, "+14155550120"):
        client.calls.create(to=number, from_=OWN, twiml=twiml)
    play(network, 10)
    (conference,) = client.conferences.list()
    (running,) = client.conferences(conference.sid).recordings.list()
    assert (running.status, running.channels, running.source) == ("in-progress", 1, "Conference")
    recording = client.conferences(conference.sid).recordings(running.sid)
    assert recording.update(status="paused").status == "paused"
    assert recording.fetch().status == "paused"
    client.conferences(conference.sid).update(status="completed")
    play(network, 5)
    assert recording.fetch().status == "completed"
    assert recording.delete()
    assert refusal(recording.fetch) == (404, 20404)
