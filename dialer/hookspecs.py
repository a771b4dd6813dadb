"""The contract with plugins: every hook in call order, and the values that pass through them.

The first six are called inside Twilio's request, so they answer fast and from memory: all of them and all
plugins together get 8 seconds, and whoever is left after that is not asked and counts as if it had raised. The
last five are told afterwards by the dispatcher: they may use the network, and are told again until they return
without an error.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import pluggy

from dialer.calls import Call
from dialer.numbers import E164

if TYPE_CHECKING:
    from click import Command
    from flask import Blueprint

hookspec = pluggy.HookspecMarker("dialer")
hookimpl = pluggy.HookimplMarker("dialer")

#: Hooks by the way they are called: the first answer counts, all answers count, no answer is wanted.
ASKED = ("choose_caller_id", "name_conference", "route_call", "handle_unanswered")
GATHERED = ("validate_call", "dial_options", "conference_options")
TOLD = ("call_started", "call_status", "conference_event", "recording_ready", "call_ended")
#: Hooks that are asked once, when a process starts.
SET_UP = ("register_blueprint", "register_commands")
#: Hooks that refuse the call when a plugin fails; the others go on without its answer.
FAILS_CLOSED = ("validate_call",)

CONFERENCE_NAME = re.compile(r"[A-Za-z0-9_-]{1,128}")
RING_SECONDS = range(5, 601)
#: Characters of a text: one that is longer is no sentence, and TwiML ends at 64 KB (Twilio docs, error 11750).
TEXT_LENGTH, RULE_LENGTH = 1000, 100

#: Names and values are those of DIAL_OPTIONS and of CONFERENCE_OPTIONS below.
DialOptions = dict[str, str]
ConferenceOptions = dict[str, str]


@dataclass(frozen=True, slots=True)
class Refusal:
    """Why a call is not placed: a sentence spoken to the agent (up to 1000 characters), a stable word for machines."""

    reason: str
    rule: str = ""


@dataclass(frozen=True, slots=True)
class Remark:
    """No objection to a call, and a text (up to 1000 characters) that stands on its record as evidence."""

    text: str


@dataclass(frozen=True, slots=True)
class Route:
    """The number to dial in place of the one asked for (E.164), and for how many seconds to let it ring."""

    to: str
    ring_seconds: int | None = None


@dataclass(frozen=True, slots=True)
class Unanswered:
    """What follows when nobody answered: a sentence for the agent, or another number to dial (E.164).

    `ring_seconds` is for that number; `stay_seconds` (0 to 600) is how long the agent stays before the sentence.
    """

    sentence: str = ""
    try_number: str = ""
    ring_seconds: int | None = None
    stay_seconds: int = 0


@dataclass(frozen=True, slots=True)
class CallEvent:
    """One fact that Twilio reported. `name` is its word (answered, participant-join), `at` in epoch seconds.

    `call_sid`, `role` and `status` are those of the leg concerned, empty when it is the conference; `detail`
    holds what else came with the fact.
    """

    name: str
    at: float
    call_sid: str = ""
    role: str = ""
    status: str = ""
    detail: dict[str, str] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Option:
    """What one option may be: one of the choices, a whole number within a range, or a text of a shape."""

    meaning: str
    choices: tuple[str, ...] = ()
    numbers: range | None = None
    shape: str = ""

    def accepts(self, value: str) -> bool:
        """Whether Twilio would take this value."""
        if self.numbers is not None:
            return re.fullmatch(r"[0-9]{1,6}", value) is not None and int(value) in self.numbers
        return value in self.choices or bool(self.shape and re.fullmatch(self.shape, value))


_BOOLEAN = ("true", "false")
_TRIM = Option("cut silence off both ends of the recording", ("trim-silence", "do-not-trim"))

#: What a plugin may set of the customer's call (Twilio docs, call-resource); numbers, TwiML and callbacks are
#: Dialer's own.
DIAL_OPTIONS: Mapping[str, Option] = {
    "timeout": Option("seconds to let it ring", numbers=RING_SECONDS),
    "time_limit": Option("seconds after which Twilio ends the call", numbers=range(10, 86_401)),
    "send_digits": Option("keys pressed after the answer, w to wait", shape=r"[0-9A-D#*wW]{1,32}"),
    "machine_detection": Option("find out who answered; call_status tells", ("Enable", "DetectMessageEnd")),
    "machine_detection_timeout": Option("seconds to find out", numbers=range(3, 60)),
    "machine_detection_speech_threshold": Option("ms of speech of a machine", numbers=range(1000, 6001)),
    "machine_detection_speech_end_threshold": Option("ms of silence that end it", numbers=range(500, 5001)),
    "machine_detection_silence_timeout": Option("ms of silence at first", numbers=range(2000, 10_001)),
    "record": Option("record the customer's leg", _BOOLEAN),
    "recording_channels": Option("both voices in one channel, or apart", ("mono", "dual")),
    "recording_track": Option("whose voice", ("inbound", "outbound", "both")),
    "trim": _TRIM,
    "announcement": Option(
        "a sentence, or the https URL of a sound, for the customer alone before he is joined; `record` begins after it",
        shape=r"[^\x00-\x1f\x7f]{1,500}",
    ),
    "call_reason": Option("shown by phones that can", shape=r"[^\r\n]{1,50}"),
}

#: What a plugin may set of the conference (Twilio docs, conference); labels, start, end and callbacks are
#: Dialer's own.
CONFERENCE_OPTIONS: Mapping[str, Option] = {
    "beep": Option("a tone when somebody comes or goes", (*_BOOLEAN, "onEnter", "onExit")),
    "wait_url": Option("what the agent hears while alone; empty is silence", ("",), shape=r"https?://[^\s<>\"]+"),
    "wait_method": Option("GET lets Twilio cache a sound file", ("GET", "POST")),
    "region": Option("where the sound is mixed", ("us1", "ie1", "de1", "sg1", "br1", "au1", "jp1")),
    "record": Option("record what all hear", ("do-not-record", "record-from-start")),
    "trim": _TRIM,
    "max_participants": Option("how many may join", numbers=range(2, 251)),
    "jitter_buffer_size": Option("more is smoother, less is quicker", ("small", "medium", "large", "off")),
}


@hookspec
def validate_call(call: Call) -> Refusal | Remark | None:
    """Refuse a call before it is dialled.

    When: after Twilio's signature, the agent and the number are checked, before anything is stored.
    Answer: a Refusal; None to let the call through, or a Remark to say why. An empty rule becomes the plugin's name.
    Several plugins: all are asked; one Refusal is enough, and the first one is spoken.
    If it raises: the call is refused with the rule plugin-error:<name>.
    """


@hookspec(firstresult=True)
def choose_caller_id(call: Call) -> str | None:
    """Choose the number that the customer sees.

    When: after validate_call, before the conference is named; call.from_ is the agent's wish, if the number is ours.
    Answer: a number in E.164 that belongs to the workspace, or None to leave it.
    Several plugins: asked in order; the first answer counts.
    If it raises: no answer.
    """


@hookspec(firstresult=True)
def name_conference(call: Call) -> str | None:
    """Name the conference that joins the agent and the customer.

    When: after choose_caller_id, before the agent joins.
    Answer: 1 to 128 letters, digits, _ and -, new for each call and nothing personal; or None.
    Several plugins: asked in order; the first answer counts.
    If it raises: no answer.
    """


@hookspec(firstresult=True)
def route_call(call: Call) -> Route | None:
    """Choose the number to dial, and for how long to let it ring.

    When: after name_conference, before the agent joins.
    Answer: a Route (E.164, 5 to 600 seconds), or None to dial call.to.
    Several plugins: asked in order; the first answer counts.
    If it raises: no answer.
    """


@hookspec
def dial_options(call: Call) -> DialOptions | None:
    """Set options of the customer's call, such as machine detection.

    When: after route_call; the call that is placed later uses them.
    Answer: a dict of the names and values under "Dial options", or None.
    Several plugins: all are asked; for an option that two of them set, the earlier plugin wins.
    If it raises: no answer.
    """


@hookspec
def conference_options(call: Call) -> ConferenceOptions | None:
    """Set options of the conference, such as recording.

    When: after dial_options, just before the answer to Twilio is written.
    Answer: a dict of the names and values under "Conference options", or None.
    Several plugins: all are asked; for an option that two of them set, the earlier plugin wins.
    If it raises: no answer.
    """


@hookspec(firstresult=True)
def handle_unanswered(call: Call) -> Unanswered | None:
    """Say what follows when the customer's phone is busy, not answered or not reached.

    When: after the leg's final status is stored, while the agent waits; by the dispatcher, within 4 seconds.
    Answer: an Unanswered, or None to end the call with the usual sentence.
    Several plugins: asked in order; the first answer counts.
    If it raises: no answer.
    """


@hookspec
def call_started(call: Call) -> None:
    """Learn that a call was accepted, or refused by validate_call (then call.status is rejected).

    When: after the call is stored.
    Answer: none.
    Several plugins: each is told on its own; one that is slow or fails holds up no other.
    If it raises: it is told again later, then put on the list of dead letters.
    """


@hookspec
def call_status(call: Call, event: CallEvent) -> None:
    """Learn that a leg changed its status, or who answered (name machine-detection, status what Twilio heard).

    When: after the status callback is stored; callbacks may come late, and a repeated one is told once.
    Answer: none.
    Several plugins: each is told on its own; one that is slow or fails holds up no other.
    If it raises: it is told again later, then put on the list of dead letters.
    """


@hookspec
def conference_event(call: Call, event: CallEvent) -> None:
    """Learn what happened in the conference: start, end, join, leave, mute, hold.

    When: after the conference callback is stored.
    Answer: none.
    Several plugins: each is told on its own; one that is slow or fails holds up no other.
    If it raises: it is told again later, then put on the list of dead letters.
    """


@hookspec
def recording_ready(call: Call, event: CallEvent) -> None:
    """Learn that a recording is finished and can be fetched.

    When: after Twilio's recording callback is stored; event.detail holds RecordingSid, RecordingUrl, RecordingDuration.
    Answer: none.
    Several plugins: each is told on its own; one that is slow or fails holds up no other.
    If it raises: it is told again later, then put on the list of dead letters.
    """


@hookspec
def call_ended(call: Call) -> None:
    """Learn that a call is over: how it ended, who ended it and how long it lasted.

    When: after the call has reached its terminal status.
    Answer: none.
    Several plugins: each is told on its own; one that is slow or fails holds up no other.
    If it raises: it is told again later, then put on the list of dead letters.
    """


@hookspec
def register_blueprint() -> Blueprint | None:
    """Bring pages or endpoints of the plugin's own, served under /plugins/<name>/ while it is on.

    When: as a web process starts; a plugin that is switched on later has its routes after the next restart.
    Answer: a flask.Blueprint, or None. Its views need a key of the workspace, except those marked `dialer.public`.
    Several plugins: each keeps to its own pages; a blueprint with `before_app_request` or the like is refused.
    If it raises: the plugin has no routes, and all else goes on; the same if it takes more than 5 s.
    """


@hookspec
def register_commands() -> Command | None:
    """Bring a command or a group of them, run as `dialer <name> ...`.

    When: as that command is run, or `dialer --help`.
    Answer: a click.Command or click.Group, or None.
    Several plugins: each has its own; a command of Dialer's own wins over a plugin's of that name.
    If it raises: the command line says so and goes on without it.
    """


def plain(answer: Any) -> Any:
    """The answer without the plugin's own classes, whose code would run again wherever the answer is used."""
    if isinstance(answer, Refusal):
        return Refusal(plain(answer.reason), plain(answer.rule))
    if isinstance(answer, Remark):
        return Remark(plain(answer.text))
    if isinstance(answer, Route):
        ring = answer.ring_seconds
        return Route(plain(answer.to), int.__int__(ring) if isinstance(ring, int) and ring is not True else ring)
    if isinstance(answer, Unanswered):
        return Unanswered(plain(answer.sentence), plain(answer.try_number), answer.ring_seconds, answer.stay_seconds)
    if isinstance(answer, dict):
        return {plain(name): plain(value) for name, value in answer.items()}
    return str.__str__(answer) if isinstance(answer, str) else answer


def answer_fault(hook: str, answer: object) -> str:
    """What is wrong with a plugin's answer to an asked or gathered hook; empty when nothing is."""
    if hook == "validate_call":
        return _fault_of_refusal(answer)
    if hook == "route_call":
        return _fault_of_route(answer)
    if hook == "handle_unanswered":
        return _fault_of_unanswered(answer)
    if hook in ("dial_options", "conference_options"):
        return _fault_of_options(DIAL_OPTIONS if hook == "dial_options" else CONFERENCE_OPTIONS, answer)
    caller_id = hook == "choose_caller_id"
    if isinstance(answer, str) and (E164 if caller_id else CONFERENCE_NAME).fullmatch(answer):
        return ""
    return f"{answer!r:.80} is not {'a number in E.164' if caller_id else 'a conference name'}"


def _fault_of_refusal(answer: object) -> str:
    if isinstance(answer, Remark):
        text = answer.text
        return _fault_of_text(text, TEXT_LENGTH) if isinstance(text, str) else f"{answer!r:.80} needs a text"
    if not isinstance(answer, Refusal):
        return f"{answer!r:.80} is not a Refusal or a Remark"
    if not (isinstance(answer.reason, str) and answer.reason.strip() and isinstance(answer.rule, str)):
        return f"{answer!r:.80} needs a sentence as its reason and a word as its rule"
    return _fault_of_text(answer.reason, TEXT_LENGTH) or _fault_of_text(answer.rule, RULE_LENGTH)


def _fault_of_text(text: str, most: int) -> str:
    if len(text) > most:
        return f"{text!r:.80} has {len(text)} characters, more than {most}"
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, as decoding with surrogateescape leaves it
        return f"{text!r:.80} cannot be written in UTF-8"
    return ""


def _fault_of_route(answer: object) -> str:
    if not isinstance(answer, Route):
        return f"{answer!r:.80} is not a Route"
    if not (isinstance(answer.to, str) and E164.fullmatch(answer.to)):
        return f"{answer.to!r:.80} is not a number in E.164"
    ring = answer.ring_seconds
    if ring is not None and not (isinstance(ring, int) and ring in RING_SECONDS):
        return f"ring_seconds {ring!r:.80} is not 5 to 600"
    return ""


def _fault_of_unanswered(answer: object) -> str:
    if not isinstance(answer, Unanswered):
        return f"{answer!r:.80} is not an Unanswered"
    if not (isinstance(answer.sentence, str) and isinstance(answer.try_number, str)):
        return f"{answer!r:.80} needs texts as sentence and try_number"
    stay = answer.stay_seconds
    if not (isinstance(stay, int) and stay in range(601)):
        return f"stay_seconds {stay!r:.80} is not 0 to 600"
    if not answer.try_number:
        return _fault_of_text(answer.sentence, TEXT_LENGTH)
    if answer.sentence or stay:
        return f"{answer!r:.80} has a number to try, so it can have no sentence and no stay_seconds"
    return _fault_of_route(Route(answer.try_number, answer.ring_seconds))


def _fault_of_options(allowed: Mapping[str, Option], answer: object) -> str:
    if not isinstance(answer, dict):
        return f"{answer!r:.80} is not a dict"
    for name, value in answer.items():
        if not (isinstance(name, str) and name in allowed):
            return f"{name!r:.80} is not an option a plugin may set (options: {', '.join(allowed)})"
        if not (isinstance(value, str) and allowed[name].accepts(value)):
            return f"{value!r:.80} is not a value of the option {name}"
        if fault := _fault_of_text(value, TEXT_LENGTH):
            return fault
    return ""
