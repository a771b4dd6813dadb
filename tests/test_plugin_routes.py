"""Routes that plugins bring: closed by default, gone while the plugin is off, and no danger to the rest."""

from __future__ import annotations

import threading
from typing import Any

import pytest
from flask import Blueprint, Flask, jsonify
from werkzeug.test import TestResponse

import dialer
from dialer import hookimpl
from dialer.app import create_app
from dialer.auth import ADMIN_SCOPES, SCOPES, add_key
from dialer.calls import Call
from dialer.discovery import Plugin
from dialer.errors import PluginError
from dialer.plugin_routes import MAX_BODY
from dialer.plugins import PluginSet


class Pages:
    """A page for everybody and one for its workspace."""

    @hookimpl
    def call_started(self, call: Call) -> None: ...

    @hookimpl
    def register_blueprint(self) -> Blueprint:
        pages = Blueprint("pages", __name__)

        @pages.get("/hello")
        @dialer.public
        def hello() -> Any:
            with pytest.raises(PluginError, match="the view is public"):
                dialer.principal()
            return "hello"

        @pages.route("/mine/", methods=["GET", "POST"])
        def mine() -> Any:
            asks = dialer.principal()
            return jsonify(workspace=asks.workspace, agent=asks.agent)

        @pages.get("/broken")
        def broken() -> Any:
            raise RuntimeError("broken")

        return pages


class Silent:
    @hookimpl
    def register_blueprint(self) -> None:
        return None


class Raising:
    @hookimpl
    def register_blueprint(self) -> None:
        raise SystemExit("no pages today")


class Odd:
    @hookimpl
    def register_blueprint(self) -> Any:
        return "pages"


class Desk:
    def __init__(self, stage: Any, *plugins: object, differing: Any = None) -> None:
        self.dialer = stage.world.dialer
        self.plugins = [Plugin(type(one).__name__.lower(), "1", one) for one in plugins]
        self.dialer.plugins._set = PluginSet(self.plugins, inline=True, differing=differing or {})
        given = self.dialer
        self.app: Flask = create_app(given.settings, plugins=given.plugins, store=given.store, clock=given.clock)
        self.client = self.app.test_client()

    def key(self, *scopes: str, workspace: str = "ws_demo", agent: str = "") -> str:
        with self.dialer.store.write() as tx:
            return add_key(tx, workspace, agent, scopes or SCOPES, now=self.dialer.clock())

    def ask(self, path: str, key: str = "", method: str = "GET", **options: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {key}"} if key else {}
        return self.client.open(path, method=method, headers=headers, **options)


@pytest.fixture
def desk(stage: Any) -> Desk:
    return Desk(stage, Pages(), Silent(), Raising(), Odd())


def test_a_public_view_needs_no_key(desk: Desk) -> None:
    assert desk.ask("/plugins/pages/hello").text == "hello"


def test_any_other_view_needs_a_key_and_knows_whose_it_is(desk: Desk) -> None:
    refused = desk.ask("/plugins/pages/mine/")
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (401, "unauthorized")
    assert desk.ask("/plugins/pages/mine/", desk.key()).get_json() == {"workspace": "ws_demo", "agent": ""}
    agent = desk.key(agent="ws_demo_agent_0")
    assert desk.ask("/plugins/pages/mine/", agent).get_json()["agent"] == "ws_demo_agent_0"


def test_reading_needs_the_scope_to_read_and_all_else_the_one_to_write(desk: Desk) -> None:
    reader, writer = desk.key("calls:read"), desk.key("calls:write")
    statuses = [desk.ask("/plugins/pages/mine/", key, method).status_code
                for key in (reader, writer) for method in ("GET", "POST")]  # fmt: skip
    assert statuses == [200, 403, 403, 200]


def test_while_the_plugin_is_off_there_is_nothing(desk: Desk) -> None:
    desk.dialer.plugins._set = PluginSet([])
    for path in ("/plugins/pages/hello", "/plugins/pages/mine/"):
        answer = desk.ask(path, desk.key())
        assert (answer.status_code, answer.get_json()["error"]["code"]) == (404, "not-found")
    desk.dialer.plugins._set = PluginSet(desk.plugins)
    assert desk.ask("/plugins/pages/hello").status_code == 200


def test_in_a_workspace_that_goes_without_it_there_is_nothing(make_stage: Any) -> None:
    desk = Desk(make_stage(workspaces=("ws_demo", "ws_other")), Pages(), differing={"ws_other": []})
    assert desk.ask("/plugins/pages/mine/", desk.key()).status_code == 200
    assert desk.ask("/plugins/pages/mine/", desk.key(workspace="ws_other")).status_code == 404


def test_who_has_no_routes_or_cannot_make_them_costs_the_others_nothing(desk: Desk) -> None:
    for path in ("/plugins/silent/", "/plugins/raising/", "/plugins/odd/x", "/plugins/", "/plugins/none/x"):
        assert desk.ask(path, desk.key()).status_code == 404
    assert desk.ask("/healthz").status_code == 200


def test_a_view_that_raises_is_no_concern_of_the_rest(desk: Desk) -> None:
    assert desk.ask("/plugins/pages/broken", desk.key()).status_code == 500
    assert desk.ask("/plugins/pages/hello").status_code == 200


def test_a_body_has_a_limit(desk: Desk) -> None:
    data = b"x" * (MAX_BODY + 1)
    answer = desk.client.post("/plugins/pages/mine/", data=data, headers={"Authorization": f"Bearer {desk.key()}"})
    assert answer.status_code in (200, 413)  # a view that reads no body is not asked to


def test_a_missing_slash_is_not_answered_with_a_redirect(desk: Desk) -> None:
    assert desk.ask("/plugins/pages/mine", desk.key()).status_code == 404


def beyond(kind: str) -> Any:
    """A plugin whose blueprint reaches beyond its own pages."""

    class Beyond:
        @hookimpl
        def register_blueprint(self) -> Blueprint:
            pages = Blueprint("beyond", __name__)
            if kind == "/healthz":
                pages.record(lambda state: state.app.add_url_rule("/healthz", "x", lambda: ("mine", 500)))
            elif kind == "app_errorhandler":
                pages.app_errorhandler(404)(fails)
            elif kind == "nested":
                inner = Blueprint("inner", __name__)
                inner.before_app_request(fails)
                pages.register_blueprint(inner)
            else:
                getattr(pages, kind)(fails)
            return pages

    return Beyond()


def fails(*_: Any) -> Any:
    raise RuntimeError("broken")


@pytest.mark.parametrize(
    "kind",
    ["before_app_request", "after_app_request", "teardown_app_request", "app_url_value_preprocessor",
     "app_url_defaults", "app_context_processor", "app_errorhandler", "/healthz", "nested"],
)  # fmt: skip
def test_a_blueprint_that_would_change_all_of_dialer_is_refused(
    stage: Any, kind: str, capfd: pytest.CaptureFixture[str]
) -> None:
    desk = Desk(stage, beyond(kind), Pages())
    named = "before_app_request" if kind == "nested" else kind
    said = f"its blueprint would change all of Dialer ({named}); have it keep to /plugins/beyond/"
    assert said in capfd.readouterr().err
    assert desk.ask("/healthz").text != "mine"
    assert desk.ask("/healthz").status_code == 200
    assert desk.ask("/plugins/pages/hello").text == "hello"


def test_one_whose_routes_take_too_long_goes_without(
    stage: Any, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    released = threading.Event()

    class Hanging:
        @hookimpl
        def register_blueprint(self) -> None:
            released.wait()

    monkeypatch.setattr("dialer.plugin_routes.ROUTES_SECONDS", 0.2)
    try:
        desk = Desk(stage, Hanging())
    finally:
        released.set()
    assert "plugin hanging has no routes: register_blueprint is still at work after 0.2 s" in capfd.readouterr().err
    assert desk.ask("/healthz").status_code == 200


# GET /v1/plugins


def test_the_api_tells_how_plugins_do_in_its_workspace(make_stage: Any) -> None:
    class Judge:
        @hookimpl
        def validate_call(self, call: Call) -> None:
            if call.workspace == "ws_other":
                raise OSError("the list of ws_other is gone")

    stage = make_stage(workspaces=("ws_demo", "ws_other"))
    desk = Desk(stage, Pages(), Judge())
    for agent in stage.world.agents[::2]:
        stage.agent_dials("+14155550102", agent)
    answer = desk.ask("/v1/plugins", desk.key(*ADMIN_SCOPES))
    assert answer.status_code == 200
    here = {one["name"]: one for one in answer.get_json()["plugins"]}
    assert answer.get_json()["config"] == "current"
    assert (here["pages"]["place"], here["judge"]["place"], here["number_policy"]["state"]) == (1, 2, "off")
    assert here["pages"]["hooks"] == ["call_started", "register_blueprint"]
    assert (here["judge"]["answers"]["asked"], here["judge"]["answers"]["failed"]) == (1, 0)
    assert "ws_other" not in answer.text
    there = desk.ask("/v1/plugins", desk.key(*ADMIN_SCOPES, workspace="ws_other")).get_json()["plugins"][1]
    assert there["answers"]["lastError"] == "OSError: the list of ws_other is gone"
    assert "1 of its last 1 answers failed, now too: OSError" in there["remarks"][0]


def test_the_api_tells_it_only_to_keys_that_were_made_for_it(desk: Desk) -> None:
    assert desk.ask("/v1/plugins", desk.key()).status_code == 403
