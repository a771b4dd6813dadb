"""Tenants: every endpoint and every route, asked by one workspace about another's, shows and changes nothing."""

from __future__ import annotations

from dataclasses import replace
from typing import Any
from urllib.parse import urlencode

import pytest
from flask.testing import FlaskClient
from werkzeug.test import TestResponse

from dialer.app import create_app
from dialer.auth import SCOPES, add_key
from dialer.calls import Call
from dialer.records import find_call
from dialer.service import Service
from dialer.settings import Account
from dialer.signature import signature_of
from dialer.simulator.world import PUBLIC_URL, World
from dialer.store.statements import STATEMENTS
from dialer.tables import Secret

THEIRS = Account(sid="AC" + "9" * 32, tokens=(Secret("theirs"),), workspace="ws_theirs")
OURS, OTHER = "CA" + "a" * 32, "CA" + "b" * 32
FORM = "application/x-www-form-urlencoded"


class Tenants:
    """Two workspaces with a Twilio account each; `ws_ours` has a call that is ringing."""

    def __init__(self, world: World) -> None:
        given = world.dialer
        self.mine = replace(given.settings.accounts[0], workspace="ws_ours")
        both = replace(given.settings, accounts=(self.mine, THEIRS))
        app = create_app(both, plugins=given.plugins, store=given.store, clock=given.clock)
        self.world, self.client = world, app.test_client()
        self.dialer: Service = app.extensions["dialer"]
        self.post(self.mine, "/v1/voice/twiml", Caller="client:ws_ours_agent_0", To="+14155550103")
        joined = {"StatusCallbackEvent": "participant-join", "ParticipantLabel": "agent", "ConferenceSid": "CF1"}
        self.post(self.mine, "/v1/voice/conference-status", FriendlyName=self.call.conference, **joined)
        self.post(self.mine, f"/v1/voice/status?intent={self.call.intent}", CallSid=OTHER, CallStatus="ringing")

    client: FlaskClient

    @property
    def call(self) -> Call:
        with self.dialer.store.read() as tx:
            found = find_call(tx, "call_of_leg", call_sid=OURS, account_sid=self.mine.sid)
        assert found
        return found

    def post(self, account: Account, path: str, **fields: str) -> TestResponse:
        form = {"AccountSid": account.sid, "CallSid": OURS, **fields}
        signature = signature_of(PUBLIC_URL + path, list(form.items()), account.tokens[0].reveal())
        return self.client.post(
            path, data=urlencode(form), content_type=FORM, headers={"X-Twilio-Signature": signature}
        )

    def key(self, workspace: str, agent: str = "") -> str:
        with self.dialer.store.write() as tx:
            return add_key(tx, workspace, agent, SCOPES, now=self.dialer.clock())

    def ours(self) -> dict[str, list[Any]]:
        """All rows that belong to our workspace or our call."""
        database = self.dialer.store.database()  # type: ignore[attr-defined]
        tables = ["calls", "legs", "dial_intents", "events", "jobs", "verdicts", "agents", "numbers"]
        return {
            name: database.execute(f"SELECT * FROM {name} WHERE workspace = 'ws_ours'").fetchall() for name in tables
        }


@pytest.fixture
def tenants(make_stage: Any) -> Tenants:
    return Tenants(make_stage(workspaces=("ws_ours", "ws_theirs")).world)


WEBHOOKS: list[tuple[str, dict[str, str], int]] = [
    ("/v1/voice/twiml", {"Caller": "client:ws_ours_agent_0", "To": "+14155550101"}, 200),
    ("/v1/voice/twiml", {"Caller": "client:ws_theirs_agent_0", "To": "+14155550101", "workspaceId": "ws_ours"}, 200),
    ("/v1/voice/status", {"CallStatus": "completed"}, 404),
    ("/v1/voice/status", {"CallSid": OTHER, "CallStatus": "completed"}, 404),
    ("/v1/voice/status?intent={intent}", {"CallSid": OTHER, "CallStatus": "completed"}, 404),
    ("/v1/voice/status?intent={intent}", {"CallSid": "CA" + "f" * 32, "CallStatus": "ringing"}, 404),
    ("/v1/voice/conference-join?intent={intent}&conference={conference}", {"CallSid": OTHER}, 200),
    ("/v1/voice/fallback?intent={intent}", {"ErrorCode": "11200"}, 200),
] + [
    (
        "/v1/voice/conference-status",
        {"StatusCallbackEvent": name, "ConferenceSid": "CF1", "FriendlyName": "{conference}", "SequenceNumber": "9"},
        404,
    )
    for name in ("participant-join", "participant-leave", "conference-end")
]


@pytest.mark.parametrize(("path", "fields", "status"), WEBHOOKS)
def test_another_tenants_signed_webhook_changes_nothing_of_ours(
    tenants: Tenants, path: str, fields: dict[str, str], status: int
) -> None:
    before, call = tenants.ours(), tenants.call
    names = {"intent": call.intent, "conference": call.conference}
    answer = tenants.post(THEIRS, path.format(**names), **{key: value.format(**names) for key, value in fields.items()})
    assert answer.status_code == status
    assert "<Conference" not in answer.text
    assert tenants.ours() == before


def test_another_tenant_cannot_sign_with_its_token_for_our_account(tenants: Tenants) -> None:
    before = tenants.ours()
    forged = replace(THEIRS, sid=tenants.mine.sid)
    for path, fields, _ in WEBHOOKS:
        assert tenants.post(forged, path, **fields).status_code == 403
    assert tenants.ours() == before


def test_an_agent_of_ours_cannot_call_through_their_account(tenants: Tenants) -> None:
    fields = {"CallSid": "CA" + "f" * 32, "Caller": "client:ws_ours_agent_0", "To": "+14155550101"}
    answer = tenants.post(THEIRS, "/v1/voice/twiml", **fields)
    assert "Your account cannot make calls here." in answer.text
    database = tenants.dialer.store.database()  # type: ignore[attr-defined]
    (row,) = database["calls"].rows_where("rule = 'foreign-account'")
    assert (row["workspace"], row["account_sid"], row["status"]) == ("", THEIRS.sid, "rejected")


ROUTES = [
    ("GET", "/v1/calls/{id}"),
    ("GET", "/v1/calls/{id}/events"),
    ("POST", "/v1/calls/{id}/hangup"),
]


@pytest.mark.parametrize("agent", ["", "ws_theirs_agent_0"])
@pytest.mark.parametrize(("method", "path"), ROUTES)
def test_our_call_is_not_there_for_their_key(tenants: Tenants, method: str, path: str, agent: str) -> None:
    before = tenants.ours()
    headers = {"Authorization": f"Bearer {tenants.key('ws_theirs', agent)}"}
    url = path.format(id=tenants.call.id)
    answer = tenants.client.open(url, method=method, headers=headers)
    unknown = tenants.client.open(path.format(id="call_0"), method=method, headers=headers)
    assert (answer.status_code, unknown.status_code) == (404, 404)
    assert answer.text.replace(tenants.call.id, "call_0") == unknown.text
    assert tenants.ours() == before


def test_our_calls_are_not_on_their_list(tenants: Tenants) -> None:
    headers = {"Authorization": f"Bearer {tenants.key('ws_theirs')}"}
    assert tenants.client.get("/v1/calls", headers=headers).get_json() == {"calls": [], "before": None}
    assert tenants.client.get("/v1/calls?workspace=ws_ours", headers=headers).get_json()["calls"] == []
    own = {"Authorization": f"Bearer {tenants.key('ws_ours')}"}
    assert [call["id"] for call in tenants.client.get("/v1/calls", headers=own).get_json()["calls"]] == [
        tenants.call.id
    ]


@pytest.mark.parametrize("query", ["identity=ws_ours_agent_0", "identity=ws_ours_agent_0&workspace=ws_ours"])
def test_their_key_gets_no_token_for_our_agent(tenants: Tenants, query: str) -> None:
    headers = {"Authorization": f"Bearer {tenants.key('ws_theirs')}"}
    answer = tenants.client.get(f"/v1/voice/token?{query}", headers=headers)
    assert (answer.status_code, answer.get_json()["error"]["code"]) == (403, "unknown-agent")


READING = [name for name, sql in STATEMENTS.items() if sql.startswith("SELECT") and ":workspace" in sql]


@pytest.mark.parametrize("name", [name for name in READING if "call_id" in STATEMENTS[name]])
def test_no_statement_finds_our_rows_for_their_workspace(tenants: Tenants, name: str) -> None:
    call = tenants.call
    values = {"call_id": call.id, "workspace": "ws_theirs", "after": 0, "intent": call.intent, "event_id": 1}
    values["source"] = "webhook"
    if name == "strangers_of_call":
        return  # counts rows of others on purpose
    with tenants.dialer.store.read() as tx:
        found = tx.all(name, **values)
    assert [row for row in found if row["count"]] == [] if name.startswith("count_") else found == []


def test_jobs_of_one_tenant_run_through_its_own_account(tenants: Tenants) -> None:
    from random import Random

    from dialer.jobs import Worker

    asked: list[str] = []

    class Recorder:
        def prepare(self) -> None: ...

        def dial(self, *_: object) -> str:
            raise AssertionError("a leg is there already")

        def leg(self, call_sid: str) -> None: ...

    def carriers(sid: str) -> Any:
        asked.append(sid)
        return Recorder()

    tenants.world.network.now += 60
    worker = Worker(tenants.dialer, carriers, Random(1))
    worker.sweep()
    for job in worker.claim("", limit=10):
        worker.run(job)
    assert set(asked) == {tenants.mine.sid}
