"""The clock, the seed, the log, and forgetting."""

from __future__ import annotations

import re
from dataclasses import fields
from typing import TYPE_CHECKING

import pytest

from dialer.simulator import Faults, Knobs, Network, Params, TwilioError

if TYPE_CHECKING:
    from tests.simulator.conftest import Play, Story

AGENT = "<Response><Dial><Conference waitUrl=''>{}</Conference></Dial></Response>"


def test_things_happen_in_order_and_at_their_time() -> None:
    network = Network(100.0)
    seen: list[tuple[str, float]] = []
    for name, delay in (("b", 2.0), ("a", 1.0), ("c", 2.0), ("d", 9.0)):
        network.later(delay, lambda name=name: seen.append((name, network.now)))
    assert network.next_due() == 101.0
    network.advance(105.0)
    assert seen == [("a", 101.0), ("b", 102.0), ("c", 102.0)]
    assert (network.now, network.next_due()) == (105.0, 109.0)
    network.advance(90.0)
    assert network.now == 105.0


def test_what_is_cancelled_does_not_happen() -> None:
    network = Network()
    seen: list[int] = []
    timers = [network.later(float(i), seen.append, i) for i in range(5000)]
    for timer in timers[:-1]:
        network.cancel(timer)
        network.cancel(timer)
    network.cancel(None)
    assert network.next_due() == 4999.0
    network.advance(10_000.0)
    assert (seen, network.next_due()) == ([4999], None)


def test_cancelling_from_within_what_runs() -> None:
    network = Network()
    seen: list[int] = []
    timers = [network.later(1.0 + i / 10_000, seen.append, i) for i in range(3000)]

    def cancel_the_rest() -> None:
        for timer in timers[1:]:
            network.cancel(timer)

    network.later(0.5, cancel_the_rest)
    network.advance(2.0)
    assert seen == [0]


def test_sids() -> None:
    network = Network(seed=3)
    sids = {network.sid("CA") for _ in range(100)}
    assert len(sids) == 100
    assert all(re.fullmatch("CA[0-9a-f]{32}", sid) for sid in sids)


def busy_day(play: Play, seed: int) -> Story:
    faults = Faults(webhook_late=0.1, webhook_repeated=0.1, webhook_unreachable=0.1, webhook_reordered=0.1)
    story = play(Knobs(cps=2.0), faults, seed, voice=AGENT.format("room"), join=AGENT.format("room2"))
    for number in range(30):
        story.connect(f"+141555501{number:02d}")
        if number not in (7, 11):
            story.call(f"+141555501{number:02d}")
        story.run(3)
    story.run(600)
    return story


def test_the_same_seed_gives_the_same_log(play: Play) -> None:
    first, second, other = (repr(list(busy_day(play, seed).network.log)) for seed in (5, 5, 6))
    assert first == second
    assert first != other


def test_drawing_counts_what_happens() -> None:
    network = Network(faults=Faults(rest_429=1.0, rest_refused=0.5))
    assert network.draw("rest_429")
    assert not network.draw("webhook_lost")
    drawn = sum(network.draw("rest_refused") for _ in range(1000))
    assert 400 < drawn < 600
    assert network.injected == {"rest_429": 1, "rest_refused": drawn}


def test_every_fault_is_off_unless_asked_for() -> None:
    assert all(getattr(Faults(), field.name) == 0.0 for field in fields(Faults))


def test_the_log_is_bounded_and_numbered() -> None:
    network = Network(knobs=Knobs(max_log=3))
    for kind in "abcde":
        network.note(kind)
    assert [(entry.number, entry.kind) for entry in network.log] == [(3, "c"), (4, "d"), (5, "e")]


def test_forgetting(play: Play) -> None:
    story = busy_day(play, 1)
    network = story.network
    living = story.connect()
    story.run(5)
    network.forget(network.now + 1)
    assert all(call.status == "in-progress" for call in network.calls.values())
    assert living.sid in network.calls
    assert {c.status for c in network.conferences.values()} <= {"init", "in-progress"}
    assert (list(network.log), story.account.alerts) == ([], [])
    story.run(5)
    for call in list(network.calls.values()):
        network.hang_up(call.sid)
    network.forget(network.now + 1)
    assert (network.calls, network.conferences, network.recordings) == ({}, {}, {})


def test_setting_up_accounts() -> None:
    network = Network(7.0)
    account = network.add_account("AC" + "1" * 32, "token", friendly_name="Acme")
    assert (network.account(account.sid), account.auth_token, account.date_created) == (account, "token", 7.0)
    sid, secret = network.add_key(account.sid)
    assert (account.keys, sid[:2], len(secret)) == ({sid: secret}, "SK", 32)
    number = network.add_number(account.sid, "+14155550199", voice_url="https://a.example/v")
    assert network.owners["+14155550199"] is account.numbers["+14155550199"] is number
    caller_id = network.add_caller_id(account.sid, "+16505551234", "Desk")
    assert account.caller_ids == {"+16505551234": caller_id}
    application = network.add_application(account.sid, friendly_name="Dialer")
    assert account.applications == {application.sid: application}
    with pytest.raises(TwilioError):
        network.add_key("AC" + "2" * 32)


def test_calls_that_nobody_knows() -> None:
    network = Network()
    for act in (network.hang_up, network.pick_up, network.decline, network.lose):
        with pytest.raises(TwilioError) as caught:
            act("CA" + "0" * 32)
        assert (caught.value.http_status, caught.value.code) == (404, 20404)


def test_params_hold_several_values() -> None:
    params = Params([("To", "+1"), ("Event", "a"), ("Event", "b")])
    assert (params.get("Event"), params.all("Event"), params.all("None")) == ("b", ("a", "b"), ())
    assert (params.get("None"), params.get("None", "x"), "To" in params, len(params)) == ("", "x", True, 2)
    assert params.pairs() == Params({"To": "+1", "Event": ["a", "b"]}).pairs()
    assert list(params) == ["To", "Event"]


def test_two_accounts_do_not_share_conferences(play: Play) -> None:
    story = play(voice=AGENT.format("room"))
    other = story.network.add_account()
    application = story.network.add_application(other.sid, voice_url="https://app.example/voice")
    story.connect()
    story.network.connect(other.sid, application.sid, "alice", {})
    story.run(5)
    assert [c.status for c in story.network.conferences.values()] == ["init", "init"]
