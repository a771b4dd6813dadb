"""What somebody in a conference hears meanwhile: hold music and announcements from TwiML."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from dialer.simulator import addresses, conference_events, execution, verbs, webhooks
from dialer.simulator.documents import DocumentError, Verb
from dialer.simulator.fields import call_fields
from dialer.simulator.model import Call, Conference, Participant
from dialer.simulator.webhooks import Outcome

if TYPE_CHECKING:
    from dialer.simulator.network import Network

ALLOWED = frozenset({"Play", "Say", "Pause", "Redirect"})


def play(
    network: Network, call: Call, url: str, method: str, purpose: str, ready: Callable[[bool], None]
) -> None:
    """Play the music at that URL until stop; `ready` hears once whether it could be had."""
    call.wait_number += 1
    done = partial(received, network, call, call.wait_number, ready)
    webhooks.send(network, call.account_sid, purpose, method, url, call_fields(call), call, None, done)


def stop(network: Network, call: Call) -> None:
    """The music is over."""
    call.wait_number += 1
    network.cancel(call.timers.pop("wait", None))


def received(
    network: Network, call: Call, number: int, ready: Callable[[bool], None], outcome: Outcome
) -> None:
    """Play what came; at a Redirect, ask there for more."""
    if number != call.wait_number:
        return
    document = read(network, call.account_sid, outcome, call)
    if document is None:
        ready(False)
        return
    seconds = 0.0
    for verb in document:
        if verb.name == "Redirect":
            url = addresses.resolve(outcome.url, verb.text)
            again = (network, call, url, verb.method(), "wait", ignore)
            if url and seconds != float("inf"):
                call.timers["wait"] = network.later(max(seconds, 1.0), play, *again)
            break
        seconds += verbs.media_seconds(verb)
    ready(True)


def ignore(heard: bool) -> None:
    """Music that is asked for again and fails just falls silent."""


def read(network: Network, account_sid: str, outcome: Outcome, call: Call | None) -> list[Verb] | None:
    """The verbs to play; None, with an alert, when they could not be had."""
    try:
        document = execution.read_document(outcome)
    except DocumentError as error:
        network.alert(account_sid, error.code, error.message, call=call, url=outcome.url)
        return None
    for verb in document:
        if verb.name not in ALLOWED:
            network.alert(account_sid, 13238, f"{verb.name} cannot be played", call=call, url=outcome.url)
    return [verb for verb in document if verb.name in ALLOWED]


def announce(
    network: Network, conference: Conference, participant: Participant | None, url: str, method: str
) -> None:
    """Play an announcement to one participant, or to all."""
    call = network.calls[participant.call_sid] if participant else None
    done = partial(announced, network, conference, participant, url)
    fields = call_fields(call) if call else [("AccountSid", conference.account_sid)]
    fields.append(("ConferenceSid", conference.sid))
    webhooks.send(network, conference.account_sid, "announce", method, url, fields, call, conference, done)


def announced(
    network: Network, conference: Conference, participant: Participant | None, url: str, outcome: Outcome
) -> None:
    document = read(network, conference.account_sid, outcome, None)
    extra = [("AnnounceUrl", url)]
    if document is None:
        extra.append(("ReasonAnnouncementFailed", f"The announcement could not be had: {outcome.message}"))
        conference_events.tell(network, conference, "announcement-fail", participant, extra)
        return
    network.note("announcement", None, conference, url=url)
    seconds = sum(verbs.media_seconds(verb) for verb in document)
    if seconds != float("inf"):
        event = (network, conference, "announcement-end", participant, extra)
        network.later(seconds, conference_events.tell, *event)
