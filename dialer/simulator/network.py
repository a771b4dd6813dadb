"""The simulated network: a clock, the things scheduled on it, and the doors through which others act.

Pure: no I/O, no wall clock, no threads; all chance comes from the seed. A driver turns the handle:

    while (due := network.next_due()) is not None and due <= end:
        network.advance(due)
        for request in network.take_requests():
            network.answer(request.id, perform(request))
"""

from __future__ import annotations

from collections import Counter, deque
from collections.abc import Mapping
from typing import Any

from dialer.simulator import (
    accounts,
    browsers,
    moderation,
    people,
    placing,
    progress,
    recordings,
    webhooks,
)
from dialer.simulator.account_records import Account, Application, IncomingPhoneNumber, OutgoingCallerId, Registration
from dialer.simulator.clock import Clock
from dialer.simulator.knobs import Faults, Knobs
from dialer.simulator.model import (
    AgentPlan,
    Call,
    Conference,
    Entry,
    Params,
    Participant,
    Recording,
    TwilioError,
    WebAnswer,
    WebRequest,
)


class Network(Clock):
    """A telephone network with Twilio in the middle. Times are seconds since 1970."""

    def __init__(
        self, start: float = 0.0, seed: int = 0, knobs: Knobs | None = None, faults: Faults | None = None
    ) -> None:
        super().__init__(start, seed)
        self.knobs = knobs or Knobs()
        self.faults = faults or Faults()
        self.injected: Counter[str] = Counter()
        self.accounts: dict[str, Account] = {}
        self.calls: dict[str, Call] = {}
        self.conferences: dict[str, Conference] = {}
        self.recordings: dict[str, Recording] = {}
        self.live_conferences: dict[tuple[str, str], Conference] = {}
        """Those not completed, by account SID and friendly name."""
        self.owners: dict[str, IncomingPhoneNumber] = {}
        """The accounts' numbers by phone number."""
        self.log: deque[Entry] = deque()
        self.media_base = "https://api.twilio.com"
        """Where a RecordingUrl points; a server sets it to its own address."""
        self.exchanges: dict[str, webhooks.Exchange] = {}
        """Webhook attempts in the hands of the driver, by request id."""
        self.held: dict[str, webhooks.Exchange] = {}
        """Events that wait to go out together with the next of their conference or call."""
        self._entries = 0
        self._attempts = 0
        self._outbox: list[WebRequest] = []

    # Names, faults, the log

    def spread(self, seconds: float) -> float:
        """That latency with its jitter."""
        return seconds * (1.0 + self.knobs.jitter * self.uniform(-1.0, 1.0))

    def request_id(self) -> str:
        """The name of the next webhook attempt."""
        self._attempts += 1
        return f"WR{self._attempts:08d}"

    def draw(self, fault: str) -> bool:
        """Whether the named fault (a field of Faults) happens now; counted when it does."""
        happens = self.chance(getattr(self.faults, fault))
        if happens:
            self.injected[fault] += 1
        return happens

    def note(
        self, kind: str, call: Call | None = None, conference: Conference | None = None, **detail: Any
    ) -> None:
        """Add a line to the log; `kind` is one of kinds.KINDS."""
        self._entries += 1
        call_sid = call.sid if call else None
        conference_sid = conference.sid if conference else None
        self.log.append(Entry(self._entries, self.now, kind, call_sid, conference_sid, detail))
        if len(self.log) > self.knobs.max_log:
            self.log.popleft()

    def alert(self, account_sid: str, code: int, message: str, **about: Any) -> None:
        """Add a line to the account's debugger, and to the log. `about`: call, conference, url."""
        accounts.alert(self, account_sid, code, message, **about)

    def forget(self, before: float) -> None:
        """Drop what ended before that moment, and older alerts and log entries."""
        accounts.forget(self, before)

    # The web

    def take_requests(self) -> list[WebRequest]:
        """The HTTP attempts to perform now; each is handed out once."""
        requests, self._outbox = self._outbox, []
        return requests

    def put_request(self, request: WebRequest) -> None:
        """Hand an HTTP attempt to the driver."""
        self._outbox.append(request)

    def answer(self, request_id: str, answer: WebAnswer) -> None:
        """What came back for an attempt, now. Unknown or timed-out ids are ignored."""
        webhooks.answer(self, request_id, answer)

    # Accounts

    def add_account(self, sid: str = "", auth_token: str = "", **fields: Any) -> Account:
        """A new account; SID and token are made when not given. `fields`: further fields of Account."""
        return accounts.add_account(self, sid, auth_token, **fields)

    def add_key(self, account_sid: str, sid: str = "", secret: str = "") -> tuple[str, str]:
        """A new API key: its SID and secret."""
        return accounts.add_key(self, account_sid, sid, secret)

    def add_application(self, account_sid: str, **fields: Any) -> Application:
        """A new TwiML App. `fields`: fields of Application."""
        return accounts.add_application(self, account_sid, **fields)

    def add_number(self, account_sid: str, phone_number: str, **fields: Any) -> IncomingPhoneNumber:
        """A number that the account owns from now on. `fields`: fields of IncomingPhoneNumber."""
        return accounts.add_number(self, account_sid, phone_number, **fields)

    def add_caller_id(self, account_sid: str, phone_number: str, friendly_name: str = "") -> OutgoingCallerId:
        """A verified caller ID."""
        return accounts.add_caller_id(self, account_sid, phone_number, friendly_name)

    # What the REST layer asks for; all of these raise TwilioError

    def create_call(self, account_sid: str, params: Params) -> Call:
        """Accept an outbound call; it is started when the calls-per-second limit allows."""
        return placing.create_call(self, self.account(account_sid), params)

    def update_call(self, call: Call, params: Params) -> Call:
        """Redirect a call (Url or Twiml), end it (Status), or change its callbacks."""
        return progress.update_call(self, call, params)

    def delete_call(self, call: Call) -> None:
        """Remove the record of an ended call."""
        progress.delete_call(self, call)

    def create_participant(self, account_sid: str, conference: str, params: Params) -> Participant:
        """Dial somebody into a conference, given by CF SID or name; a new one starts when none is live."""
        return moderation.create_participant(self, self.account(account_sid), conference, params)

    def find_participant(self, conference: Conference, key: str) -> Participant:
        """A participant of a live conference, by CallSid or label."""
        return moderation.find_participant(conference, key)

    def update_participant(self, participant: Participant, params: Params) -> Participant:
        """Mute, hold, coach, announce to a participant, or change what his leaving does."""
        return moderation.update_participant(self, participant, params)

    def remove_participant(self, participant: Participant) -> None:
        """Kick a participant; his call goes on with its TwiML."""
        moderation.remove_participant(self, participant)

    def update_conference(self, conference: Conference, params: Params) -> Conference:
        """End a conference (Status=completed) or announce to all in it."""
        return moderation.update_conference(self, conference, params)

    def start_recording(self, call: Call, params: Params) -> Recording:
        """Record a call in progress."""
        return recordings.start_recording(self, call, params)

    def find_recording(self, owner: Call | Conference, sid: str) -> Recording:
        """A recording of that call or conference; `Twilio.CURRENT` is the running one."""
        return recordings.find_recording(owner, sid)

    def update_recording(self, recording: Recording, params: Params) -> Recording:
        """Pause, resume or stop a recording."""
        return recordings.update_recording(self, recording, params)

    def delete_recording(self, recording: Recording) -> None:
        """Remove a recording that is over."""
        recordings.delete_recording(self, recording)

    def call(self, sid: str) -> Call:
        """The call of that SID; TwilioError 20404 without one."""
        if sid not in self.calls:
            raise TwilioError(404, 20404, f"The call {sid} was not found")
        return self.calls[sid]

    def account(self, sid: str) -> Account:
        """The account of that SID; TwilioError 20404 without one."""
        if sid not in self.accounts:
            raise TwilioError(404, 20404, f"The account {sid} was not found")
        return self.accounts[sid]

    # People

    def connect(
        self,
        account_sid: str,
        application_sid: str,
        identity: str,
        params: Mapping[str, str],
        plan: AgentPlan | None = None,
        outgoing_params: Mapping[str, str] | None = None,
    ) -> Call:
        """A browser's device.connect(): its leg rings at the application. `outgoing_params`: the token's."""
        return browsers.connect(
            self, self.account(account_sid), application_sid, identity, params, plan, outgoing_params or {}
        )

    def register(
        self,
        account_sid: str,
        identity: str,
        answer_after: float | None = 1.0,
        plan: AgentPlan | None = None,
    ) -> Registration:
        """A browser takes calls from now on; answer_after None: it rings until pick_up or decline."""
        registration = Registration(identity, answer_after, plan)
        self.account(account_sid).clients[identity] = registration
        return registration

    def unregister(self, account_sid: str, identity: str) -> None:
        """That browser takes no more calls."""
        self.account(account_sid).clients.pop(identity, None)

    def dial_in(self, from_: str, to: str) -> Call:
        """Somebody calls one of the accounts' numbers; TwilioError 21211 when nobody owns it."""
        return browsers.dial_in(self, from_, to)

    def pick_up(self, call_sid: str) -> None:
        """The person called answers the ringing phone or browser now."""
        people.pick_up(self, self.call(call_sid))

    def decline(self, call_sid: str) -> None:
        """The person called refuses the ringing call."""
        people.decline(self, self.call(call_sid))

    def hang_up(self, call_sid: str) -> None:
        """That party hangs up; no effect on an ended call."""
        people.hang_up(self, self.call(call_sid))

    def lose(self, call_sid: str) -> None:
        """The network of that party is gone; Twilio notices after Knobs.lost_browser_seconds."""
        people.lose(self, self.call(call_sid))

    def press(self, call_sid: str, digits: str) -> None:
        """That party presses keys: 0 to 9, * and #."""
        people.press(self, self.call(call_sid), digits)
