"""Warnings about a TwiML document that Twilio runs all the same."""

from __future__ import annotations

from collections.abc import Iterator
from typing import NamedTuple

from dialer.simulator.documents import Verb


class Finding(NamedTuple):
    """One warning, with its error code; `bad_value`: an attribute has a value it may not have."""

    code: int
    message: str
    bad_value: bool = False


BOOLEAN = ("true", "false")
METHOD = ("GET", "POST")
EVENTS = ("in-progress", "completed", "absent")
PROGRESS = ("initiated", "ringing", "answered", "completed")
CONFERENCE_EVENTS = ("start", "end", "join", "leave", "mute", "hold", "modify", "speaker", "announcement")
RECORD = (
    "do-not-record", "record-from-answer", "record-from-ringing", "record-from-answer-dual",
    "record-from-ringing-dual", *BOOLEAN,
)  # fmt: skip
TRIM = ("trim-silence", "do-not-trim")
TRACK = ("inbound", "outbound", "both")
NUMBER = ("#",)
"""A whole number."""
ANY: tuple[str, ...] = ()
STATUS_CALLBACK = {"statusCallback": ANY, "statusCallbackMethod": METHOD, "statusCallbackEvent": PROGRESS}
RECORDING_CALLBACK = {
    "recordingStatusCallback": ANY,
    "recordingStatusCallbackMethod": METHOD,
    "recordingStatusCallbackEvent": EVENTS,
}
AMD = dict.fromkeys(
    (
        "machineDetection", "machineDetectionTimeout", "machineDetectionSpeechThreshold",
        "machineDetectionSpeechEndThreshold", "machineDetectionSilenceTimeout", "amdStatusCallback",
        "amdStatusCallbackMethod",
    ),
    ANY,
)  # fmt: skip
SCREENING = {"url": ANY, "method": METHOD}

ATTRIBUTES: dict[str, dict[str, tuple[str, ...]]] = {
    "Say": {"voice": ANY, "language": ANY, "loop": NUMBER},
    "Play": {"loop": NUMBER, "digits": ANY},
    "Pause": {"length": NUMBER},
    "Hangup": {},
    "Reject": {"reason": ("rejected", "busy")},
    "Redirect": {"method": METHOD},
    "Gather": {
        "action": ANY, "method": METHOD, "input": ANY, "timeout": ANY, "numDigits": NUMBER,
        "finishOnKey": ANY, "actionOnEmptyResult": BOOLEAN, "language": ANY, "hints": ANY,
        "speechTimeout": ANY, "speechModel": ANY,
        "profanityFilter": BOOLEAN, "enhanced": BOOLEAN, "partialResultCallback": ANY,
        "partialResultCallbackMethod": METHOD, "maxSpeechTime": NUMBER, "bargeIn": BOOLEAN, "debug": BOOLEAN,
        "dtmfDetection": ANY,
    },
    "Record": {
        "action": ANY, "method": METHOD, "timeout": NUMBER, "finishOnKey": ANY, "maxLength": NUMBER,
        "playBeep": BOOLEAN, "trim": TRIM, "transcribe": BOOLEAN, "transcribeCallback": ANY,
        "recordingConfigurationId": ANY, **RECORDING_CALLBACK,
    },
    "Dial": {
        "action": ANY, "method": METHOD, "answerOnBridge": BOOLEAN, "callerId": ANY, "callReason": ANY,
        "hangupOnStar": BOOLEAN, "timeLimit": NUMBER, "timeout": NUMBER, "record": RECORD, "trim": TRIM,
        "recordingTrack": TRACK, "recordingConfigurationId": ANY, "ringTone": ANY, "referUrl": ANY,
        "referMethod": METHOD, "sequential": BOOLEAN, **RECORDING_CALLBACK,
    },
    "Conference": {
        "muted": BOOLEAN, "beep": ("true", "false", "onEnter", "onExit"), "startConferenceOnEnter": BOOLEAN,
        "endConferenceOnExit": BOOLEAN, "participantLabel": ANY,
        "jitterBufferSize": ("small", "medium", "large", "off"), "waitUrl": ANY, "waitMethod": METHOD,
        "maxParticipants": NUMBER, "record": ("do-not-record", "record-from-start", *BOOLEAN),
        "region": ("us1", "ie1", "de1", "sg1", "br1", "au1", "jp1"), "trim": TRIM, "coach": ANY,
        "statusCallback": ANY, "statusCallbackMethod": METHOD, "statusCallbackEvent": CONFERENCE_EVENTS,
        "recordingConfigurationId": ANY, "eventCallbackUrl": ANY, **RECORDING_CALLBACK,
    },
    "Number": {"sendDigits": ANY, "byoc": ANY, **SCREENING, **STATUS_CALLBACK, **AMD},
    "Client": {**SCREENING, **STATUS_CALLBACK},
    "Sip": {"username": ANY, "password": ANY, **SCREENING, **STATUS_CALLBACK, **AMD},
    "Start": {},
    "Recording": {"channels": ("mono", "dual"), "track": TRACK, "trim": TRIM, **RECORDING_CALLBACK},
    "Identity": {},
    "Parameter": {"name": ANY, "value": ANY},
}  # fmt: skip

CHILDREN: dict[str, tuple[str, ...]] = {
    "": ("Say", "Play", "Pause", "Hangup", "Reject", "Redirect", "Gather", "Record", "Dial", "Start"),
    "Gather": ("Say", "Play", "Pause"),
    "Dial": ("Conference", "Number", "Client", "Sip"),
    "Client": ("Identity", "Parameter"),
    "Start": ("Recording",),
}

CODES: dict[tuple[str, str], int] = {
    ("Dial", "method"): 13210, ("Dial", "timeout"): 13212, ("Dial", "hangupOnStar"): 13213,
    ("Dial", "timeLimit"): 13216, ("Dial", "record"): 13217, ("Dial", "sequential"): 13218,
    ("Dial", "answerOnBridge"): 13219, ("Number", "method"): 13221, ("Conference", "muted"): 13230,
    ("Conference", "endConferenceOnExit"): 13231, ("Conference", "startConferenceOnEnter"): 13232,
    ("Conference", "waitMethod"): 13234, ("Conference", "beep"): 13235, ("Conference", "trim"): 13239,
}  # fmt: skip
"""Codes of bad attribute values; all others are 12200."""

LISTS = frozenset({"statusCallbackEvent", "recordingStatusCallbackEvent"})
"""Attributes that hold several values, separated by spaces."""


def lint(verbs: list[Verb], parent: str = "") -> Iterator[Finding]:
    """What Twilio's debugger would say about these verbs, one by one."""
    allowed = CHILDREN.get(parent, ())
    for verb in verbs:
        if verb.name not in allowed:
            code = 13215 if parent == "Dial" else 12200
            yield Finding(code, f"{verb.name} does not belong into {parent or 'Response'}")
            continue
        yield from lint_attributes(verb)
        yield from lint(verb.children, verb.name)


def lint_attributes(verb: Verb) -> Iterator[Finding]:
    known = ATTRIBUTES[verb.name]
    for name, value in verb.attributes.items():
        if name not in known:
            yield Finding(12200, f"{verb.name} has no attribute {name}")
        elif known[name] and not fits(value.strip(), known[name], name in LISTS):
            code = CODES.get((verb.name, name), 12200)
            yield Finding(code, f"{verb.name} {name}: {value!r} is not a valid value", True)


def fits(value: str, choices: tuple[str, ...], several: bool) -> bool:
    if choices is NUMBER:
        return value.isascii() and value.isdigit()
    if choices is METHOD:
        value = value.upper()
    return all(part in choices for part in (value.split() if several else [value]))
