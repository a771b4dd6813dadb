"""Record calls by rules, keep the recordings, and give them out to who may hear them."""

from __future__ import annotations

import importlib.util
from dataclasses import dataclass, field
from typing import Annotated

import click
from flask import Blueprint

from dialer import Call, CallEvent, Host, Remark, Setting, hookimpl
from dialer.hookspecs import ConferenceOptions, DialOptions
from dialer.twilio import RecordingTruth
from dialer_plugins.recording import archive, commands, retention, routes
from dialer_plugins.recording.policy import Format, Policy, Record, Rule, decide, read_announcement
from dialer_plugins.recording.storage import S3


@dataclass(frozen=True, eq=False)
class Recording:
    """Record calls by rules, announce it, and keep the recordings on disk or in S3 for as long as is wanted."""

    record: Annotated[Record, Setting("what is recorded where no rule says otherwise")] = "dual"
    percent: Annotated[float, Setting("of those calls, so many are recorded", numbers=(0, 100))] = 100.0
    announcement: Annotated[
        str, Setting("what the customer hears first: a sentence, an https URL, or nothing", parse=read_announcement)
    ] = "This call may be recorded."
    rules: Annotated[tuple[Rule, ...], Setting("exceptions; the first that fits a call counts")] = ()
    format: Annotated[Format, Setting("how a recording is kept")] = "wav"
    keep_days: Annotated[int, Setting("days until a recording is deleted; 0: never", numbers=(0, 36500))] = 0
    delete_at_twilio: Annotated[bool, Setting("delete Twilio's copy once ours is safe")] = False
    s3: Annotated[S3 | None, Setting("keep recordings in a bucket, not on this disk")] = None
    host: Host = field(default_factory=Host)

    def __post_init__(self) -> None:
        if self.s3 and importlib.util.find_spec("boto3") is None:
            raise ValueError("s3 needs a library that is not installed: pip install 'dialer[s3]'")

    def decide(self, call: Call) -> Policy:
        """What is done about this call."""
        return decide(call, self.rules, Rule(self.record, percent=self.percent, announcement=self.announcement))

    @hookimpl
    def validate_call(self, call: Call) -> Remark:
        return Remark(self.decide(call).in_words())

    @hookimpl
    def dial_options(self, call: Call) -> DialOptions | None:
        policy = self.decide(call)
        options = {"record": "true", "recording_channels": "dual"} if policy.record == "dual" else {}
        return options | ({"announcement": policy.announcement} if policy.announcement else {}) or None

    @hookimpl
    def conference_options(self, call: Call) -> ConferenceOptions | None:
        return {"record": "record-from-start"} if self.decide(call).record == "conference" else None

    @hookimpl
    def recording_ready(self, call: Call, event: CallEvent) -> None:
        detail = event.detail
        archive.keep(
            self.host,
            call,
            RecordingTruth(
                detail["RecordingSid"],
                "completed",
                detail["RecordingUrl"],
                archive.whole(detail.get("RecordingDuration", "")),
                archive.whole(detail.get("RecordingChannels", "")) or 1,
            ),
            self.format,
            self.s3,
            delete_at_twilio=self.delete_at_twilio,
        )
        retention.purge_hourly(self.host)

    @hookimpl
    def call_ended(self, call: Call) -> None:
        retention.purge_hourly(self.host)
        if call.answered_at is None:
            return
        for kept in archive.of_call(self.host, call.workspace, call.id):
            archive.finish(self.host, call, kept, delete_at_twilio=self.delete_at_twilio)
        expected = self.decide(call).record != "no" or call.options.get("record") == "true"
        for one in archive.missed(self.host, call, expected=expected):
            archive.keep(self.host, call, one, self.format, self.s3, delete_at_twilio=self.delete_at_twilio)

    @hookimpl
    def register_blueprint(self) -> Blueprint:
        found: Blueprint = routes.blueprint(self.host)
        return found

    @hookimpl
    def register_commands(self) -> click.Group:
        group: click.Group = commands.group(self.host)
        return group
