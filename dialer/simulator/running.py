"""What runs in a leg now, and how it was asked for: the part of a call that no REST resource shows."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from dialer.simulator.documents import Verb
    from dialer.simulator.model import Call


@dataclass(slots=True)
class Timer:
    """A thing scheduled; cancel it with Network.cancel."""

    due: float
    action: Callable[..., None] | None
    arguments: tuple[Any, ...] = ()


@dataclass(slots=True)
class Callback:
    """A subscription to events, with the next SequenceNumber."""

    url: str
    method: str
    events: frozenset[str]
    sequence: int = 0


@dataclass(slots=True)
class Amd:
    """How the answering machine detection of a call was asked for. Times in seconds."""

    mode: str
    asynchronous: bool = False
    timeout: float = 30.0
    callback: Callback | None = None


@dataclass(slots=True)
class RecordingOrder:
    """How a recording was asked for, before it begins."""

    source: str
    channels: int = 1
    track: str = "both"
    trim: str = "do-not-trim"
    callback: Callback | None = None


@dataclass(slots=True)
class Execution:
    """One TwiML program of a call: fetched, then run verb by verb."""

    base_url: str | None = None
    """What relative URLs resolve against; None: nothing, as in a REST update with Twiml."""
    is_fallback: bool = False
    """Whether the fallback URL was asked: it is not asked twice."""
    verbs: list[Verb] = field(default_factory=list)
    position: int = 0
    timer: Timer | None = None
    then: Callable[[], None] | None = None
    """What follows the last verb, in place of the hangup."""
    keys: Callable[[str], None] | None = None
    """Takes the digits pressed while a Gather or Record listens."""
    resume: Callable[[], None] | None = None
    """Goes on after a conference that sent the call away."""
    bridged: bool = False
    """Whether another party was heard in the conference it went to."""
    undo: Callable[[str], None] | None = None
    """Ends the verb that runs when the program is taken away; is told the reason."""


@dataclass(slots=True)
class Dialled:
    """A running <Dial> with Number or Client: its legs, and the one that answered."""

    verb: Verb
    legs: list[Call] = field(default_factory=list)
    answered: Call | None = None
    bridged_at: float | None = None


@dataclass(slots=True)
class Joining:
    """Where and how a leg enters a conference."""

    name: str
    label: str = ""
    muted: bool = False
    hold: bool = False
    coaching: bool = False
    call_sid_to_coach: str = ""
    start_on_enter: bool = True
    end_on_exit: bool = False
    beep: str = "true"
    wait_url: str | None = None
    """None: Twilio's own music; empty: silence."""
    wait_method: str = "POST"
    max_participants: int = 250
    region: str = ""
    callback: Callback | None = None
    record: RecordingOrder | None = None
