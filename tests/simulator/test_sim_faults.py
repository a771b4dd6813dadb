"""Faults that touch more than one webhook, half an answer, or the people: together, lagging lists, a page reloaded."""

from __future__ import annotations

from collections import defaultdict
from typing import TYPE_CHECKING

import pytest
import requests
from twilio.rest import Client

from dialer.simulator import AgentPlan, Faults, Network

if TYPE_CHECKING:
    from tests.simulator.conftest import Play

OWN, CUSTOMER, URL = "+14155550199", "+14155550103", "https://app.example/join"


def place(client: Client) -> str:
    return str(client.calls.create(to=CUSTOMER, from_=OWN, url=URL).sid)


def test_callbacks_that_go_together_come_at_one_moment_in_any_order(play: Play) -> None:
    story = play(faults=Faults(webhook_together=0.5), join="<Response/>")
    orders = set()
    for _ in range(30):
        call = story.call()
        story.run(20)
        moments = defaultdict(list)
        for heard in story.told("status", call):
            moments[heard.at].append(heard.event)
        orders |= {tuple(events) for events in moments.values() if len(events) == 2}
        told = sorted(heard.event for heard in story.told("status", call))
        assert told == ["completed", "in-progress", "initiated", "ringing"]
    assert {("ringing", "in-progress"), ("in-progress", "ringing")} <= orders


def test_a_callback_without_company_goes_alone_after_a_while(play: Play) -> None:
    story = play(faults=Faults(webhook_together=1.0), join="<Response/>")
    call = story.call(StatusCallbackEvent="completed")
    story.run(20)
    (heard,) = story.told("status")
    assert call.end_time is not None
    assert heard.at - call.end_time == pytest.approx(3.05, abs=0.02)


def test_a_broken_connection_leaves_open_whether_the_request_was_done(network: Network, client: Client) -> None:
    network.faults = Faults(rest_reset=1.0)
    for _ in range(20):
        with pytest.raises(requests.exceptions.ConnectionError) as caught:
            place(client)
        assert "aborted" in str(caught.value)
    assert 0 < len(network.calls) < 20
    assert network.injected == {"rest_reset": 20}


def test_half_an_answer_is_of_a_request_that_was_done(network: Network, client: Client) -> None:
    network.faults, errors = Faults(rest_half=1.0), set[str]()
    for _ in range(20):
        with pytest.raises((requests.exceptions.ChunkedEncodingError, ValueError)) as caught:
            place(client)
        errors.add(caught.type.__name__)
    assert len(network.calls) == 20
    assert errors == {"ChunkedEncodingError", "JSONDecodeError"}


def test_a_new_call_is_missing_from_lists_for_a_while(network: Network, client: Client) -> None:
    network.faults = Faults(listing_lag=1.0)
    sid = place(client)
    assert client.calls.list() == []
    assert client.calls(sid).fetch().sid == sid
    assert client.calls(sid).update(status="canceled").status == "canceled"
    network.advance(network.now + 20.0)
    assert [call.sid for call in client.calls.list()] == [sid]


def test_an_agent_may_leave_at_any_moment(play: Play) -> None:
    story = play(faults=Faults(agent_leaves=1.0), voice="<Response><Pause length='90'/></Response>")
    legs = [story.connect() for _ in range(20)]
    story.run(41)
    lasted = [(leg.end_time or 0.0) - leg.date_created for leg in legs]
    assert 0.0 < min(lasted) < 10.0 < 30.0 < max(lasted) <= 40.0


def test_a_reload_ends_the_call_and_may_begin_it_again(play: Play) -> None:
    story = play(faults=Faults(agent_reloads=0.6), voice="<Response><Pause length='300'/></Response>")
    for _ in range(30):
        story.connect(plan=AgentPlan(hang_up_after=200.0), color="red")
    story.run(100)
    said = [detail for detail in story.entries("call-created") if detail["to"]]
    assert len(said) > 30
    assert story.kinds().count("lost") > 3
    ended = sum(entry.kind == "call-ended" for entry in story.network.log)
    assert story.network.injected["agent_reloads"] == ended
    assert {heard.fields.get("color") for heard in story.told("voice")} == {"red"}


def test_each_fault_is_in_the_log_with_what_it_struck(network: Network, client: Client) -> None:
    sid = place(client)
    network.faults = Faults(rest_429=1.0)
    with pytest.raises(Exception, match="Too many"):
        client.calls(sid).update(status="canceled")
    (entry,) = [entry for entry in network.log if entry.kind == "fault"]
    assert (entry.call_sid, entry.detail["fault"], entry.detail["method"]) == (sid, "rest_429", "POST")
