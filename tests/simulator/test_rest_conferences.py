from collections.abc import Callable

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from dialer.simulator import Network, WebAnswer
from dialer.simulator.rest_sdk import connect_client

START = 1_800_000_000.0
OWN, CUSTOMER = "+14155550199", "+14155550101"
HOLD = "<Response><Pause length='600'/></Response>"
ROOM = "<Response><Dial><Conference participantLabel='agent'>room</Conference></Dial></Response>"


def play(network: Network, seconds: float, twiml: str = HOLD) -> None:
    """Let time pass; every webhook is answered with that TwiML."""
    end = network.now + seconds
    while (due := network.next_due()) is not None and due <= end:
        network.advance(due)
        for request in network.take_requests():
            network.answer(request.id, WebAnswer(200, {"Content-Type": "text/xml"}, twiml.encode()))
    network.advance(end)


def refusal(act: Callable[[], object]) -> tuple[int, int]:
    with pytest.raises(TwilioRestException) as caught:
        act()
    return caught.value.status, caught.value.code


@pytest.fixture
def agent(network: Network, client: Client) -> str:
    """The CallSid of somebody alone in the conference "room"."""
    call = client.calls.create(to=CUSTOMER, from_=OWN, twiml=ROOM)
    play(network, 5)
    return str(call.sid)


def test_a_conference_is_found_and_ended(network: Network, client: Client, agent: str) -> None:
    (conference,) = client.conferences.list(friendly_name="room", status="init")
    assert client.conferences.list(status="completed") == []
    assert client.conferences.list(friendly_name="other") == []
    ended = client.conferences(conference.sid).update(status="completed")
    assert (ended.status, ended.reason_conference_ended) == ("completed", "conference-ended-via-api")
    play(network, 2)
    assert client.calls(agent).fetch().status == "completed"
    assert client.conferences(conference.sid).participants.list() == []


def test_a_conference_is_fetched_by_sid_only(client: Client, agent: str) -> None:
    (conference,) = client.conferences.list()
    assert client.conferences(conference.sid).fetch().friendly_name == "room"
    assert refusal(client.conferences("room").fetch) == (404, 20404)
    assert refusal(client.conferences("room").participants("agent").fetch) == (404, 20404)


def test_a_participant_is_created_by_conference_name(network: Network, client: Client, agent: str) -> None:
    made = client.conferences("room").participants.create(
        from_=OWN, to="+14155550108", label="customer", end_conference_on_exit=True, early_media=False
    )
    assert (made.label, made.status, made.end_conference_on_exit) == ("customer", "queued", True)
    assert made.queue_time is not None
    (conference,) = client.conferences.list()
    assert made.conference_sid == conference.sid
    play(network, 5)
    participants = client.conferences(conference.sid).participants
    assert {each.label: each.status for each in participants.list()} == {
        "agent": "connected",
        "customer": "ringing",
    }
    play(network, 15)
    assert participants("customer").fetch().status == "connected"
    assert participants(made.call_sid).fetch().label == "customer"
    assert client.conferences(conference.sid).fetch().status == "in-progress"


def test_a_name_without_a_conference_makes_one(network: Network, client: Client) -> None:
    made = client.conferences("fresh").participants.create(from_=OWN, to=CUSTOMER)
    play(network, 5)
    assert client.conferences(made.conference_sid).fetch().friendly_name == "fresh"


def test_a_conference_of_another_account_takes_nobody(network: Network, client: Client, agent: str) -> None:
    (conference,) = client.conferences.list()
    other = network.add_account()
    network.add_number(other.sid, "+14155550198")
    stranger = connect_client(network, other).conferences(conference.sid)
    add = stranger.participants.create
    assert refusal(lambda: add(from_="+14155550198", to=CUSTOMER))[0] in (400, 404)
    made = connect_client(network, other).conferences("room").participants.create(from_="+14155550198", to=CUSTOMER)
    assert made.conference_sid != conference.sid


def test_a_participant_is_muted_held_and_kicked(network: Network, client: Client, agent: str) -> None:
    (conference,) = client.conferences.list()
    participants = client.conferences(conference.sid).participants
    assert participants("agent").update(muted=True).muted
    assert [each.label for each in participants.list(muted=True)] == ["agent"]
    assert participants.list(muted=False) == []
    assert participants("agent").update(hold=True).hold
    assert [each.label for each in participants.list(hold=True)] == ["agent"]
    assert participants.list(coaching=True) == []
    assert participants("agent").delete()
    assert refusal(participants("agent").fetch) == (404, 20404)
    assert refusal(participants("agent").delete) == (404, 20404)


def test_a_label_may_hold_characters_that_paths_escape(network: Network, client: Client) -> None:
    label = "Zoë % 1?"
    room = f"<Response><Dial><Conference participantLabel='{label}'>room</Conference></Dial></Response>"
    client.calls.create(to=CUSTOMER, from_=OWN, twiml=room)
    play(network, 5)
    (conference,) = client.conferences.list()
    fetched = client.conferences(conference.sid).participants("Zo%C3%AB%20%25%201%3F").fetch()
    assert fetched.label == label


def test_bad_participants_are_refused(client: Client, agent: str) -> None:
    create = client.conferences("room").participants.create
    assert refusal(lambda: create(from_=OWN, to="")) == (400, 21201)
    assert refusal(lambda: create(from_=OWN, to=CUSTOMER, label="a/b")) == (400, 16024)
    assert refusal(lambda: create(from_=OWN, to=CUSTOMER, label="agent")) == (400, 16026)
