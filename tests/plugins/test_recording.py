"""recording: who is recorded and told so, that each recording is kept once and whole, and who hears it for how long."""

import csv
import hashlib
import json
import logging
import socket
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from flask.testing import FlaskClient
from hypothesis import given
from hypothesis import strategies as st

from dialer import Call, CallEvent, GiveUp, Host, PluginError, RetryLater, Secret, controls
from dialer.auth import add_agent, add_key, add_workspace
from dialer.hookspecs import answer_fault
from dialer.simulator import AgentPlan
from dialer.tables import Source, read, settings_of
from dialer.twilio import RecordingTruth
from dialer_plugins.recording import Recording, access, archive, retention, routes
from dialer_plugins.recording.policy import Rule, chance
from dialer_plugins.recording.retention import HOUR
from dialer_plugins.recording.storage import S3, Disk, NotKept

ANSWERS, BUSY, VOICEMAIL = "+14155550101", "+14155550102", "+14155550105"
MORNING = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC
SID, URL = f"RE{'a' * 32}", "https://api.twilio.com/2010-04-01/Accounts/AC1/Recordings/RE1"
SOUND = bytes(range(256)) * 300


def a_call(number: int = 1, **values: Any) -> Call:
    given = {"agent": "alice", "to": ANSWERS, "from_": "+14155550199", "requested_at": MORNING, **values}
    return Call(**{"id": f"call_{number}", "workspace": "acme", "conference": f"acme-{number}", **given})


@dataclass
class FixedHost(Host):
    """A host without a Dialer: what Twilio has and what stands on calls is the test's."""

    root: Path
    now: float = MORNING
    media: bytes | None = SOUND
    breaks_after: int | None = None
    at_twilio: list[RecordingTruth] = field(default_factory=list)
    deleted: list[str] = field(default_factory=list)
    fetched: list[str] = field(default_factory=list)
    noted: dict[tuple[str, str], dict[str, str]] = field(default_factory=dict)
    told: list[str] = field(default_factory=list)
    settings: dict[str, Recording] = field(default_factory=dict)

    def __post_init__(self) -> None:
        super().__init__("recording", folder=self.root, clock=lambda: self.now)

    def fetch(self, call: Call, url: str) -> Iterator[bytes]:
        self.fetched.append(url)
        if self.media is None:
            raise RetryLater(15, "not there yet")
        for start in range(0, len(self.media), 1000):
            if self.breaks_after is not None and start >= self.breaks_after:
                raise ConnectionError("broke off")
            yield self.media[start : start + 1000]

    def recordings(self, call: Call) -> list[RecordingTruth]:
        return self.at_twilio

    def delete_recording(self, call: Call, recording_sid: str) -> None:
        assert archive.find(self, call, recording_sid) is not None  # never before the copy is safe
        self.deleted.append(recording_sid)

    def add_event(self, call: Call, name: str, detail: Any, key: str = "") -> bool:
        assert all(len(text) <= 1000 for text in detail.values())
        return self.noted.setdefault((call.id, key or name), {"event": name, **detail}) is detail

    def events(self, call: Call) -> list[CallEvent]:
        return [CallEvent(name, self.now) for name in self.told]

    def call(self, workspace: str, call_id: str) -> Call | None:
        return a_call(int(call_id.removeprefix("call_")), workspace=workspace)

    def plugin(self, workspace: str) -> Recording:
        if workspace not in self.settings:
            raise PluginError("off")
        return self.settings[workspace]

    def names(self) -> list[str]:
        return [detail["event"] for detail in self.noted.values()]


def make(tmp_path: Path, **wish: Any) -> tuple[Recording, FixedHost]:
    host = FixedHost(tmp_path)
    plugin = Recording(**wish, host=host)
    host.settings["acme"] = plugin
    return plugin, host


def ready(sid: str = SID, **detail: str) -> CallEvent:
    told = {"RecordingSid": sid, "RecordingUrl": URL, "RecordingDuration": "7", "RecordingChannels": "2", **detail}
    return CallEvent("recording-completed", MORNING, detail=told)


def files(root: Path) -> list[str]:
    return sorted(
        str(path.relative_to(root))
        for path in root.rglob("*")
        if path.is_file() and not path.name.startswith("recording.db")
    )


# Who is recorded


def test_every_call_is_recorded_and_told_so_by_default() -> None:
    plugin = Recording()
    assert plugin.dial_options(a_call()) == {
        "record": "true",
        "recording_channels": "dual",
        "announcement": "This call may be recorded.",
    }
    assert plugin.conference_options(a_call()) is None
    assert plugin.validate_call(a_call()).text == (
        "recorded (dual), announced as 'This call may be recorded.': no rule fits"
    )


def test_a_conference_is_recorded_as_a_conference() -> None:
    plugin = Recording(record="conference", announcement="")
    assert (plugin.dial_options(a_call()), plugin.conference_options(a_call())) == (
        None,
        {"record": "record-from-start"},
    )


@pytest.mark.parametrize(
    ("call", "expected"),
    [
        (a_call(agent="bob"), "not recorded: rule 1"),
        (a_call(to="+442079460000"), "recorded (conference), announced as 'Hello.': rule 2"),
        (a_call(workspace="other"), "recorded (dual), not announced: rule 3"),
        (a_call(direction="inbound"), "not recorded: rule 4"),
        (a_call(agent="bob", to="+442079460000"), "not recorded: rule 1"),
        (a_call(), "recorded (dual), announced as 'Hello.': no rule fits"),
    ],
)
def test_the_first_rule_that_fits_counts(call: Call, expected: str) -> None:
    rules = (
        Rule("no", agents=("bob", "carol")),
        Rule("conference", prefixes=("+43", "+44")),
        Rule("dual", workspaces=("other",), announcement=""),
        Rule("no", directions=("inbound",)),
    )
    plugin = Recording(rules=rules, announcement="Hello.")
    assert plugin.validate_call(call).text == expected


@given(st.text(min_size=1, max_size=40), st.floats(0, 100))
def test_chance_is_the_calls_own_and_the_same_whenever_it_is_asked(call_id: str, percent: float) -> None:
    plugin, call = Recording(percent=percent), replace(a_call(), id=call_id)
    assert plugin.decide(call) == plugin.decide(call)
    assert (plugin.decide(call).record == "dual") == (percent == 100 or chance(call_id) < percent)
    assert all(
        answer is None or answer_fault(hook, answer) == ""
        for hook, answer in (("validate_call", plugin.validate_call(call)), ("dial_options", plugin.dial_options(call)))
    )


def test_a_sample_is_of_the_size_that_was_asked_for(record_property: Any) -> None:
    plugin, calls = Recording(percent=20), [replace(a_call(), id=f"call_{number:024x}") for number in range(5000)]
    share = sum(plugin.decide(call).record != "no" for call in calls) / 50
    assert 18 < share < 22
    record_property("figure", f"recording at 20 %: {share:.1f} % of 5,000 calls")
    assert Recording(percent=0).decide(calls[0]).record == "no"


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"record": "stereo"}, 'record: must be "no" or "dual" or "conference", not "stereo"'),
        ({"percent": 101}, "percent: must be 0 to 100, not 101"),
        (
            {"announcement": "http://x.example/a.mp3"},
            "announcement: must be a sentence, or the URL of a sound that begins",
        ),
        ({"announcement": "two\nlines"}, "announcement: must be one line of up to 500"),
        (
            {"rules": [{"record": "no", "prefixes": ["0044"]}]},
            "rules: entry 1: prefixes: '0044' must be + and the first",
        ),
        ({"rules": [{"agents": ["a"]}]}, "rules: entry 1: record: missing"),
        (
            {"rules": [{"record": "no", "agent": "a"}]},
            "rules: entry 1: agent: there is no such setting; did you mean agents",
        ),
        ({"format": "ogg"}, 'format: must be "wav" or "mp3"'),
        ({"keep_days": -1}, "keep_days: must be 0 to 36500"),
        ({"s3": {"bucket": ""}}, "s3: bucket: must not be empty"),
        ({"s3": {"bucket": "b", "access_key": "k"}}, "s3: access_key and secret_key: give both or none"),
        ({"s3": {"bucket": "b", "endpoint": "http://s3.example"}}, "s3: endpoint: must be a URL such as https://"),
    ],
)
def test_wrong_settings_are_refused_by_name(tmp_path: Path, table: dict[str, Any], fault: str) -> None:
    _, faults = read(Recording, table, Source(tmp_path / "dialer.toml"), "plugins.recording")
    assert len(faults) == 1
    assert fault in faults[0].replace("[plugins.recording].", "")


# How a recording is kept


@pytest.mark.parametrize("ending", ["wav", "mp3"])
def test_a_recording_is_kept_under_its_call_with_its_checksum(tmp_path: Path, ending: Any) -> None:
    plugin, host = make(tmp_path, format=ending)
    plugin.recording_ready(a_call(), ready())
    name = f"acme/2026/09/call_1-{SID}.{ending}"
    assert files(tmp_path) == [name]
    assert (tmp_path / name).read_bytes() == SOUND
    assert (tmp_path / name).stat().st_mode & 0o777 == 0o600
    assert (tmp_path / "acme/2026").stat().st_mode & 0o777 == 0o700
    (kept,) = archive.of_call(host, "acme", "call_1")
    assert (kept.name, kept.bytes, kept.seconds, kept.channels) == (name, len(SOUND), 7, 2)
    assert kept.sha256 == hashlib.sha256(SOUND).hexdigest()
    assert host.fetched == [f"{URL}.{ending}"]
    assert host.noted["call_1", f"stored:{SID}"]["sha256"] == kept.sha256


def test_what_is_told_twice_is_fetched_once(tmp_path: Path) -> None:
    plugin, host = make(tmp_path, delete_at_twilio=True)
    for _ in range(3):
        plugin.recording_ready(a_call(), ready())
    assert (len(host.fetched), host.deleted, host.names()) == (1, [SID], ["stored", "deleted-at-twilio"])


def test_twilios_copy_stays_unless_it_shall_go(tmp_path: Path) -> None:
    plugin, host = make(tmp_path)
    plugin.recording_ready(a_call(), ready())
    assert host.deleted == []
    replace(plugin, delete_at_twilio=True).recording_ready(a_call(), ready())
    assert (host.deleted, len(host.fetched)) == ([SID], 1)


@pytest.mark.parametrize(
    ("media", "breaks", "error"), [(None, None, RetryLater), (b"", None, RetryLater), (SOUND, 5000, ConnectionError)]
)
def test_half_a_file_or_none_is_never_kept(
    tmp_path: Path, media: bytes | None, breaks: int | None, error: type[Exception]
) -> None:
    plugin, host = make(tmp_path, delete_at_twilio=True)
    host.media, host.breaks_after = media, breaks
    with pytest.raises(error):
        plugin.recording_ready(a_call(), ready())
    assert (files(tmp_path), host.deleted, host.names(), archive.listing(host)) == ([], [], [], [])
    host.media, host.breaks_after = SOUND, None
    plugin.recording_ready(a_call(), ready())
    assert host.deleted == [SID]


def test_a_copy_that_was_not_put_on_record_is_made_again(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin, host = make(tmp_path, delete_at_twilio=True)
    with monkeypatch.context() as patch:
        patch.setattr(Disk, "put", _die)
        with pytest.raises(KeyboardInterrupt):
            plugin.recording_ready(a_call(), ready())
    (tmp_path / "incoming" / f"{SID}.left").write_bytes(b"by a process that was killed")
    assert host.deleted == []
    plugin.recording_ready(a_call(), ready())
    assert (len(files(tmp_path)), len(host.fetched), host.deleted) == (1, 2, [SID])


def _die(*_: object) -> None:
    raise KeyboardInterrupt


def test_one_sid_on_two_calls_is_two_recordings(tmp_path: Path) -> None:
    plugin, host = make(tmp_path, delete_at_twilio=True)
    host.settings["other"] = plugin
    for call in (a_call(1), a_call(2), a_call(3, workspace="other")):
        plugin.recording_ready(call, ready())
    assert (len(files(tmp_path)), len(host.fetched), host.deleted) == (3, 3, [SID] * 3)
    assert [call_id for call_id, key in sorted(host.noted) if key == f"stored:{SID}"] == ["call_1", "call_2", "call_3"]


@pytest.mark.parametrize("sid", ["../../etc/passwd", "RE1", "", f"RE{'A' * 32}"])
def test_what_is_no_recording_is_given_up(tmp_path: Path, sid: str) -> None:
    plugin, host = make(tmp_path)
    with pytest.raises(GiveUp, match="is not the SID of a recording"):
        plugin.recording_ready(a_call(), ready(sid))
    assert (files(tmp_path), host.fetched) == ([], [])


# What was never told


def test_a_recording_that_nobody_told_of_is_looked_for(tmp_path: Path) -> None:
    plugin, host = make(tmp_path)
    call = a_call(answered_at=MORNING, ended_at=MORNING + 30)
    host.now = MORNING + 31
    with pytest.raises(RetryLater, match="not expected to be ready"):
        plugin.call_ended(call)
    host.now = MORNING + 91
    with pytest.raises(RetryLater, match="no finished recording"):
        plugin.call_ended(call)
    host.at_twilio = [RecordingTruth(SID, "completed", URL, 30, 2)]
    plugin.call_ended(call)
    plugin.call_ended(call)
    assert (len(host.fetched), host.names()) == (1, ["stored"])


def test_what_twilio_did_not_do_at_first_is_done_when_the_end_is_told_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin, host = make(tmp_path, delete_at_twilio=True)
    host.at_twilio, host.now = [RecordingTruth(SID, "completed", URL, 30, 2)], MORNING + 600
    call = a_call(answered_at=MORNING, ended_at=MORNING + 30)
    with monkeypatch.context() as patch:
        patch.setattr(host, "delete_recording", _die)
        with pytest.raises(KeyboardInterrupt):
            plugin.call_ended(call)
    plugin.call_ended(call)
    assert (host.deleted, len(host.fetched)) == ([SID], 1)


@pytest.mark.parametrize(
    ("call", "told", "wish"),
    [
        (a_call(), [], {}),  # nobody answered
        (a_call(answered_at=MORNING), [], {"record": "no"}),
        (a_call(answered_at=MORNING), ["recording-in-progress", "recording-absent"], {}),
    ],
)
def test_nothing_is_looked_for_where_nothing_can_be(
    tmp_path: Path, call: Call, told: list[str], wish: dict[str, Any]
) -> None:
    plugin, host = make(tmp_path, **wish)
    host.told, host.at_twilio = told, [RecordingTruth(SID, "completed", URL, 30, 2)]
    host.now += 7200
    plugin.call_ended(call)
    assert host.fetched == []


def test_one_that_began_is_looked_for_though_the_settings_are_others_now(tmp_path: Path) -> None:
    plugin, host = make(tmp_path, record="no")
    host.told = ["recording-in-progress"]
    with pytest.raises(RetryLater):
        plugin.call_ended(a_call(answered_at=MORNING, ended_at=MORNING))


def test_a_recording_that_does_not_come_is_on_record_as_missing(tmp_path: Path) -> None:
    plugin, host = make(tmp_path)
    host.at_twilio, host.now = [RecordingTruth(SID, "absent", URL, 0, 2)], MORNING + 1801
    plugin.call_ended(a_call(answered_at=MORNING, ended_at=MORNING))
    assert host.noted["call_1", "missing"] == {"event": "missing", "at_twilio": f"{SID} absent"}


# For how long


def test_what_is_too_old_is_deleted_and_stays_on_record(tmp_path: Path) -> None:
    plugin, host = make(tmp_path, keep_days=30)
    plugin.recording_ready(a_call(), ready())
    other = replace(plugin, keep_days=0)
    host.settings["other"] = other
    other.recording_ready(a_call(2, workspace="other"), ready(f"RE{'b' * 32}"))
    host.now += 30 * 86_400 - 1
    plugin.call_ended(a_call(3))
    assert len(files(tmp_path)) == 2
    host.now += HOUR
    plugin.call_ended(a_call(3))
    assert files(tmp_path) == [f"other/2026/09/call_2-RE{'b' * 32}.wav"]
    (kept,) = archive.of_call(host, "acme", "call_1")
    assert (kept.purged_at, host.noted["call_1", f"purged:{SID}"]["sid"]) == (host.now, SID)
    plugin.recording_ready(a_call(), ready())  # told once more: it does not come back
    assert len(host.fetched) == 2


def test_it_is_looked_for_once_an_hour_and_one_that_cannot_be_deleted_holds_up_no_other(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin, host = make(tmp_path, keep_days=1)
    for number, letter in enumerate("ab", 1):
        plugin.recording_ready(a_call(number), ready(f"RE{letter * 32}"))
    host.now += 3 * 86_400
    with monkeypatch.context() as patch:
        delete = Disk.delete
        patch.setattr(Disk, "delete", lambda disk, name: _die_of(disk, name, delete))
        plugin.call_ended(a_call(3))
    assert len(files(tmp_path)) == 1
    plugin.call_ended(a_call(3))
    assert len(files(tmp_path)) == 1
    host.now += HOUR
    plugin.call_ended(a_call(3))
    assert files(tmp_path) == []


def _die_of(disk: Disk, name: str, delete: Any) -> None:
    if "call_1" in name:
        raise OSError("read-only")
    delete(disk, name)


def test_what_cannot_be_deleted_is_tried_after_all_others(tmp_path: Path) -> None:
    plugin, host = make(tmp_path, keep_days=1)
    for number, letter in enumerate("abc", 1):
        plugin.recording_ready(a_call(number, requested_at=MORNING + number), ready(f"RE{letter * 32}"))
    for number in (1, 2):
        (tmp_path / f"acme/2026/09/call_{number}-RE{'ab'[number - 1] * 32}.wav").unlink()
    host.now += 3 * 86_400
    done = [retention.purge(host, limit=2) for _ in range(2)]
    assert [(len(one.purged), len(one.failed)) for one in done] == [(0, 2), (1, 1)]


def test_what_is_not_where_it_was_put_is_not_said_to_be_deleted(tmp_path: Path) -> None:
    plugin, host = make(tmp_path, keep_days=1)
    plugin.recording_ready(a_call(), ready())
    (file,) = files(tmp_path)
    (tmp_path / file).rename(tmp_path / "elsewhere")
    host.now += 3 * 86_400
    (fault,) = retention.purge(host).failed
    assert fault.startswith(f"{SID}: there is no {file} in disk")
    assert ([kept.purged_at for kept in archive.listing(host)], host.names()) == ([None], ["stored"])


def test_a_deletion_that_was_not_put_on_record_is_put_there_later(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    plugin, host = make(tmp_path, keep_days=1)
    plugin.recording_ready(a_call(), ready())
    host.now += 3 * 86_400
    with monkeypatch.context() as patch:
        patch.setattr(host, "add_event", _break)
        assert retention.purge(host).failed == [f"{SID}: the database is busy"]
    assert (files(tmp_path), host.names()) == ([], ["stored"])
    assert [kept.sid for kept in retention.purge(host).purged] == [SID]
    assert host.names() == ["stored", "purged"]


def _break(*_: object, **__: object) -> bool:
    raise OSError("the database is busy")


def test_a_call_with_no_room_for_events_is_purged_all_the_same(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin, host = make(tmp_path, keep_days=1)
    for number, letter in enumerate("ab", 1):
        plugin.recording_ready(a_call(number), ready(f"RE{letter * 32}"))
    host.now += 3 * 86_400
    monkeypatch.setattr(host, "add_event", _full)
    done = retention.purge(host)
    assert (len(done.purged), done.failed, files(tmp_path)) == (2, [], [])


def test_where_the_plugin_is_off_nothing_is_deleted(tmp_path: Path) -> None:
    plugin, host = make(tmp_path, keep_days=1)
    plugin.recording_ready(a_call(), ready())
    del host.settings["acme"]
    host.now += 3 * 86_400
    plugin.call_ended(a_call(3))
    assert len(files(tmp_path)) == 1


# In a bucket


@pytest.fixture
def bucket(monkeypatch: pytest.MonkeyPatch) -> Iterator[S3]:
    """A bucket in memory; moto stands in for the network, so that nothing leaves this machine."""
    import boto3
    from moto import mock_aws

    from dialer_plugins.recording.storage import _client

    monkeypatch.setenv("AWS_EC2_METADATA_DISABLED", "true")
    _client.cache_clear()
    with mock_aws():
        keys = {"aws_access_key_id": "testing", "aws_secret_access_key": "testing"}
        boto3.client("s3", region_name="us-east-1", **keys).create_bucket(Bucket="calls")
        yield S3(
            bucket="calls",
            prefix="dialer/",
            region="us-east-1",
            access_key=Secret("testing"),
            secret_key=Secret("testing"),
        )
    _client.cache_clear()


def test_a_bucket_keeps_gives_and_deletes(tmp_path: Path, bucket: S3) -> None:
    plugin, host = make(tmp_path, s3=bucket, keep_days=1, delete_at_twilio=True)
    plugin.recording_ready(a_call(), ready())
    (kept,) = archive.of_call(host, "acme", "call_1")
    assert (kept.place, files(tmp_path), host.deleted) == ("s3://calls", [], [SID])
    storage = archive.storage_with(host, kept)
    assert b"".join(storage.read(kept.name, 0, kept.bytes)) == SOUND
    assert b"".join(storage.read(kept.name, 300, 310)) == SOUND[300:310]
    host.now += 2 * 86_400
    plugin.call_ended(a_call(2))
    with pytest.raises(NotKept, match="cannot be read"):
        storage.read(kept.name, 0, 1)


def test_another_prefix_is_for_new_recordings(tmp_path: Path, bucket: S3) -> None:
    plugin, host = make(tmp_path, s3=bucket, keep_days=1)
    plugin.recording_ready(a_call(), ready())
    host.settings["acme"] = replace(plugin, s3=replace(bucket, prefix="new/"))
    (kept,) = archive.listing(host)
    assert kept.name == f"dialer/acme/2026/09/call_1-{SID}.wav"
    assert b"".join(archive.storage_with(host, kept).read(kept.name, 0, kept.bytes)) == SOUND
    host.now += 2 * 86_400
    assert len(retention.purge(host).purged) == 1
    assert not bucket.has(kept.name)


def test_nothing_is_purged_at_another_endpoint_or_where_the_object_is_not(tmp_path: Path, bucket: S3) -> None:
    plugin, host = make(tmp_path, s3=bucket, keep_days=1)
    plugin.recording_ready(a_call(), ready())
    host.now += 2 * 86_400
    host.settings["acme"] = replace(plugin, s3=replace(bucket, endpoint="https://s3.example"))
    (fault,) = retention.purge(host).failed
    assert "is in s3://calls, which the settings of acme do not name any more" in fault
    host.settings["acme"] = plugin
    (kept,) = archive.listing(host)
    bucket.delete(kept.name)
    (fault,) = retention.purge(host).failed
    assert f"there is no {kept.name} in s3://calls" in fault
    assert (host.names(), archive.listing(host)[0].purged_at) == (["stored"], None)


def test_a_place_is_the_endpoints_too() -> None:
    assert S3(bucket="calls", endpoint="https://s3.example/").place == "https://s3.example/calls"


def test_a_bucket_that_has_another_size_is_not_trusted(
    tmp_path: Path, bucket: S3, monkeypatch: pytest.MonkeyPatch
) -> None:
    from dialer_plugins.recording.storage import _client

    plugin, host = make(tmp_path, s3=bucket, delete_at_twilio=True)
    monkeypatch.setattr(_client(bucket), "head_object", lambda **_: {"ContentLength": 3})
    with pytest.raises(NotKept, match="has 3 bytes"):
        plugin.recording_ready(a_call(), ready())
    assert (host.deleted, archive.listing(host), files(tmp_path)) == ([], [], [])


def test_a_bucket_that_is_no_longer_named_is_said(tmp_path: Path, bucket: S3) -> None:
    plugin, host = make(tmp_path, s3=bucket)
    plugin.recording_ready(a_call(), ready())
    host.settings["acme"] = replace(plugin, s3=None)
    (kept,) = archive.of_call(host, "acme", "call_1")
    with pytest.raises(NotKept, match="which the settings of acme do not name any more"):
        archive.storage_with(host, kept)


def test_secrets_of_a_bucket_are_not_shown(bucket: S3) -> None:
    assert "testing" not in repr(Recording(s3=bucket))


# Stories


@dataclass
class Heard:
    """A story that was recorded."""

    stage: Any
    talker: Any
    plugin: Recording

    def get(self, path: str, key: str, **headers: str) -> Any:
        return client(self.stage).get(path, headers={"Authorization": f"Bearer {key}", **headers}, buffered=True)


def client(stage: Any) -> FlaskClient:
    from dialer.app import create_app

    world = stage.world
    return create_app(world.settings, store=world.dialer.store, **world._shared()).test_client()


def make_key(stage: Any, workspace: str = "ws_demo", agent: str = "") -> str:
    with stage.world.dialer.store.write() as tx:
        return add_key(tx, workspace, agent, ("calls:read",), now=stage.world.dialer.clock())


def play(make_stage: Any, plugin: Recording, to: str = ANSWERS, **options: Any) -> Heard:
    stage = make_stage(plugins=(plugin,), **options)
    talker = stage.agent_dials(to)
    stage.lasts(20)
    talker.hangs_up()
    stage.ends()
    stage.world.drain()
    return Heard(stage, talker, plugin)


def test_the_customer_hears_it_before_he_is_joined_and_before_the_recording_begins(make_stage: Any) -> None:
    heard = play(make_stage, Recording(announcement="This call is recorded."))
    stage, (leg,) = heard.stage, heard.stage.dialled()
    assert (stage.heard(leg), heard.talker.heard) == (["This call is recorded."], [])
    log = [(entry.kind, entry.detail.get("name")) for entry in stage.world.network.log if entry.call_sid == leg.sid]
    kinds = [kind for kind, _ in log]
    assert kinds.index("said") < kinds.index("recording-start")
    assert log.index(("verb", "Say")) < log.index(("verb", "Start")) < log.index(("verb", "Dial"))
    (recording,) = stage.world.network.recordings.values()
    assert (recording.source, recording.channels) == ("StartCallRecordingTwiML", 2)
    assert heard.talker.call.status == "completed"


def test_without_an_announcement_the_leg_is_recorded_from_the_answer(make_stage: Any) -> None:
    heard = play(make_stage, Recording(announcement=""))
    (recording,) = heard.stage.world.network.recordings.values()
    assert (recording.source, recording.channels) == ("OutboundAPI", 2)


@pytest.mark.parametrize("plugin", [Recording(), Recording(record="conference"), Recording(announcement="")])
def test_a_recorded_call_is_kept_and_says_so(make_stage: Any, plugin: Recording) -> None:
    heard = play(make_stage, plugin)
    (kept,) = archive.of_call(plugin.host, "ws_demo", heard.talker.call.id)
    assert kept.seconds >= 15
    assert (plugin.host.folder / kept.name).read_bytes()[:4] == b"RIFF"
    assert heard.talker.events().count("recording.stored") == 1
    verdicts = [row["answer"] for row in heard.talker.rows("verdicts_of_call") if row["hook"] == "validate_call"]
    assert verdicts[0].startswith("recorded (")


def test_one_that_began_after_the_announcement_can_be_paused(make_stage: Any) -> None:
    stage = make_stage(plugins=(Recording(),))
    talker = stage.agent_dials(ANSWERS)
    stage.lasts(15)
    controls.ask_for(stage.world.dialer, talker.call, "recording-pause", by="api", key="1")
    stage.lasts(1)
    assert [one.status for one in stage.world.network.recordings.values()] == ["paused"]
    talker.hangs_up()
    stage.ends()


def test_an_access_that_a_call_has_no_room_for_is_in_the_log(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plugin, host = make(tmp_path)
    plugin.recording_ready(a_call(), ready())
    (kept,) = archive.of_call(host, "acme", "call_1")
    monkeypatch.setattr(host, "add_event", _full)
    monkeypatch.setattr(logging.getLogger("dialer"), "propagate", True)
    caplog.set_level(logging.WARNING, host.log.name)
    assert b"".join(access.read(host, kept, "key 1", "api", 0, 5)) == SOUND[:5]
    assert f"{SID} of call_1 was read by key 1 (api): 100 events already" in caplog.text


def test_accesses_leave_room_for_what_becomes_of_a_recording(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    plugin, host = make(tmp_path)
    plugin.recording_ready(a_call(), ready())
    (kept,) = archive.of_call(host, "acme", "call_1")
    host.told = ["recording.accessed"] * access.MOST_ACCESSES
    monkeypatch.setattr(logging.getLogger("dialer"), "propagate", True)
    caplog.set_level(logging.WARNING, host.log.name)
    access.read(host, kept, "key 1", "api", 0, 5)
    assert host.names() == ["stored"]
    assert f"{SID} of call_1 was read by key 1 (api): 80 accesses stand on the call already" in caplog.text


def _full(*_: object, **__: object) -> bool:
    raise PluginError("100 events already")


def test_twilios_copy_goes_when_ours_is_there(make_stage: Any) -> None:
    heard = play(make_stage, Recording(delete_at_twilio=True))
    assert (heard.stage.world.network.recordings, heard.talker.events().count("recording.deleted-at-twilio")) == ({}, 1)


def test_a_call_that_is_not_to_be_recorded_is_not(make_stage: Any) -> None:
    heard = play(make_stage, Recording(rules=(Rule("no", workspaces=("ws_demo",)),)))
    assert heard.stage.world.network.recordings == {}
    assert heard.stage.heard(heard.stage.dialled()[0]) == []


def test_nobody_is_recorded_who_did_not_answer(make_stage: Any) -> None:
    heard = play(make_stage, Recording(), BUSY)
    assert (heard.stage.world.network.recordings, archive.listing(heard.plugin.host)) == ({}, [])


@pytest.mark.parametrize("seed", range(3))
def test_every_recording_is_kept_once_whatever_is_lost_on_the_way(
    make_stage: Any, seed: int, record_property: Any
) -> None:
    names = ("webhook_lost", "webhook_late", "webhook_repeated", "webhook_reordered", "rest_500_undone", "rest_half")
    plugin = Recording(record="conference" if seed % 2 else "dual", announcement="", delete_at_twilio=True)
    faults = {**dict.fromkeys(names, 0.1), "dispatcher_killed": 0.002}
    stage = make_stage(plugins=(plugin,), faults=faults, seed=seed)
    for _ in range(12):
        stage.agent_dials(ANSWERS, plan=AgentPlan(hang_up_after_bridged=5))
    stage.ends()
    stage.world.drain(200_000)
    made = {entry.detail["recording"] for entry in stage.world.network.log if entry.kind == "recording-start"}
    kept = archive.listing(plugin.host)
    left = {sid for sid, one in stage.world.network.recordings.items() if one.status == "completed"}
    assert left == set()
    assert {one.sid for one in kept} <= made
    assert all((plugin.host.folder / one.name).stat().st_size == one.bytes for one in kept)
    record_property(
        "figure", f"recordings under faults, seed {seed}: {len(made)} made, {len(kept)} kept, 0 left behind"
    )


# Who may hear it


def test_a_key_of_the_workspace_hears_it_whole_or_in_parts_and_it_stands_on_the_call(make_stage: Any) -> None:
    heard = play(make_stage, Recording())
    (kept,) = archive.listing(heard.plugin.host)
    path, key = f"/plugins/recording/calls/{kept.call_id}", make_key(heard.stage)
    whole = heard.get(path, key)
    assert (whole.status_code, whole.headers["Content-Type"], whole.headers["Accept-Ranges"]) == (
        200,
        "audio/wav",
        "bytes",
    )
    assert hashlib.sha256(whole.data).hexdigest() == kept.sha256 == whole.get_etag()[0]
    for header, start, stop in (
        ("bytes=0-9", 0, 10),
        ("bytes=100-", 100, kept.bytes),
        ("bytes=-5", kept.bytes - 5, kept.bytes),
    ):
        part = heard.get(path, key, Range=header)
        assert (part.status_code, part.data) == (206, whole.data[start:stop])
        assert part.headers["Content-Range"] == f"bytes {start}-{stop - 1}/{kept.bytes}"
    assert heard.get(path, key, Range=f"bytes={kept.bytes}-").status_code == 416
    for header in ("bytes=0-1,4-5", "lines=0-1", "bytes=x"):
        assert heard.get(path, key, Range=header).status_code == 200
    assert heard.get(path, key, **{"Range": "bytes=0-9", "If-Range": '"another"'}).status_code == 200
    assert heard.get(f"{path}?sid={kept.sid}", key).status_code == 200
    assert heard.get(f"{path}?sid=RE0", key).status_code == 404
    assert heard.talker.events().count("recording.accessed") == 1  # all of it within a minute, by one key
    heard.stage.lasts(61)
    heard.get(path, make_key(heard.stage))
    accesses = [row for row in heard.talker.rows("events_of_call", after=0) if row["name"] == "recording.accessed"]
    assert len(accesses) == 2
    assert {json.loads(row["payload"])["sid"] for row in accesses} == {kept.sid}


def test_nobody_else_hears_it(make_stage: Any) -> None:
    heard = play(make_stage, Recording())
    (kept,) = archive.listing(heard.plugin.host)
    path, world = f"/plugins/recording/calls/{kept.call_id}", heard.stage.world
    with world.dialer.store.write() as tx:
        add_workspace(tx, "rival", "Rival", 0.0)
        add_agent(tx, "ws_demo", "eve", "Eve", "agent", 0.0)
    assert client(heard.stage).get(path).status_code == 401
    assert heard.get(path, make_key(heard.stage, "rival")).status_code == 404
    assert heard.get(path, make_key(heard.stage, agent="eve")).status_code == 404
    assert heard.get(path, make_key(heard.stage, agent=kept.agent)).status_code == 200
    assert heard.get("/plugins/recording/calls/call_none", make_key(heard.stage)).status_code == 404
    assert heard.talker.events().count("recording.accessed") == 1


def test_one_that_was_purged_or_lost_is_said_to_be(make_stage: Any) -> None:
    heard = play(make_stage, Recording())
    (kept,) = archive.listing(heard.plugin.host)
    path, key = f"/plugins/recording/calls/{kept.call_id}", make_key(heard.stage)
    (heard.plugin.host.folder / kept.name).unlink()
    lost = heard.get(path, key)
    assert (lost.status_code, lost.json["error"]["code"]) == (404, "not-kept")
    archive.opened(heard.plugin.host).execute("UPDATE recordings SET purged_at = 1")
    assert heard.get(path, key).status_code == 410


def test_two_slow_readers_leave_the_threads_to_others(make_stage: Any) -> None:
    heard = play(make_stage, Recording())
    (kept,) = archive.listing(heard.plugin.host)
    path, browser = f"/plugins/recording/calls/{kept.call_id}", client(heard.stage)
    headers = {"Authorization": f"Bearer {make_key(heard.stage)}"}
    slow = [browser.get(path, headers=headers) for _ in range(routes.MOST_DOWNLOADS)]
    third = browser.get(path, headers=headers)
    assert (third.status_code, third.headers["Retry-After"]) == (503, "10")
    slow[0].close()
    assert browser.get(path, headers=headers, buffered=True).status_code == 200
    slow[0] = browser.get(path, headers=headers)
    assert slow[0].status_code == 200
    for one in slow:
        one.close()


def test_one_that_is_not_kept_takes_no_place(make_stage: Any) -> None:
    heard = play(make_stage, Recording())
    (kept,) = archive.listing(heard.plugin.host)
    (heard.plugin.host.folder / kept.name).unlink()
    browser, headers = client(heard.stage), {"Authorization": f"Bearer {make_key(heard.stage)}"}
    asked = [browser.get(f"/plugins/recording/calls/{kept.call_id}", headers=headers) for _ in range(3)]
    assert [one.status_code for one in asked] == [404, 404, 404]


def test_a_download_ends_when_its_time_is_over() -> None:
    ticks = iter((0.0, 1.0, 119.0, 120.0))
    ours, theirs = socket.socketpair()
    with ours, theirs:
        pieces = routes._in_time(iter((b"a", b"b", b"c")), lambda: next(ticks), ours)
        assert (next(pieces), ours.gettimeout()) == (b"a", 119.0)
        assert (next(pieces), ours.gettimeout()) == (b"b", 1.0)
        with pytest.raises(TimeoutError, match="was not read within 120 seconds"):
            next(pieces)


def run(host: Host, *arguments: str) -> Any:
    group = Recording(host=host).register_commands()
    return CliRunner().invoke(group, list(arguments), catch_exceptions=False)


def test_the_commands_list_export_and_purge(make_stage: Any, tmp_path: Path) -> None:
    heard = play(make_stage, Recording(keep_days=1))
    host, (kept,) = heard.plugin.host, archive.listing(heard.plugin.host)
    assert kept.sid in run(host, "list", "--workspace", "ws_demo").output
    assert json.loads(run(host, "list", "--json").output)[0]["sha256"] == kept.sha256
    assert run(host, "list", "--workspace", "rival").output == "there are no such recordings\n"
    assert run(host, "export", str(tmp_path / "out"), "--workspace", "ws_demo").output.startswith("1 recordings in")
    (row,) = csv.DictReader((tmp_path / "out" / "recordings.csv").read_text().splitlines())
    assert hashlib.sha256((tmp_path / "out" / row["file"]).read_bytes()).hexdigest() == row["sha256"]
    assert (tmp_path / "out" / row["file"]).stat().st_mode & 0o777 == 0o600
    assert heard.talker.events().count("recording.accessed") == 1
    heard.stage.world.offset += 2 * 86_400
    assert kept.sid in run(host, "purge", "--dry-run").output
    assert run(host, "purge").output == "1 recordings deleted\n"
    assert run(host, "export", str(tmp_path / "out"), "--workspace", "ws_demo").output.startswith("0 recordings in")
    assert not (host.folder / kept.name).exists()


def test_an_export_of_what_was_changed_fails(make_stage: Any, tmp_path: Path) -> None:
    from dialer import DialerError

    heard = play(make_stage, Recording())
    (kept,) = archive.listing(heard.plugin.host)
    (heard.plugin.host.folder / kept.name).write_bytes(b"x" * kept.bytes)
    with pytest.raises(DialerError, match="1 recordings could not be taken out"):
        run(heard.plugin.host, "export", str(tmp_path / "out"), "--workspace", "ws_demo")


def test_the_readme_shows_every_setting() -> None:
    readme = (Path(__file__).parent.parent.parent / "plugins" / "recording" / "README.md").read_text()
    for cls in (Recording, Rule, S3):
        for name, (_, setting, _) in settings_of(cls).items():
            assert f"| `{name}` |" in readme
            assert setting.meaning
