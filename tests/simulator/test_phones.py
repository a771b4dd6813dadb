"""Every scripted phone does what its story says."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dialer.simulator import Knobs, TwilioError
from dialer.simulator.phones import PHONES, phone_at

if TYPE_CHECKING:
    from tests.simulator.conftest import Play

TALK = "<Response><Pause length='60'/></Response>"
ANSWERED = ["initiated", "ringing", "in-progress"]


@pytest.mark.parametrize(
    ("number", "statuses", "ring_seconds", "duration"),
    [
        ("0101", [*ANSWERED, "completed"], 1.0, 61),
        ("0102", ["initiated", "busy"], None, 0),
        ("0103", ["initiated", "ringing", "no-answer"], 60.0, 0),
        ("0104", ["initiated", "failed"], None, 0),
        ("0105", [*ANSWERED, "completed"], 4.0, 20),
        ("0106", [*ANSWERED, "completed"], 1.0, 3),
        ("0108", [*ANSWERED, "completed"], 12.0, 61),
        ("0109", [*ANSWERED, "completed"], 1.0, 1),
        ("0110", ["initiated", "ringing", "busy"], 2.0, 0),
        ("0112", [*ANSWERED, "completed"], 1.0, 30),
        ("0113", ["initiated", "in-progress", "completed"], 1.0, 61),
        ("0114", ["initiated", "ringing", "failed"], 3.0, 0),
        ("0115", [*ANSWERED, "completed"], 1.0, 61),
        ("0150", [*ANSWERED, "completed"], 1.0, 61),
    ],
)
def test_a_phone(
    play: Play, number: str, statuses: list[str], ring_seconds: float | None, duration: int
) -> None:
    story = play(join=TALK)
    call = story.call(f"+1415555{number}")
    story.run(120)
    assert story.statuses(call) == statuses
    assert call.duration == duration
    rings = [e.at for e in story.network.log if e.kind in ("ring-start", "ring-stop")]
    if ring_seconds is None:
        assert rings == []
    else:
        assert rings[1] - rings[0] == pytest.approx(ring_seconds, rel=0.21)


@pytest.mark.parametrize(("number", "code"), [("+14155550107", 21211), ("+14155550111", 21215)])
def test_phones_that_the_api_refuses(play: Play, number: str, code: int) -> None:
    story = play()
    with pytest.raises(TwilioError) as refused:
        story.call(number)
    assert (refused.value.http_status, refused.value.code) == (400, code)
    assert (story.network.calls, story.account.live, story.account.queued) == ({}, 0, 0)


def test_the_phone_that_presses_keys(play: Play) -> None:
    story = play(join='<Response><Gather timeout="9" action="/keys"/></Response>', keys="<Response/>")
    story.call("+14155550115")
    story.run(20)
    (told,) = story.told("gather")
    assert (told.fields["Digits"], told.fields["FinishedOnKey"]) == ("12", "#")


def test_every_phone_has_a_story() -> None:
    assert all(phone.story.endswith(".") and phone.number == number for number, phone in PHONES.items())


def test_numbers_without_a_script() -> None:
    assert phone_at("+14155550177", "+14155550102") is PHONES["+14155550101"]
    assert phone_at("+442079460000", "+14155550102") is PHONES["+14155550102"]


def test_the_knob_for_unknown_numbers(play: Play) -> None:
    story = play(Knobs(cps=float("inf"), unknown_number="+14155550103"), join=TALK)
    call = story.call("+16505551234")
    story.run(70)
    assert call.status == "no-answer"


def test_a_knob_that_names_a_number_without_a_script(play: Play) -> None:
    story = play(Knobs(cps=float("inf"), unknown_number="+16505550000"), join=TALK)
    assert story.call("+16505551234").party is PHONES["+14155550101"]


def test_a_person_acts_by_hand(play: Play) -> None:
    story = play(join=TALK)
    call = story.call("+14155550103")
    story.run(5)
    story.network.pick_up(call.sid)
    story.run(5)
    story.network.press(call.sid, "5")
    story.network.hang_up(call.sid)
    story.run(1)
    assert story.statuses(call) == [*ANSWERED, "completed"]
    assert call.ended_by == "party"
    story.network.hang_up(call.sid)
    story.network.press(call.sid, "5")
    assert story.entries("digits") == [{"digits": "5"}]


def test_a_person_declines(play: Play) -> None:
    story = play(join=TALK)
    call = story.call("+14155550103")
    story.network.decline(call.sid)  # it does not ring yet
    story.run(5)
    story.network.decline(call.sid)
    assert (call.status, call.sip_code) == ("busy", 603)
