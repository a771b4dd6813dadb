"""The scripted people: what happens at each number, in one table."""

from __future__ import annotations

import re
from dataclasses import dataclass

from dialer.simulator.knobs import FinalStatus

POOL = re.compile(r"\+1415555010[0-9]|\+141555501[1-9][0-9]")
"""The simulator's own numbers: +14155550100 to +14155550199."""


@dataclass(frozen=True, slots=True)
class Machine:
    """An answering machine: seconds from answer to the beep that ends its greeting."""

    greeting: float


@dataclass(frozen=True, slots=True)
class Phone:
    """Whoever is at the other end of a leg, phone or browser. Times in seconds."""

    number: str
    story: str
    signals_ringing: bool = True
    """Whether the carrier tells Twilio that it rings."""
    answer_after: float | None = 1.0
    """From the first ring; None: nobody picks up."""
    refuse_with: FinalStatus | None = None
    """Final status when the call fails instead of being answered."""
    refuse_after: float | None = None
    """From the first ring; None: refused without ringing."""
    sip_code: int = 200
    """What the carrier says at the end, when refuse_with is set."""
    hang_up_after: float | None = None
    """From the answer."""
    hang_up_after_bridged: float | None = None
    """From the moment another party can be heard."""
    keys: str = ""
    """Pressed one a second, from 2 s after the answer."""
    machine: Machine | None = None
    rest_error: int = 0
    """Twilio's error code when the REST API refuses to dial this number at all."""


PHONES: dict[str, Phone] = {
    phone.number: phone
    for phone in (
        Phone("+14155550101", "Answers after 1 s and talks until hung up."),
        Phone("+14155550102", "Busy.", refuse_with="busy", sip_code=486),
        Phone("+14155550103", "Rings and is never answered.", answer_after=None),
        Phone("+14155550104", "Unreachable: fails without ringing.", refuse_with="failed", sip_code=404),
        Phone("+14155550105",
            "Voicemail: a machine answers after 4 s, greets for 6 s, beeps, and hangs up after 20 s.",
            answer_after=4.0,
            machine=Machine(greeting=6.0),
            hang_up_after=20.0,
        ),
        Phone("+14155550106", "Answers after 1 s and hangs up 3 s later.", hang_up_after=3.0),
        Phone("+14155550107", "Refused by the REST API as invalid (21211).", rest_error=21211),
        Phone("+14155550108", "Slow: rings 12 s, then answers and talks until hung up.", answer_after=12.0),
        Phone("+14155550109", "Answers after 1 s and hangs up at once.", hang_up_after=0.3),
        Phone("+14155550110", "Rings 2 s, then rejects.", refuse_with="busy", refuse_after=2.0, sip_code=486),
        Phone("+14155550111", "Refused by the REST API: no geographic permission (21215).", rest_error=21215),
        Phone("+14155550112", "Answers after 1 s and hangs up 30 s later.", hang_up_after=30.0),
        Phone("+14155550113", "Its carrier never reports ringing; answers after 1 s.", signals_ringing=False),
        Phone("+14155550114", "Rings 3 s, then fails.", refuse_with="failed", refuse_after=3.0, sip_code=503),
        Phone("+14155550115", "Answers after 1 s, talks, and presses 1, 2, # from 2 s on.", keys="12#"),
    )
}


def phone_at(number: str, unknown_number: str) -> Phone:
    """The script behind a number; those without one behave like `unknown_number`."""
    phone = PHONES.get(number)
    if phone is None:
        phone = PHONES["+14155550101"] if POOL.fullmatch(number) else PHONES.get(unknown_number)
    return phone or PHONES["+14155550101"]


def browser(
    identity: str,
    answer_after: float | None,
    hang_up_after: float | None = None,
    hang_up_after_bridged: float | None = None,
) -> Phone:
    """The person at a browser, as the other end of a leg."""
    return Phone(
        f"client:{identity}",
        "A browser.",
        answer_after=answer_after,
        hang_up_after=hang_up_after,
        hang_up_after_bridged=hang_up_after_bridged,
    )
