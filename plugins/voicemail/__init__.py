"""Notice answering machines and fax machines beside the call, and act as the workspace wants."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Annotated, Literal
from urllib.parse import urlsplit

from dialer import Call, CallEvent, Host, Setting, hookimpl
from dialer.hookspecs import TEXT_LENGTH, DialOptions

Action = Literal["mark", "hang_up", "leave_message"]
#: Who answered, in Twilio's words (Twilio docs, answering machine detection), and where it can be spoken to.
MACHINES = ("machine_start", "machine_end_beep", "machine_end_silence", "machine_end_other")
LISTENING = MACHINES[1:]
#: Seconds after which news of a machine is too old to act on: somebody may have come to the phone.
STALE = 15.0


@dataclass(frozen=True, eq=False)
class Voicemail:
    """Find out whether a machine answered, and note it, hang up, or leave a message; nobody waits for it."""

    action: Annotated[Action, Setting("what is done when an answering machine answers")] = "mark"
    say: Annotated[str, Setting("the message, as a text")] = ""
    play: Annotated[str, Setting("the message, as the https URL of a sound")] = ""
    fax: Annotated[Literal["mark", "hang_up"], Setting("what is done when a fax machine answers")] = "mark"
    seconds: Annotated[int, Setting("how long Twilio may listen", numbers=(3, 59))] = 30
    host: Host = field(default_factory=Host)

    def __post_init__(self) -> None:
        if self.action == "leave_message" and bool(self.say.strip()) == bool(self.play):
            raise ValueError("action leave_message needs a message: give either say or play")
        if len(self.say) > TEXT_LENGTH:
            raise ValueError(f"say has {len(self.say)} characters, more than {TEXT_LENGTH}")
        url = urlsplit(self.play)
        if self.play and (url.scheme != "https" or not url.hostname):
            raise ValueError("play must be the URL of a sound that begins with https://")

    @hookimpl
    def dial_options(self, call: Call) -> DialOptions:
        # To speak after the beep, Twilio must hear the greeting to its end; to know that there is one is quicker.
        mode = "DetectMessageEnd" if self.action == "leave_message" else "Enable"
        return {"machine_detection": mode, "machine_detection_timeout": str(self.seconds)}

    @hookimpl
    def call_status(self, call: Call, event: CallEvent) -> None:
        if event.name != "machine-detection" or event.status not in (*MACHINES, "fax"):
            return
        done = self._act(call, event)
        detail = {"answered_by": event.status, "done": done}
        self.host.add_event(call, "fax" if event.status == "fax" else "machine", detail)

    def _act(self, call: Call, event: CallEvent) -> str:
        """Do what is wanted, if it can be done; says what was done, or why nothing."""
        action = self.fax if event.status == "fax" else self.action
        if action == "mark":
            return "marked"
        if call.over:
            return "nothing: the call had ended"
        if self.host.clock() - event.at > STALE:
            return "nothing: the news came too late"
        if action == "hang_up":
            self.host.hang_up(call, "A fax machine answered." if event.status == "fax" else "A machine answered.")
            return "hung up"
        if event.status not in LISTENING:
            return "nothing: the greeting was not heard to its end (another plugin chose the detection)"
        left = self.host.leave_message(call, say=self.say, play=self.play)
        return "message left" if left else "nothing: nobody was on the line any more"
