"""The description of the HTTP API is true: every route is in it, and what is answered is what it says."""

from __future__ import annotations

import inspect
from typing import Any

import pytest
import schemathesis
from flask import Flask
from hypothesis import HealthCheck, given, settings
from openapi_spec_validator import validate
from schemathesis import GenerationMode
from werkzeug.test import TestResponse

from dialer import admin, api, voice
from dialer.app import create_app
from dialer.auth import SCOPES, add_key
from dialer.openapi import OPERATIONS, description
from dialer.simulator.world import PUBLIC_URL, START
from tests.conformance import Conformance


def described() -> dict[str, dict[str, Any]]:
    """Every operation of the description, as `path method`."""
    app = Flask("described")
    for blueprint in (voice.webhooks.blueprint(), api.blueprint, admin.blueprint):
        app.register_blueprint(blueprint)
    paths = description(app, "")["paths"].items()
    return {f"{path} {method}": found for path, methods in paths for method, found in methods.items()}


POSITIVE, NEGATIVE = GenerationMode.POSITIVE, GenerationMode.NEGATIVE
OPEN = {"/healthz get", "/readyz get", "/v1/openapi.json get"}
ALL = described()
KEYED = {name for name, operation in ALL.items() if "key" in str(operation["security"]) and name != "/metrics get"}
#: Those with anything that could be wrong: fields, or a body.
SPOILT = [name for name, found in ALL.items() if "requestBody" in found or "'query'" in str(found.get("parameters"))]


class Reader:
    """Asks an application of which it knows only the description."""

    def __init__(self, stage: Any) -> None:
        given = stage.world.dialer
        self.now = START + 60
        self.app = create_app(given.settings, plugins=given.plugins, store=given.store, clock=self.clock)
        self.client = self.app.test_client()
        self.document = self.client.get("/v1/openapi.json").get_json()
        with given.store.write() as tx:
            self.key = add_key(tx, "ws_demo", "ws_demo_agent_0", SCOPES, now=START)

    def clock(self) -> float:
        """Ten seconds go by at each look, so that no limit is reached."""
        self.now += 10
        return self.now


@pytest.fixture
def reader(stage: Any) -> Reader:
    stage.agent_dials("+14155550103")
    stage.agent_dials("12345")
    return Reader(stage)


def test_the_description_is_valid_and_names_where_it_is_served(reader: Reader) -> None:
    validate(reader.document)
    assert reader.document["openapi"] == "3.1.0"
    assert reader.document["servers"] == [{"url": PUBLIC_URL}]


def test_every_route_is_described_and_every_path_is_a_route(reader: Reader) -> None:
    rules = list(reader.app.url_map.iter_rules())
    views = {rule.rule: inspect.unwrap(reader.app.view_functions[rule.endpoint]) for rule in rules}
    assert [path for path, view in views.items() if view not in OPERATIONS] == []
    routes = {
        f"{rule.rule.replace('<', '{').replace('>', '}')} {method.lower()}"
        for rule in rules
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert set(ALL) == routes


def test_each_operation_has_a_name_a_summary_and_known_security(reader: Reader) -> None:
    operations = ALL.values()
    assert len({operation["operationId"] for operation in operations}) == len(operations)
    assert all(operation["summary"].endswith((".", "]}`", "?")) for operation in operations), operations
    tags = {tag["name"] for tag in reader.document["tags"]}
    assert {tag for operation in operations for tag in operation["tags"]} == tags


def test_each_operation_says_who_may_ask(reader: Reader) -> None:
    security = {name: operation["security"] for name, operation in ALL.items()}
    assert {name for name, found in security.items() if found == []} == OPEN
    signed = {name.partition(" ")[0] for name, found in security.items() if found == [{"signature": []}]}
    assert signed == set(voice.webhooks.views)
    assert security["/v1/calls/{call_id}/hangup post"] == [{"key": ["calls:write"]}]
    assert security["/metrics get"] == [{"key": ["metrics"]}, {}]
    for name in KEYED:
        path, method = name.split()
        assert reader.client.open(path.replace("{", "").replace("}", ""), method=method.upper()).status_code == 401


def test_an_answer_that_is_not_as_described_is_noticed(
    reader: Reader, monkeypatch: pytest.MonkeyPatch
) -> None:
    headers = {"Authorization": f"Bearer {reader.key}"}
    monkeypatch.setattr("dialer.api.call_json", lambda call: {"id": 5})
    with pytest.raises(AssertionError, match=r"GET /v1/calls answered 200, not as described: \$\.calls"):
        reader.client.get("/v1/calls", headers=headers)


@pytest.mark.parametrize(
    ("answer", "breach"),
    [
        (TestResponse([b"{}"], "418 x", {"Content-Type": "application/json"}, None), "status 418"),  # type: ignore[arg-type]
        (TestResponse([b"{}"], "200 x", {"Content-Type": "text/html"}, None), "content type 'text/html'"),  # type: ignore[arg-type]
        (TestResponse([b"{}"], "200 x", {"Content-Type": "application/json"}, None), "$: 'ok' is a required property"),  # type: ignore[arg-type]
    ],
)
def test_what_counts_as_a_breach(reader: Reader, answer: TestResponse, breach: str) -> None:
    assert Conformance(reader.app).breach("GET", "/healthz", answer) == breach


def test_a_route_of_somebody_else_is_left_out(reader: Reader) -> None:
    app = create_app(reader.app.extensions["dialer"].settings, plugins=[], store=reader.app.extensions["dialer"].store)
    app.add_url_rule("/other", "other", lambda: "")
    assert "/other" not in description(app, PUBLIC_URL)["paths"]


def operation_of(reader: Reader, name: str) -> Any:
    """One operation as schemathesis reads it; the key is ours to send, and fields we do not know are let through."""
    path, method = name.split()
    schema = schemathesis.openapi.from_wsgi("/v1/openapi.json", reader.app)
    schema.config.generation.update(with_security_parameters=False)
    schema.config.generation.allow_extra_parameters = False
    return schema[path][method.upper()]


@pytest.mark.parametrize(
    ("name", "mode"),
    [*((name, POSITIVE) for name in ALL), *((name, NEGATIVE) for name in SPOILT)],
)
def test_schemathesis_finds_nothing(reader: Reader, name: str, mode: GenerationMode) -> None:
    operation = operation_of(reader, name)

    @settings(max_examples=15, derandomize=True, database=None, suppress_health_check=list(HealthCheck))
    @given(operation.as_strategy(generation_mode=mode))
    def ask(case: Any) -> None:
        key = {"Authorization": f"Bearer {reader.key}"} if name in KEYED else {}
        case.validate_response(case.call(headers=key), headers=key)

    ask()
