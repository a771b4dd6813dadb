"""Recordings over REST, of calls and of conferences, and their audio: silence of the right length."""

from __future__ import annotations

import struct
from collections.abc import Callable
from dataclasses import dataclass

from dialer.simulator.model import Call, Conference, Recording
from dialer.simulator.resources import (
    Json,
    render_call_recording,
    render_conference_recording,
    render_recording,
)
from dialer.simulator.rest_calls import find_call
from dialer.simulator.rest_conferences import find_conference
from dialer.simulator.rest_pages import list_response, matches_time
from dialer.simulator.rest_routes import Asked, RestResponse, Route, delete_response, route

START = """
RecordingStatusCallback RecordingStatusCallbackMethod RecordingStatusCallbackEvent RecordingChannels
RecordingTrack Trim
"""
UPDATE = "Status PauseBehavior"

_MP3_FRAME = b"\xff\xfb\x18\xc4" + bytes(140)  # 36 ms of silence: MPEG-1 layer III, mono, 32 kHz, 32 kbit/s
_MP3_SECONDS = 0.036
_WAV_RATE = 8000  # µ-law, one byte a sample, as telephone audio is


def find_recording(asked: Asked) -> Recording:
    """The account's recording that the path names. Raises TwilioError 20404."""
    return asked.find(asked.network.recordings, "recording")


def list_recordings(asked: Asked) -> RestResponse:
    query = asked.request.query
    own = [each for each in asked.network.recordings.values() if each.account_sid == asked.account.sid]
    rows = [
        each
        for each in own
        if query.get("CallSid") in ("", each.call_sid) and query.get("ConferenceSid") in ("", each.conference_sid)
    ]
    return _list(asked, rows, render_recording)


def _list(asked: Asked, recordings: list[Recording], render: Callable[[Recording], Json]) -> RestResponse:
    query = asked.request.query
    rows = [each for each in reversed(recordings) if matches_time(query, "DateCreated", each.date_created)]
    return list_response(asked, "recordings", rows, render)


def fetch_recording(asked: Asked) -> RestResponse:
    return RestResponse.json(render_recording(find_recording(asked)))


def delete_recording(asked: Asked) -> RestResponse:
    asked.network.delete_recording(find_recording(asked))
    return delete_response()


def fetch_media(asked: Asked) -> RestResponse:
    """The audio; MP3 when the path ends so, else WAV."""
    recording = find_recording(asked)
    if recording.status != "completed":
        raise asked.not_found()
    seconds = recording.duration or 0
    if asked.request.path.endswith(".mp3"):
        return RestResponse(200, {"Content-Type": "audio/mpeg"}, _silent_mp3(seconds))
    return RestResponse(200, {"Content-Type": "audio/x-wav"}, _silent_wav(seconds, recording.channels))


def _silent_mp3(seconds: int) -> bytes:
    return _MP3_FRAME * max(1, round(seconds / _MP3_SECONDS))


def _silent_wav(seconds: int, channels: int) -> bytes:
    samples = b"\xff" * (seconds * _WAV_RATE * channels)
    form = struct.pack("<HHIIHHH", 7, channels, _WAV_RATE, _WAV_RATE * channels, channels, 8, 0)
    fact = struct.pack("<I", seconds * _WAV_RATE)
    chunks = _chunk(b"fmt ", form) + _chunk(b"fact", fact) + _chunk(b"data", samples)
    return _chunk(b"RIFF", b"WAVE" + chunks)


def _chunk(name: bytes, content: bytes) -> bytes:
    return name + struct.pack("<I", len(content)) + content


def start_recording(asked: Asked) -> RestResponse:
    recording = asked.network.start_recording(find_call(asked), asked.request.form)
    return RestResponse.json(render_call_recording(recording), 201)


Owner = Call | Conference


@dataclass(frozen=True, slots=True)
class OwnRecordings:
    """The recordings of one call or of one conference: the same four requests for both."""

    find_owner: Callable[[Asked], Owner]
    render: Callable[[Recording], Json]

    def list(self, asked: Asked) -> RestResponse:
        return _list(asked, self.find_owner(asked).recordings, self.render)

    def fetch(self, asked: Asked) -> RestResponse:
        return RestResponse.json(self.render(self._find(asked)))

    def update(self, asked: Asked) -> RestResponse:
        recording = asked.network.update_recording(self._find(asked), asked.request.form)
        return RestResponse.json(self.render(recording))

    def delete(self, asked: Asked) -> RestResponse:
        asked.network.delete_recording(self._find(asked))
        return delete_response()

    def routes(self, path: str) -> tuple[Route, ...]:
        """The four requests under that path."""
        one = f"{path}/{{recording}}.json"
        return (
            route("GET", f"{path}.json", self.list),
            route("GET", one, self.fetch),
            route("POST", one, self.update, UPDATE),
            route("DELETE", one, self.delete),
        )

    def _find(self, asked: Asked) -> Recording:
        return asked.network.find_recording(self.find_owner(asked), asked.names["recording"])


_ACCOUNT = "/2010-04-01/Accounts/{account}"
_OF_CALL = f"{_ACCOUNT}/Calls/{{call}}/Recordings"
_OF_CONFERENCE = f"{_ACCOUNT}/Conferences/{{conference}}/Recordings"

ROUTES = (
    route("POST", f"{_OF_CALL}.json", start_recording, START),
    *OwnRecordings(find_call, render_call_recording).routes(_OF_CALL),
    *OwnRecordings(find_conference, render_conference_recording).routes(_OF_CONFERENCE),
    route("GET", f"{_ACCOUNT}/Recordings.json", list_recordings),
    route("GET", f"{_ACCOUNT}/Recordings/{{recording}}.json", fetch_recording),
    route("DELETE", f"{_ACCOUNT}/Recordings/{{recording}}.json", delete_recording),
    # Media needs no credentials unless the account asks for them (Twilio docs, security).
    route("GET", f"{_ACCOUNT}/Recordings/{{recording}}.mp3", fetch_media, public=True),
    route("GET", f"{_ACCOUNT}/Recordings/{{recording}}.wav", fetch_media, public=True),
    route("GET", f"{_ACCOUNT}/Recordings/{{recording}}", fetch_media, public=True),
)
