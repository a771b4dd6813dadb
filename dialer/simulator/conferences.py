"""Conferences: who comes in, when they start, who leaves, when they end."""

from __future__ import annotations

import re
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from dialer.simulator import conference_events, people, progress, recordings, waiting
from dialer.simulator.model import Call, Conference, Participant
from dialer.simulator.running import Joining

if TYPE_CHECKING:
    from dialer.simulator.network import Network

Resume = Callable[..., None]
"""Goes on with a call's program; may be told how the Dial ended."""
CALL_SID = re.compile(r"CA[0-9a-f]{32}")


def is_label(text: str) -> bool:
    """Whether a participant may be labelled so (error 16023)."""
    return len(text) <= 128 and "/" not in text and CALL_SID.fullmatch(text) is None


# Entering


def join(network: Network, call: Call, joining: Joining, resume: Resume) -> None:
    """Come in, after the wait URL was heard when there is something to wait for."""
    program = call.execution
    assert program is not None
    program.undo = partial(leave, network, call)
    program.resume = resume
    live = network.live_conferences.get((call.account_sid, joining.name))
    if joining.wait_url and (live is None or live.status == "init"):
        ready = partial(enter_or_not, network, call, joining, resume)
        waiting.play(network, call, joining.wait_url, joining.wait_method, "wait", ready)
    else:
        enter(network, call, joining, resume)


def enter_or_not(
    network: Network, call: Call, joining: Joining, resume: Resume, heard: bool
) -> None:
    if heard:
        enter(network, call, joining, resume)
    else:
        turn_away(network, call, resume)


def enter(network: Network, call: Call, joining: Joining, resume: Resume) -> None:
    """Come in now, unless the conference refuses."""
    reason = refusal(network, call, joining)
    if reason is not None:
        network.alert(call.account_sid, *reason, call=call)
        turn_away(network, call, resume)
        return
    conference = live_conference(network, call.account_sid, joining.name)
    configure(conference, joining)
    participant = call.participant or add_participant(network, conference, call, joining)
    participant.entered, participant.status = True, "connected"
    participant.date_updated = conference.date_updated = network.now
    network.note(
        "conference-enter", call, conference,
        label=participant.label, start=participant.start_on_enter, end=participant.end_on_exit,
    )  # fmt: skip
    conference_events.tell(network, conference, "participant-join", participant)
    if conference.status == "in-progress":
        hear_others(network, call)
    else:
        start_if_ready(network, conference)


def live_conference(network: Network, account_sid: str, name: str) -> Conference:
    """The live conference of that name, made when there is none."""
    conference = network.live_conferences.get((account_sid, name))
    if conference is None:
        conference = Conference(network.sid("CF"), account_sid, name, network.now, network.now)
        network.conferences[conference.sid] = conference
        network.live_conferences[account_sid, name] = conference
        network.note("conference-created", None, conference, name=name)
    return conference


def configure(conference: Conference, joining: Joining) -> None:
    """Only the first participant's callback, recording and region count (Twilio docs, conference)."""
    if not conference.configured:
        conference.configured = True
        conference.callback, conference.record = joining.callback, joining.record
    if joining.region and not any(p.entered for p in conference.participants.values()):
        conference.region = joining.region


def refusal(network: Network, call: Call, joining: Joining) -> tuple[int, str] | None:
    """Why somebody is not added, as an error code and a message."""
    conference = network.live_conferences.get((call.account_sid, joining.name))
    present = conference.participants if conference else {}
    others = [p for p in present.values() if p.call_sid != call.sid]
    if not is_label(joining.label):
        return 16023, f"{joining.label!r} cannot be a label"
    if joining.label and any(p.label == joining.label for p in others):
        return 16025, f"The label {joining.label} is taken"
    if sum(p.entered for p in others) >= joining.max_participants:
        return 16020, "The conference is full"
    if joining.call_sid_to_coach and joining.call_sid_to_coach not in present:
        return 13240, "The call to coach is not in the conference"
    return None


def add_participant(network: Network, conference: Conference, call: Call, joining: Joining) -> Participant:
    """A participant of that call, not in yet."""
    participant = Participant(
        call.sid,
        conference.sid,
        conference.account_sid,
        network.now,
        network.now,
        label=joining.label,
        muted=joining.muted,
        coaching=joining.coaching,
        call_sid_to_coach=joining.call_sid_to_coach,
        start_on_enter=joining.start_on_enter,
        end_on_exit=joining.end_on_exit,
        beep=joining.beep,
        wait_url=joining.wait_url,
    )
    conference.participants[call.sid] = participant
    call.participant = participant
    return participant


def turn_away(network: Network, call: Call, resume: Resume) -> None:
    """Not added: the program goes on with its next verb or action."""
    give_up(network, call)
    assert call.execution is not None
    call.execution.undo = None
    resume("failed")


def start_if_ready(network: Network, conference: Conference) -> None:
    """It starts with two participants, one of them a starter."""
    inside = [p for p in conference.participants.values() if p.entered]
    if len(inside) < 2 or not any(p.start_on_enter for p in inside):
        return
    conference.status, conference.date_updated = "in-progress", network.now
    network.note("conference-start", None, conference)
    conference_events.tell(network, conference, "conference-start")
    if conference.record is not None:
        recordings.begin(network, conference.record, conference=conference)
    for participant in inside:
        hear_others(network, network.calls[participant.call_sid])


def hear_others(network: Network, call: Call) -> None:
    """This call is bridged: the wait is over, and its person's plan begins."""
    waiting.stop(network, call)
    people.hear(network, call)
    assert call.execution is not None
    call.execution.bridged = True


# Leaving


def expel(network: Network, call: Call, reason: str = "participant_hung_up", kicked: bool = False) -> None:
    """Out of the conference, and on with the program."""
    program = call.execution
    assert program is not None
    resume, program.undo = program.resume, None
    leave(network, call, reason, kicked)
    if resume is not None:
        resume()


def leave(network: Network, call: Call, reason: str, kicked: bool = False) -> None:
    """Out of the conference, which ends with the last one or one that ends it."""
    participant = call.participant
    waiting.stop(network, call)
    if participant is None or not participant.entered:
        return
    conference = network.conferences[participant.conference_sid]
    take_out(network, conference, participant, reason)
    how = "kicked" if kicked else "left"
    if participant.end_on_exit:
        end(network, conference, f"participant-with-end-conference-on-exit-{how}", participant)
    elif not any(p.entered for p in conference.participants.values()):
        end(network, conference, f"last-participant-{how}", participant)


def take_out(network: Network, conference: Conference, participant: Participant, reason: str) -> None:
    """Remove one participant and tell of it."""
    call = network.calls[participant.call_sid]
    del conference.participants[call.sid]
    call.participant = None
    participant.status = "complete" if participant.entered else "failed"
    waiting.stop(network, call)
    if participant.entered:
        network.note("conference-exit", call, conference, label=participant.label, reason=reason)
    extra = [("ParticipantCallStatus", call.status), ("ReasonParticipantLeft", reason)]
    conference_events.tell(network, conference, "participant-leave", participant, extra)


def end(network: Network, conference: Conference, reason: str, ender: Participant | None) -> None:
    """The conference is over: everybody left in it goes on with his own program."""
    conference.status, conference.date_updated = "completed", network.now
    conference.reason_conference_ended = reason
    conference.call_sid_ending_conference = ender.call_sid if ender else None
    network.live_conferences.pop((conference.account_sid, conference.friendly_name), None)
    network.note("conference-end", None, conference, reason=reason)
    recordings.finish_conference(network, conference)
    extra = conference_events.end_fields(reason, ender)
    conference_events.tell(network, conference, "conference-end", None, extra)
    why = "moderator_ended_conference" if ender else "conference_ended_via_api"
    resumes = [send_away(network, conference, p, why) for p in list(conference.participants.values())]
    conference.participants.clear()
    for resume in resumes:
        if resume is not None:
            resume()


def send_away(
    network: Network, conference: Conference, participant: Participant, why: str
) -> Callable[[], None] | None:
    """Take one out of an ended conference; the answer goes on with his program."""
    call = network.calls[participant.call_sid]
    if not participant.entered:
        call.participant = None  # it rings on, and would open a new conference of the same name
        cancel = network.knobs.conference_end_cancels_ringing
        return partial(progress.end, network, call, "canceled", "api") if cancel else None
    take_out(network, conference, participant, why)
    program = call.execution
    assert program is not None
    resume, program.undo = program.resume, None
    return resume


def give_up(network: Network, call: Call) -> None:
    """A leg added over REST that never came in: it leaves the list."""
    participant = call.participant
    if participant is None or participant.entered:
        return
    conference = network.conferences[participant.conference_sid]
    take_out(network, conference, participant, "participant_add_failed")
    ends = participant.end_on_exit and network.knobs.unanswered_ends_conference
    if ends:
        end(network, conference, "participant-with-end-conference-on-exit-left", participant)
    elif not conference.participants:
        end(network, conference, "last-participant-left", participant)
