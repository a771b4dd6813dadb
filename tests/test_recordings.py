"""What Twilio tells of recordings and of machine detection is stored, and told to the plugins."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import pytest
from twilio.base.exceptions import TwilioRestException

from dialer import Call, CallEvent, Host, RetryLater, Secret, hookimpl
from dialer.plugins import FixedPlugins, PluginSet
from dialer.settings import Account
from dialer.signature import signature_of
from dialer.simulator.server import AccountConfig, SimulatorConfig, serve_in_thread
from dialer.simulator.world import PUBLIC_URL
from dialer.store.sqlite import SqliteStore, SqliteTx
from dialer.twilio import Carrier

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


def test_nobody_waits_for_the_store_while_plugins_are_built(make_stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    write, current = SqliteStore.write, FixedPlugins.current
    held: list[SqliteStore] = []
    seen: list[int] = []

    @contextmanager
    def holding(store: SqliteStore) -> Iterator[SqliteTx]:
        with write(store) as tx:
            held.append(store)
            try:
                yield tx
            finally:
                held.pop()

    def building(plugins: FixedPlugins) -> PluginSet:
        seen.append(len(held))
        return current(plugins)

    stage = make_stage(plugins=(Listener(),))
    monkeypatch.setattr(SqliteStore, "write", holding)
    monkeypatch.setattr(FixedPlugins, "current", building)
    talker = stage.agent_dials(VOICEMAIL)
    stage.lasts(20)
    talker.hangs_up()
    stage.ends()
    stage.lasts(5)
    assert {"machine-detection", "recording-completed"} <= {*talker.events()}
    assert {*seen} == {0}


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


@dataclass(eq=False)
class Told:
    """Has the customer told something first, and records nothing."""

    announcement: str = "Welcome."

    @hookimpl
    def dial_options(self, call: Call) -> dict[str, str]:
        return {"announcement": self.announcement, "trim": "trim-silence"}


def test_an_announcement_is_for_the_customer_alone_and_no_parameter_of_the_dial_request(make_stage: Any) -> None:
    stage = make_stage(plugins=(Told(),))
    talker = stage.agent_dials(ANSWERS)
    stage.lasts(10)
    talker.hangs_up()
    stage.ends()
    (leg,) = stage.dialled()
    assert (stage.heard(leg), talker.heard, talker.call.status) == (["Welcome."], [], "completed")
    network = stage.world.network
    unknown = [alert for alert in network.accounts[stage.world.account_sid].alerts if alert.code == 20001]
    assert (network.recordings, unknown) == ({}, [])


def test_a_customer_who_hangs_up_during_the_announcement_leaves_nobody_alone(make_stage: Any) -> None:
    stage = make_stage(plugins=(Told("word " * 99),))
    talker = stage.agent_dials(ANSWERS)
    stage.lasts(12)
    stage.phone().hangs_up()
    stage.lasts(10)
    assert talker.leg.end_time is not None
    stage.ends()


@dataclass(eq=False)
class Borrower:
    """Asks Twilio through its host."""

    host: Host = field(default_factory=Host)

    @hookimpl
    def dial_options(self, call: Call) -> dict[str, str]:
        return {"record": "true"}


def test_a_plugin_fetches_pauses_and_deletes_through_its_host(make_stage: Any) -> None:
    plugin = Borrower()
    stage, host = make_stage(plugins=(plugin,)), plugin.host
    talker = stage.agent_dials(ANSWERS)
    stage.lasts(10)
    call = talker.call
    assert host.call(call.workspace, call.id) == call
    assert host.call("another", call.id) is None
    assert (host.pause_recording(call, "1"), host.pause_recording(call, "1")) == (True, True)
    stage.lasts(2)
    (running,) = host.recordings(call)
    assert (running.status, talker.events().count("recording-pause-done")) == ("paused", 1)
    host.resume_recording(call)
    stage.lasts(2)
    with pytest.raises(RetryLater, match="no such file"):
        list(host.fetch(call, running.url + ".wav"))
    talker.hangs_up()
    stage.ends()
    stage.lasts(10)
    (ready,) = host.recordings(call)
    assert (ready.status, b"".join(host.fetch(call, ready.url + ".wav"))[:4]) == ("completed", b"RIFF")
    for url in ("https://evil.example/x.wav", "http://api.twilio.com/x.wav", "https://twilio.com.evil.example/x"):
        with pytest.raises(ValueError, match="gets no credentials"):
            list(host.fetch(call, url))
    for _ in range(2):
        host.delete_recording(call, ready.sid)
    assert (host.recordings(call), host.pause_recording(call), host.leave_message(call, say="x")) == ([], False, False)


def test_a_file_is_fetched_over_a_socket_with_the_key_and_as_it_comes() -> None:
    sid = f"AC{'1' * 32}"
    config = SimulatorConfig(port=0, accounts=(AccountConfig(sid=sid, auth_token="token"),))
    with serve_in_thread(config) as (_, base):
        carrier = Carrier(Account(sid, (Secret("token"),)), base)
        url = f"https://api.twilio.com/2010-04-01/Accounts/{sid}/Recordings.json"
        assert b"recordings" in b"".join(carrier.fetch(url))
        with pytest.raises(TwilioRestException) as missing:
            list(carrier.fetch(url.replace(".json", f"/RE{'0' * 32}.wav")))
        assert missing.value.status == 404
        stranger = Carrier(Account(sid, (Secret("another"),)), base)
        with pytest.raises(TwilioRestException) as refused:
            list(stranger.fetch(url))
        assert refused.value.status == 401


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
