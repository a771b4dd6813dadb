"""What REST does in conferences: add, change and remove participants, announce, end."""

from __future__ import annotations

from typing import TYPE_CHECKING

from dialer.simulator import conference_events, conferences, parameters, placing, progress, waiting
from dialer.simulator.account_records import Account
from dialer.simulator.model import Call, Conference, Params, Participant, TwilioError
from dialer.simulator.running import Joining

if TYPE_CHECKING:
    from dialer.simulator.network import Network

EVENTS = frozenset(conference_events.TOKENS.values()) | {"speaker"}
DEFAULT_EVENTS = frozenset({"start", "end"})


def create_participant(network: Network, account: Account, conference: str, params: Params) -> Participant:
    """Dial somebody into a conference, which begins with him when none is live."""
    name = conference_name(network, account, conference)
    joining = read_joining(name, params)
    live = network.live_conferences.get((account.sid, name))
    check_joining(live, joining)
    call = placing.new_call(network, account, params)
    call.amd = parameters.amd(params, network.knobs.machine_detection_timeout, "AmdStatusCallback")
    call.joining = joining
    live = conferences.live_conference(network, account.sid, name)
    conferences.configure(live, joining)
    participant = conferences.add_participant(network, live, call, joining)
    placing.enqueue(network, account, call)
    participant.queue_time = call.queue_time
    return participant


def conference_name(network: Network, account: Account, conference: str) -> str:
    """The friendly name; a CF SID must be that of a live conference (16003, 16022)."""
    if conference.startswith("CF") and len(conference) == 34:
        found = network.conferences.get(conference)
        if found is None or found.account_sid != account.sid:
            raise TwilioError(404, 20404, f"The conference {conference} was not found")
        if found.status == "completed":
            raise TwilioError(400, 16022, "The conference is over")
        return found.friendly_name
    if not 1 <= len(conference) <= 128:
        raise TwilioError(400, 16003, "A conference name has 1 to 128 characters")
    return conference


def read_joining(name: str, params: Params) -> Joining:
    """How the new participant comes in."""
    wait_url = parameters.url(params, "WaitUrl", 21205) if params.get("WaitUrl") else None
    events = frozenset(" ".join(params.all("ConferenceStatusCallbackEvent")).split()) or DEFAULT_EVENTS
    if not events <= EVENTS:
        raise TwilioError(400, 16002, "ConferenceStatusCallbackEvent holds an unknown event")
    record = params.get("ConferenceRecord") in ("true", "record-from-start")
    parameters.flag(params, "EarlyMedia", True)
    return Joining(
        name,
        label=params.get("Label"),
        muted=parameters.flag(params, "Muted"),
        coaching=parameters.flag(params, "Coaching"),
        call_sid_to_coach=params.get("CallSidToCoach"),
        start_on_enter=parameters.flag(params, "StartConferenceOnEnter", True),
        end_on_exit=parameters.flag(params, "EndConferenceOnExit"),
        beep=parameters.choice(params, "Beep", ("true", "false", "onEnter", "onExit")),
        wait_url="" if "WaitUrl" in params and wait_url is None else wait_url,
        wait_method=parameters.method(params, "WaitMethod"),
        max_participants=parameters.whole(params, "MaxParticipants", 250, 2, 250),
        region=params.get("Region"),
        callback=parameters.callback(params, "ConferenceStatusCallback", 21609, events),
        record=parameters.recording_order(params, "Conference", "Conference") if record else None,
    )


def check_joining(live: Conference | None, joining: Joining) -> None:
    """Refuse a bad or taken label, a full conference, and an absent one to coach."""
    present = list(live.participants.values()) if live else []
    if not conferences.is_label(joining.label):
        raise TwilioError(400, 16024, "Label has up to 128 characters, no slash, and is not a CallSid")
    if joining.label and any(p.label == joining.label for p in present):
        raise TwilioError(400, 16026, f"The label {joining.label} is taken")
    if len(present) >= joining.max_participants:
        raise TwilioError(400, 16020, "The conference is full")
    if joining.coaching or joining.call_sid_to_coach:
        check_coached(live, joining.call_sid_to_coach)


def check_coached(conference: Conference | None, call_sid: str) -> None:
    """The one to coach must be present (16028) and not on hold (16027)."""
    coached = conference.participants.get(call_sid) if conference else None
    if coached is None or not coached.entered:
        raise TwilioError(400, 16028, "The call to coach is not in the conference")
    if coached.hold:
        raise TwilioError(400, 16027, "The call to coach is on hold")


def find_participant(conference: Conference, key: str) -> Participant:
    """By CallSid or label; nobody is found in an ended conference."""
    found = conference.participants.get(key)
    if found is None and key:
        found = next((p for p in conference.participants.values() if p.label == key), None)
    if found is None:
        raise TwilioError(404, 20404, f"The participant {key} was not found")
    return found


def present(network: Network, participant: Participant) -> tuple[Conference, Call]:
    """His conference and call, while he is in it."""
    conference = network.conferences[participant.conference_sid]
    if participant.call_sid not in conference.participants:
        raise TwilioError(404, 20404, f"The participant {participant.call_sid} was not found")
    return conference, network.calls[participant.call_sid]


def update_participant(network: Network, participant: Participant, params: Params) -> Participant:
    """Apply what is given; each change is told as an event of its own."""
    conference, call = present(network, participant)
    announce_url = parameters.url(params, "AnnounceUrl", 21205)
    announce_method = parameters.method(params, "AnnounceMethod")
    muted = parameters.flag(params, "Muted", participant.muted)
    hold = parameters.flag(params, "Hold", participant.hold)
    hold_url = parameters.url(params, "HoldUrl", 21205)
    hold_method = parameters.method(params, "HoldMethod", "GET")
    modified = modify(conference, participant, params)
    participant.date_updated = network.now
    if muted != participant.muted:
        participant.muted = muted
        change(network, conference, participant, "mute" if muted else "unmute")
    if hold != participant.hold:
        participant.hold = hold
        change(network, conference, participant, "hold" if hold else "unhold")
        waiting.stop(network, call)
        if hold and hold_url:
            waiting.play(network, call, hold_url, hold_method, "wait", waiting.ignore)
    if modified:
        conference_events.tell(network, conference, "participant-modify", participant)
    if announce_url:
        waiting.announce(network, conference, participant, announce_url, announce_method)
    return participant


def change(network: Network, conference: Conference, participant: Participant, kind: str) -> None:
    """Note and tell a mute, unmute, hold or unhold."""
    network.note(kind, network.calls[participant.call_sid], conference)
    conference_events.tell(network, conference, f"participant-{kind}", participant)


def modify(conference: Conference, participant: Participant, params: Params) -> bool:
    """Coaching and EndConferenceOnExit; whether anything changed."""
    before = (participant.coaching, participant.call_sid_to_coach, participant.end_on_exit)
    coaching = parameters.flag(params, "Coaching", participant.coaching)
    coached = params.get("CallSidToCoach", participant.call_sid_to_coach)
    if coaching and (coaching, coached) != before[:2]:
        check_coached(conference, coached)
    end_on_exit = parameters.flag(params, "EndConferenceOnExit", participant.end_on_exit)
    participant.coaching, participant.call_sid_to_coach = coaching, coached
    if not participant.hold:  # second-hand: ignored in silence while on hold
        participant.end_on_exit = end_on_exit
    return (participant.coaching, participant.call_sid_to_coach, participant.end_on_exit) != before


def remove_participant(network: Network, participant: Participant) -> None:
    """Kick: his call goes on with its TwiML; one that still rings is canceled."""
    _, call = present(network, participant)
    if participant.entered:
        conferences.expel(network, call, "participant_updated_via_api", kicked=True)
    else:
        progress.end(network, call, "canceled", "api")


def update_conference(network: Network, conference: Conference, params: Params) -> Conference:
    """End it (Status=completed), or announce to all in it; 16022 when it is over."""
    status = parameters.choice(params, "Status", ("", "completed"))
    announce_url = parameters.url(params, "AnnounceUrl", 21205)
    method = parameters.method(params, "AnnounceMethod")
    if conference.status == "completed":
        raise TwilioError(400, 16022, "The conference is over")
    if announce_url:
        waiting.announce(network, conference, None, announce_url, method)
    if status:
        conferences.end(network, conference, "conference-ended-via-api", None)
    return conference
