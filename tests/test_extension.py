"""Dialer inside somebody else's application: a call through it, who may ask, and the host as it was before."""

from __future__ import annotations

import io
import json
import logging
import os
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import click
import pytest
from flask import Blueprint, Flask, current_app, jsonify, request, session, url_for
from flask.testing import FlaskClient
from werkzeug.middleware.proxy_fix import ProxyFix
from werkzeug.test import TestResponse

from dialer import ConfigError, Dialer, SignedIn, create_app, hookimpl, principal, public
from dialer.auth import OWN_PAGE as OWN_PAGE_HEADER
from dialer.auth import SCOPES, add_agent, add_key, add_workspace
from dialer.config import load
from dialer.logs import HostHandler, join_host
from dialer.signature import signature_of
from dialer.simulator import inhabitants
from dialer.simulator.world import World
from tests.conftest import HANGS_UP, NEVER, Stage
from tests.host_application.crm import USERS, create_crm, who_asks

ORIGIN = "https://crm.example"
FORM = "application/x-www-form-urlencoded"
OWN_PAGE = {OWN_PAGE_HEADER: "fetch"}


class DialerOf(Dialer):
    """The extension over the store and the clocks of a simulated world."""

    def __init__(self, world: World, **options: Any) -> None:
        self.world = world
        super().__init__(**options)

    def create(self, environ: Mapping[str, str]) -> Flask:
        assert self.world.web
        store = self.world._store_of(self.world.web)
        return create_app(self.world.settings, store=store, hosted=True, **self.world._shared())


class HostedWorld(World):
    """A world whose web server is the CRM behind a proxy; `strips` is what the proxy takes off the path."""

    strips = ""
    fixed = "after"
    host: Flask

    def _start_web(self) -> None:
        self.web = self._process("web")
        self.host = create_crm()
        if self.fixed == "before":
            self.host.wsgi_app = ProxyFix(self.host.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
        DialerOf(self, url_prefix="/calls", signed_in=who_asks).init_app(self.host)
        if self.fixed == "after":
            self.host.wsgi_app = ProxyFix(self.host.wsgi_app, x_prefix=1)  # type: ignore[method-assign]
        self._wsgi = self._behind_a_proxy

    def _behind_a_proxy(self, environ: dict[str, Any], start_response: Callable[..., Any]) -> Iterable[bytes]:
        path, raw = environ["PATH_INFO"], environ["RAW_URI"]
        assert path.startswith(f"{self.strips}/calls/")
        passed = {"PATH_INFO": path.removeprefix(self.strips), "RAW_URI": raw.removeprefix(self.strips)}
        prefix = {"HTTP_X_FORWARDED_PREFIX": self.strips} if self.strips else {}
        return self.host({**environ, **passed, **prefix}, start_response)


@pytest.fixture
def make_host(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Make a stage whose Dialer is inside the CRM: `make_host(strips="/app", plugins=...)`."""
    stages: list[Stage] = []

    def make(strips: str = "", fixed: str = "after", **options: Any) -> Stage:
        monkeypatch.setattr(inhabitants, "PUBLIC_URL", f"{ORIGIN}{strips}/calls")
        monkeypatch.setattr(HostedWorld, "strips", strips)
        monkeypatch.setattr(HostedWorld, "fixed", fixed)
        stages.append(Stage(HostedWorld(tmp_path, **options)))
        return stages[-1]

    yield make
    for stage in stages:
        stage.world.dialer.store.close()


@pytest.fixture
def stage(make_host: Any) -> Stage:
    made: Stage = make_host(workspaces=("ws_demo", "ws_other"))
    return made


def host_of(stage: Stage) -> Flask:
    assert isinstance(stage.world, HostedWorld)
    return stage.world.host


def browser(stage: Stage, user: str = "") -> FlaskClient:
    """A browser with a page of the CRM, somebody signed in or nobody."""
    client = host_of(stage).test_client()
    if user:
        client.post("/login", data={"user": user})
    return client


def code_of(answer: TestResponse) -> tuple[int, str]:
    assert answer.content_type == "application/json"
    return answer.status_code, answer.get_json()["error"]["code"]


# Calls


@pytest.mark.parametrize("strips", ["", "/app"])
@pytest.mark.parametrize("fixed", ["before", "after"])
def test_a_whole_call_plays_through_the_host_behind_a_proxy(make_host: Any, strips: str, fixed: str) -> None:
    stage = make_host(strips, fixed)
    talker = stage.agent_dials(HANGS_UP)
    stage.ends()
    assert (talker.call.status, talker.call.ended_by) == ("completed", "customer")
    urls = {entry.detail["url"] for entry in stage.world.network.log if "url" in entry.detail}
    assert urls
    assert all(url.startswith(f"{ORIGIN}{strips}/calls/v1/voice/") for url in urls)
    assert host_of(stage).extensions["asked"] == []  # the host's sign-in heard of none of it


def webhook(stage: Stage, url: str, path: str, **headers: str) -> TestResponse:
    """A webhook signed for one URL and sent to a path."""
    account = stage.world.settings.accounts[0]
    form = {"AccountSid": account.sid, "CallSid": "CA" + "a" * 32, "Caller": "client:nobody", "To": NEVER}
    signed = {"X-Twilio-Signature": signature_of(url, form.items(), account.tokens[0].reveal())}
    client = host_of(stage).test_client()
    return client.post(path, data=urlencode(form), content_type=FORM, headers={**signed, **headers})


def test_a_signature_holds_for_the_whole_url_and_no_other(stage: Stage) -> None:
    right = f"{ORIGIN}/calls/v1/voice/twiml"
    assert webhook(stage, right, "/calls/v1/voice/twiml").status_code == 200
    for url in (f"{ORIGIN}/v1/voice/twiml", f"{ORIGIN}/calls/calls/v1/voice/twiml", f"{right}?a=b", right.upper()):
        assert webhook(stage, url, "/calls/v1/voice/twiml").status_code == 403
    assert webhook(stage, right, "/calls/v1/voice/fallback").status_code == 403
    assert webhook(stage, right, "/c%61lls/v1/voice/twiml").status_code == 403
    assert webhook(stage, right, "/calls/v1/voice/twiml", Host="evil.example").status_code == 200
    with stage.world.dialer.store.read() as tx:
        assert len(tx.all("all_calls", workspace="", status="", limit=10)) == 1


def test_webhooks_go_past_flasks_routing_as_elsewhere(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    lane = host_of(stage).extensions["dialer"].app.wsgi_app
    monkeypatch.setattr(lane, "rest", lambda environ, start_response: 1 / 0)
    assert webhook(stage, f"{ORIGIN}/calls/v1/voice/twiml", "/calls/v1/voice/twiml").status_code == 200


@pytest.mark.parametrize("script", ["", "/app"])
@pytest.mark.parametrize("raw", ["RAW_URI", "REQUEST_URI", ""])
def test_the_inner_uri_is_what_stands_behind_the_prefix(stage: Stage, script: str, raw: str) -> None:
    mount = host_of(stage).extensions["dialer"]
    environ = {"SCRIPT_NAME": script, "PATH_INFO": "/calls/v1/voice/status", "QUERY_STRING": "intent=di_1"}
    for above in ("", script):
        uri = {raw: f"{above}/calls/v1/voice/status?intent=di_1"} if raw else {}
        assert mount.inner_uri({**environ, **uri}) == "/v1/voice/status?intent=di_1"
    assert mount.inner(environ)["SCRIPT_NAME"] == f"{script}/calls"
    assert mount.inner(environ)["PATH_INFO"] == "/v1/voice/status"


# Who is signed in


def test_the_hosts_session_gets_a_token_and_the_agents_own_calls(stage: Stage) -> None:
    talker = stage.agent_dials(NEVER)
    ann = browser(stage, "ann")
    token = ann.get("/calls/v1/voice/token", headers=OWN_PAGE).get_json()
    assert (token["identity"], token["workspace"]) == ("ws_demo_agent_0", "ws_demo")
    assert [call["id"] for call in ann.get("/calls/v1/calls").get_json()["calls"]] == [talker.call.id]
    assert browser(stage, "bob").get("/calls/v1/calls").get_json()["calls"] == []
    hang_up = f"/calls/v1/calls/{talker.call.id}/hangup"
    for other in ("bob", "eve"):
        assert code_of(browser(stage, other).post(hang_up, headers=OWN_PAGE)) == (404, "not-found")
    assert ann.post(hang_up, headers=OWN_PAGE).status_code == 200
    stage.ends()
    assert talker.call.ended_by == "agent"


def test_what_the_session_alone_would_change_needs_a_page_of_the_hosts_own(stage: Stage) -> None:
    talker = stage.agent_dials(NEVER)
    ann, hang_up = browser(stage, "ann"), f"/calls/v1/calls/{talker.call.id}/hangup"
    for method, path in (("POST", hang_up), ("GET", "/calls/v1/voice/token"), ("POST", "/calls/v1/voice/token")):
        assert code_of(ann.open(path, method=method)) == (403, "cross-site")
    assert not talker.call.end_requested_by
    assert "Access-Control-Allow-Origin" not in ann.options(hang_up, headers={"Origin": "https://evil.example"}).headers


def test_nobody_signed_in_is_told_so_in_json_and_not_sent_to_the_sign_in_page(stage: Stage) -> None:
    for client in (browser(stage), browser(stage, "customer")):
        assert code_of(client.get("/calls/v1/calls", headers=OWN_PAGE)) == (401, "unauthorized")


def test_the_host_can_give_no_more_than_there_is(stage: Stage) -> None:
    assert code_of(browser(stage, "mixed_up").get("/calls/v1/calls")) == (403, "unknown-agent")
    boss = browser(stage, "boss")
    assert boss.get("/calls/v1/plugins").status_code == 200
    answer = boss.get("/calls/v1/voice/token", headers=OWN_PAGE)
    assert code_of(answer) == (403, "scope")
    assert answer.get_json()["error"]["message"] == "this sign-in lacks the scope token"
    assert code_of(browser(stage, "ann").get("/calls/v1/plugins")) == (403, "scope")
    assert boss.get("/calls/metrics", headers={"X-Forwarded-For": "192.0.2.1"}).status_code == 403
    with pytest.raises(ValueError, match="'metrics' is not known"):
        SignedIn("ann", "ws_demo", ("metrics",))


def test_an_agent_who_is_disabled_is_out_whatever_the_session_says(stage: Stage) -> None:
    ann = browser(stage, "ann")
    assert ann.get("/calls/v1/calls").status_code == 200
    with stage.world.dialer.store.write() as tx:
        tx.run("disable_agent", workspace="ws_demo", identity="ws_demo_agent_0", now=1.0)
    assert code_of(ann.get("/calls/v1/calls")) == (403, "unknown-agent")


def test_a_key_counts_and_not_the_session_beside_it(stage: Stage) -> None:
    with stage.world.dialer.store.write() as tx:
        key = add_key(tx, "ws_other", "ws_other_agent_0", SCOPES, now=stage.world.dialer.clock())
    ann = browser(stage, "ann")
    token = ann.get("/calls/v1/voice/token", headers={"Authorization": f"Bearer {key}"}).get_json()
    assert token["workspace"] == "ws_other"
    wrong = {"Authorization": f"Bearer {key[:-1]}{'0' if key[-1] != '0' else '1'}"}
    assert code_of(ann.get("/calls/v1/calls", headers=wrong)) == (401, "unauthorized")
    basic = {"Authorization": "Basic YTpi"}  # the host's own, or that of a proxy
    assert ann.get("/calls/v1/calls", headers=basic).status_code == 200


def test_a_fault_in_the_hosts_answer_is_a_500_in_our_shape(stage: Stage, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(USERS, "ann", "not what was asked for")
    assert code_of(browser(stage, "ann").get("/calls/v1/calls")) == (500, "internal-server-error")


def test_the_host_is_asked_in_its_own_context_and_cannot_eat_the_body(
    stage: Stage, monkeypatch: pytest.MonkeyPatch
) -> None:
    said: list[object] = []

    def asks() -> SignedIn:
        said.extend((current_app.name, request.path, request.script_root, session.get("user"), request.get_data()))
        return SignedIn("ws_demo_agent_0", "ws_demo")

    monkeypatch.setattr(host_of(stage).extensions["dialer"].dialer, "signed_in", asks)
    host_of(stage).teardown_request(lambda error: said.append("torn down"))
    ann = browser(stage, "ann")
    said.clear()
    answer = ann.post("/calls/v1/voice/token", data={"ttl": "59"}, headers=OWN_PAGE)
    assert code_of(answer) == (400, "bad-field")
    assert said == ["crm", "/calls/v1/voice/token", "", "ann", b"", "torn down"]


def test_tokens_are_counted_by_agent(stage: Stage) -> None:
    ann = browser(stage, "ann")
    answers = [ann.get("/calls/v1/voice/token", headers=OWN_PAGE).status_code for _ in range(11)]
    assert answers == [200] * 10 + [429]
    assert browser(stage, "bob").get("/calls/v1/voice/token", headers=OWN_PAGE).status_code == 200


# The host as it was


def seen(app: Flask) -> list[tuple[int, bytes, list[tuple[str, str]]]]:
    """What the host's own routes answer."""
    client = app.test_client()
    asked = [
        client.get("/customers/1"),
        client.post("/login", data={"user": "ann"}),
        client.get("/customers/1"),
        client.get("/customers//1"),
        client.get("/customers/100"),
        client.get("/nowhere"),
        client.get("/v1/nowhere"),
        client.post("/v1/voice/twiml"),
        client.get("/calls"),
        client.get("/callsign"),
        client.get("/fault"),
        client.delete("/login"),
        client.post("/upload", data=b"x" * 100_000),
        client.post("/upload", data=b"x" * 1_000_001),
    ]
    return [
        (one.status_code, one.data, sorted(pair for pair in one.headers if pair[0] != "Set-Cookie"))  # it has the time
        for one in asked
    ]


def test_the_hosts_own_routes_answer_as_without_dialer(stage: Stage) -> None:
    before = seen(create_crm())
    assert [status for status, _, _ in before] == [302, 200, 200, 308, 404, 404, 404, 404, 404, 404, 500, 405, 200, 413]
    assert seen(host_of(stage)) == before
    assert host_of(stage).url_map.merge_slashes
    assert list(host_of(stage).blueprints) == list(create_crm().blueprints)


def test_below_the_prefix_nothing_of_the_host_gets_in(stage: Stage) -> None:
    client = browser(stage, "ann")
    host_of(stage).extensions["asked"].clear()
    assert code_of(client.get("/calls/v1/nowhere")) == (404, "not-found")
    assert code_of(client.put("/calls/v1/calls")) == (405, "method-not-allowed")
    assert client.get("/calls/nowhere").status_code == 404
    assert client.get("/calls/v1//calls").status_code == 404
    unsigned = client.post("/calls/v1/voice/status", data={"CallSid": "CA"})
    assert (unsigned.status_code, unsigned.content_type) == (403, "text/plain; charset=utf-8")
    too_long = client.post("/calls/v1/voice/token", data=b"x" * 65_537, content_type=FORM, headers=OWN_PAGE)
    assert too_long.status_code == 413
    assert client.get("/calls/healthz").get_json() == {"ok": True}
    assert client.get("/calls/v1/openapi.json").get_json()["servers"] == [{"url": f"{ORIGIN}/calls"}]
    assert "X-Crm" not in client.get("/calls/healthz").headers
    assert host_of(stage).extensions["asked"] == []


class Pages:
    """A plugin with routes."""

    @hookimpl
    def register_blueprint(self) -> Blueprint:
        blueprint = Blueprint("pages", __name__)

        @blueprint.get("/open")
        @public
        def open_to_all() -> Any:
            return jsonify(url=url_for(".closed"))

        @blueprint.route("/closed", methods=["GET", "POST"])
        def closed() -> Any:
            return jsonify(agent=principal().agent)

        return blueprint


def test_plugins_have_their_routes_under_the_prefix_and_know_who_is_signed_in(make_host: Any) -> None:
    stage = make_host(plugins=(Pages(),))
    name = stage.world.dialer.plugins.current().names[0]
    ann, closed = browser(stage, "ann"), f"/calls/plugins/{name}/closed"
    assert ann.get(f"/calls/plugins/{name}/open").get_json() == {"url": closed}
    assert ann.get(closed).get_json() == {"agent": "ws_demo_agent_0"}
    assert code_of(ann.post(closed)) == (403, "cross-site")
    assert ann.post(closed, headers=OWN_PAGE).status_code == 200
    assert code_of(browser(stage).get(closed)) == (401, "unauthorized")


# How it is mounted


@dataclass
class Place:
    """A folder with settings, and what it takes to be mounted from there."""

    folder: Path
    config: dict[str, str]


@pytest.fixture
def place(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Callable[[str, str], Place]:
    for name in ("DIALER_CONFIG", "DIALER_INSTANCE", "DIALER_STORE", "DIALER_PUBLIC_URL", "DIALER_URL_PREFIX"):
        monkeypatch.setenv(name, "")  # put back at the end: `flask dialer` sets them

    def make(name: str, toml: str = "[plugins]\nenabled = []\n") -> Place:
        folder = tmp_path / name
        folder.mkdir()
        (folder / "dialer.toml").write_text(toml)
        return Place(folder, {"DIALER_INSTANCE": str(folder), "DIALER_PUBLIC_URL": f"https://{name}.example"})

    return make


def mounted(place: Place, **options: Any) -> Flask:
    return create_crm(Dialer(**options), **place.config)


def close(*apps: Flask) -> None:
    for app in apps:
        app.extensions["dialer"].service.store.close()


def test_applications_in_one_process_have_each_their_own(place: Any) -> None:
    first, second = mounted(place("first")), mounted(place("second"), url_prefix="/phone/")
    one, two = (app.extensions["dialer"].service for app in (first, second))
    assert one.url("/v1/voice/status").startswith("https://first.example/calls/v1/voice/status#")
    assert two.url("/v1/voice/status").startswith("https://second.example/phone/v1/voice/status#")
    assert one.store.path != two.store.path
    assert second.test_client().get("/phone/healthz").status_code == 200
    assert first.test_client().get("/phone/healthz").location == "/login"
    close(first, second)


def test_one_extension_serves_several_applications_and_each_once(place: Any) -> None:
    dialer = Dialer()
    first = create_crm(dialer, **place("first").config)
    second = create_crm(dialer, **place("second").config)
    assert first.extensions["dialer"].service is not second.extensions["dialer"].service
    with pytest.raises(RuntimeError, match="mounted in this application already"):
        dialer.init_app(first)
    close(first, second)


@pytest.mark.parametrize("prefix", ["", "/", "calls", "/ca lls", "/calls?x", "//calls", "/<name>"])
def test_a_prefix_is_a_path(prefix: str) -> None:
    with pytest.raises(ValueError, match="url_prefix must be a path such as /calls"):
        Dialer(url_prefix=prefix)


@pytest.mark.parametrize(
    ("public_url", "effective"),
    [
        ("https://crm.example", "https://crm.example/calls"),
        ("https://crm.example/calls/", "https://crm.example/calls"),
        ("https://crm.example/app", "https://crm.example/app/calls"),
        ("https://calls", "https://calls/calls"),
        ("", "http://127.0.0.1:8000/calls"),
    ],
)
def test_the_public_url_has_the_prefix_once(tmp_path: Path, public_url: str, effective: str) -> None:
    environ = {"DIALER_PUBLIC_URL": public_url, "DIALER_URL_PREFIX": "/calls"}
    assert load(environ, cwd=tmp_path).server.public_url == effective


def test_a_fault_in_the_settings_stops_the_start_and_not_the_command_line(place: Any) -> None:
    broken = place("broken", "[calls]\nring_seconds = 1\n")
    with pytest.raises(ConfigError, match="ring_seconds"):
        mounted(broken)
    with click.Context(click.Group("flask")):
        app = mounted(broken)
    checked = app.test_cli_runner().invoke(args=["dialer", "check"])
    assert checked.exit_code == 3
    assert "ring_seconds" in checked.output
    with click.Context(click.Command("run")), pytest.raises(ConfigError, match="ring_seconds"):
        mounted(broken)


def test_its_commands_are_the_hosts(place: Any) -> None:
    at = place("here")
    with click.Context(click.Group("flask")):
        app = mounted(at)
    assert not (at.folder / "dialer.db").exists()
    runner = app.test_cli_runner()
    assert runner.invoke(args=["customers"]).output == "no customers yet\n"
    assert runner.invoke(args=["dialer", "workspaces", "add", "ws_acme"]).exit_code == 0
    assert (at.folder / "dialer.db").exists()
    listed = runner.invoke(args=["dialer", "workspaces", "list", "--json"])
    assert "ws_acme" in json.dumps(json.loads(listed.output))
    assert load(os.environ).server.public_url == "https://here.example/calls"  # as the dispatcher reads it
    shown = runner.invoke(args=["dialer", "--help"]).output
    assert "worker" in shown
    assert "Run it all" not in shown
    refused = runner.invoke(args=["dialer", "run"])
    assert refused.exit_code == 2
    assert "flask dialer worker" in refused.output


# Its log


def test_the_log_is_the_hosts_with_numbers_masked(monkeypatch: pytest.MonkeyPatch) -> None:
    ours, root = logging.getLogger("dialer"), logging.getLogger()
    monkeypatch.setattr(ours, "handlers", [])
    monkeypatch.setattr(ours, "propagate", True)
    monkeypatch.setattr(ours, "level", logging.NOTSET)
    written = io.StringIO()
    monkeypatch.setattr(root, "handlers", [logging.StreamHandler(written)])
    level = root.level
    join_host()
    join_host()
    ours._cache.clear()  # type: ignore[attr-defined]
    logging.getLogger("dialer.voice").warning("dialled %s", "+14155550101", extra={"notes": {"to": "+14155550102"}})
    try:
        raise ValueError("+14155550103")
    except ValueError:
        logging.getLogger("dialer.voice").exception("it failed")
    lines = written.getvalue()
    assert lines.startswith("dialled +1******0101 to=+1******0102\nit failed\nTraceback")
    assert lines.count("it failed") == 1
    assert "+14155550103" not in lines
    for number in range(200):
        logging.getLogger("dialer.plugins.chatty").warning("line %d", number)
    assert written.getvalue().count("line ") < 200
    assert (root.level, [type(one) for one in ours.handlers]) == (level, [HostHandler])
    monkeypatch.setattr(ours, "handlers", hosts := [logging.NullHandler()])
    join_host()
    assert ours.handlers is hosts
    assert len(hosts) == 1


# What its page says


def test_the_application_of_the_page_works(place: Any) -> None:
    page = (Path(__file__).parents[1] / "docs/inside-flask.md").read_text()
    source = page.partition("```python\n")[2].partition("```")[0]
    namespace: dict[str, Any] = {"__name__": "your_app"}
    with pytest.MonkeyPatch.context() as patch:
        for name, value in place("page").config.items():
            patch.setenv(name, value)
        exec(compile(source, "inside-flask.md", "exec", dont_inherit=True), namespace)
        app = namespace["create_app"]()
    client = app.test_client()
    with client.session_transaction() as signed_in:
        signed_in["user"] = "ann@example.com"
    assert code_of(client.get("/calls/v1/calls")) == (403, "unknown-agent")
    with app.extensions["dialer"].service.store.write() as tx:
        add_workspace(tx, "ws_acme", "Acme", 0.0)
        add_agent(tx, "ws_acme", "acme_ann", "Ann", "agent", 0.0)
    assert client.get("/calls/v1/calls").get_json() == {"calls": [], "before": None}
    assert f'"{OWN_PAGE_HEADER}"' in page
    close(app)
