import threading
from collections.abc import Callable, Iterator
from dataclasses import replace
from typing import Any

import pytest
import requests
from twilio.jwt.access_token import AccessToken
from twilio.jwt.access_token.grants import VoiceGrant

from dialer.simulator import Knobs
from dialer.simulator.server import AccountConfig, SimulatorConfig, serve_in_thread

AC, TOKEN, SECRET = "AC" + "1" * 32, "t" * 32, "s" * 32
SK, AP = "SK" + "2" * 32, "AP" + "3" * 32
OWN, CUSTOMER = "+14155550199", "+14155550101"
URL = "http://127.0.0.1:9/voice"  # nobody listens there
CONFIG = SimulatorConfig(
    port=0,
    accounts=(
        AccountConfig(
            AC,
            TOKEN,
            keys={SK: SECRET},
            applications=({"sid": AP, "voice_url": URL},),
            numbers=({"phone_number": OWN, "voice_url": URL},),
        ),
    ),
    knobs=Knobs(cps=100.0, setup_seconds=0.01, creation_delay=0.01, webhook_delay=0.01),
)
AGENT = {"accountSid": AC, "applicationSid": AP, "identity": "alice"}


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    with serve_in_thread(CONFIG) as (_, base):
        yield base


@pytest.fixture
def base(server: str) -> str:
    """The server, without the faults and knobs of an earlier test."""
    requests.put(f"{server}/_simulator/faults", json={"webhook_lost": 0}, timeout=10)
    return f"{server}/_simulator"


def post(base: str, path: str, **body: Any) -> requests.Response:
    return requests.post(f"{base}/{path}", json=body, timeout=10)


def get(base: str, path: str) -> Any:
    response = requests.get(f"{base}/{path}", timeout=10)
    assert response.status_code == 200, response.text
    return response.json()


def status_of(base: str, sid: str) -> str:
    return str(next(call["status"] for call in get(base, "calls")["calls"] if call["sid"] == sid))


def await_that(look: Callable[[], Any]) -> Any:
    pause = threading.Event()
    while not (found := look()):
        pause.wait(0.01)
    return found


def place(server: str, to: str) -> str:
    """A call over REST that plays silence when answered."""
    form = {"To": to, "From": OWN, "Twiml": "<Response><Pause length='60'/></Response>"}
    url = f"{server.removesuffix('/_simulator')}/2010-04-01/Accounts/{AC}/Calls.json"
    return str(requests.post(url, form, auth=(AC, TOKEN), timeout=10).json()["sid"])


def make_token(secret: str = SECRET, application_sid: str | None = AP) -> str:
    params = {"team": "7"} if application_sid else None
    grant = VoiceGrant(outgoing_application_sid=application_sid, outgoing_application_params=params)
    return str(AccessToken(AC, SK, secret, grants=[grant], identity="carol").to_jwt())


def test_the_index_lists_every_control(base: str) -> None:
    controls = get(base, "")["controls"]
    listed = {(each["method"], each["path"]) for each in controls}
    expected = {
        ("POST", "connect"),
        ("POST", "dial-in"),
        ("POST", "calls/{sid}/hangup"),
        ("POST", "calls/{sid}/digits"),
        ("GET", "phones"),
        ("GET", "calls"),
        ("GET", "conferences"),
        ("GET", "log"),
        ("GET", "alerts"),
        ("GET", "requests"),
        ("GET", "faults"),
        ("PUT", "faults"),
        ("PUT", "knobs"),
        ("GET", "health"),
    }
    assert {(method, f"/_simulator/{path}") for method, path in expected} <= listed
    assert all(each["does"] for each in controls)


def test_every_listed_get_answers(base: str) -> None:
    for each in get(base, "")["controls"]:
        if each["method"] == "GET":
            assert isinstance(get(base, each["path"].removeprefix("/_simulator/")), dict)


def test_a_browser_connects_in_the_name_of_an_identity(base: str) -> None:
    sid = post(base, "connect", **AGENT, params={"To": CUSTOMER, "workspaceId": "42"}).json()["callSid"]
    (sent,) = await_that(lambda: [r for r in get(base, "requests")["requests"] if r["callSid"] == sid][:1])
    form = dict(sent["form"])
    assert (sent["url"], sent["purpose"], sent["method"]) == (URL, "voice", "POST")
    assert (form["Caller"], form["To"], form["workspaceId"]) == ("client:alice", CUSTOMER, "42")
    assert form["ApplicationSid"] == AP


def test_a_browser_connects_with_a_token(base: str) -> None:
    sid = post(base, "connect", token=make_token(), params={"a": "b"}).json()["callSid"]
    (sent,) = await_that(lambda: [r for r in get(base, "requests")["requests"] if r["callSid"] == sid][:1])
    form = dict(sent["form"])
    assert (form["Caller"], form["a"], form["team"]) == ("client:carol", "b", "7")


@pytest.mark.parametrize(
    ("token", "code"), [("nonsense", 20101), (make_token("x" * 32), 20107), (make_token(SECRET, None), 20106)]
)
def test_a_bad_token_is_refused_by_name(base: str, token: str, code: int) -> None:
    response = post(base, "connect", token=token)
    assert (response.status_code, response.json()["code"]) == (401, code)
    assert response.json()["message"]


@pytest.mark.parametrize(
    ("path", "body", "status", "told"),
    [
        ("connect", {}, 400, "accountSid is required"),
        ("connect", {**AGENT, "params": []}, 400, "params must be an object of texts"),
        ("connect", {**AGENT, "params": {"a": 1}}, 400, "params must be an object of texts"),
        ("connect", {**AGENT, "hangUpAfter": "soon"}, 400, "hangUpAfter must be a number"),
        ("connect", {**AGENT, "hangUpAfter": -1}, 400, "hangUpAfter must be a number"),
        ("connect", {**AGENT, "accountSid": "AC0"}, 404, "AC0 was not found"),
        ("connect", {**AGENT, "applicationSid": "AP0"}, 404, "AP0 was not found"),
        ("dial-in", {"from": CUSTOMER}, 400, "to is required"),
        ("dial-in", {"from": CUSTOMER, "to": "+14155550150"}, 404, "Nobody owns"),
        ("calls/CA0/hangup", {}, 404, "no call CA0"),
        ("calls/CA0/digits", {"digits": "1"}, 404, "no call CA0"),
    ],
)
def test_wrong_use_is_explained(base: str, path: str, body: dict[str, Any], status: int, told: str) -> None:
    response = post(base, path, **body)
    assert response.status_code == status
    assert told in response.json()["message"]


@pytest.mark.parametrize("body", ["{", "[]", "\udcff".encode("utf-8", "surrogateescape")])
def test_a_body_that_is_no_json_object_is_explained(base: str, body: str | bytes) -> None:
    response = requests.post(f"{base}/dial-in", data=body, timeout=10)
    assert response.status_code == 400
    assert "JSON" in response.json()["message"]


def test_a_phone_calls_in_and_hangs_up(base: str) -> None:
    sid = post(base, "dial-in", **{"from": CUSTOMER, "to": OWN}).json()["callSid"]
    assert status_of(base, sid) == "ringing"
    assert post(base, f"calls/{sid}/hangup").json()["callSid"] == sid
    await_that(lambda: status_of(base, sid) not in ("ringing", "in-progress"))


def test_a_called_party_answers_presses_keys_and_leaves(base: str) -> None:
    sid = place(base, "+14155550103")
    await_that(lambda: status_of(base, sid) == "ringing")
    assert post(base, f"calls/{sid}/pick-up").status_code == 200
    await_that(lambda: status_of(base, sid) == "in-progress")
    assert post(base, f"calls/{sid}/digits", digits="1#").status_code == 200
    for bad in ({}, {"digits": "12x"}, {"digits": "1" * 65}):
        assert "digits must be" in post(base, f"calls/{sid}/digits", **bad).json()["message"]
    post(base, f"calls/{sid}/hangup")
    await_that(lambda: status_of(base, sid) == "completed")


def test_a_called_party_declines(base: str) -> None:
    sid = place(base, "+14155550103")
    await_that(lambda: status_of(base, sid) == "ringing")
    post(base, f"calls/{sid}/decline")
    await_that(lambda: status_of(base, sid) in ("busy", "no-answer"))


def test_a_registered_browser_can_be_called(base: str) -> None:
    post(base, "register", accountSid=AC, identity="bob", answerAfter=None)
    sid = place(base, "client:bob")
    await_that(lambda: status_of(base, sid) == "ringing")
    post(base, f"calls/{sid}/pick-up")
    await_that(lambda: status_of(base, sid) == "in-progress")
    post(base, "unregister", accountSid=AC, identity="bob")
    later = place(base, "client:bob")
    await_that(lambda: status_of(base, later) in ("no-answer", "failed"))


def test_phones_and_conferences_are_shown(base: str) -> None:
    phones = {each["number"]: each["story"] for each in get(base, "phones")["phones"]}
    assert "Busy" in phones["+14155550102"]
    form = {"To": CUSTOMER, "From": OWN, "Label": "customer"}
    url = f"{base.removesuffix('/_simulator')}/2010-04-01/Accounts/{AC}/Conferences/room/Participants.json"
    assert requests.post(url, form, auth=(AC, TOKEN), timeout=10).status_code == 201
    shown = get(base, "conferences")["conferences"][0]
    assert (shown["friendly_name"], shown["participants"][0]["label"]) == ("room", "customer")


def test_the_log_can_be_followed(base: str) -> None:
    place(base, CUSTOMER)
    entries = get(base, "log")["entries"]
    later = get(base, f"log?after={entries[0]['number']}")["entries"]
    assert later[0]["number"] == entries[1]["number"]
    assert requests.get(f"{base}/log?after=x", timeout=10).status_code == 400


def test_faults_are_set_and_counted(base: str) -> None:
    changed = requests.put(f"{base}/faults", json={"webhook_lost": 1, "rest_429": 0.0}, timeout=10)
    assert changed.json()["faults"]["webhook_lost"] == 1
    form = {"To": "+14155550102", "From": OWN, "Twiml": "<Response/>", "StatusCallback": URL}
    url = f"{base.removesuffix('/_simulator')}/2010-04-01/Accounts/{AC}/Calls.json"
    requests.post(url, form, auth=(AC, TOKEN), timeout=10)
    await_that(lambda: get(base, "faults")["injected"].get("webhook_lost"))


def test_knobs_are_set(base: str) -> None:
    changed = requests.put(f"{base}/knobs", json={"lost_browser_seconds": 5}, timeout=10).json()
    assert changed["knobs"]["lost_browser_seconds"] == 5
    assert get(base, "knobs") == changed


@pytest.mark.parametrize(
    ("what", "body"),
    [("faults", {"x": 1}), ("faults", {"rest_429": 2}), ("knobs", {"cps": "x"}), ("knobs", {"absent": 1})],
)
def test_bad_faults_and_knobs_change_nothing(base: str, what: str, body: dict[str, Any]) -> None:
    before = get(base, what)
    response = requests.put(f"{base}/{what}", json=body, timeout=10)
    assert response.status_code == 400
    assert next(iter(body)) in response.json()["message"]
    assert get(base, what)[what] == before[what]


@pytest.mark.parametrize("headers", [{"Origin": "https://evil.test"}, {"Host": "evil.test"}, {"Origin": "null"}])
def test_pages_of_other_sites_are_kept_out(base: str, headers: dict[str, str]) -> None:
    call = {"from": CUSTOMER, "to": OWN}
    response = requests.post(f"{base}/dial-in", json=call, headers=headers, timeout=10)
    assert response.status_code == 403
    assert requests.get(f"{base}/health", headers={"Origin": "http://localhost:8000"}, timeout=10).ok


def test_a_server_that_is_public_on_purpose_lets_everybody_in() -> None:
    with serve_in_thread(replace(CONFIG, allow_public=True)) as (_, base):
        headers = {"Origin": "https://office.test"}
        assert requests.get(f"{base}/_simulator/health", headers=headers, timeout=10).ok


def test_unknown_controls_are_not_found(base: str) -> None:
    assert requests.get(f"{base}/absent", timeout=10).status_code == 404
