"""The records of an account: what it owns, who is registered with it, and its debugger."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from dialer.simulator.model import AgentPlan


@dataclass(slots=True)
class Alert:
    """One line of Twilio's debugger."""

    at: float
    code: int
    level: Literal["error", "warning"]
    message: str
    call_sid: str | None = None
    conference_sid: str | None = None
    url: str | None = None


@dataclass(slots=True)
class VoiceUrls:
    """What a number, an application or a call is answered with. An empty URL means none."""

    voice_url: str = ""
    voice_method: str = "POST"
    voice_fallback_url: str = ""
    voice_fallback_method: str = "POST"
    status_callback: str = ""
    status_callback_method: str = "POST"


@dataclass(slots=True)
class Application(VoiceUrls):
    """A TwiML App."""

    sid: str = ""
    account_sid: str = ""
    friendly_name: str = ""
    date_created: float = 0.0
    date_updated: float = 0.0


@dataclass(slots=True)
class IncomingPhoneNumber(VoiceUrls):
    """A number that the account owns; an application, when named, answers in place of its own URLs."""

    sid: str = ""
    account_sid: str = ""
    phone_number: str = ""
    friendly_name: str = ""
    voice_application_sid: str = ""
    date_created: float = 0.0
    date_updated: float = 0.0


@dataclass(slots=True)
class OutgoingCallerId:
    """A number of somebody else that the account may show as caller ID."""

    sid: str
    account_sid: str
    phone_number: str
    friendly_name: str
    date_created: float
    date_updated: float


@dataclass(slots=True)
class Registration:
    """A browser that takes calls; answer_after None: it rings until Network.pick_up or decline."""

    identity: str
    answer_after: float | None = 1.0
    plan: AgentPlan | None = None


@dataclass(slots=True)
class Account:
    """One Twilio account with what belongs to it."""

    sid: str
    auth_token: str
    friendly_name: str = ""
    status: Literal["active", "suspended", "closed"] = "active"
    type: Literal["Full", "Trial"] = "Full"
    date_created: float = 0.0
    date_updated: float = 0.0
    keys: dict[str, str] = field(default_factory=dict)
    """API keys: SK sid to secret."""
    numbers: dict[str, IncomingPhoneNumber] = field(default_factory=dict)
    """By phone number."""
    caller_ids: dict[str, OutgoingCallerId] = field(default_factory=dict)
    """By phone number."""
    applications: dict[str, Application] = field(default_factory=dict)
    """By SID."""
    blocked_countries: set[str] = field(default_factory=set)
    """ISO codes that may not be dialled (21215)."""
    high_risk_special_countries: set[str] = field(default_factory=set)
    """ISO codes in which dialling special numbers is switched on, as dialling permissions show it."""
    high_risk_tollfraud_countries: set[str] = field(default_factory=set)
    """The same for ranges known for toll fraud."""
    cps: float | None = None
    """Calls started a second over REST; None: as the knob says."""
    max_calls: int | None = None
    """Calls at the same time; None: no limit."""
    clients: dict[str, Registration] = field(default_factory=dict)
    """Registered browsers by identity."""
    alerts: list[Alert] = field(default_factory=list)
    queued: int = 0
    """REST calls accepted and not yet started."""
    live: int = 0
    """Calls that have not ended."""
    next_start: float = 0.0
    """The earliest moment at which the calls-per-second limit allows another start."""
