"""Values in, TwiML out, through the SDK's builder: it escapes, and starts with the XML declaration."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass

from twilio.twiml.voice_response import Dial, VoiceResponse

_CONTROL = re.compile(r"[\x00-\x08\x0b\x0c\x0e-\x1f\x7f\ufffe\uffff\ud800-\udfff]")


CONFERENCE_EVENTS = "start end join leave mute hold"
RECORDING_EVENTS = ("in-progress", "completed", "absent")


def clean(text: str) -> str:
    """Without the characters that no XML document may hold (Twilio answers them with error 12100)."""
    return _CONTROL.sub("", text)


def sentence(text: str, language: str) -> str:
    """Say one sentence and hang up."""
    response = VoiceResponse()
    response.say(clean(text), language=language)
    response.hangup()
    return str(response)


def message(say: str, play: str, language: str) -> str:
    """Play a sound file or say a text to an answering machine, and hang up."""
    response = VoiceResponse()
    _speak(response, say, play, language)
    response.hangup()
    return str(response)


def _speak(response: VoiceResponse, say: str, play: str, language: str) -> None:
    if play:
        response.play(clean(play))
    else:
        response.say(clean(say), language=language)


def agent_conference(
    name: str,
    *,
    status_callback: str,
    recording_callback: str,
    wait_url: str,
    time_limit: int,
    options: Mapping[str, str],
) -> str:
    """Put the agent into the conference; he keeps it open, and its callbacks are configured through him.

    Only the first participant's statusCallback counts (Twilio docs, conference), and the agent is the first.
    """
    events = " ".join(RECORDING_EVENTS)
    told = {"recording_status_callback": recording_callback, "recording_status_callback_event": events}
    return _conference(
        name,
        time_limit,
        {
            "beep": "false",
            "wait_url": wait_url,
            **options,
            "participant_label": "agent",
            "start_conference_on_enter": "true",
            "end_conference_on_exit": "false",
            "status_callback": status_callback,
            "status_callback_event": CONFERENCE_EVENTS,
            **(told if options.get("record") == "record-from-start" else {}),
        },
    )


@dataclass(frozen=True, slots=True)
class Opening:
    """What comes before the customer is joined: a sentence or a sound's URL, and a recording that begins after it.

    `recording` are the attributes of <Recording> (Twilio docs, recording noun); empty when there is none.
    """

    announcement: str
    language: str
    recording: Mapping[str, str]


def customer_conference(name: str, *, status_callback: str, time_limit: int, opening: Opening | None = None) -> str:
    """Put the customer into the conference, which ends when he leaves; should he be first, it tells us of itself."""
    response = VoiceResponse()
    if opening:
        sound = opening.announcement if opening.announcement.startswith("https://") else ""
        _speak(response, opening.announcement, sound, opening.language)
        if opening.recording:
            response.start().recording(**opening.recording)
    return _conference(
        name,
        time_limit,
        {
            "beep": "false",
            "wait_url": "",
            "participant_label": "customer",
            "end_conference_on_exit": "true",
            "status_callback": status_callback,
            "status_callback_event": CONFERENCE_EVENTS,
        },
        response,
    )


def _conference(
    name: str, time_limit: int, attributes: Mapping[str, str], response: VoiceResponse | None = None
) -> str:
    dial = Dial(time_limit=time_limit)
    dial.conference(name, **{key: clean(value) for key, value in attributes.items()})
    response = response or VoiceResponse()
    response.append(dial)
    return str(response)
