"""Recordings of calls and conferences, and their status callbacks."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING

from dialer.simulator import parameters, webhooks
from dialer.simulator.fields import rfc2822
from dialer.simulator.model import API_VERSION, Call, Conference, Params, Recording, TwilioError
from dialer.simulator.running import RecordingOrder

if TYPE_CHECKING:
    from dialer.simulator.network import Network


def begin(
    network: Network, order: RecordingOrder, call: Call | None = None, conference: Conference | None = None
) -> Recording:
    """Start recording a call or a conference."""
    owner = call or conference
    assert owner is not None
    sid = network.sid("RE")
    recording = Recording(
        sid,
        owner.account_sid,
        call.sid if call else None,
        conference.sid if conference else None,
        order.source,
        order.channels,
        order.track,
        network.now,
        network.now,
        network.now,
        url=f"{network.media_base}/{API_VERSION}/Accounts/{owner.account_sid}/Recordings/{sid}",
        callback=order.callback,
        resumed_at=network.now,
    )
    network.recordings[sid] = recording
    owner.recordings.append(recording)
    network.note("recording-start", call, conference, recording=sid)
    tell(network, recording, "in-progress")
    return recording


def start_recording(network: Network, call: Call, params: Params) -> Recording:
    """Record a call in progress, as REST asks."""
    order = parameters.recording_order(params, "StartCallRecordingAPI", "")
    if call.phase != "in-progress":
        raise TwilioError(400, 21220, "The call is not in progress and cannot be recorded")
    return begin(network, order, call=call)


def find_recording(owner: Call | Conference, sid: str) -> Recording:
    """A recording by SID, or the running one."""
    for recording in reversed(owner.recordings):
        running = recording.status in ("in-progress", "paused")
        if recording.sid == sid or (sid == "Twilio.CURRENT" and running):
            return recording
    raise TwilioError(404, 20404, f"The recording {sid} was not found")


def update_recording(network: Network, recording: Recording, params: Params) -> Recording:
    """Pause, resume or stop; error 16114 when it is over."""
    behaviour = parameters.choice(params, "PauseBehavior", ("silence", "skip"))
    status = parameters.choice(params, "Status", ("", "paused", "in-progress", "stopped"))
    if not status:
        raise TwilioError(400, 20422, "Status is required")
    if recording.status not in ("in-progress", "paused"):
        raise TwilioError(400, 16114, "The recording is over")
    recording.date_updated = network.now
    if status == "stopped":
        finish(network, recording)
    elif status == "paused" and recording.status == "in-progress":
        pause(network, recording, behaviour == "skip")
    elif status == "in-progress" and recording.status == "paused":
        recording.status = "in-progress"
        recording.resumed_at = recording.resumed_at or network.now
    return recording


def pause(network: Network, recording: Recording, skip: bool) -> None:
    """Silence still counts as recorded time; a skipped pause does not."""
    recording.status = "paused"
    if skip:
        recording.recorded += network.now - (recording.resumed_at or network.now)
        recording.resumed_at = None


def finish(network: Network, recording: Recording) -> None:
    """The recording is over; its file follows soon."""
    if recording.status not in ("in-progress", "paused"):
        return
    if recording.resumed_at is not None:
        recording.recorded += network.now - recording.resumed_at
    recording.resumed_at = None
    recording.duration = math.ceil(recording.recorded)
    recording.status, recording.date_updated = "processing", network.now
    call = network.calls.get(recording.call_sid or "")
    conference = network.conferences.get(recording.conference_sid or "")
    network.note("recording-end", call, conference, recording=recording.sid, duration=recording.duration)
    network.later(network.spread(network.knobs.recording_seconds), ready, network, recording)


def ready(network: Network, recording: Recording) -> None:
    """The file is there, or there was nothing to keep."""
    recording.date_updated = network.now
    if recording.duration:
        recording.status = "completed"
    else:
        recording.status, recording.error_code = "absent", 16101
    tell(network, recording, recording.status)


def finish_call(network: Network, call: Call) -> None:
    for recording in call.recordings:
        finish(network, recording)


def finish_conference(network: Network, conference: Conference) -> None:
    for recording in conference.recordings:
        finish(network, recording)


def delete_recording(network: Network, recording: Recording) -> None:
    """Remove a recording that is over; error 20009 before."""
    if recording.status not in ("completed", "absent"):
        raise TwilioError(409, 20009, "The recording is not over")
    network.recordings.pop(recording.sid, None)
    owner = network.calls.get(recording.call_sid or "") or network.conferences.get(
        recording.conference_sid or ""
    )
    if owner is not None:
        owner.recordings.remove(recording)


def tell(network: Network, recording: Recording, event: str) -> None:
    """Send the recording status callback, when subscribed (Twilio docs, dial and conference)."""
    callback = recording.callback
    if callback is None or event not in callback.events:
        return
    call = network.calls.get(recording.call_sid or "")
    conference = network.conferences.get(recording.conference_sid or "")
    fields = [
        ("AccountSid", recording.account_sid),
        ("RecordingSid", recording.sid),
        ("RecordingUrl", recording.url),
        ("RecordingStatus", event),
        ("RecordingChannels", str(recording.channels)),
        ("RecordingStartTime", rfc2822(int(recording.start_time))),
        ("RecordingSource", recording.source),
        ("RecordingTrack", recording.track),
    ]
    if recording.call_sid:
        fields.append(("CallSid", recording.call_sid))
    if recording.conference_sid:
        fields.append(("ConferenceSid", recording.conference_sid))
    if recording.duration is not None:
        fields.append(("RecordingDuration", str(recording.duration)))
    if recording.error_code is not None:
        fields.append(("ErrorCode", str(recording.error_code)))
    webhooks.notify(network, "recording", callback, recording.account_sid, fields, call, conference)
