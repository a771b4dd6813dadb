"""An application that knows nothing of Dialer, served by the simulator as it would be by Twilio."""

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest
import requests
from flask import Flask, Response, abort, request
from twilio.request_validator import RequestValidator
from twilio.rest import Client
from twilio.twiml.voice_response import Dial, VoiceResponse
from werkzeug.serving import make_server

from dialer.simulator import Knobs
from dialer.simulator.rest_sdk import LoopbackClient
from dialer.simulator.server import AccountConfig, SimulatorConfig, serve_in_thread

AC, TOKEN = "AC" + "1" * 32, "t" * 32
OWN, CUSTOMER, KEYS, BUSY = "+14155550199", "+14155550101", "+14155550115", "+14155550102"
PUBLIC = "https://calls.example.test"
EVENTS = ["initiated", "ringing", "answered", "completed"]

Seen = list[tuple[str, dict[str, str]]]


def make_application(public_url: str, seen: Seen) -> Flask:
    """What a user of Twilio might write; `seen` gets every request that has a good signature."""
    app = Flask("anybody")
    validator = RequestValidator(TOKEN)

    @app.before_request
    def check_signature() -> None:
        query = f"?{request.query_string.decode()}" if request.query_string else ""
        signature = request.headers.get("X-Twilio-Signature", "")
        if not validator.validate(public_url + request.path + query, request.form, signature):
            abort(403)
        seen.append(
            (
                request.path,
                {**request.values, "_host": request.host, "_proto": request.headers.get("X-Forwarded-Proto", "")},
            )
        )

    @app.post("/voice")
    def voice() -> Response:
        response = VoiceResponse()
        with response.gather(num_digits=2, action="/choice", timeout=3) as gather:
            gather.say("Press two keys.")
        response.say("Nothing was pressed.")
        return Response(str(response), mimetype="text/xml")

    @app.post("/choice")
    def choice() -> Response:
        response = VoiceResponse()
        response.say(f"You pressed {request.form['Digits']}.")
        response.hangup()
        return Response(str(response), mimetype="text/xml")

    @app.post("/room")
    def room() -> Response:
        dial = Dial()
        dial.conference("lobby", participant_label="first", wait_url="wait", wait_method="GET")
        response = VoiceResponse()
        response.append(dial)
        return Response(str(response), mimetype="text/xml")

    @app.get("/wait")
    def wait() -> Response:
        response = VoiceResponse()
        response.pause(length=1)
        return Response(str(response), mimetype="text/xml")

    @app.post("/status")
    def status() -> tuple[str, int]:
        return "", 204

    return app


@contextmanager
def listening(public_url: str = "") -> Iterator[tuple[str, Seen]]:
    """The application on a free port: its base URL and what it has seen."""
    seen: Seen = []
    server = make_server("127.0.0.1", 0, Flask("replaced below"), threaded=True)
    local = f"http://127.0.0.1:{server.port}"
    server.app = make_application(public_url or local, seen)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        yield local, seen
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def configure(**settings: Any) -> SimulatorConfig:
    account = AccountConfig(AC, TOKEN, numbers=({"phone_number": OWN},), clients=({"identity": "bob"},))
    knobs = Knobs(cps=100.0, setup_seconds=0.05, creation_delay=0.01, webhook_delay=0.01)
    return SimulatorConfig(port=0, accounts=(account,), knobs=knobs, **settings)


@contextmanager
def simulating(**settings: Any) -> Iterator[tuple[str, Client]]:
    """The simulator: its controls' URL and the SDK's client for its one account."""
    with serve_in_thread(configure(**settings)) as (_, base):
        http_client = LoopbackClient(base, timeout=10)
        yield f"{base}/_simulator", Client(AC, TOKEN, http_client=http_client)
        http_client.session.close()


@pytest.fixture(scope="module")
def place() -> Iterator[tuple[str, Seen, str, Client]]:
    """Application and simulator, for the tests that need no other setting."""
    with listening() as (local, seen), simulating() as (controls, client):
        yield local, seen, controls, client


def await_that(look: Callable[[], Any]) -> Any:
    pause = threading.Event()
    while not (found := look()):
        pause.wait(0.01)
    return found


def forms(seen: Seen, path: str, call_sid: str) -> list[dict[str, str]]:
    return [form for at, form in list(seen) if at == path and form["CallSid"] == call_sid]


def await_end(client: Client, call_sid: str) -> str:
    return str(await_that(lambda: (call := client.calls(call_sid).fetch()).end_time and call.status))


def unsigned(controls: str, call_sid: str) -> list[Any]:
    """Webhooks of the call that the application did not accept, once all of them are over."""

    def over() -> list[Any]:
        sent = requests.get(f"{controls}/requests", timeout=10).json()["requests"]
        own = [each for each in sent if each["callSid"] == call_sid]
        return own if all(each["answer"] or each["error"] for each in own) else []

    return [each for each in await_that(over) if each["error"] or each["answer"]["status"] >= 300]


def test_the_application_accepts_nobody_else(place: tuple[str, Seen, str, Client]) -> None:
    local, _, _, _ = place
    assert requests.post(f"{local}/voice", {"CallSid": "CA0"}, timeout=10).status_code == 403


def test_a_phone_calls_in_and_presses_keys(place: tuple[str, Seen, str, Client]) -> None:
    local, seen, controls, client = place
    (number,) = client.incoming_phone_numbers.list()
    number.update(voice_url=f"{local}/voice?menu=%C3%A9%27", status_callback=f"{local}/status")
    call = {"from": KEYS, "to": OWN}
    sid = requests.post(f"{controls}/dial-in", json=call, timeout=10).json()["callSid"]
    (choice,) = await_that(lambda: forms(seen, "/choice", sid))
    assert choice["Digits"] == "12"
    assert await_end(client, sid) == "completed"
    (voice,) = forms(seen, "/voice", sid)
    assert (voice["From"], voice["To"], voice["Direction"], voice["menu"]) == (KEYS, OWN, "inbound", "é'")
    (status,) = await_that(lambda: forms(seen, "/status", sid))
    assert (status["CallStatus"], status["SequenceNumber"]) == ("completed", "0")
    assert unsigned(controls, sid) == []


def test_an_outbound_call_reports_its_progress(place: tuple[str, Seen, str, Client]) -> None:
    local, seen, controls, client = place
    call = client.calls.create(
        to="+14155550109",
        from_=OWN,
        url=f"{local}/voice",
        status_callback=f"{local}/status?session=7",
        status_callback_event=EVENTS,
    )
    await_that(lambda: len(forms(seen, "/status", call.sid)) == 4)
    told = sorted(forms(seen, "/status", call.sid), key=lambda form: int(form["SequenceNumber"]))
    assert [form["CallStatus"] for form in told] == ["initiated", "ringing", "in-progress", "completed"]
    assert [form["SequenceNumber"] for form in told] == ["0", "1", "2", "3"]
    assert {form["session"] for form in told} == {"7"}
    assert told[3]["CallDuration"] == client.calls(call.sid).fetch().duration
    assert unsigned(controls, call.sid) == []


def test_a_busy_customer_is_reported_once(place: tuple[str, Seen, str, Client]) -> None:
    local, seen, _, client = place
    call = client.calls.create(to=BUSY, from_=OWN, url=f"{local}/voice", status_callback=f"{local}/status")
    (told,) = await_that(lambda: forms(seen, "/status", call.sid))
    assert (told["CallStatus"], told["SipResponseCode"]) == ("busy", "486")
    assert forms(seen, "/voice", call.sid) == []


def test_webhooks_are_signed_for_the_public_address() -> None:
    with listening(PUBLIC) as (local, seen), simulating(public_urls={PUBLIC: local}) as (controls, client):
        call = client.calls.create(
            to="+14155550109", from_=OWN, url=f"{PUBLIC}/voice", status_callback=f"{PUBLIC}/status"
        )
        await_end(client, call.sid)
        (told,) = await_that(lambda: forms(seen, "/status", call.sid))
        assert (told["_host"], told["_proto"]) == ("calls.example.test", "https")
        assert forms(seen, "/voice", call.sid)
        assert unsigned(controls, call.sid) == []


def test_a_browser_is_called(place: tuple[str, Seen, str, Client]) -> None:
    local, seen, _, client = place
    call = client.calls.create(to="client:bob", from_=OWN, url=f"{local}/voice")
    (voice,) = await_that(lambda: forms(seen, "/voice", call.sid))
    assert (voice["To"], voice["CallStatus"]) == ("client:bob", "in-progress")
    assert client.calls(call.sid).update(status="completed").status == "completed"
    nobody = client.calls.create(to="client:nobody", from_=OWN, url=f"{local}/voice")
    assert await_end(client, nobody.sid) in ("no-answer", "failed")


def test_an_empty_status_callback_is_accepted(place: tuple[str, Seen, str, Client]) -> None:
    local, seen, _, client = place
    call = client.calls.create(to="+14155550109", from_=OWN, url=f"{local}/voice", status_callback="")
    assert await_end(client, call.sid) == "completed"
    assert forms(seen, "/status", call.sid) == []


def test_a_conference_is_filled_by_name(place: tuple[str, Seen, str, Client]) -> None:
    local, seen, controls, client = place
    first = client.calls.create(to=CUSTOMER, from_=OWN, url=f"{local}/room")
    await_that(lambda: [path for path, _ in list(seen) if path == "/wait"])
    made = client.conferences("lobby").participants.create(
        from_=OWN, to="+14155550120", label="second", end_conference_on_exit=True
    )
    participants = client.conferences(made.conference_sid).participants
    await_that(lambda: all(each.status == "connected" for each in participants.list()))
    assert {each.label for each in participants.list()} == {"first", "second"}
    assert client.conferences(made.conference_sid).fetch().status == "in-progress"
    client.calls(made.call_sid).update(status="completed")
    await_that(lambda: client.conferences(made.conference_sid).fetch().status == "completed")
    assert await_end(client, first.sid) == "completed"
    assert unsigned(controls, first.sid) == []


def test_a_host_that_is_not_on_the_list_is_never_contacted() -> None:
    with listening() as (local, seen), simulating(allow_hosts=("localhost",)) as (controls, client):
        call = client.calls.create(to=CUSTOMER, from_=OWN, url=f"{local}/voice")
        await_that(lambda: requests.get(f"{controls}/alerts", timeout=10).json()["alerts"])
        sent = requests.get(f"{controls}/requests", timeout=10).json()["requests"]
        assert {each["sentTo"] for each in sent if each["callSid"] == call.sid} == {None}
        codes = [alert["code"] for alert in requests.get(f"{controls}/alerts", timeout=10).json()["alerts"]]
        assert 11210 in codes
        assert seen == []
