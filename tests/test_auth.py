"""Keys: shown once, kept as a hash, good for their scopes, their time and their owner; and how often."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from dialer.app import create_app
from dialer.auth import (
    REQUESTS_A_MINUTE,
    SCOPES,
    TOKENS_A_MINUTE,
    WRONG_KEYS_A_MINUTE,
    add_agent,
    add_key,
    add_workspace,
)
from dialer.errors import DialerError
from dialer.store import Store
from dialer.store.sqlite import SqliteTx
from dialer.store.statements import STATEMENTS

AGENT = "ws_demo_agent_0"


@dataclass
class Desk:
    """The REST API of a stage, a clock to turn, and keys to ask with."""

    store: Store
    client: Any
    now: float

    def key(self, *scopes: str, agent: str = "", workspace: str = "ws_demo", ttl: float | None = None) -> str:
        with self.store.write() as tx:
            return add_key(tx, workspace, agent, scopes or SCOPES, now=self.now, ttl=ttl)

    def get(self, path: str, key: str | None = None, address: str = "10.0.0.1") -> TestResponse:
        headers = {} if key is None else {"Authorization": f"Bearer {key}"}
        answer: TestResponse = self.client.get(path, headers=headers, environ_base={"REMOTE_ADDR": address})
        return answer

    def run(self, statement: str, **values: Any) -> int:
        with self.store.write() as tx:
            return tx.run(statement, **values)


@pytest.fixture
def desk(stage: Any) -> Desk:
    given = stage.world.dialer
    made = Desk(given.store, None, given.clock())
    app = create_app(given.settings, plugins=given.plugins, store=given.store, clock=lambda: made.now)
    made.client = app.test_client()
    return made


def refused(answer: TestResponse, status: int, code: str) -> str:
    """The sentence of an error, whose shape is always the same."""
    assert (answer.status_code, answer.content_type) == (status, "application/json")
    body: dict[str, dict[str, str]] = answer.get_json()
    assert set(body) == {"error"}
    assert set(body["error"]) == {"code", "message"}
    assert body["error"]["code"] == code
    assert answer.headers["Cache-Control"] == "no-store"
    return body["error"]["message"]


def test_a_key_is_long_random_and_kept_as_a_hash_only(desk: Desk) -> None:
    keys = {desk.key() for _ in range(20)}
    assert len(keys) == 20
    assert all(re.fullmatch(r"dk_[0-9a-f]{12}_[0-9a-f]{40}", key) for key in keys)
    database = desk.store.database()  # type: ignore[attr-defined]
    stored = str([list(database[name].rows) for name in database.table_names()])
    assert not [key for key in keys if key.rpartition("_")[2] in stored]
    assert all(key.split("_")[1] in stored for key in keys)


def test_a_key_lets_its_holder_in(desk: Desk) -> None:
    assert desk.get("/v1/calls", desk.key()).status_code == 200


@pytest.mark.parametrize(
    "spoilt",
    [
        lambda key: None,
        lambda key: "",
        lambda key: key[:-1] + ("0" if key[-1] != "0" else "1"),
        lambda key: key.upper(),
        lambda key: key + "0",
        lambda key: key + "\n",
        lambda key: key.replace("dk_", "dk_0", 1)[:-1],
        lambda key: "dk_" + "0" * 12 + "_" + key.rpartition("_")[2],
        lambda key: key.rpartition("_")[2],
        lambda key: "é" * 56,
    ],
)
def test_a_wrong_key_is_401_and_says_how_to_get_one(desk: Desk, spoilt: Any) -> None:
    key = spoilt(desk.key())
    answer = desk.get("/v1/calls", key.strip("\n") + "x" if key and key.endswith("\n") else key)
    assert "dialer keys add" in refused(answer, 401, "unauthorized")


@settings(deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(st.text(st.characters(max_codepoint=255, exclude_categories=["Cc"]), max_size=80))
def test_any_authorization_header_is_refused(desk: Desk, shown: str) -> None:
    desk.now += 60
    answer = desk.client.get("/v1/calls", headers={"Authorization": shown})
    refused(answer, 401, "unauthorized")


@pytest.mark.parametrize(
    ("path", "method", "scope"),
    [
        ("/v1/voice/token", "GET", "token"),
        ("/v1/voice/token", "POST", "token"),
        ("/v1/calls", "GET", "calls:read"),
        ("/v1/calls/x", "GET", "calls:read"),
        ("/v1/calls/x/events", "GET", "calls:read"),
        ("/v1/calls/x/hangup", "POST", "calls:write"),
    ],
)
def test_every_route_wants_a_key_with_its_scope(desk: Desk, path: str, method: str, scope: str) -> None:
    assert desk.client.open(path, method=method).status_code == 401
    others = [other for other in SCOPES if other != scope]
    headers = {"Authorization": f"Bearer {desk.key(*others)}"}
    message = refused(desk.client.open(path, method=method, headers=headers), 403, "scope")
    assert message == f"this key lacks the scope {scope}"
    headers = {"Authorization": f"Bearer {desk.key(scope, agent=AGENT)}"}
    assert desk.client.open(path, method=method, headers=headers).status_code in (200, 404)


def test_a_key_ends_with_its_time(desk: Desk) -> None:
    key = desk.key(ttl=60)
    desk.now += 59
    assert desk.get("/v1/calls", key).status_code == 200
    desk.now += 1
    refused(desk.get("/v1/calls", key), 401, "unauthorized")


def test_a_revoked_key_is_none(desk: Desk) -> None:
    key, other = desk.key(), desk.key()
    assert desk.run("revoke_key", key_id=key.split("_")[1], now=desk.now) == 1
    assert desk.run("revoke_key", key_id=key.split("_")[1], now=desk.now) == 0
    refused(desk.get("/v1/calls", key), 401, "unauthorized")
    assert desk.get("/v1/calls", other).status_code == 200


def test_a_disabled_agents_key_is_none_and_the_workspaces_key_gets_no_token_for_him(desk: Desk) -> None:
    own, workspace = desk.key(agent=AGENT), desk.key()
    desk.run("disable_agent", identity=AGENT, now=desk.now)
    refused(desk.get("/v1/calls", own), 401, "unauthorized")
    refused(desk.get(f"/v1/voice/token?identity={AGENT}", workspace), 403, "unknown-agent")
    assert desk.get("/v1/voice/token?identity=ws_demo_agent_1", workspace).status_code == 200


def test_a_disabled_workspaces_keys_are_none(desk: Desk) -> None:
    keys = [desk.key(agent=AGENT), desk.key()]
    desk.run("disable_workspace", workspace="ws_demo", now=desk.now)
    for key in keys:
        refused(desk.get("/v1/calls", key), 401, "unauthorized")


@pytest.mark.parametrize(
    ("path", "allowed"),
    [(f"/v1/voice/token?identity={AGENT}", TOKENS_A_MINUTE), ("/v1/calls", REQUESTS_A_MINUTE)],
)
def test_a_key_is_good_for_so_many_requests_a_minute(desk: Desk, path: str, allowed: int) -> None:
    key, other = desk.key(), desk.key()
    desk.now = desk.now // 60 * 60 + 15
    assert {desk.get(path, key).status_code for _ in range(allowed)} == {200}
    answer = desk.get(path, key)
    assert f"over {allowed} requests a minute" in refused(answer, 429, "rate-limit")
    assert answer.headers["Retry-After"] == "45"
    assert desk.get(path, other).status_code == 200
    desk.now += 45
    assert desk.get(path, key).status_code == 200


def test_wrong_keys_are_limited_by_address_and_right_ones_are_not_shut_out(desk: Desk) -> None:
    answers = [desk.get("/v1/calls", "dk_wrong").status_code for _ in range(WRONG_KEYS_A_MINUTE + 1)]
    assert answers == [401] * WRONG_KEYS_A_MINUTE + [429]
    assert desk.get("/v1/calls", desk.key()).status_code == 200
    assert desk.get("/v1/calls", "dk_wrong", address="10.0.0.2").status_code == 401


def writes_of(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """The writing statements that follow, as they come."""
    seen: list[str] = []
    one, run = SqliteTx.one, SqliteTx.run

    def read(self: SqliteTx, statement: str, /, **values: Any) -> Any:
        seen.extend([statement] if statement == "count_use" else [])
        return one(self, statement, **values)

    def write(self: SqliteTx, statement: str, /, **values: Any) -> int:
        seen.append(statement)
        return run(self, statement, **values)

    monkeypatch.setattr(SqliteTx, "one", read)
    monkeypatch.setattr(SqliteTx, "run", write)
    return seen


def test_over_the_limit_nothing_is_written(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    for _ in range(WRONG_KEYS_A_MINUTE):
        refused(desk.get("/v1/calls", "dk_wrong"), 401, "unauthorized")
    monkeypatch.setattr(desk.store, "write", None)
    for _ in range(3):
        refused(desk.get("/v1/calls", "dk_wrong"), 429, "rate-limit")


def test_a_use_is_one_write_and_old_counts_go_with_the_first(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    key, seen = desk.key(), writes_of(desk, monkeypatch)
    for _ in range(3):
        desk.get("/v1/calls", key)
    assert seen == ["count_use", "forget_use", "count_use", "count_use"]


def test_two_requests_at_once_do_not_get_over_the_limit(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    key, window = desk.key(), int(desk.now // 60)
    key_id = key.split("_")[1]
    for _ in range(REQUESTS_A_MINUTE):
        with desk.store.write() as tx:
            tx.one("count_use", key=f"calls:read:{key_id}", window=window)
    uses = "SELECT count FROM usage WHERE key = :key AND window = :window AND count < 0"  # not yet, says the look
    monkeypatch.setitem(STATEMENTS, "uses", uses)
    refused(desk.get("/v1/calls", key), 429, "rate-limit")


def test_the_counts_of_old_minutes_are_forgotten(desk: Desk) -> None:
    key = desk.key()
    for _ in range(5):
        desk.get("/v1/calls", key)
        desk.now += 60
    assert desk.store.database()["usage"].count <= 2  # type: ignore[attr-defined]


BAD = [
    (lambda tx: add_workspace(tx, "ws-x", "", 1.0), "workspace id 'ws-x' must be"),
    (lambda tx: add_workspace(tx, "", "", 1.0), "must be up to 64"),
    (lambda tx: add_workspace(tx, "w" * 65, "", 1.0), "must be up to 64"),
    (lambda tx: add_workspace(tx, "ws_demo", "", 1.0), "workspace ws_demo exists already"),
    (lambda tx: add_agent(tx, "ws_demo", "a.b", "", "agent", 1.0), "identity 'a.b' must be"),
    (lambda tx: add_agent(tx, "ws_demo", "alice\n", "", "agent", 1.0), "must be up to 121"),
    (lambda tx: add_agent(tx, "ws_demo", "a" * 122, "", "agent", 1.0), "must be up to 121"),
    (lambda tx: add_agent(tx, "ws_demo", AGENT, "", "agent", 1.0), f"agent {AGENT} exists already"),
    (lambda tx: add_agent(tx, "ws_none", "alice", "", "agent", 1.0), "there is no workspace ws_none"),
    (lambda tx: add_key(tx, "ws_none", "", SCOPES, now=1.0), "there is no workspace ws_none"),
    (lambda tx: add_key(tx, "ws_demo", "nobody", SCOPES, now=1.0), "there is no agent nobody in ws_demo"),
    (lambda tx: add_key(tx, "ws_demo", "ws_other_agent_0", SCOPES, now=1.0), "there is no agent ws_other_agent_0 in"),
    (lambda tx: add_key(tx, "ws_demo", "", ["token", "all"], now=1.0), "scope 'all' is not known"),
]


@pytest.mark.parametrize(("work", "message"), BAD)
def test_what_cannot_be_made_is_explained_and_not_stored(make_stage: Any, work: Any, message: str) -> None:
    store = make_stage(workspaces=("ws_demo", "ws_other")).world.dialer.store
    before = store.database().execute("SELECT count(*) FROM keys").fetchone()[0]
    with pytest.raises(DialerError, match=re.escape(message)), store.write() as tx:
        work(tx)
    assert store.database().execute("SELECT count(*) FROM keys").fetchone()[0] == before


def test_identities_are_unique_over_all_workspaces(make_stage: Any) -> None:
    store = make_stage(workspaces=("ws_demo", "ws_other")).world.dialer.store
    with pytest.raises(DialerError, match="exists already"), store.write() as tx:
        add_agent(tx, "ws_other", AGENT, "", "agent", 1.0)
