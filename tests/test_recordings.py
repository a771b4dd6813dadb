"""What Twilio tells of recordings and of machine detection is stored, and told to the plugins."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any

from dialer import Call, CallEvent, hookimpl
from dialer.signature import signature_of
from dialer.simulator.world import PUBLIC_URL

ANSWERS, VOICEMAIL = "+14155550101", "+14155550105"


@dataclass(eq=False)
class Listener:
    """Records the customer's leg, or the conference, and asks who answered."""

    conference: bool = False
    told: list[tuple[str, str]] = field(default_factory=list)
    urls: list[str] = field(default_factory=list)

    @hookimpl
    def dial_options(self, call: Call) -> dict[str, str]:
        detect = {"machine_detection": "DetectMessageEnd"}
        return detect if self.conference else {**detect, "record": "true", "recording_channels": "dual"}

    @hookimpl
    def conference_options(self, call: Call) -> dict[str, str]:
        return {"record": "record-from-start"} if self.conference else {}

    @hookimpl
    def call_status(self, call: Call, event: CallEvent) -> None:
        self.told.append((event.name, event.status))

    @hookimpl
    def recording_ready(self, call: Call, event: CallEvent) -> None:
        self.urls.append(event.detail["RecordingUrl"])


def test_a_recording_of_the_customers_leg_is_reported_and_told_once_it_is_ready(make_stage: Any) -> None:
    listener = Listener()
    stage = make_stage(plugins=(listener,))
    talker = stage.agent_dials(ANSWERS)
    stage.lasts(10)
    talker.hangs_up()
    stage.ends()
    stage.lasts(5)
    (recording,) = stage.world.network.recordings.values()
    assert (recording.call_sid, recording.channels, listener.urls) == (stage.dialled()[0].sid, 2, [recording.url])
    assert [name for name in talker.events() if name.startswith("recording")] == [
        "recording-in-progress",
        "recording-completed",
    ]


def test_a_recording_of_the_conference_finds_its_call_though_no_leg_is_named(make_stage: Any) -> None:
    listener = Listener(conference=True)
    stage = make_stage(plugins=(listener,))
    talker = stage.agent_dials(ANSWERS)
    stage.lasts(10)
    talker.hangs_up()
    stage.ends()
    stage.lasts(5)
    (recording,) = stage.world.network.recordings.values()
    assert (recording.call_sid, listener.urls) == (None, [recording.url])


def test_a_machine_is_noticed_beside_the_call_which_waits_for_nothing(make_stage: Any) -> None:
    listener = Listener()
    stage = make_stage(plugins=(listener,))
    talker = stage.agent_dials(VOICEMAIL)
    stage.lasts(20)
    talker.hangs_up()
    stage.ends()
    assert ("machine-detection", "machine_end_beep") in listener.told
    events = talker.events()
    assert events.index("customer-answered") < events.index("participant-join", 2) < events.index("machine-detection")


def test_news_of_a_call_of_nobody_is_refused(stage: Any) -> None:
    world = stage.world
    (token,) = world.dialer.settings.accounts[0].tokens
    refused = []
    for path, fields in (
        ("recording", {"RecordingSid": "RE1", "RecordingStatus": "completed", "ConferenceSid": "CF1"}),
        ("machine-detection", {"CallSid": f"CA{'0' * 32}", "AnsweredBy": "human"}),
    ):
        url, form = f"{PUBLIC_URL}/v1/voice/{path}", [("AccountSid", world.account_sid), *fields.items()]
        headers = {"X-Twilio-Signature": signature_of(url, form, token.reveal())}
        refused.append(world.post(url, form, headers).status)
    assert refused == [404, 404]
