"""webhooks: who is told what, once each, signed, and nothing ever sent to an address that was not checked."""

import datetime
import json
import socket
import ssl
import threading
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from ipaddress import ip_address, ip_network
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from hypothesis import given
from hypothesis import strategies as st
from standardwebhooks import Webhook, WebhookVerificationError

from dialer import Call, CallEvent, Host, RetryLater, Secret
from dialer.audit import secret_settings, seen
from dialer.config import load
from dialer.plugin_set import PluginSet
from dialer.plugin_view import settings_view
from dialer.tables import Source, read, settings_of
from dialer_plugins.waiting import seconds_asked
from dialer_plugins.webhooks import Webhooks, commands, posting, receipts
from dialer_plugins.webhooks.endpoints import Endpoint
from dialer_plugins.webhooks.posting import NotSent, forbidden, post, resolve

SECRET = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIzNDU2Nzg5MDE="
OTHER = "whsec_YWJjZGVmZ2hpamtsbW5vcHFyc3R1dnd4eXoxMjM0NTY="
NOON = 1_790_078_400.0
CALL = Call(
    "call_1", "ws", "alice", "+14155550101", "+14155550199", "ws-1", status="completed", requested_at=NOON,
    ended_at=NOON + 60, duration=50,
)  # fmt: skip
RINGS = CallEvent("ringing", NOON + 2.5, "CA1", "customer", "ringing", {"SequenceNumber": "1"})
LOOPBACK = ("127.0.0.1/32",)


@dataclass
class Receiver:
    """An HTTP server of this machine that answers as it is told to."""

    server: ThreadingHTTPServer
    got: list[tuple[dict[str, str], bytes]] = field(default_factory=list)
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    hangs: threading.Event | None = None

    @property
    def port(self) -> int:
        return int(self.server.server_address[1])

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/hook?key=hidden"


@pytest.fixture
def receivers() -> Iterator[Any]:
    opened: list[tuple[Receiver, threading.Thread]] = []

    def start(context: ssl.SSLContext | None = None) -> Receiver:
        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                body = self.rfile.read(int(self.headers["Content-Length"]))
                receiver.got.append(({name.lower(): value for name, value in self.headers.items()}, body))
                if receiver.hangs:
                    receiver.hangs.wait(10)
                self.send_response(receiver.status)
                for name, value in receiver.headers.items():
                    self.send_header(name, value)
                self.end_headers()
                self.wfile.write(receiver.body)

            def log_message(self, format: str, *args: object) -> None:
                pass

        server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        server.handle_error = lambda request, client_address: None  # type: ignore[method-assign]
        if context:
            server.socket = context.wrap_socket(server.socket, server_side=True, do_handshake_on_connect=False)
        receiver = Receiver(server)
        thread = threading.Thread(target=server.serve_forever, args=(0.02,), daemon=True)
        thread.start()
        opened.append((receiver, thread))
        return receiver

    yield start
    for receiver, thread in opened:
        if receiver.hangs:
            receiver.hangs.set()
        receiver.server.shutdown()
        receiver.server.server_close()
        thread.join()


@dataclass
class Clock:
    now: float = NOON + 100

    def __call__(self) -> float:
        return self.now


def endpoint(url: str, **values: Any) -> Endpoint:
    return Endpoint(url=url, secret=Secret(SECRET), **values)


def make(tmp_path: Path, *endpoints: Endpoint, clock: Clock | None = None) -> Webhooks:
    host = Host("webhooks", folder=tmp_path / "webhooks", clock=clock or Clock())
    return Webhooks(endpoints=endpoints, allow_private=LOOPBACK, host=host)


def types(receiver: Receiver) -> list[str]:
    return [json.loads(body)["type"] for _, body in receiver.got]


def test_a_receiver_can_check_what_it_gets_and_finds_the_call_in_it(
    tmp_path: Path, receivers: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    receiver = receivers()
    now = datetime.datetime.now(datetime.UTC).timestamp()
    make(tmp_path, endpoint(receiver.url), clock=Clock(now)).call_status(CALL, RINGS)
    headers, body = receiver.got[0]
    told = Webhook(SECRET).verify(body, headers)
    assert told["type"] == "call.status"
    assert told["timestamp"] == "2026-09-22T12:00:02.500Z"
    assert told["data"]["call"]["id"] == "call_1" and told["data"]["call"]["duration"] == 50
    assert told["data"]["event"]["callSid"] == "CA1" and told["data"]["event"]["detail"] == {"SequenceNumber": "1"}
    with pytest.raises(WebhookVerificationError):
        Webhook(OTHER).verify(body, headers)


def test_a_whole_call_is_told_in_order_of_its_events(make_stage: Any, receivers: Any) -> None:
    receiver = receivers()
    plugin = Webhooks(endpoints=(endpoint(receiver.url),), allow_private=LOOPBACK)
    stage = make_stage(plugins=[plugin])
    agent = stage.agent_dials("+14155550101")
    customer = stage.phone()
    customer.answers()
    customer.hangs_up()
    stage.ends()
    told = types(receiver)
    assert told[0] == "call.started" and {"call.status", "call.conference", "call.ended"} < set(told)
    assert {json.loads(body)["data"]["call"]["id"] for _, body in receiver.got} == {agent.call.id}
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == len(told)


def test_while_secrets_are_rotated_both_verify(tmp_path: Path, receivers: Any) -> None:
    receiver, now = receivers(), datetime.datetime.now(datetime.UTC).timestamp()
    make(tmp_path, endpoint(receiver.url, previous_secret=Secret(OTHER)), clock=Clock(now)).call_ended(CALL)
    headers, body = receiver.got[0]
    for secret in (SECRET, OTHER):
        assert Webhook(secret).verify(body, headers)["type"] == "call.ended"


def test_every_event_has_its_type_and_its_own_id(tmp_path: Path, receivers: Any) -> None:
    receiver = receivers()
    plugin = make(tmp_path, endpoint(receiver.url))
    plugin.call_started(CALL)
    plugin.call_started(replace(CALL, status="rejected"))
    plugin.call_status(CALL, RINGS)
    plugin.call_status(CALL, replace(RINGS, name="machine-detection", status="human"))
    plugin.conference_event(CALL, replace(RINGS, name="participant-mute"))
    plugin.conference_event(CALL, replace(RINGS, name="participant-mute", detail={"SequenceNumber": "2"}))
    plugin.recording_ready(CALL, replace(RINGS, name="recording-completed"))
    plugin.call_ended(CALL)
    assert types(receiver) == [
        "call.started",
        "call.rejected",
        "call.status",
        "call.machine_detection",
        "call.conference",
        "call.conference",
        "call.recording",
        "call.ended",
    ]
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 8


def test_a_message_that_is_repeated_is_sent_to_nobody_twice(tmp_path: Path, receivers: Any) -> None:
    good, bad = receivers(), receivers()
    bad.status = 500
    plugin = make(tmp_path, endpoint(bad.url), endpoint(good.url))
    with pytest.raises(RetryLater, match=r"127.0.0.1:\d+/hook: answered 500 \(1 of 2 endpoints are done\)") as caught:
        plugin.call_ended(CALL)
    assert "hidden" not in str(caught.value)
    bad.status = 200
    plugin.call_ended(replace(CALL, duration=51))  # a late fact about the call makes no other message
    plugin.call_ended(CALL)
    assert (len(good.got), len(bad.got)) == (1, 2)
    assert len({headers["webhook-id"] for headers, _ in [*good.got, *bad.got]}) == 1


def test_the_same_event_of_another_workspace_is_another_message(tmp_path: Path, receivers: Any) -> None:
    receiver = receivers()
    plugin = make(tmp_path, endpoint(receiver.url))
    plugin.call_ended(CALL)
    plugin.call_ended(replace(CALL, workspace="other"))
    assert len({headers["webhook-id"] for headers, _ in receiver.got}) == 2


def test_filters_by_event_and_workspace(tmp_path: Path, receivers: Any) -> None:
    ends, others = receivers(), receivers()
    plugin = make(tmp_path, endpoint(ends.url, events=("call.ended",)), endpoint(others.url, workspaces=("other",)))
    plugin.call_status(CALL, RINGS)
    plugin.call_ended(CALL)
    plugin.call_ended(replace(CALL, workspace="other"))
    assert types(ends) == ["call.ended", "call.ended"]
    assert types(others) == ["call.ended"]


def test_retry_after_is_respected(tmp_path: Path, receivers: Any) -> None:
    receiver, clock = receivers(), Clock()
    receiver.status, receiver.headers = 429, {"Retry-After": "120"}
    plugin = make(tmp_path, endpoint(receiver.url), clock=clock)
    with pytest.raises(RetryLater) as caught:
        plugin.call_ended(CALL)
    assert caught.value.seconds == 120
    receiver.status = 204
    clock.now += 100
    with pytest.raises(RetryLater, match="rests for 20 s, after: answered 429"):
        plugin.call_ended(CALL)
    clock.now += 20
    plugin.call_ended(CALL)
    assert len(receiver.got) == 2


def test_a_receiver_that_keeps_failing_rests_and_holds_up_nobody(tmp_path: Path, receivers: Any) -> None:
    good, bad, clock = receivers(), receivers(), Clock()
    bad.status = 503
    plugin = make(tmp_path, endpoint(bad.url), endpoint(good.url), clock=clock)
    for number in range(8):
        with pytest.raises(RetryLater):
            plugin.call_ended(replace(CALL, id=f"call_{number}"))
    assert (len(good.got), len(bad.got)) == (8, receipts.FAILURES)
    clock.now += receipts.REST
    bad.status = 200
    plugin.call_ended(replace(CALL, id="call_0"))
    plugin.call_ended(replace(CALL, id="call_1"))
    assert len(bad.got) == receipts.FAILURES + 2


def test_who_answers_410_is_left_alone_until_an_admin_acts(
    tmp_path: Path, receivers: Any, caplog: pytest.LogCaptureFixture
) -> None:
    receiver = receivers()
    receiver.status = 410
    plugin = make(tmp_path, endpoint(receiver.url))
    plugin.call_ended(CALL)
    assert "answered 410 and is told nothing more of ws; mend it, then: dialer webhooks enable URL" in caplog.text
    receiver.status = 204
    plugin.call_ended(replace(CALL, id="call_2"))
    assert len(receiver.got) == 1
    listed = run(plugin, "list", "--json")
    assert [(one["state"].partition(" since")[0], one["missed"]) for one in json.loads(listed)] == [("off", 1)]
    assert "told of events again" in run(plugin, "enable", receiver.url)
    plugin.call_ended(replace(CALL, id="call_3"))
    assert len(receiver.got) == 2
    assert "no endpoint with this url is off" in run(plugin, "enable", receiver.url, code=1)


def run(plugin: Webhooks, *args: str, code: int = 0) -> str:
    done = CliRunner().invoke(commands.group(plugin), args, obj=plugin)
    assert done.exit_code == code, done.output
    return done.output + (str(done.exception) if done.exception else "")


def test_the_test_command_sends_one_message(tmp_path: Path, receivers: Any) -> None:
    receiver = receivers()
    receiver.status, receiver.body = 200, b"thank\x1b you"
    plugin = make(tmp_path, endpoint(receiver.url, events=("call.ended",)))
    said = run(plugin, "test", receiver.url)
    assert "answered 200 in" in said and "thank? you" in said
    assert types(receiver) == ["dialer.test"]
    receiver.status = 404
    assert "not taken for received" in run(plugin, "test", receiver.url, code=1)
    assert "no endpoint with this url" in run(plugin, "test", "https://elsewhere.example/", code=1)


def test_a_made_secret_is_a_good_one(tmp_path: Path) -> None:
    made = run(make(tmp_path), "secret").strip()
    assert settings_of(Endpoint)["secret"][1].parse(Secret(made)) == Secret(made)  # type: ignore[misc]


def test_redirects_are_not_followed(tmp_path: Path, receivers: Any) -> None:
    moved, target = receivers(), receivers()
    moved.status, moved.headers = 307, {"Location": target.url}
    with pytest.raises(RetryLater, match="answered 307, and redirects are not followed"):
        make(tmp_path, endpoint(moved.url)).call_ended(CALL)
    assert target.got == []


def test_only_so_much_of_an_answer_is_read(receivers: Any) -> None:
    receiver = receivers()
    receiver.status, receiver.body = 200, b"x" * (posting.ANSWER_BYTES * 4)
    answer = post(receiver.url, b"{}", {}, [ip_network(LOOPBACK[0])])
    assert len(answer.text) == posting.ANSWER_BYTES


@pytest.mark.parametrize("header", [{"Content-Length": "100"}, {"Transfer-Encoding": "chunked"}])
def test_an_answer_whose_body_breaks_off_is_an_answer(receivers: Any, header: dict[str, str]) -> None:
    receiver = receivers()
    receiver.status, receiver.headers, receiver.body = 200, header, b"5\r\nhe"
    assert post(receiver.url, b"{}", {}, [ip_network(LOOPBACK[0])]).status == 200


def test_a_receiver_that_hangs_is_cut_off(receivers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver = receivers()
    receiver.hangs = threading.Event()
    monkeypatch.setattr(posting, "SECONDS", 0.2)
    with pytest.raises(NotSent, match=r"no answer within 0.2 s"):
        post(receiver.url, b"{}", {}, [ip_network(LOOPBACK[0])])


def test_one_that_drips_is_cut_off_too(monkeypatch: pytest.MonkeyPatch) -> None:
    """Each byte comes in time, the answer never does."""
    done, server = threading.Event(), socket.create_server(("127.0.0.1", 0))

    def drip() -> None:
        peer, _ = server.accept()
        with peer:
            peer.sendall(b"HTTP/1.1 200 OK\r\nX: ")
            while not done.wait(0.02):
                try:
                    peer.sendall(b"x")
                except OSError:
                    return

    thread = threading.Thread(target=drip)
    thread.start()
    monkeypatch.setattr(posting, "SECONDS", 0.3)
    try:
        with pytest.raises(NotSent, match="no answer within"):
            post(f"http://127.0.0.1:{server.getsockname()[1]}/", b"{}", {}, [ip_network(LOOPBACK[0])])
    finally:
        done.set()
        thread.join()
        server.close()


@pytest.mark.parametrize(
    "address",
    [
        "127.0.0.1", "10.1.2.3", "172.16.0.1", "192.168.1.1", "169.254.169.254", "100.64.0.1", "0.0.0.0",
        "255.255.255.255", "224.0.0.1", "240.0.0.1", "192.0.2.1", "198.18.0.1", "::1", "::", "fe80::1", "fe80::1%eth0",
        "fc00::1", "fd00:ec2::254", "ff02::1", "fec0::1", "::ffff:127.0.0.1", "::ffff:169.254.169.254", "::127.0.0.1",
        "64:ff9b::7f00:1", "64:ff9b::a9fe:a9fe", "64:ff9b:1::a00:1", "2002:7f00:1::", "2002:a9fe:a9fe::1",
        "2001:0:4136:e378:8000:63bf:80ff:fffe", "2001:db8::1",
    ],
)  # fmt: skip
def test_addresses_that_are_nobodys_business(address: str) -> None:
    assert "not a public address" in forbidden(ip_address(address), [])


@pytest.mark.parametrize("address", ["93.184.215.14", "2606:2800:21f:cb07::1", "64:ff9b::5db8:d70e", "::ffff:8.8.8.8"])
def test_public_addresses_are_good_over_https_only(address: str) -> None:
    assert forbidden(ip_address(address), []) == ""
    assert "use https://" in forbidden(ip_address(address), [], secure=False)


@given(st.integers(0, 2**32 - 1))
def test_however_an_ipv4_address_is_wrapped_it_is_judged_alike(number: int) -> None:
    bare, tunnel = ip_address(number), ip_address((0x2002 << 112) + (number << 80))
    assert isinstance(number, int)
    for wrapped in (f"::ffff:{bare}", f"64:ff9b::{bare}", str(tunnel)):
        assert bool(forbidden(ip_address(wrapped), [])) == bool(forbidden(bare, []))


def test_a_listed_network_is_good_and_no_other() -> None:
    listed = [ip_network("10.1.0.0/16")]
    assert forbidden(ip_address("10.1.2.3"), listed, secure=False) == ""
    assert forbidden(ip_address("::ffff:10.1.2.3"), listed) == ""
    assert forbidden(ip_address("10.2.0.1"), listed) != ""


def resolving(monkeypatch: pytest.MonkeyPatch, *answers: list[str]) -> list[str]:
    """Names resolve to these, one answer after the other; gives the names that were asked for."""
    asked, left, real = [], list(answers), socket.getaddrinfo

    def getaddrinfo(host: str, port: int, *args: Any, **how: Any) -> list[Any]:
        if host[0].isdigit():
            return real(host, port, *args, **how)
        asked.append(host)
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (one, port)) for one in left.pop(0)]

    monkeypatch.setattr(posting.socket, "getaddrinfo", getaddrinfo)
    return asked


def test_a_name_with_one_private_address_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    resolving(monkeypatch, ["93.184.215.14", "127.0.0.1"])
    with pytest.raises(NotSent, match=r"hooks.example is 127.0.0.1, which is not a public address"):
        resolve("hooks.example", 443, [], secure=True)


def test_a_name_is_asked_for_once_and_what_was_checked_is_connected_to(monkeypatch: pytest.MonkeyPatch) -> None:
    asked = resolving(monkeypatch, ["93.184.215.14"], ["127.0.0.1"])
    connected: list[Any] = []

    def create_connection(address: Any, timeout: float) -> socket.socket:
        connected.append(address)
        raise ConnectionRefusedError("refused")

    monkeypatch.setattr(posting.socket, "create_connection", create_connection)
    with pytest.raises(NotSent, match="ConnectionRefusedError"):
        post("https://hooks.example/", b"{}", {}, [])
    assert (asked, connected) == (["hooks.example"], [("93.184.215.14", 443)])


def test_a_proxy_of_the_environment_gets_nothing(receivers: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    receiver, proxy = receivers(), receivers()
    monkeypatch.setenv("http_proxy", proxy.url)
    post(receiver.url, b"{}", {}, [ip_network(LOOPBACK[0])])
    assert (len(receiver.got), len(proxy.got)) == (1, 0)


@pytest.fixture
def certified(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """A server's side of TLS as hooks.example, which this process trusts."""
    key, name = ec.generate_private_key(ec.SECP256R1()), x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "x")])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder(name, name, key.public_key(), x509.random_serial_number())
        .not_valid_before(now - datetime.timedelta(days=1))
        .not_valid_after(now + datetime.timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("hooks.example")]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )
    public = certificate.public_bytes(serialization.Encoding.PEM)
    (tmp_path / "server.pem").write_bytes(private + public)
    (tmp_path / "trusted.pem").write_bytes(public)
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "trusted.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(tmp_path / "server.pem")
    return context


def test_the_certificate_must_be_that_of_the_name(
    receivers: Any, certified: ssl.SSLContext, monkeypatch: pytest.MonkeyPatch
) -> None:
    names: list[str | None] = []
    certified.sni_callback = lambda sock, name, context: names.append(name)
    receiver = receivers(certified)
    resolving(monkeypatch, ["127.0.0.1"], ["127.0.0.1"])
    allowed = [ip_network(LOOPBACK[0])]
    assert post(f"https://hooks.example:{receiver.port}/x", b"{}", {}, allowed).status == 204
    assert names == ["hooks.example"]
    assert receiver.got[0][0]["host"] == f"hooks.example:{receiver.port}"
    with pytest.raises(NotSent, match="its certificate is not good"):
        post(f"https://other.example:{receiver.port}/x", b"{}", {}, allowed)
    assert len(receiver.got) == 1


def settings(tmp_path: Path, table: dict[str, Any]) -> tuple[dict[str, Any], list[str]]:
    return read(Webhooks, table, Source(tmp_path / "dialer.toml", environ={"HOOK": SECRET}), "plugins.webhooks")


def test_endpoints_are_tables(tmp_path: Path) -> None:
    table = {"endpoints": [{"url": "https://a.example/", "secret": {"env": "HOOK"}, "events": ["call.ended"]}]}
    values, faults = settings(tmp_path, table)
    assert faults == []
    assert values["endpoints"] == (endpoint("https://a.example/", events=("call.ended",)),)


@pytest.mark.parametrize(
    ("endpoints", "fault"),
    [
        ({"url": "https://a.example"}, "must be a list, each a table (url, secret, previous_secret, events, "
         "workspaces), [[...]] above each"),
        (["https://a.example"], "entry 1: must be a table (url, secret,"),
        ([{"url": "https://a.example"}], "entry 1: secret: missing; it must be a text in quotes, { env"),
        ([{"url": "ftp://a.example", "secret": SECRET}], "entry 1: url: must be a URL such as https://"),
        ([{"url": "https://u:p@a.example", "secret": SECRET}], "entry 1: url: must be a URL without user, password"),
        ([{"url": "https://bücher.example", "secret": SECRET}], "entry 1: url: must be of ASCII letters"),
        ([{"url": "https://a.example", "secret": "hunter2"}], "entry 1: secret: must be whsec_ and"),
        ([{"url": "https://a.example", "secret": "whsec_!!"}], "entry 1: secret: is whsec_ and something that is not"),
        ([{"url": "https://a.example", "secret": "whsec_YWJj"}], "entry 1: secret: has 3 bytes after whsec_"),
        ([{"url": "https://a.example", "secrets": SECRET}], "entry 1: secrets: there is no such setting; did you mean "
         "secret?"),
        ([{"url": "https://a.example", "secret": SECRET, "events": ["call.over"]}], "entry 1: events: must be "),
    ],
)  # fmt: skip
def test_faults_of_endpoints_name_the_entry_and_the_key(tmp_path: Path, endpoints: Any, fault: str) -> None:
    _, (said,) = settings(tmp_path, {"endpoints": endpoints})
    assert said.startswith(f"{tmp_path}/dialer.toml: [plugins.webhooks].endpoints: {fault}")
    assert SECRET not in said and "hunter2" not in said


@pytest.mark.parametrize(
    ("given", "fault"),
    [
        ({"endpoints": (endpoint("http://a.example"),)}, "endpoints entry 1: url: must start with https://"),
        ({"endpoints": (endpoint("https://a.example"),) * 2}, "endpoints entry 2: url: is that of entry 1"),
        ({"allow_private": ("10.0.0.1/8",)}, "allow_private 10.0.0.1/8 has host bits set; write a network such as"),
    ],
)
def test_faults_of_the_whole_are_said_at_the_start(given: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Webhooks(**given)


TOML = f"""
[plugins]
enabled = ["webhooks"]

[[plugins.webhooks.endpoints]]
url = "https://a.example/?key=hidden"
secret = "{SECRET}"

[[workspaces.acme.plugins.webhooks.endpoints]]
url = "https://b.example/"
secret = "{SECRET}"
"""


def test_endpoints_in_the_file_are_read_and_never_shown(tmp_path: Path) -> None:
    file = tmp_path / "dialer.toml"
    file.write_text(TOML)
    file.chmod(0o600)
    loaded = load({"DIALER_CONFIG": str(file)}, cwd=tmp_path)
    plugins = PluginSet.build(loaded, inline=True)
    acme: Any = plugins.in_workspace("acme").instance("webhooks")
    assert [one.url for one in acme.endpoints] == ["https://b.example/"]
    assert secret_settings(Webhooks) == {"endpoints"}
    shown = json.dumps([seen(loaded, plugins, "salt"), settings_view(plugins.instance("webhooks"), {})])
    assert SECRET not in shown and "hidden" not in shown


def test_others_may_not_read_a_file_with_secrets_in_endpoints(tmp_path: Path) -> None:
    table = {"endpoints": [{"url": "https://a.example", "secret": SECRET}]}
    source = Source(tmp_path / "dialer.toml", mode=0o644)
    (fault,) = read(Webhooks, table, source, "plugins.webhooks")[1]
    assert "entry 1: secret: others may read it here; run: chmod 600" in fault


def test_secrets_are_not_in_the_repr() -> None:
    assert SECRET not in repr(Webhooks(endpoints=(endpoint("https://a.example"),)))


def test_the_readme_lists_every_setting() -> None:
    text = (Path(__file__).parents[2] / "plugins/webhooks/README.md").read_text()
    for name in [*settings_of(Webhooks), *settings_of(Endpoint)]:
        assert f"| `{name}` |" in text


@given(st.text())
def test_any_retry_after_is_some_seconds(text: str) -> None:
    assert seconds_asked(text, NOON) >= 0


def test_retry_after_is_seconds_or_a_date() -> None:
    assert seconds_asked("120", NOON) == 120
    assert seconds_asked("Tue, 22 Sep 2026 12:01:00 GMT", NOON) == 60
    assert seconds_asked("Tue, 22 Sep 2026 11:00:00 GMT", NOON) == 0
    assert seconds_asked(None, NOON) == 0
