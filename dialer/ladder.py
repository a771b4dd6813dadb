"""A call's history as a person reads it: one line for each thing that happened, and one for how it ended. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from dialer.tables import one_line

Json = Mapping[str, Any]

UNANSWERED = {
    "busy": "the customer's line was busy",
    "no-answer": "nobody answered",
    "failed": "the number could not be reached",
}

#: What a leg came to, by its role and status.
LEG_TEXTS = {
    ("agent", "completed"): "the agent's browser is off the line",
    ("agent", "canceled"): "the agent's browser gave up before the call began",
    ("agent", "failed"): "the connection to the agent's browser is lost",
    ("customer", "queued"): "the call to the customer is queued at Twilio",
    ("customer", "initiated"): "Twilio starts to call the phone",
    ("customer", "ringing"): "the phone rings",
    ("customer", "in-progress"): "somebody answers the phone",
    ("customer", "completed"): "the customer's phone is off the line",
    ("customer", "busy"): "the line is busy",
    ("customer", "no-answer"): "nobody answered, the phone stops ringing",
    ("customer", "failed"): "the number cannot be reached",
    ("customer", "canceled"): "the call is cancelled, the phone stops ringing",
}

#: What a participant did or what was done to him, by Twilio's word.
PARTICIPANT_TEXTS = {
    "participant-mute": "is muted",
    "participant-unmute": "can be heard again",
    "participant-hold": "is put on hold",
    "participant-unhold": "is back from hold",
}

#: Why a participant left (Twilio docs, conference: ReasonParticipantLeft).
LEFT_TEXTS = {
    "participant_hung_up": "hangs up and leaves the conference",
    "moderator_ended_conference": "leaves: the conference is over",
    "conference_ended_via_api": "leaves: Dialer ended the conference",
    "participant_updated_via_api": "is let go by Dialer",
    "participant_add_failed": "could not be brought into the conference",
}


#: What became of Dialer's request to dial, by the state of the intent.
DIAL_TEXTS = {
    "planned": "nothing was placed, and Twilio will be asked again",
    "accepted": "has Twilio's word that the call is being placed",
    "unknown": "got no clear answer, and never asks twice: it looks for the call instead",
    "rejected": "is refused by Twilio",
    "absent": "finds that no call was placed",
    "canceled": "need not dial any more",
}

#: All other events: who, and what.
OTHER_TEXTS = {
    "customer-answered": ("Dialer", "sends the customer into the same conference"),
    "conference-start": ("conference", "starts: agent and customer are both in it"),
    "conference-end": ("conference", "is over"),
    "hang-up-requested": ("Dialer", "is asked to end the call"),
    "fallback": ("Twilio", "could not use Dialer's answer, and asks what to say instead"),
}


@dataclass(frozen=True, slots=True)
class Rung:
    """One line: seconds since the call was asked for, who it is about, what happened."""

    seconds: float
    who: str
    text: str

    def as_json(self) -> dict[str, object]:
        return {"seconds": self.seconds, "who": self.who, "text": self.text}

    def __str__(self) -> str:
        return f"{self.seconds:6.1f} s  {self.who:<10}  {self.text}"


class Ladder:
    """Turns events into rungs as they come; what Twilio and Dialer both report of a leg is told once.

    The order is that in which events were stored. When the machine's clock was set amid the call, the seconds go on.
    """

    def __init__(self, call: Json) -> None:
        self.call = call
        self._told: set[tuple[str, str]] = set()
        self._stepped = 0.0

    def rungs(self, events: Iterable[Json]) -> Iterator[Rung]:
        """The rungs of these events (as the REST API gives them), later ones of the same call in a later turn."""
        start = _seconds(self.call["requestedAt"])
        for event in events:
            who, text = self._words(event)
            if event["name"] == "clock-set":
                self._stepped += float(event["detail"].get("step", 0.0))
            if text:
                seconds = _seconds(event["receivedAt"]) - self._stepped - start
                # One line, free of control characters: a browser may have sent anything as its number.
                yield Rung(round(max(0.0, seconds), 3), who, one_line(text))

    def _words(self, event: Json) -> tuple[str, str]:
        name: str = event["name"]
        if name == "call-started":
            return "agent", self._started()
        if name.startswith("dial-"):
            return "Dialer", self._dial(name.removeprefix("dial-"), event["detail"])
        if name.startswith("leg-"):
            return _who(event), self._leg(event)
        if name.startswith("participant-"):
            return _who(event), self._participant(event)
        if name == "clock-set":
            step = float(event["detail"].get("step", 0.0))
            return "Dialer", f"sees its clock set {'forward' if step > 0 else 'back'} by {abs(step):.0f} s, and goes on"
        return OTHER_TEXTS.get(name, (_who(event), name.replace("-", " ")))

    def _started(self) -> str:
        call = self.call
        if call["status"] == "rejected":
            return f"{call['agent']} calls {call['to'] or 'no number'} and is told: {call['reason']}"
        return f"{call['agent']} calls {call['to']}: Dialer sends the browser into a conference"

    def _dial(self, state: str, detail: Json) -> str:
        if state == "sending":
            again = f" (attempt {detail['attempt']})" if detail.get("attempt", 1) > 1 else ""
            return f"asks Twilio to call {self.call['to']} from {self.call['from']}{again}"
        text = DIAL_TEXTS.get(state, state)
        reason = self.call["reason"] if state in ("rejected", "absent") else ""
        rule = detail.get("rule", "")
        return text + (f": {reason}" if reason else "") + (f" ({rule})" if rule else "")

    def _leg(self, event: Json) -> str:
        role, status = event["role"], event["status"]
        if self._repeats(event["callSid"], status):
            return ""
        text = LEG_TEXTS.get((role, status), f"{role} leg: {status}")
        if (role, status) == ("customer", "failed") and self.call["answeredAt"]:
            text = "the connection to the customer is lost"
        code = event["detail"].get("SipResponseCode", "")
        return f"{text} (SIP {code})" if code not in ("", "200", "487") else text

    def _repeats(self, call_sid: str, what: str) -> bool:
        """Whether this was told of the leg before."""
        told = (call_sid, what) in self._told
        self._told.add((call_sid, what))
        return told

    def _participant(self, event: Json) -> str:
        name, role = str(event["name"]), event["role"]
        if name in ("participant-join", "participant-leave") and self._repeats(event["callSid"], name):
            return ""
        if name == "participant-join":
            return "is in the conference, and waits" if role == "agent" else "is in the conference: they can talk"
        if name == "participant-leave":
            reason = event["detail"].get("ReasonParticipantLeft", "")
            if reason == "participant_updated_via_api" and role == "agent" and self.call["status"] in UNANSWERED:
                return "is taken out of the conference to be told why"
            return LEFT_TEXTS.get(reason, "leaves the conference")
        return PARTICIPANT_TEXTS.get(name, name.replace("-", " "))


def outcome(call: Json) -> str:
    """How a call ended, in one sentence; how far it is while it has not."""
    status, reason = call["status"], call["reason"]
    if status == "completed":
        seconds = call["duration"]
        length = "" if seconds is None else f" after {seconds} s"
        return f"completed: {_ender(call['endedBy'])} hung up{length}"
    if status == "rejected":
        return f"rejected: {reason} (rule {call['rule']}; nothing was dialled)"
    if status == "canceled":
        return f"canceled: {reason or 'cancelled before anybody answered'}, by {_ender(call['endedBy'])}"
    if status == "failed" and call["answeredAt"]:
        return "failed: the connection was lost during the call"
    if status in UNANSWERED:
        rule = f" (rule {call['rule']})" if call["rule"] else ""
        return f"{status}: {reason or UNANSWERED[status]}{rule}"
    return f"{status}: not over yet"


def _ender(ended_by: str) -> str:
    if ended_by.startswith("plugin:"):
        return f"the plugin {ended_by.removeprefix('plugin:')}"
    return {"agent": "the agent", "customer": "the customer", "system": "the system", "": "nobody known"}[ended_by]


def _who(event: Json) -> str:
    return event["role"] or ("conference" if event["name"].startswith("conference-") else "Dialer")


def _seconds(iso: str) -> float:
    return datetime.fromisoformat(iso).timestamp()
