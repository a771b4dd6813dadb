"""Conferences and their participants over REST."""

from __future__ import annotations

from dialer.simulator.model import Conference, Params, Participant
from dialer.simulator.resources import render_conference, render_participant
from dialer.simulator.rest_pages import list_response, matches_time
from dialer.simulator.rest_routes import Asked, RestResponse, delete_response, read_boolean, route

CREATE_PARTICIPANT = """
From To StatusCallback StatusCallbackMethod StatusCallbackEvent Label Timeout Record Muted Beep
StartConferenceOnEnter EndConferenceOnExit WaitUrl WaitMethod EarlyMedia MaxParticipants ConferenceRecord
ConferenceTrim ConferenceStatusCallback ConferenceStatusCallbackMethod ConferenceStatusCallbackEvent
RecordingChannels RecordingStatusCallback RecordingStatusCallbackMethod RecordingStatusCallbackEvent
ConferenceRecordingStatusCallback ConferenceRecordingStatusCallbackMethod
ConferenceRecordingStatusCallbackEvent SipAuthUsername SipAuthPassword Region Coaching CallSidToCoach
JitterBufferSize Byoc CallerId CallReason RecordingTrack TimeLimit MachineDetection MachineDetectionTimeout
MachineDetectionSpeechThreshold MachineDetectionSpeechEndThreshold MachineDetectionSilenceTimeout
AmdStatusCallback AmdStatusCallbackMethod Trim CallToken ClientNotificationUrl CallerDisplayName
"""
UPDATE_PARTICIPANT = """
Muted Hold HoldUrl HoldMethod AnnounceUrl AnnounceMethod WaitUrl WaitMethod BeepOnExit EndConferenceOnExit
Coaching CallSidToCoach
"""
UPDATE_CONFERENCE = "Status AnnounceUrl AnnounceMethod"


def find_conference(asked: Asked) -> Conference:
    """The account's conference of that CF SID: a name is not enough. Raises TwilioError 20404."""
    return asked.find(asked.network.conferences, "conference")


def _find_participant(asked: Asked) -> Participant:
    return asked.network.find_participant(find_conference(asked), asked.names["participant"])


def list_conferences(asked: Asked) -> RestResponse:
    query = asked.request.query
    own = [each for each in asked.network.conferences.values() if each.account_sid == asked.account.sid]
    rows = [each for each in reversed(own) if _passes(query, each)]
    return list_response(asked, "conferences", rows, render_conference)


def _passes(query: Params, conference: Conference) -> bool:
    return (
        query.get("FriendlyName") in ("", conference.friendly_name)
        and query.get("Status") in ("", conference.status)
        and matches_time(query, "DateCreated", conference.date_created)
        and matches_time(query, "DateUpdated", conference.date_updated)
    )


def fetch_conference(asked: Asked) -> RestResponse:
    return RestResponse.json(render_conference(find_conference(asked)))


def update_conference(asked: Asked) -> RestResponse:
    conference = asked.network.update_conference(find_conference(asked), asked.request.form)
    return RestResponse.json(render_conference(conference))


def create_participant(asked: Asked) -> RestResponse:
    sid, name = asked.account.sid, asked.names["conference"]
    participant = asked.network.create_participant(sid, name, asked.request.form)
    return RestResponse.json(render_participant(participant, created=True), 201)


def list_participants(asked: Asked) -> RestResponse:
    query = asked.request.query
    wanted = {name.lower(): read_boolean(query, name) for name in ("Muted", "Hold", "Coaching")}
    rows = [
        each
        for each in reversed(find_conference(asked).participants.values())
        if all(value in (None, getattr(each, name)) for name, value in wanted.items())
    ]
    return list_response(asked, "participants", rows, render_participant, lambda each: each.call_sid)


def fetch_participant(asked: Asked) -> RestResponse:
    return RestResponse.json(render_participant(_find_participant(asked)))


def update_participant(asked: Asked) -> RestResponse:
    participant = asked.network.update_participant(_find_participant(asked), asked.request.form)
    return RestResponse.json(render_participant(participant))


def remove_participant(asked: Asked) -> RestResponse:
    asked.network.remove_participant(_find_participant(asked))
    return delete_response()


_CONFERENCES = "/2010-04-01/Accounts/{account}/Conferences"
_PARTICIPANTS = f"{_CONFERENCES}/{{conference}}/Participants"

ROUTES = (
    route("GET", f"{_CONFERENCES}.json", list_conferences),
    route("GET", f"{_CONFERENCES}/{{conference}}.json", fetch_conference),
    route("POST", f"{_CONFERENCES}/{{conference}}.json", update_conference, UPDATE_CONFERENCE),
    route("POST", f"{_PARTICIPANTS}.json", create_participant, CREATE_PARTICIPANT),
    route("GET", f"{_PARTICIPANTS}.json", list_participants),
    route("GET", f"{_PARTICIPANTS}/{{participant}}.json", fetch_participant),
    route("POST", f"{_PARTICIPANTS}/{{participant}}.json", update_participant, UPDATE_PARTICIPANT),
    route("DELETE", f"{_PARTICIPANTS}/{{participant}}.json", remove_participant),
)
