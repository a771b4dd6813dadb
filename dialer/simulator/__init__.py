"""A telephone network, simulated: it speaks Twilio's REST, TwiML and webhooks, and needs no dialer."""

from dialer.simulator.account_records import Account, Application
from dialer.simulator.knobs import Faults, Knobs
from dialer.simulator.model import (
    AgentPlan,
    Call,
    Conference,
    Entry,
    Params,
    Participant,
    Recording,
    TwilioError,
    WebAnswer,
    WebRequest,
)
from dialer.simulator.network import Network

__all__ = [
    "Account",
    "AgentPlan",
    "Application",
    "Call",
    "Conference",
    "Entry",
    "Faults",
    "Knobs",
    "Network",
    "Params",
    "Participant",
    "Recording",
    "TwilioError",
    "WebAnswer",
    "WebRequest",
]
