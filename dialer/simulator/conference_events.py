"""Conference events: who is told of what, with which fields."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dialer.simulator import webhooks
from dialer.simulator.fields import Fields, rfc2822
from dialer.simulator.model import Conference, Participant

if TYPE_CHECKING:
    from dialer.simulator.network import Network

TOKENS = {
    "conference-start": "start",
    "conference-end": "end",
    "participant-join": "join",
    "participant-leave": "leave",
    "participant-mute": "mute",
    "participant-unmute": "mute",
    "participant-hold": "hold",
    "participant-unhold": "hold",
    "participant-modify": "modify",
    "announcement-end": "announcement",
    "announcement-fail": "announcement",
}
"""Events and the word in statusCallbackEvent that subscribes to each."""



def end_fields(reason: str, ender: Participant | None) -> Fields:
    fields = [("ReasonConferenceEnded", reason), ("Reason", f"Conference ended: {reason}")]
    if ender is not None:
        fields.append(("CallSidEndingConference", ender.call_sid))
        if ender.label:
            fields.append(("ParticipantLabelEndingConference", ender.label))
    return fields


def tell(
    network: Network,
    conference: Conference,
    event: str,
    participant: Participant | None = None,
    extra: Fields | None = None,
) -> None:
    """Send a conference event, when subscribed (Twilio docs, conference)."""
    callback = conference.callback
    if callback is None or TOKENS[event] not in callback.events:
        return
    fields = [
        ("AccountSid", conference.account_sid),
        ("ConferenceSid", conference.sid),
        ("FriendlyName", conference.friendly_name),
        ("StatusCallbackEvent", event),
        ("SequenceNumber", str(callback.sequence)),
        ("Timestamp", rfc2822(int(network.now))),
    ]
    callback.sequence += 1
    if participant is not None:
        fields += participant_fields(participant)
    if extra:
        fields += extra
    call = network.calls.get(participant.call_sid) if participant else None
    webhooks.notify(network, "conference", callback, conference.account_sid, fields, call, conference)


def participant_fields(participant: Participant) -> Fields:
    fields = [("CallSid", participant.call_sid)]
    if participant.label:
        fields.append(("ParticipantLabel", participant.label))
    flags = (
        ("Muted", participant.muted),
        ("Hold", participant.hold),
        ("Coaching", participant.coaching),
        ("EndConferenceOnExit", participant.end_on_exit),
        ("StartConferenceOnEnter", participant.start_on_enter),
    )
    return fields + [(name, "true" if value else "false") for name, value in flags]
