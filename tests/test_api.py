"""The REST API: browser tokens, calls to read and to end, errors of one shape."""

from __future__ import annotations

import base64
import json
from dataclasses import replace
from typing import Any
from urllib.parse import quote

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse

from dialer.app import create_app
from dialer.auth import SCOPES, add_key
from dialer.simulator.world import START

AGENT = "ws_demo_agent_0"


class Desk:
    """The REST API of a stage, asked with one key."""

    def __init__(self, stage: Any, agent: str = "", store: Any = None) -> None:
        given = stage.world.dialer
        self.stage = stage
        self.account = given.settings.accounts[0]
        app = create_app(given.settings, plugins=given.plugins, store=store or given.store, clock=given.clock)
        self.client = app.test_client()
        with given.store.write() as tx:
            self.key = add_key(tx, "ws_demo", agent, SCOPES, now=given.clock())

    def ask(self, path: str, method: str = "GET", **options: Any) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.key}"}
        answer = self.client.open(f"/v1{path}", method=method, headers=headers, **options)
        assert answer.headers["Cache-Control"] == "no-store"
        return answer

    def json(self, path: str, method: str = "GET", **options: Any) -> Any:
        answer = self.ask(path, method, **options)
        assert answer.status_code == 200, answer.text
        return answer.get_json()

    def refused(self, path: str, method: str = "GET", **options: Any) -> tuple[int, str, str]:
        answer = self.ask(path, method, **options)
        body = answer.get_json()
        assert set(body) == {"error"}
        assert set(body["error"]) == {"code", "message"}
        return answer.status_code, body["error"]["code"], body["error"]["message"]


@pytest.fixture
def desk(stage: Any) -> Desk:
    return Desk(stage)


def parts(token: str) -> tuple[dict[str, Any], dict[str, Any]]:
    head, body, _ = (base64.urlsafe_b64decode(part + "==") for part in token.split("."))
    return json.loads(head), json.loads(body)


@pytest.mark.parametrize("method", ["GET", "POST"])
def test_a_token_says_who_may_call_through_what_and_until_when(desk: Desk, method: str) -> None:
    answer = desk.json(f"/voice/token?identity={AGENT}&ttl=600", method)
    assert (answer["identity"], answer["workspace"]) == (AGENT, "ws_demo")
    assert answer["expiresAt"] == "2026-09-21T14:23:20.000Z"
    assert answer["deviceOptions"]["closeProtection"] is True
    head, claims = parts(answer["token"])
    assert (head["cty"], head["alg"]) == ("twilio-fpa;v=1", "HS256")
    assert (claims["iss"], claims["sub"]) == (desk.account.api_key, desk.account.sid)
    assert (claims["nbf"], claims["exp"]) == (int(START), int(START) + 600)
    assert claims["grants"] == {
        "identity": AGENT,
        "voice": {"incoming": {"allow": True}, "outgoing": {"application_sid": desk.account.app_sid}},
    }


def test_the_identity_may_stand_in_a_form(desk: Desk) -> None:
    assert desk.json("/voice/token", "POST", data={"identity": AGENT, "ttl": "60"})["identity"] == AGENT


def test_a_token_lasts_an_hour_at_most(desk: Desk) -> None:
    _, claims = parts(desk.json(f"/voice/token?identity={AGENT}")["token"])
    assert claims["exp"] - claims["nbf"] == 3600


@pytest.mark.parametrize("ttl", ["3601", "59", "0", "-60", "", "abc", "1e3", "60.5", "٦٠٠", "9" * 50])
def test_a_life_out_of_bounds_is_refused(desk: Desk, ttl: str) -> None:
    refused = desk.refused(f"/voice/token?identity={AGENT}&ttl={ttl}")
    assert refused == (400, "bad-field", "field ttl must be a whole number from 60 to 3600")


def test_a_workspaces_key_must_say_for_whom(desk: Desk) -> None:
    assert desk.refused("/voice/token")[:2] == (400, "missing-field")
    assert desk.refused("/voice/token?identity=")[:2] == (400, "missing-field")
    assert desk.refused("/voice/token?identity=nobody")[:2] == (403, "unknown-agent")


def test_an_agents_key_is_for_himself_only(stage: Any) -> None:
    desk = Desk(stage, AGENT)
    assert desk.json("/voice/token")["identity"] == AGENT
    assert desk.json(f"/voice/token?identity={AGENT}")["identity"] == AGENT
    assert desk.refused("/voice/token?identity=ws_demo_agent_1") == (
        403,
        "foreign-agent",
        "this key is of another agent",
    )


def test_an_account_without_an_api_key_cannot_make_tokens_and_says_so(stage: Any) -> None:
    desk = Desk(stage)
    given = stage.world.dialer
    bare = replace(given.settings, accounts=(replace(desk.account, api_key="", api_secret=None),))
    desk.client = create_app(bare, plugins=given.plugins, store=given.store, clock=given.clock).test_client()
    assert desk.refused(f"/voice/token?identity={AGENT}")[:2] == (503, "configuration")


def test_a_call_is_shown_with_its_legs(desk: Desk) -> None:
    talker = desk.stage.agent_dials("+14155550106")
    desk.stage.ends()
    call = desk.json(f"/calls/{talker.call.id}")
    assert (call["to"], call["from"], call["agent"], call["workspace"]) == (
        "+14155550106",
        "+14155550199",
        AGENT,
        "ws_demo",
    )
    assert (call["status"], call["endedBy"], call["settled"]) == ("completed", "customer", True)
    assert call["requestedAt"] < call["answeredAt"] < call["endedAt"]
    assert [(leg["role"], leg["status"], leg["inConference"]) for leg in call["legs"]] == [
        ("agent", "completed", False),
        ("customer", "completed", False),
    ]


def test_a_running_call_does_not_claim_to_have_ended(desk: Desk) -> None:
    talker = desk.stage.agent_dials("+14155550101")
    desk.stage.lasts(3)
    call = desk.json(f"/calls/{talker.call.id}")
    assert (call["status"], call["endedBy"], call["endedAt"], call["settled"]) == ("in-progress", "", None, False)
    assert [leg["inConference"] for leg in call["legs"]] == [True, True]


def test_events_come_in_order_and_from_where_one_left_off(desk: Desk) -> None:
    talker = desk.stage.agent_dials("+14155550106")
    desk.stage.ends()
    events = desk.json(f"/calls/{talker.call.id}/events")["events"]
    assert [event["name"] for event in events] == talker.events()
    assert events[0]["detail"]["CallSid"] == talker.leg.sid
    later = desk.json(f"/calls/{talker.call.id}/events?after={events[3]['id']}")["events"]
    assert later == events[4:]
    assert desk.json(f"/calls/{talker.call.id}/events?after={events[-1]['id']}")["events"] == []


def test_calls_are_listed_newest_first_page_by_page(desk: Desk) -> None:
    placed = [desk.stage.agent_dials("12345").call.id for _ in range(5)]
    found, before = [], ""
    for _ in range(3):
        page = desk.json(f"/calls?limit=2{before}")
        found += [call["id"] for call in page["calls"]]
        before = f"&before={page['before']}"
    assert found == placed[::-1]
    assert page["before"] is None


@pytest.mark.parametrize(("body", "answer"), [({"ttl": 120}, 200), ({"ttl": 5}, 400), (["ttl"], 400), ("{", 400)])
def test_a_token_is_asked_for_in_json_too(desk: Desk, body: Any, answer: int) -> None:
    data = body if isinstance(body, str) else json.dumps(body)
    wanted = {"data": data, "content_type": "application/json"}
    assert desk.ask("/voice/token?identity=ws_demo_agent_0", "POST", **wanted).status_code == answer


def test_calls_of_one_moment_are_all_listed(desk: Desk) -> None:
    world = desk.stage.world
    for _ in range(3):
        world.dial(world.agents[0], "12345")
    desk.stage.lasts(1)
    with world.dialer.store.write() as tx:
        tx._execute("UPDATE calls SET requested_at = 1.5", {})
    first = desk.json("/calls?limit=2")
    second = desk.json(f"/calls?limit=2&before={first['before']}")
    assert len({call["id"] for call in first["calls"] + second["calls"]}) == 3


def test_calls_are_listed_by_status(desk: Desk) -> None:
    refused = desk.stage.agent_dials("12345").call.id
    talking = desk.stage.agent_dials("+14155550103").call.id
    assert [call["id"] for call in desk.json("/calls?status=rejected")["calls"]] == [refused]
    assert [call["id"] for call in desk.json("/calls?status=ringing")["calls"]] == [talking]
    assert desk.json("/calls?status=nonsense") == {"calls": [], "before": None}


@pytest.mark.parametrize(
    "query", ["limit=0", "limit=101", "limit=x", "limit=", "before=x", "before=nan", "before=inf", "before="]
)
def test_a_bad_page_is_refused(desk: Desk, query: str) -> None:
    status, code, message = desk.refused(f"/calls?{query}")
    assert (status, code) == (400, "bad-field")
    assert query.partition("=")[0] in message


@pytest.mark.parametrize("after", ["-1", "x", "9007199254740993", "1.5"])
def test_a_bad_place_in_the_events_is_refused(desk: Desk, after: str) -> None:
    talker = desk.stage.agent_dials("12345")
    assert desk.refused(f"/calls/{talker.call.id}/events?after={after}")[:2] == (400, "bad-field")


def test_a_hang_up_ends_the_call_for_everybody_and_may_be_repeated(desk: Desk) -> None:
    talker = desk.stage.agent_dials("+14155550101")
    desk.stage.lasts(3)
    for _ in range(2):
        assert desk.json(f"/calls/{talker.call.id}/hangup", "POST")["status"] == "in-progress"
    desk.stage.ends()
    assert (talker.call.status, talker.call.ended_by) == ("completed", "system")
    assert talker.events().count("hang-up-requested") == 1
    assert desk.refused(f"/calls/{talker.call.id}/hangup", "POST") == (409, "ended", "the call has ended: completed")


def test_an_agents_hang_up_while_it_rings_is_his(stage: Any) -> None:
    desk = Desk(stage, AGENT)
    talker = stage.agent_dials("+14155550103")
    desk.json(f"/calls/{talker.call.id}/hangup", "POST")
    stage.ends()
    assert (talker.call.status, talker.call.ended_by) == ("canceled", "agent")


def test_a_hang_up_before_the_dial_dials_nobody(desk: Desk) -> None:
    desk.stage.world.dial(desk.stage.world.agents[0], "+14155550103")
    while not (found := desk.json("/calls")["calls"]):
        desk.stage.lasts(0.02)
    (call,) = found
    assert call["status"] == "requested"
    desk.json(f"/calls/{call['id']}/hangup", "POST")
    desk.stage.ends()
    assert desk.stage.dialled() == []


@pytest.mark.parametrize("path", ["", "/events", "/hangup"])
@pytest.mark.parametrize("name", ["call_0", "x" * 5000, "%00", "é", "call_%27", "..%2f.."])
def test_a_call_that_is_not_there_is_404(desk: Desk, name: str, path: str) -> None:
    method = "POST" if path == "/hangup" else "GET"
    assert desk.refused(f"/calls/{name}{path}", method)[:2] == (404, "not-found")


def test_a_colleagues_call_is_not_there_for_an_agents_key(stage: Any) -> None:
    own, other = stage.agent_dials("+14155550103"), stage.agent_dials("+14155550108", stage.world.agents[1])
    desk = Desk(stage, AGENT)
    assert [call["id"] for call in desk.json("/calls")["calls"]] == [own.call.id]
    for path, method in (("", "GET"), ("/events", "GET"), ("/hangup", "POST")):
        assert desk.refused(f"/calls/{other.call.id}{path}", method)[0] == 404
    assert other.call.end_requested_by == ""


@pytest.mark.parametrize(
    ("path", "method", "status", "code"),
    [
        ("/calls", "POST", 405, "method-not-allowed"),
        ("/calls", "DELETE", 405, "method-not-allowed"),
        ("/nothing", "GET", 404, "not-found"),
        ("/calls/", "GET", 404, "not-found"),
    ],
)
def test_errors_of_the_framework_have_the_same_shape(
    desk: Desk, path: str, method: str, status: int, code: str
) -> None:
    assert desk.refused(path, method)[:2] == (status, code)
    assert (status != 405) or "GET" in desk.ask(path, method).headers["Allow"]


def test_a_fault_of_ours_has_the_same_shape(desk: Desk, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("dialer.api.find_call", lambda *args, **values: 1 / 0)
    assert desk.refused("/calls/x")[:2] == (500, "internal-server-error")


def test_a_store_that_does_not_answer_is_503(stage: Any) -> None:
    desk = Desk(stage)
    stage.world.dialer.store.database().execute("ALTER TABLE keys RENAME TO hidden")
    assert desk.refused("/calls") == (503, "store", "the store is not available, try again")
    stage.world.dialer.store.database().execute("ALTER TABLE hidden RENAME TO keys")
    assert desk.ask("/calls").status_code == 200


PATHS = ["/calls", "/calls/{}", "/calls/{}/events", "/calls/{}/hangup", "/voice/token"]


@settings(
    deadline=None,
    max_examples=200,
    suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow],
)
@given(
    path=st.sampled_from(PATHS),
    name=st.binary(min_size=1, max_size=20),
    query=st.dictionaries(
        st.sampled_from(["limit", "before", "after", "status", "identity", "ttl"]),
        st.text(st.characters(codec="utf-8"), max_size=20),
    ),
    method=st.sampled_from(["GET", "POST", "PUT", "HEAD", "OPTIONS"]),
    body=st.binary(max_size=100),
    kind=st.sampled_from(["application/json", "application/x-www-form-urlencoded", "multipart/form-data", ""]),
)
def test_nothing_asked_with_a_key_fails(desk: Desk, path: str, name: bytes, method: str, **asked: Any) -> None:
    desk.stage.world.network.now += 30
    answer = desk.client.open(
        f"/v1{path.format(quote(name, safe=''))}",
        method=method,
        query_string=asked["query"],
        data=asked["body"],
        content_type=asked["kind"],
        headers={"Authorization": f"Bearer {desk.key}"},
    )
    assert answer.status_code < 500
