import logging
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import requests
from twilio.base.exceptions import TwilioRestException
from twilio.rest import Client

from dialer.simulator import Call, Faults, Knobs
from dialer.simulator.realtime import LONGEST_SLEEP, SHORTEST_SLEEP, SHOWN_BODY, HostRefused, Simulator, find_target
from dialer.simulator.rest_sdk import LoopbackClient
from dialer.simulator.server import (
    AccountConfig,
    AddressInUse,
    ConfigError,
    SimulatorConfig,
    serve_in_thread,
)

AC, TOKEN = "AC" + "1" * 32, "t" * 32
OWN, CUSTOMER, BUSY = "+14155550199", "+14155550101", "+14155550102"
ACCOUNTS = (AccountConfig(AC, TOKEN, numbers=({"phone_number": OWN},)),)
FAST = Knobs(cps=100.0, setup_seconds=0.01, creation_delay=0.01, webhook_delay=0.01, retry_delay=0.01)


def configure(**settings: Any) -> SimulatorConfig:
    return SimulatorConfig(port=0, accounts=ACCOUNTS, **{"knobs": FAST, **settings})


@contextmanager
def sdk(base: str, timeout: float | None = 10.0) -> Iterator[Client]:
    http_client = LoopbackClient(base, timeout=timeout)
    yield Client(AC, TOKEN, http_client=http_client)
    http_client.session.close()


def inspect(base: str, what: str) -> Any:
    return requests.get(f"{base}/_simulator/{what}", timeout=10).json()


def await_that(look: Callable[[], Any]) -> Any:
    """What `look` gives as soon as it is something; the runner stops a test that waits for ever."""
    pause = threading.Event()
    while not (found := look()):
        pause.wait(0.01)
    return found


def final_status(base: str) -> str | None:
    (call,) = inspect(base, "calls")["calls"]
    return call["status"] if call["end_time"] else None


# The server


def test_the_sdk_places_a_call_over_a_socket() -> None:
    with serve_in_thread(configure()) as (_, base), sdk(base) as client:
        call = client.calls.create(to=BUSY, from_=OWN, twiml="<Response/>")
        assert call.status == "queued"
        assert await_that(lambda: final_status(base)) == "busy"
        assert [each.sid for each in client.calls.list(to=BUSY)] == [call.sid]
        with pytest.raises(TwilioRestException) as caught:
            client.calls.create(to=BUSY, from_="+14155550150", twiml="<Response/>")
        assert (caught.value.status, caught.value.code) == (400, 21210)


def test_an_address_in_use_is_named() -> None:
    with serve_in_thread(configure()) as (_, base):
        port = int(base.rpartition(":")[2])
        second = SimulatorConfig(port=port)
        with pytest.raises(AddressInUse, match=f"127.0.0.1:{port} is in use"), serve_in_thread(second):
            pass


def test_an_address_that_is_not_here_is_named() -> None:
    config = SimulatorConfig(host="127.0.0.1", port=0)
    object.__setattr__(config, "host", "192.0.2.1")
    with pytest.raises(ConfigError, match=r"cannot listen on 192\.0\.2\.1"), serve_in_thread(config):
        pass


def test_the_server_stops_while_a_webhook_hangs() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        url = f"http://127.0.0.1:{silent.getsockname()[1]}/"
        with serve_in_thread(configure()) as (_, base), sdk(base) as client:
            client.calls.create(to=CUSTOMER, from_=OWN, url=url)
            await_that(lambda: inspect(base, "requests")["requests"])
        with pytest.raises(requests.ConnectionError):
            requests.get(f"{base}/_simulator/health", timeout=1)


def test_a_signal_ends_the_program(tmp_path: Path) -> None:
    code = "from dialer.simulator.server import *; run_server(SimulatorConfig(port=0))"
    with subprocess.Popen([sys.executable, "-c", code], stdout=subprocess.PIPE, text=True) as program:
        assert program.stdout is not None
        base = program.stdout.readline().split()[1]
        assert inspect(base, "health")["status"] == "ok"
        program.send_signal(signal.SIGTERM)
        assert program.wait() == 0


@pytest.mark.parametrize(
    ("fault", "error", "placed"),
    [
        ("rest_refused", requests.ConnectionError, 0),
        ("rest_timeout_done", requests.ReadTimeout, 1),
        ("rest_timeout_undone", requests.ReadTimeout, 0),
    ],
)
def test_faults_without_an_answer(fault: str, error: type[Exception], placed: int) -> None:
    with serve_in_thread(configure(faults=Faults(**{fault: 1.0}))) as (_, base), sdk(base, 0.3) as client:
        with pytest.raises(error):
            client.calls.create(to=BUSY, from_=OWN, twiml="<Response/>")
        assert len(inspect(base, "calls")["calls"]) == placed


def test_a_recording_is_fetched_from_where_its_url_points() -> None:
    with serve_in_thread(configure(knobs=replace(FAST, recording_seconds=0.01))) as (_, base), sdk(base) as client:
        call = client.calls.create(to=CUSTOMER, from_=OWN, twiml="<Response><Pause/></Response>", record=True)
        (recording,) = await_that(lambda: [each for each in client.recordings.list() if each.status == "completed"])
        assert (recording.call_sid, recording.media_url.partition("/2010")[0]) == (call.sid, base)
        audio = requests.get(f"{recording.media_url}.wav", timeout=10)
        assert (audio.status_code, audio.headers["Content-Type"]) == (200, "audio/x-wav")


# The pump


def test_the_pump_sleeps_until_something_is_due() -> None:
    simulator = Simulator(configure())
    assert simulator._sleep_seconds() == LONGEST_SLEEP
    simulator.network.later(5.0, lambda: None)
    assert 4.0 < simulator._sleep_seconds() <= 5.0
    simulator.network.later(-5.0, lambda: None)
    assert simulator._sleep_seconds() == SHORTEST_SLEEP


def test_what_fails_in_the_network_stops_nothing_else(caplog: pytest.LogCaptureFixture) -> None:
    simulator, happened = Simulator(configure()), list[str]()
    simulator.network.later(-2.0, {}.__getitem__, "absent")
    simulator.network.later(-1.0, happened.append, "next")
    with caplog.at_level(logging.ERROR):
        simulator.catch_up()
    assert "KeyError" in caplog.text
    simulator.catch_up()
    assert happened == ["next"]


def test_a_failure_of_the_simulator_is_answered_as_twilio_would(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr("dialer.simulator.server.handle", {}.__getitem__)
    with caplog.at_level(logging.ERROR), serve_in_thread(configure()) as (_, base), sdk(base) as client:
        with pytest.raises(TwilioRestException) as caught:
            client.calls("CA0").fetch()
        assert (caught.value.status, caught.value.code) == (500, 20500)
    assert "TypeError" in caplog.text


def test_what_is_long_over_is_forgotten() -> None:
    simulator = Simulator(configure(keep_seconds=60.0))
    network = simulator.catch_up()
    for sid, ended in (("old", network.now - 61), ("new", network.now - 59)):
        network.calls[sid] = Call(sid, AC, "inbound", "", "", 0, 0, "completed", end_time=ended)
    simulator._trim()
    assert list(network.calls) == ["new"]
    del network.calls["new"]
    network.calls["old"] = Call("old", AC, "inbound", "", "", 0, 0, "completed", end_time=0)
    simulator._trim()
    assert list(network.calls) == ["old"], "once a minute is enough"


def test_the_inspection_keeps_the_newest_webhooks_only() -> None:
    config = configure(keep_requests=2)
    with serve_in_thread(config) as (_, base), sdk(base) as client:
        events = ["initiated", "ringing", "answered", "completed"]
        client.calls.create(
            to="+14155550109",
            from_=OWN,
            twiml="<Response><Pause/></Response>",
            status_callback="http://127.0.0.1:9/",
            status_callback_event=events,
        )
        await_that(lambda: [r for r in inspect(base, "requests")["requests"] if r["number"] > 3])
        assert len(inspect(base, "requests")["requests"]) == 2


# Webhooks over HTTP


def webhooks_to(url: str, **settings: Any) -> tuple[list[dict[str, Any]], list[dict[str, Any]]]:
    """Webhooks and alerts of a call that asks that URL what to do, until it is over or an alert is raised."""
    with serve_in_thread(configure(**settings)) as (_, base), sdk(base) as client:
        client.calls.create(to=CUSTOMER, from_=OWN, url=url)
        await_that(lambda: final_status(base) or inspect(base, "alerts")["alerts"])
        return inspect(base, "requests")["requests"], inspect(base, "alerts")["alerts"]


@contextmanager
def answering(*answers: bytes) -> Iterator[str]:
    """A server that gives each connection the next of these answers, as raw bytes."""

    def work(listener: socket.socket) -> None:
        for answer in answers:
            with closing(listener.accept()[0]) as connection:
                connection.recv(65536)
                connection.sendall(answer)

    with socket.create_server(("127.0.0.1", 0)) as listener:
        thread = threading.Thread(target=work, args=(listener,))
        thread.start()
        yield f"http://127.0.0.1:{listener.getsockname()[1]}/voice"
        thread.join()


def http(status: str, body: bytes = b"", *headers: str) -> bytes:
    head = [f"HTTP/1.1 {status}", f"Content-Length: {len(body)}", "Connection: close", *headers]
    return "\r\n".join(head).encode() + b"\r\n\r\n" + body


def test_a_closed_port_is_a_failed_connection_tried_twice() -> None:
    with closing(socket.create_server(("127.0.0.1", 0))) as closed:
        port = closed.getsockname()[1]
    sent, alerts = webhooks_to(f"http://127.0.0.1:{port}/")
    assert [request["attempt"] for request in sent] == [1, 2]
    assert all("not connected" in request["error"] for request in sent)
    assert 11205 in [alert["code"] for alert in alerts]


def test_an_answer_that_takes_too_long_is_given_up() -> None:
    with socket.create_server(("127.0.0.1", 0)) as silent:
        sent, alerts = webhooks_to(f"http://127.0.0.1:{silent.getsockname()[1]}/#rt=200&rc=0")
    assert [request["error"] for request in sent] == ["timed out"]
    assert sent[0]["answer"] is None
    assert 11205 in [alert["code"] for alert in alerts]


def test_a_broken_connection_is_reported() -> None:
    with answering(b"") as url:
        sent, _ = webhooks_to(url)
    assert "the connection broke" in sent[0]["error"]


def test_what_came_back_can_be_inspected() -> None:
    twiml = b"<Response><Hangup/></Response>"
    cookies = ("Set-Cookie: a=1", "Set-Cookie: b=2")
    with answering(http("200 OK", twiml, "Content-Type: text/xml", *cookies)) as url:
        (request,), _ = webhooks_to(f"{url}?a=%27b%2fc")
    assert (request["method"], request["purpose"], request["url"]) == ("POST", "voice", f"{url}?a=%27b%2fc")
    assert request["answer"]["status"] == 200
    assert request["answer"]["body"] == twiml.decode()
    assert request["answer"]["headers"]["Set-Cookie"] == "a=1\nb=2"
    assert ["CallStatus", "in-progress"] in request["form"]
    assert request["headers"]["User-Agent"] == "TwilioProxy/1.1"


def test_a_redirect_to_another_host_is_not_followed_there() -> None:
    with answering(http("302 Found", b"", "Location: http://elsewhere.test/x")) as url:
        sent, alerts = webhooks_to(url)
    assert [request["url"].partition("?")[0] for request in sent[:2]] == [url, "http://elsewhere.test/x"]
    assert (sent[0]["sentTo"], sent[1]["sentTo"]) == (url, None)
    assert 11210 in [alert["code"] for alert in alerts]


def test_a_huge_answer_is_read_in_part_and_refused() -> None:
    body = b"<Response>" + b" " * (3 << 20) + b"</Response>"
    with (
        answering(http("200 OK", body, "Content-Type: text/xml")) as url,
        serve_in_thread(configure()) as (simulator, base),
        sdk(base) as client,
    ):
        client.calls.create(to=CUSTOMER, from_=OWN, url=url)
        (alert,) = await_that(lambda: inspect(base, "alerts")["alerts"])
        assert alert["code"] == 11750
        kept = simulator.sent[0].answer
        assert kept is not None
        assert len(kept.body) == SHOWN_BODY


PUBLIC = {"https://calls.example.test/app": "http://127.0.0.1:8000/inner/", "http://plain.test": "http://[::1]:1"}


@pytest.mark.parametrize(
    ("url", "target", "host"),
    [
        ("https://calls.example.test/app/?x=%2f", "http://127.0.0.1:8000/inner/?x=%2f", "calls.example.test"),
        ("https://calls.example.test/app", "http://127.0.0.1:8000/inner", "calls.example.test"),
        ("http://plain.test?x", "http://[::1]:1?x", "plain.test"),
        ("http://127.0.0.1:5000/v", "http://127.0.0.1:5000/v", "127.0.0.1:5000"),
        ("http://user:pw@localhost/v", "http://user:pw@localhost/v", "localhost"),
    ],
)
def test_where_a_webhook_goes(url: str, target: str, host: str) -> None:
    assert find_target(SimulatorConfig(public_urls=PUBLIC), url) == (target, host)


@pytest.mark.parametrize(
    "url",
    [
        "https://calls.example.test/other",
        "https://calls.example.test/application",
        "https://calls.example.test.evil.test/app",
        "http://plain.test@evil.test/",
        "http://plain.test.evil.test/",
        "http://127.0.0.1@evil.test/",
        "http://127.0.0.1.evil.test/",
        "https:///nothing",
    ],
)
def test_what_is_not_on_the_list_is_refused(url: str) -> None:
    with pytest.raises(HostRefused):
        find_target(SimulatorConfig(public_urls=PUBLIC), url)
