"""Reading REST parameters: what Twilio refuses is a TwilioError here."""

from __future__ import annotations

import re
from urllib.parse import urlsplit

from dialer.simulator.documents import DocumentError, parse
from dialer.simulator.model import Params, TwilioError
from dialer.simulator.running import Amd, Callback, RecordingOrder

RECORDING_EVENTS = frozenset({"in-progress", "completed", "absent"})
MAX_TWIML = 4000
DIGITS = re.compile(r"[0-9A-D#*wW]{1,32}")


def bad(code: int, message: str) -> TwilioError:
    return TwilioError(400, code, message)


def url(params: Params, name: str, code: int) -> str:
    """An absolute URL; empty when not given."""
    value = params.get(name).strip()
    if not value:
        return ""
    try:
        parts = urlsplit(value)
        host = parts.hostname or "_"  # no host is as bad as one with an underscore
        usable = parts.scheme in ("http", "https") and "_" not in host and parts.port != 0
    except ValueError:
        usable = False
    if not usable:
        raise bad(code, f"{name} is not a valid URL: {value}")
    return value


def method(params: Params, name: str, default: str = "POST") -> str:
    """GET or POST (21209)."""
    value = params.get(name, default).upper() or default
    if value not in ("GET", "POST"):
        raise bad(21209, f"{name} must be GET or POST")
    return value


def whole(params: Params, name: str, default: int, low: int, high: int, code: int = 20422) -> int:
    """A whole number between the two bounds."""
    value = params.get(name).strip()
    if not value:
        return default
    if not (value.isascii() and value.isdigit()) or len(value) > 9 or not low <= int(value) <= high:
        raise bad(code, f"{name} must be a number from {low} to {high}")
    return int(value)


def flag(params: Params, name: str, default: bool = False) -> bool:
    """true or false."""
    value = params.get(name).strip().lower()
    if value not in ("", "true", "false"):
        raise bad(20422, f"{name} must be true or false")
    return value == "true" if value else default


def choice(params: Params, name: str, choices: tuple[str, ...], code: int = 20422) -> str:
    """One of the choices; the first when not given."""
    value = params.get(name, choices[0]) or choices[0]
    if value not in choices:
        raise bad(code, f"{name} must be one of {', '.join(choices)}")
    return value


def callback(params: Params, name: str, code: int, events: frozenset[str]) -> Callback | None:
    """A subscription to those events at the URL of that name; None without a URL."""
    address = url(params, name, code)
    verb = method(params, f"{name}Method")
    return Callback(address, verb, events) if address else None


def twiml(params: Params) -> str:
    """The Twiml parameter; it must be short (32018) and a document (12100, 12102)."""
    text = params.get("Twiml")
    if len(text) > MAX_TWIML:
        raise bad(32018, f"Twiml is longer than {MAX_TWIML} characters")
    if text:
        try:
            parse(text)
        except DocumentError as error:
            raise bad(error.code, error.message) from None
    return text


def time_limit(params: Params) -> float:
    """How long the call may last, in seconds (13216)."""
    return float(whole(params, "TimeLimit", 14_400, 1, 86_400, 13216))


def send_digits(params: Params) -> str:
    """Keys to press after the answer (21206)."""
    digits = params.get("SendDigits")
    if digits and not DIGITS.fullmatch(digits):
        raise bad(21206, "SendDigits holds up to 32 of 0-9 A-D # * w W")
    return digits


def recording_order(params: Params, source: str, prefix: str = "") -> RecordingOrder:
    """How to record, from parameters that may have a prefix, as ConferenceRecording has."""
    events = frozenset(" ".join(params.all(f"{prefix}RecordingStatusCallbackEvent")).split())
    if not events <= RECORDING_EVENTS:
        raise bad(13621, "RecordingStatusCallbackEvent must be in-progress, completed or absent")
    channels = choice(params, f"{prefix}RecordingChannels", ("mono", "dual"))
    track = choice(params, f"{prefix}RecordingTrack", ("both", "inbound", "outbound"))
    trim = choice(params, "ConferenceTrim" if prefix else "Trim", ("trim-silence", "do-not-trim"))
    name = f"{prefix}RecordingStatusCallback"
    told = callback(params, name, 21609, events or frozenset({"completed"}))
    return RecordingOrder(source, 2 if channels == "dual" else 1, track, trim, told)


def amd(params: Params, timeout_range: tuple[int, int], callback_name: str) -> Amd | None:
    """Machine detection; None when not asked for (21234)."""
    mode = choice(params, "MachineDetection", ("", "Enable", "DetectMessageEnd"), 21234)
    if not mode:
        return None
    timeout = whole(params, "MachineDetectionTimeout", 30, *timeout_range, code=21234)
    whole(params, "MachineDetectionSpeechThreshold", 2400, 1000, 6000, 21234)
    whole(params, "MachineDetectionSpeechEndThreshold", 1200, 500, 5000, 21234)
    whole(params, "MachineDetectionSilenceTimeout", 5000, 2000, 10_000, 21234)
    asynchronous = flag(params, "AsyncAmd") or callback_name == "AmdStatusCallback"
    told = callback(params, callback_name, 21609, frozenset())
    return Amd(mode, asynchronous, float(timeout), told)
