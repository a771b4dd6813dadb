"""Calls, conferences, participants and recordings as REST shows them, with every field of Twilio's schema."""

from __future__ import annotations

from email.utils import formatdate
from typing import Any

from dialer.simulator.model import (
    API_VERSION,
    Call,
    Conference,
    Participant,
    Recording,
)

Json = dict[str, Any]

_CALL_PARTS = (
    "notifications",
    "recordings",
    "payments",
    "events",
    "siprec",
    "streams",
    "transcriptions",
    "user_defined_message_subscriptions",
    "user_defined_messages",
)


def render_time(at: float | None) -> str | None:
    """Epoch seconds as REST writes dates: RFC 2822, UTC."""
    return None if at is None else formatdate(at, usegmt=False).replace("-0000", "+0000")


def format_number(party: str) -> str:
    """A party for display: North American numbers grouped, everything else as it is."""
    if party.startswith("+1") and len(party) == 12 and party[1:].isdigit():
        return f"({party[2:5]}) {party[5:8]}-{party[8:]}"
    return party


def pascal_case(name: str) -> str:
    """`user_defined_messages` as UserDefinedMessages."""
    return "".join(word.capitalize() for word in name.split("_"))


def account_path(account_sid: str) -> str:
    """Where the resources of an account live."""
    return f"/{API_VERSION}/Accounts/{account_sid}"


def render_call(call: Call) -> Json:
    """Call. Prices are always null: the network bills nobody."""
    path = f"{account_path(call.account_sid)}/Calls/{call.sid}"
    return {
        "sid": call.sid,
        "account_sid": call.account_sid,
        "parent_call_sid": call.parent_call_sid,
        "to": call.to,
        "to_formatted": format_number(call.to),
        "from": call.from_,
        "from_formatted": format_number(call.from_),
        "phone_number_sid": call.phone_number_sid,
        "status": call.status,
        "direction": call.direction,
        "answered_by": call.answered_by,
        "date_created": render_time(call.date_created),
        "date_updated": render_time(call.date_updated),
        "start_time": render_time(call.start_time),
        "end_time": render_time(call.end_time),
        "duration": None if call.duration is None else str(call.duration),
        "queue_time": str(call.queue_time),
        "price": None,
        "price_unit": "USD",
        "api_version": API_VERSION,
        "forwarded_from": None,
        "group_sid": None,
        "caller_name": None,
        "trunk_sid": None,
        "uri": f"{path}.json",
        "subresource_uris": {part: f"{path}/{pascal_case(part)}.json" for part in _CALL_PARTS},
    }


def render_conference(conference: Conference) -> Json:
    """Conference."""
    path = f"{account_path(conference.account_sid)}/Conferences/{conference.sid}"
    return {
        "sid": conference.sid,
        "account_sid": conference.account_sid,
        "friendly_name": conference.friendly_name,
        "status": conference.status,
        "region": conference.region,
        "reason_conference_ended": conference.reason_conference_ended,
        "call_sid_ending_conference": conference.call_sid_ending_conference,
        "date_created": render_time(conference.date_created),
        "date_updated": render_time(conference.date_updated),
        "api_version": API_VERSION,
        "uri": f"{path}.json",
        "subresource_uris": {
            "participants": f"{path}/Participants.json",
            "recordings": f"{path}/Recordings.json",
        },
    }


def render_participant(participant: Participant, created: bool = False) -> Json:
    """Participant; only the answer to its creation tells the queue time."""
    path = f"{account_path(participant.account_sid)}/Conferences/{participant.conference_sid}"
    return {
        "account_sid": participant.account_sid,
        "call_sid": participant.call_sid,
        "conference_sid": participant.conference_sid,
        "label": participant.label or None,
        "muted": participant.muted,
        "hold": participant.hold,
        "coaching": participant.coaching,
        "call_sid_to_coach": participant.call_sid_to_coach or None,
        "start_conference_on_enter": participant.start_on_enter,
        "end_conference_on_exit": participant.end_on_exit,
        "status": participant.status,
        "queue_time": str(participant.queue_time) if created else None,
        "date_created": render_time(participant.date_created),
        "date_updated": render_time(participant.date_updated),
        "uri": f"{path}/Participants/{participant.call_sid}.json",
    }


def render_recording(recording: Recording) -> Json:
    """Recording, as /Recordings shows it."""
    path = f"{account_path(recording.account_sid)}/Recordings/{recording.sid}"
    return {
        **_recording_fields(recording),
        "uri": f"{path}.json",
        "media_url": recording.url,
        "subresource_uris": {
            "add_on_results": f"{path}/AddOnResults.json",
            "transcriptions": f"{path}/Transcriptions.json",
        },
    }


def render_call_recording(recording: Recording) -> Json:
    """Recording, as a call's recordings show it."""
    path = f"{account_path(recording.account_sid)}/Calls/{recording.call_sid}/Recordings/{recording.sid}"
    return {**_recording_fields(recording), "track": recording.track, "uri": f"{path}.json"}


def render_conference_recording(recording: Recording) -> Json:
    """Recording, as a conference's recordings show it."""
    path = f"{account_path(recording.account_sid)}/Conferences/{recording.conference_sid}"
    return {**_recording_fields(recording), "uri": f"{path}/Recordings/{recording.sid}.json"}


def _recording_fields(recording: Recording) -> Json:
    return {
        "sid": recording.sid,
        "account_sid": recording.account_sid,
        "call_sid": recording.call_sid,
        "conference_sid": recording.conference_sid,
        "status": recording.status,
        "source": recording.source,
        "channels": recording.channels,
        "duration": None if recording.duration is None else str(recording.duration),
        "start_time": render_time(recording.start_time),
        "date_created": render_time(recording.date_created),
        "date_updated": render_time(recording.date_updated),
        "error_code": recording.error_code,
        "encryption_details": None,
        "price": None,
        "price_unit": "USD",
        "api_version": API_VERSION,
    }
