"""Calls over REST: place, read, change, remove; and what the debugger said about each."""

from __future__ import annotations

from functools import partial

from dialer.simulator.account_records import Alert
from dialer.simulator.model import Call, Params
from dialer.simulator.resources import render_call
from dialer.simulator.resources_account import notification_sid, render_notification
from dialer.simulator.rest_pages import list_response, matches_time
from dialer.simulator.rest_routes import Asked, RestResponse, delete_response, route

CREATE = """
To From Url Method Twiml ApplicationSid FallbackUrl FallbackMethod StatusCallback StatusCallbackMethod
StatusCallbackEvent SendDigits Timeout TimeLimit Record RecordingChannels RecordingTrack Trim
RecordingStatusCallback RecordingStatusCallbackMethod RecordingStatusCallbackEvent MachineDetection
MachineDetectionTimeout MachineDetectionSpeechThreshold MachineDetectionSpeechEndThreshold
MachineDetectionSilenceTimeout AsyncAmd AsyncAmdStatusCallback AsyncAmdStatusCallbackMethod CallerId Byoc
CallReason CallToken SipAuthUsername SipAuthPassword ClientNotificationUrl
"""
UPDATE = "Url Method Status FallbackUrl FallbackMethod StatusCallback StatusCallbackMethod Twiml TimeLimit"


def find_call(asked: Asked) -> Call:
    """The account's call that the path names. Raises TwilioError 20404."""
    call = asked.find(asked.network.calls, "call")
    if not _is_visible(asked, call):
        raise asked.not_found()
    return call


def _is_visible(asked: Asked, call: Call) -> bool:
    age = asked.network.now - call.date_created
    return call.account_sid == asked.account.sid and age >= asked.network.knobs.listing_delay


def create_call(asked: Asked) -> RestResponse:
    call = asked.network.create_call(asked.account.sid, asked.request.form)
    return RestResponse.json(render_call(call), 201)


def list_calls(asked: Asked) -> RestResponse:
    query = asked.request.query
    now = asked.network.now
    listed = [call for call in reversed(asked.network.calls.values()) if now >= call.listed_at]
    calls = [call for call in listed if _is_visible(asked, call)]
    rows = [call for call in calls if _passes(query, call)]
    return list_response(asked, "calls", rows, render_call)


def _passes(query: Params, call: Call) -> bool:
    wanted = [
        ("To", call.to),
        ("From", call.from_),
        ("Status", call.status),
        ("ParentCallSid", call.parent_call_sid),
    ]
    return (
        all(query.get(name) in ("", value) for name, value in wanted)
        and matches_time(query, "StartTime", call.start_time)
        and matches_time(query, "EndTime", call.end_time)
    )


def fetch_call(asked: Asked) -> RestResponse:
    return RestResponse.json(render_call(find_call(asked)))


def update_call(asked: Asked) -> RestResponse:
    call = asked.network.update_call(find_call(asked), asked.request.form)
    return RestResponse.json(render_call(call))


def delete_call(asked: Asked) -> RestResponse:
    asked.network.delete_call(find_call(asked))
    return delete_response()


def list_notifications(asked: Asked) -> RestResponse:
    query = asked.request.query
    rows = [alert for alert in _alerts(asked) if matches_time(query, "MessageDate", alert.at)]
    render = partial(render_notification, asked.account.sid)
    return list_response(asked, "notifications", rows, render, notification_sid)


def fetch_notification(asked: Asked) -> RestResponse:
    for alert in _alerts(asked):
        if notification_sid(alert) == asked.names["notification"]:
            return RestResponse.json(render_notification(asked.account.sid, alert))
    raise asked.not_found()


def _alerts(asked: Asked) -> list[Alert]:
    call = find_call(asked)
    return [alert for alert in reversed(asked.account.alerts) if alert.call_sid == call.sid]


_CALLS = "/2010-04-01/Accounts/{account}/Calls"

ROUTES = (
    route("POST", f"{_CALLS}.json", create_call, CREATE),
    route("GET", f"{_CALLS}.json", list_calls),
    route("GET", f"{_CALLS}/{{call}}.json", fetch_call),
    route("POST", f"{_CALLS}/{{call}}.json", update_call, UPDATE),
    route("DELETE", f"{_CALLS}/{{call}}.json", delete_call),
    route("GET", f"{_CALLS}/{{call}}/Notifications.json", list_notifications),
    route("GET", f"{_CALLS}/{{call}}/Notifications/{{notification}}.json", fetch_notification),
)
