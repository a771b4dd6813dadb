from collections.abc import Callable

import pytest
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from dialer.simulator import Knobs, Network, WebAnswer

START = 1_800_000_000.0
OWN, CUSTOMER, BUSY = "+14155550199", "+14155550101", "+14155550102"
HOLD = "<Response><Pause length='600'/></Response>"
URL = "https://app.example.com/voice"


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


def test_a_new_call_is_queued(network: Network, client: Client) -> None:
    call = client.calls.create(to=CUSTOMER, from_=OWN, url=URL)
    assert (call.status, call.direction, call.to) == ("queued", "outbound-api", CUSTOMER)
    assert call._from == OWN  # the SDK's name for it
    assert (call.to_formatted, call.price, call.duration) == ("(415) 555-0101", None, None)
    assert call.date_created is not None
    assert call.date_created.timestamp() == START
    assert call.sid in network.calls


def test_a_call_goes_through_to_its_end(network: Network, client: Client) -> None:
    call = client.calls.create(to=CUSTOMER, from_=OWN, url=URL)
    play(network, 5)
    assert client.calls(call.sid).fetch().status == "in-progress"
    assert client.calls(call.sid).update(status="completed").status == "completed"
    ended = client.calls(call.sid).fetch()
    assert ended.end_time is not None
    assert ended.duration in ("2", "3", "4")


def test_a_busy_number_ends_busy(network: Network, client: Client) -> None:
    call = client.calls.create(to=BUSY, from_=OWN, url=URL)
    play(network, 5)
    assert client.calls(call.sid).fetch().status == "busy"


def test_repeated_events_arrive_as_a_list(network: Network, client: Client) -> None:
    events = ["initiated", "ringing", "answered", "completed"]
    call = client.calls.create(to=CUSTOMER, from_=OWN, url=URL, status_callback=URL, status_callback_event=events)
    callback = network.calls[call.sid].callback
    assert callback is not None
    assert callback.events == frozenset(events)


def test_an_empty_status_callback_is_none_at_all(network: Network, client: Client) -> None:
    call = client.calls.create(to=CUSTOMER, from_=OWN, url=URL, status_callback="")
    assert network.calls[call.sid].callback is None


@pytest.mark.parametrize(
    ("changes", "code"),
    [
        ({"to": ""}, 21201),
        ({"from_": ""}, 21213),
        ({"to": "12"}, 21211),
        ({"to": "+14155550107"}, 21211),
        ({"to": "+14155550111"}, 21215),
        ({"from_": "+14155550150"}, 21210),
        ({"url": "nonsense"}, 21205),
        ({"url": None}, 21205),
        ({"send_digits": "x"}, 21206),
        ({"method": "PUT"}, 21209),
        ({"timeout": 10000}, 21208),
        ({"status_callback": "nonsense"}, 21609),
        ({"url": None, "twiml": "x" * 4001}, 32018),
        ({"url": None, "application_sid": "AP" + "0" * 32}, 21218),
    ],
)
def test_what_cannot_be_placed(client: Client, changes: dict[str, object], code: int) -> None:
    asked = {"to": CUSTOMER, "from_": OWN, "url": URL, **changes}
    given = {name: value for name, value in asked.items() if value is not None}
    assert refusal(lambda: client.calls.create(**given)) == (400, code)
    assert client.calls.list() == []


def test_a_missing_call_is_404(client: Client) -> None:
    assert refusal(client.calls("CA" + "0" * 32).fetch) == (404, 20404)
    assert refusal(client.calls("CA" + "0" * 32).delete) == (404, 20404)


def test_calls_are_listed_newest_first_over_several_pages(network: Network, client: Client) -> None:
    placed = []
    for _ in range(7):
        placed.append(client.calls.create(to=CUSTOMER, from_=OWN, url=URL).sid)
        play(network, 1)
    assert [call.sid for call in client.calls.list(page_size=3)] == placed[::-1]
    assert len(client.calls.list(limit=4)) == 4


def test_calls_are_filtered(network: Network, client: Client) -> None:
    first = client.calls.create(to=BUSY, from_=OWN, url=URL).sid
    play(network, 10)
    second = client.calls.create(to=CUSTOMER, from_=OWN, url=URL).sid
    play(network, 5)
    since = network.calls[second].start_time
    assert since is not None

    def sids(**filters: object) -> list[str]:
        return [call.sid for call in client.calls.list(**filters)]

    assert sids(to=CUSTOMER) == [second]
    assert sids(from_=OWN) == [second, first]
    assert sids(status="busy") == [first]
    assert sids(status="in-progress", to=BUSY) == []
    assert sids(start_time_after="2027-01-15T08:00:09Z") == [second]
    assert sids(start_time_before="2027-01-15T08:00:09Z") == [first]
    assert sids(start_time="2027-01-15") == [second, first]
    assert sids(end_time="2027-01-15") == [first]


def test_a_new_call_may_stay_out_of_sight_for_a_while(network: Network, client: Client) -> None:
    network.knobs = Knobs(listing_delay=2.0)
    call = client.calls.create(to=CUSTOMER, from_=OWN, url=URL)
    assert client.calls.list() == []
    assert refusal(client.calls(call.sid).fetch) == (404, 20404)
    play(network, 2)
    assert [each.sid for each in client.calls.list()] == [call.sid]


def test_a_live_call_is_redirected(network: Network, client: Client) -> None:
    call = client.calls.create(to=CUSTOMER, from_=OWN, url=URL)
    play(network, 5)
    client.calls(call.sid).update(twiml="<Response><Hangup/></Response>")
    play(network, 5)
    assert client.calls(call.sid).fetch().status == "completed"
    assert refusal(lambda: client.calls(call.sid).update(url=URL)) == (400, 21220)


def test_only_an_ended_call_is_removed(network: Network, client: Client) -> None:
    call = client.calls.create(to=CUSTOMER, from_=OWN, url=URL)
    assert refusal(client.calls(call.sid).delete)[1] == 20009
    client.calls(call.sid).update(status="canceled")
    assert client.calls(call.sid).delete()
    assert refusal(client.calls(call.sid).fetch) == (404, 20404)


def test_what_went_wrong_stands_in_the_notifications(network: Network, client: Client) -> None:
    call = client.calls.create(to=CUSTOMER, from_=OWN, url=URL)
    play(network, 5, "<Response><Dance/><Pause length='60'/></Response>")
    (notice,) = client.calls(call.sid).notifications.list()
    assert (notice.error_code, notice.log) == ("12200", "1")
    assert client.calls(call.sid).notifications(notice.sid).fetch().message_text == notice.message_text
    other = client.calls(call.sid).notifications("NO" + "0" * 32)
    assert refusal(other.fetch) == (404, 20404)
