import base64
import json
from collections.abc import Callable

import pytest
import requests
from hypothesis import given
from hypothesis import strategies as st
from twilio.base.exceptions import TwilioException, TwilioRestException
from twilio.rest import Client
from urllib3.exceptions import NewConnectionError

from dialer.simulator import Account, Faults, Network, Params, WebAnswer
from dialer.simulator.rest import ROUTES, RestRequest, handle
from dialer.simulator.rest_sdk import connect_client

START = 1_800_000_000.0
OWN, CUSTOMER = "+14155550199", "+14155550101"
HOLD = "<Response><Pause length='600'/></Response>"
URL = "https://app.example.com/voice"


@pytest.fixture
def account(network: Network) -> Account:
    account = network.add_account(friendly_name="first")
    network.add_number(account.sid, OWN)
    return account


@pytest.fixture
def client(network: Network, account: Account) -> Client:
    return connect_client(network, account)


def play(network: Network, seconds: float, twiml: str = HOLD) -> None:
    """Let time pass; every webhook is answered with that TwiML."""
    end = network.now + seconds
    while (due := network.next_due()) is not None and due <= end:
        network.advance(due)
        for request in network.take_requests():
            network.answer(request.id, WebAnswer(200, {"Content-Type": "text/xml"}, twiml.encode()))
    network.advance(end)


def refusal(act: Callable[[], object]) -> tuple[int, int]:
    """HTTP status and code; of a list, the SDK raises its general exception with the response."""
    with pytest.raises(TwilioException) as caught:
        act()
    if isinstance(caught.value, TwilioRestException):
        return caught.value.status, caught.value.code
    response = caught.value.args[1]
    return response.status_code, json.loads(response.text)["code"]


# Who asks


@pytest.mark.parametrize("authorization", [None, "", "Basic", "Basic !!!", "Bearer x", "Basic QUM6eA=="])
def test_without_good_credentials_there_is_nothing(
    network: Network, account: Account, authorization: str | None
) -> None:
    path = f"/2010-04-01/Accounts/{account.sid}/Calls.json"
    response = handle(network, RestRequest("GET", path, authorization=authorization))
    told = json.loads(response.body)
    assert (response.status, told["status"], told["code"]) == (401, 401, 20003)
    assert told["more_info"] == "https://www.twilio.com/docs/errors/20003"


def test_a_wrong_token_is_refused(network: Network, account: Account) -> None:
    assert refusal(connect_client(network, account, password="wrong").calls.list) == (401, 20003)


def test_an_api_key_works_as_well(network: Network, account: Account) -> None:
    sid, secret = network.add_key(account.sid)
    assert connect_client(network, account, sid, secret).calls.list() == []
    assert refusal(connect_client(network, account, sid, account.auth_token).calls.list) == (401, 20003)


def test_the_credentials_of_one_account_open_no_other(network: Network, account: Account) -> None:
    other = network.add_account()
    sid, secret = network.add_key(other.sid)
    assert refusal(connect_client(network, account, other.sid, other.auth_token).calls.list) == (404, 20404)
    assert refusal(connect_client(network, account, sid, secret).calls.list) == (404, 20404)


def test_an_account_sees_only_what_is_its_own(network: Network, client: Client) -> None:
    call = client.calls.create(to=CUSTOMER, from_=OWN, url=URL)
    play(network, 5, "<Response><Dial><Conference>room</Conference></Dial></Response>")
    (conference,) = client.conferences.list()
    stranger = connect_client(network, network.add_account())
    assert (stranger.calls.list(), stranger.conferences.list()) == ([], [])
    assert refusal(stranger.calls(call.sid).fetch) == (404, 20404)
    assert refusal(stranger.conferences(conference.sid).fetch) == (404, 20404)
    assert refusal(lambda: stranger.calls(call.sid).update(status="completed")) == (404, 20404)
    assert client.calls(call.sid).fetch().status == "in-progress"


def test_a_suspended_account_is_refused(account: Account, client: Client) -> None:
    account.status = "suspended"
    assert refusal(client.calls.list) == (401, 20005)


# What is asked


def test_unknown_paths_and_methods(network: Network, account: Account, client: Client) -> None:
    assert refusal(lambda: client.messages.list()) == (404, 20404)
    basic = base64.b64encode(f"{account.sid}:{account.auth_token}".encode()).decode()
    path = f"/2010-04-01/Accounts/{account.sid}/Calls.json"
    response = handle(network, RestRequest("PUT", path, authorization=f"Basic {basic}"))
    assert (response.status, json.loads(response.body)["code"]) == (405, 20004)


def test_unknown_parameters_are_ignored_with_a_warning(network: Network, account: Account) -> None:
    basic = base64.b64encode(f"{account.sid}:{account.auth_token}".encode()).decode()
    form = Params({"To": CUSTOMER, "From": OWN, "Url": URL, "Label": "customer"})
    path = f"/2010-04-01/Accounts/{account.sid}/Calls.json"
    assert handle(network, RestRequest("POST", path, form=form, authorization=f"Basic {basic}")).status == 201
    assert [(alert.code, alert.level) for alert in account.alerts] == [(20001, "warning")]
    assert "Label" in account.alerts[0].message


@given(
    st.sampled_from(["GET", "POST", "DELETE"]),
    st.sampled_from(sorted({route.path for route in ROUTES})),
    st.dictionaries(st.sampled_from(["call", "conference", "participant", "recording"]), st.text(min_size=1)),
    st.dictionaries(
        st.sampled_from(["To", "From", "Url", "Twiml", "Status", "Muted", "PageSize", "StartTime>", "Label"]),
        st.sampled_from([OWN, CUSTOMER, URL, "", "true", "completed", "5", "-1", "2026-11-22"]) | st.text(),
    ),
)
def test_any_request_gets_an_answer_in_twilios_shape(
    method: str, path: str, names: dict[str, str], values: dict[str, str]
) -> None:
    network = Network(start=START, seed=1)
    account = network.add_account()
    network.add_number(account.sid, OWN)
    names = {"account": account.sid, **{name: value.replace("/", "") for name, value in names.items()}}
    for name in ("call", "conference", "participant", "recording", "application", "number", "caller_id"):
        path = path.replace(f"{{{name}}}", names.get(name) or "X")
    basic = base64.b64encode(f"{account.sid}:{account.auth_token}".encode()).decode()
    params = Params(values)
    request = RestRequest(method, path.replace("{account}", account.sid), params, params, f"Basic {basic}")
    response = handle(network, request)
    assert response.status in (200, 201, 204, 400, 404, 405, 409)
    if response.status >= 400:
        assert set(json.loads(response.body)) == {"code", "message", "more_info", "status"}


# What goes wrong on the way


@pytest.mark.parametrize(
    ("fault", "status", "placed"),
    [("rest_429", 429, 0), ("rest_500_undone", 500, 0), ("rest_500_done", 500, 1)],
)
def test_faults_that_answer(network: Network, client: Client, fault: str, status: int, placed: int) -> None:
    network.faults = Faults(**{fault: 1.0})
    refused = refusal(lambda: client.calls.create(to=CUSTOMER, from_=OWN, url=URL))
    assert refused[0] == status
    assert len(network.calls) == placed
    assert network.injected[fault] == 1


@pytest.mark.parametrize(
    ("fault", "error", "placed"),
    [
        ("rest_refused", requests.exceptions.ConnectionError, 0),
        ("rest_timeout_undone", requests.exceptions.ReadTimeout, 0),
        ("rest_timeout_done", requests.exceptions.ReadTimeout, 1),
    ],
)
def test_faults_without_an_answer(
    network: Network, client: Client, fault: str, error: type[Exception], placed: int
) -> None:
    network.faults = Faults(**{fault: 1.0})
    with pytest.raises(error):
        client.calls.create(to=CUSTOMER, from_=OWN, url=URL)
    assert len(network.calls) == placed
    assert network.injected[fault] == 1


def test_a_refused_connection_shows_that_nothing_was_sent(network: Network, client: Client) -> None:
    network.faults = Faults(rest_refused=1.0)
    with pytest.raises(requests.exceptions.ConnectionError) as caught:
        client.calls.create(to=CUSTOMER, from_=OWN, url=URL)
    assert isinstance(caught.value.args[0].reason, NewConnectionError)
    assert "refused" in str(caught.value)


def ask_late(network: Network, act: Callable[[], object]) -> str:
    """How a creation that takes effect late is answered."""
    network.faults = Faults(rest_late=1.0)
    try:
        assert refusal(act) == (500, 20500)
    except requests.exceptions.ReadTimeout:
        return "timeout"
    finally:
        network.faults = Faults()
    return "500"


def test_a_call_that_is_created_late(network: Network, client: Client) -> None:
    began, answers = network.now, set[str]()
    for _ in range(20):
        answers.add(ask_late(network, lambda: client.calls.create(to=CUSTOMER, from_=OWN, url=URL)))
    play(network, 4.9)
    assert network.calls == {}
    play(network, 55.2)
    delays = [call.date_created - began for call in network.calls.values()]
    assert (len(delays), answers) == (20, {"timeout", "500"})
    assert min(delays) < 25 and max(delays) > 35
    assert network.injected == {"rest_late": 20}


def test_a_participant_that_is_created_late(network: Network, client: Client) -> None:
    add = client.conferences("room").participants.create
    ask_late(network, lambda: add(from_=OWN, to=CUSTOMER, label="customer"))
    assert network.conferences == {}
    play(network, 60.0)
    (conference,) = network.conferences.values()
    assert [each.label for each in conference.participants.values()] == ["customer"]


def test_a_refusal_that_comes_late_is_heard_by_nobody(network: Network, client: Client) -> None:
    ask_late(network, lambda: client.calls.create(to="5", from_=OWN, url=URL))
    play(network, 60.0)
    assert network.calls == {}


def test_only_creations_are_late(network: Network, client: Client) -> None:
    call = client.calls.create(to=CUSTOMER, from_=OWN, url=URL)
    network.faults = Faults(rest_late=1.0)
    assert client.calls(call.sid).update(status="canceled").status == "canceled"
    assert [each.sid for each in client.calls.list()] == [call.sid]
    assert network.injected == {}


# The account's own things


def test_the_account_itself(account: Account, client: Client) -> None:
    shown = client.api.accounts(account.sid).fetch()
    assert (shown.sid, shown.status, shown.friendly_name) == (account.sid, "active", "first")
    assert [each.sid for each in client.api.accounts.list()] == [account.sid]


def test_an_application_is_made_changed_and_removed(account: Account, client: Client) -> None:
    made = client.applications.create(friendly_name="desk", voice_url=URL, status_callback=URL + "/status")
    assert (made.friendly_name, made.voice_url, made.voice_method) == ("desk", URL, "POST")
    changed = client.applications(made.sid).update(voice_method="GET", status_callback="")
    assert (changed.voice_method, changed.voice_url, changed.status_callback) == ("GET", URL, None)
    assert account.applications[made.sid].voice_method == "GET"
    assert [each.sid for each in client.applications.list(friendly_name="desk")] == [made.sid]
    assert client.applications.list(friendly_name="other") == []
    assert client.applications(made.sid).delete()
    assert refusal(client.applications(made.sid).fetch) == (404, 20404)


@pytest.mark.parametrize(
    ("settings", "code"),
    [
        ({"voice_url": "not a url"}, 21205),
        ({"voice_url": "ftp://x"}, 21205),
        ({"status_callback": "/relative"}, 21609),
        ({"voice_method": "PUT"}, 21209),
        ({"friendly_name": "x" * 65}, 20422),
    ],
)
def test_bad_settings_of_an_application(client: Client, settings: dict[str, str], code: int) -> None:
    assert refusal(lambda: client.applications.create(**settings)) == (400, code)


def test_a_number_gets_its_urls_over_rest(account: Account, client: Client) -> None:
    (number,) = client.incoming_phone_numbers.list(phone_number=OWN)
    changed = client.incoming_phone_numbers(number.sid).update(voice_url=URL)
    assert (changed.voice_url, changed.capabilities["voice"]) == (URL, True)
    assert account.numbers[OWN].voice_url == URL
    app = client.applications.create()
    assert number.update(voice_application_sid=app.sid).voice_application_sid == app.sid
    assert refusal(lambda: number.update(voice_application_sid="AP" + "0" * 32)) == (400, 21420)


def test_numbers_come_and_go(network: Network, account: Account, client: Client) -> None:
    made = client.incoming_phone_numbers.create(phone_number="+14155550198", voice_url=URL)
    assert network.owners["+14155550198"].account_sid == account.sid
    create = client.incoming_phone_numbers.create
    assert refusal(lambda: create(phone_number="+14155550198")) == (400, 21422)
    assert refusal(lambda: create(phone_number="5")) == (400, 21421)
    assert made.delete()
    assert "+14155550198" not in network.owners
    assert [each.phone_number for each in client.incoming_phone_numbers.list()] == [OWN]


def test_verified_caller_ids(network: Network, account: Account, client: Client) -> None:
    known = network.add_caller_id(account.sid, "+442079460000", "London")
    assert [each.friendly_name for each in client.outgoing_caller_ids.list()] == ["London"]
    assert client.outgoing_caller_ids(known.sid).fetch().phone_number == "+442079460000"
    assert client.outgoing_caller_ids.list(phone_number="+4420")[0].sid == known.sid
    assert client.outgoing_caller_ids.list(phone_number="+1") == []


def test_dialling_permissions(account: Account, client: Client) -> None:
    account.blocked_countries.add("LV")
    countries = client.voice.v1.dialing_permissions.countries
    shown = countries("LV").fetch()
    assert (shown.name, shown.country_codes, shown.low_risk_numbers_enabled) == ("Latvia", ["+371"], False)
    assert [each.iso_code for each in countries.list(low_risk_numbers_enabled=False)] == ["LV"]
    assert [each.iso_code for each in countries.list(country_code="49")] == ["DE"]
    assert [each.iso_code for each in countries.list(iso_code="DE")] == ["DE"]
    assert {each.iso_code for each in countries.list(continent="SOUTH_AMERICA")} == {"BR"}
    assert countries.list(high_risk_special_numbers_enabled=True) == []
    assert len(countries.list(high_risk_tollfraud_numbers_enabled=False)) == len(countries.list())
    account.high_risk_special_countries, account.high_risk_tollfraud_countries = {"LV"}, {"GB", "LV"}
    assert [each.iso_code for each in countries.list(high_risk_special_numbers_enabled=True)] == ["LV"]
    assert [each.iso_code for each in countries.list(high_risk_tollfraud_numbers_enabled=True)] == ["GB", "LV"]
    assert countries("GB").fetch().high_risk_tollfraud_numbers_enabled is True
    assert countries("GB").fetch().high_risk_special_numbers_enabled is False
    assert len(countries.list(page_size=3)) == len(countries.list())
    assert refusal(countries("XX").fetch) == (404, 20404)
    assert refusal(lambda: countries.list(low_risk_numbers_enabled="maybe")) == (400, 20422)
