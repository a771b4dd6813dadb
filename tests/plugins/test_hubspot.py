"""hubspot: one engagement per call, on the right contact or on none, and what each refusal of HubSpot's leads to."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
import requests
import responses

from dialer import Call, CallEvent, GiveUp, Host, RetryLater, Secret
from dialer.tables import settings_of
from dialer_plugins import crm_records
from dialer_plugins.hubspot import HubSpot
from dialer_plugins.hubspot.engagement import OUTCOMES
from dialer_plugins.hubspot.portal import TIMEOUT

API = "https://api.hubapi.com"
CONTACTS, CALLS = f"{API}/crm/v3/objects/contacts", f"{API}/crm/v3/objects/calls"
NOON = 1_790_078_400.0
NUMBER = "+14155550101"
CALL = Call(
    "call_1", "ws", "alice", NUMBER, "+14155550199", "ws-1", status="completed", requested_at=NOON,
    answered_at=NOON + 5, ended_at=NOON + 65, duration=60,
)  # fmt: skip
STARTED = CallEvent("call-started", NOON, detail={"To": NUMBER, "hubspotId": "501"})
RECORDED = CallEvent(
    "recording-completed", NOON + 70, detail={"RecordingSid": "RE1", "RecordingUrl": "https://api.twilio.com/RE1"}
)


@dataclass
class Known:
    """What Dialer has on record of the call."""

    events: list[CallEvent] = field(default_factory=list)
    added: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    now: float = NOON + 100


class FixedHost(Host):
    def __init__(self, folder: Path, known: Known) -> None:
        super().__init__("hubspot", folder=folder / "hubspot", clock=lambda: known.now)
        self.known = known

    def events(self, call: Call) -> list[CallEvent]:
        return self.known.events

    def add_event(self, call: Call, name: str, detail: Mapping[str, str], key: str = "") -> bool:
        self.known.added.append((name, dict(detail)))
        return True


@pytest.fixture
def api() -> Iterator[responses.RequestsMock]:
    with responses.RequestsMock(assert_all_requests_are_fired=True) as mock:
        yield mock


def make(tmp_path: Path, known: Known | None = None, **wish: Any) -> HubSpot:
    return HubSpot(access_token=Secret("pat-na1-x"), host=FixedHost(tmp_path, known or Known()), **wish)


def record(number: str, **properties: str | None) -> dict[str, Any]:
    """An object as HubSpot answers it (HubSpot docs, CRM objects)."""
    times = {"createdAt": "2026-09-22T12:00:00.000Z", "updatedAt": "2026-09-22T12:00:00.000Z"}
    return {"id": number, "properties": properties, **times, "archived": False}


def error(category: str, message: str, **more: str) -> dict[str, str]:
    """A refusal (HubSpot docs, error handling)."""
    return {"status": "error", "message": message, "correlationId": "aeb5f871", "category": category, **more}


def found(api: responses.RequestsMock, *records: dict[str, Any], url: str = CONTACTS) -> None:
    api.post(f"{url}/search", json={"total": len(records), "results": list(records)})


def created(api: responses.RequestsMock, number: str = "9001") -> None:
    api.post(CALLS, json=record(number, hs_call_title="x"), status=201)


def sent(api: responses.RequestsMock, place: int = -1) -> Any:
    return json.loads(api.calls[place].request.body or "null")


def test_a_call_is_logged_on_the_contact_that_the_browser_named(tmp_path: Path, api: responses.RequestsMock) -> None:
    known = Known([STARTED])
    api.get(f"{CONTACTS}/501", json=record("501", phone="+1 415 555 0101"))
    created(api)
    make(tmp_path, known, owners=("Alice = 77",)).call_ended(CALL)
    assert api.calls[-1].request.headers["Authorization"] == "Bearer pat-na1-x"
    assert sent(api)["associations"] == [
        {"to": {"id": "501"}, "types": [{"associationCategory": "HUBSPOT_DEFINED", "associationTypeId": 194}]}
    ]
    assert sent(api)["properties"] == {
        "hs_timestamp": "2026-09-22T12:00:05.000Z",
        "hs_call_title": "Call to +14155550101",
        "hs_call_body": "Agent: alice<br>Dialer: call_1, completed",
        "hs_call_direction": "OUTBOUND",
        "hs_call_from_number": "+14155550199",
        "hs_call_to_number": "+14155550101",
        "hs_call_status": "COMPLETED",
        "hs_call_duration": "60000",
        "hs_call_disposition": OUTCOMES["connected"],
        "hs_call_external_id": "call_1",
        "hubspot_owner_id": "77",
    }
    assert known.added == [("logged", {"engagement": "9001", "contact": "501", "by": "id"})]


def test_what_the_browser_sent_when_it_called_reaches_hubspot(make_stage: Any, api: responses.RequestsMock) -> None:
    api.get(f"{CONTACTS}/501", json=record("501"))
    created(api)
    stage = make_stage(plugins=[HubSpot(access_token=Secret("pat-na1-x"))])
    agent = stage.agent_dials(NUMBER, hubspotId="501")
    customer = stage.phone()
    customer.answers()
    customer.hangs_up()
    stage.ends()
    assert sent(api)["associations"][0]["to"] == {"id": "501"}
    assert sent(api)["properties"]["hs_call_external_id"] == agent.call.id
    (logged,) = [row for row in agent.rows("events_of_call", after=0) if row["name"].endswith(".logged")]
    assert json.loads(logged["payload"])["engagement"] == "9001"


def test_every_request_has_a_time_out_and_follows_no_redirect(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[dict[str, Any]] = []

    def request(method: str, url: str, **how: Any) -> requests.Response:
        asked.append(how)
        raise requests.ReadTimeout

    monkeypatch.setattr(requests, "request", request)
    with pytest.raises(RetryLater, match="HubSpot did not answer within 15 s"):
        make(tmp_path).call_ended(CALL)
    assert [(how["timeout"], how["allow_redirects"]) for how in asked] == [(TIMEOUT, False)]


def test_without_an_id_the_number_finds_the_contact(tmp_path: Path, api: responses.RequestsMock) -> None:
    known = Known()
    found(api, record("11", phone="(415) 555-0101", mobilephone=None), record("12", phone="+44 415 555 0101"))
    created(api)
    make(tmp_path, known).call_ended(CALL)
    groups = [group["filters"][0] for group in sent(api, 0)["filterGroups"]]
    assert groups[0]["propertyName"] == "phone" and groups[1]["propertyName"] == "mobilephone"
    assert {NUMBER, "4155550101", "(415) 555-0101", "+1 415-555-0101", "14155550101"} <= set(groups[0]["values"])
    assert groups[2] == {
        "propertyName": "hs_searchable_calculated_phone_number", "operator": "EQ", "value": "4155550101",
    }  # fmt: skip
    assert sent(api)["associations"][0]["to"] == {"id": "11"}
    assert known.added[0][1]["by"] == "number"


def test_two_contacts_with_the_number_are_shown_and_neither_is_taken(
    tmp_path: Path, api: responses.RequestsMock
) -> None:
    known = Known()
    found(api, record("11", phone=NUMBER), record("12", mobilephone="415-555-0101"))
    created(api)
    make(tmp_path, known).call_ended(CALL)
    assert sent(api)["associations"] == []
    assert known.added[0] == ("ambiguous", {"number": NUMBER, "contacts": "11, 12", "count": "2"})


def test_a_call_without_a_contact_may_be_left_out(tmp_path: Path, api: responses.RequestsMock) -> None:
    known = Known()
    found(api)
    make(tmp_path, known, without_contact="skip").call_ended(CALL)
    assert known.added == [("no-contact", {"number": NUMBER})]
    assert len(api.calls) == 1


def test_an_id_that_is_nobodys_is_told_and_the_number_decides(tmp_path: Path, api: responses.RequestsMock) -> None:
    known = Known([STARTED])
    api.get(f"{CONTACTS}/501", status=404, json=error("OBJECT_NOT_FOUND", "resource not found"))
    found(api, record("11", phone=NUMBER))
    created(api)
    make(tmp_path, known).call_ended(CALL)
    assert known.added[0][0] == "unknown-contact"
    assert sent(api)["associations"][0]["to"] == {"id": "11"}


def test_what_the_browser_sends_gets_into_no_path(tmp_path: Path, api: responses.RequestsMock) -> None:
    known = Known([replace(STARTED, detail={"hubspotId": "../owners/1"})])
    found(api)
    created(api)
    make(tmp_path, known).call_ended(CALL)
    assert [call.request.url for call in api.calls] == [f"{CONTACTS}/search", CALLS]


def test_a_repeated_delivery_updates_the_same_engagement(tmp_path: Path, api: responses.RequestsMock) -> None:
    plugin = make(tmp_path)
    found(api)
    created(api)
    api.patch(f"{CALLS}/9001", json=record("9001"))
    plugin.call_ended(CALL)
    plugin.call_ended(replace(CALL, duration=61))
    assert sent(api)["properties"]["hs_call_duration"] == "61000"
    assert [call.request.method for call in api.calls] == ["POST", "POST", "PATCH"]


def test_an_engagement_that_was_made_unnoticed_is_found_and_not_made_again(
    tmp_path: Path, api: responses.RequestsMock
) -> None:
    plugin = make(tmp_path)
    found(api)
    api.post(CALLS, body=requests.ReadTimeout())
    with pytest.raises(RetryLater):
        plugin.call_ended(CALL)
    found(api, record("9001"), url=CALLS)
    api.patch(f"{CALLS}/9001", json=record("9001"))
    plugin.call_ended(CALL)
    one = sent(api, 2)["filterGroups"][0]["filters"][0]
    assert one == {"propertyName": "hs_call_external_id", "operator": "EQ", "value": "call_1"}
    assert api.calls[-1].request.method == "PATCH"


def test_a_process_that_died_in_between_is_waited_for_and_then_replaced(
    tmp_path: Path, api: responses.RequestsMock
) -> None:
    known = Known()
    plugin = make(tmp_path, known)
    crm_records.begin(plugin.host, CALL)
    with pytest.raises(RetryLater, match="another event of this call") as caught:
        plugin.call_ended(CALL)
    assert caught.value.seconds == crm_records.LEASE
    known.now += crm_records.LEASE
    found(api, url=CALLS)
    found(api)
    created(api)
    plugin.call_ended(CALL)


def test_the_same_call_id_of_another_workspace_is_another_call(tmp_path: Path, api: responses.RequestsMock) -> None:
    plugin = make(tmp_path)
    found(api)
    created(api)
    plugin.call_ended(CALL)
    plugin.call_ended(replace(CALL, workspace="other"))
    assert [call.request.url for call in api.calls][2:] == [f"{CONTACTS}/search", CALLS]


def test_a_recording_that_comes_late_is_added(tmp_path: Path, api: responses.RequestsMock) -> None:
    known = Known()
    plugin = make(tmp_path, known, recording_url="https://calls.example.com/r/{call}/{recording}?u={url}")
    found(api)
    created(api)
    api.patch(f"{CALLS}/9001", json=record("9001"))
    plugin.call_ended(CALL)
    assert "hs_call_recording_url" not in sent(api)["properties"]
    known.events.append(RECORDED)
    plugin.recording_ready(CALL, RECORDED)
    link = "https://calls.example.com/r/call_1/RE1?u=https://api.twilio.com/RE1"
    assert sent(api)["properties"]["hs_call_recording_url"] == link


def test_a_disposition_is_written_down_with_its_notes(tmp_path: Path, api: responses.RequestsMock) -> None:
    known = Known()
    own = "0bf1994a-ba83-456b-9394-0ee1f3fc35fb"
    plugin = make(tmp_path, known, dispositions=(f"Call back = {own}",))
    found(api)
    created(api)
    api.patch(f"{CALLS}/9001", json=record("9001"))
    plugin.call_ended(CALL)
    chosen = CallEvent("disposition", NOON + 90, detail={"disposition": "call back", "notes": "after <b> lunch"})
    known.events.append(chosen)
    plugin.call_status(CALL, chosen)
    plugin.call_status(CALL, replace(chosen, name="completed"))
    assert sent(api)["properties"]["hs_call_disposition"] == own
    assert sent(api)["properties"]["hs_call_body"].startswith("after &lt;b&gt; lunch<br>Outcome: call back<br>")
    assert len(api.calls) == 3


@pytest.mark.parametrize(
    ("status", "said", "outcome"),
    [("busy", "BUSY", "busy"), ("no-answer", "NO_ANSWER", "no answer"), ("failed", "FAILED", None),
     ("canceled", "CANCELED", None)],
)  # fmt: skip
def test_calls_that_nobody_answered(
    tmp_path: Path, api: responses.RequestsMock, status: str, said: str, outcome: str | None
) -> None:
    found(api)
    created(api)
    make(tmp_path).call_ended(replace(CALL, status=status, duration=None, answered_at=None))
    properties = sent(api)["properties"]
    assert (properties["hs_call_status"], properties["hs_call_duration"]) == (said, "0")
    assert properties.get("hs_call_disposition") == (OUTCOMES[outcome] if outcome else None)


def test_a_machine_is_no_connection(tmp_path: Path, api: responses.RequestsMock) -> None:
    heard = CallEvent("machine-detection", NOON + 6, status="machine_start")
    found(api)
    created(api)
    make(tmp_path, Known([heard])).call_ended(CALL)
    assert "hs_call_disposition" not in sent(api)["properties"]


def test_refused_calls_are_logged_where_that_is_wanted(tmp_path: Path, api: responses.RequestsMock) -> None:
    refused = replace(CALL, status="rejected", reason="Not on Sundays.")
    make(tmp_path / "a").call_ended(refused)
    assert len(api.calls) == 0
    found(api)
    created(api)
    make(tmp_path / "b", rejected=True).call_ended(refused)
    assert "Not on Sundays." in sent(api)["properties"]["hs_call_body"]


def test_an_engagement_that_somebody_deleted_stays_deleted(tmp_path: Path, api: responses.RequestsMock) -> None:
    known = Known()
    plugin = make(tmp_path, known)
    found(api)
    created(api)
    api.patch(f"{CALLS}/9001", status=404, json=error("OBJECT_NOT_FOUND", "Object not found"))
    plugin.call_ended(CALL)
    plugin.call_ended(CALL)
    plugin.call_ended(CALL)
    assert known.added[-1][0] == "deleted"
    assert len(api.calls) == 3


def test_a_wrong_token_is_dead_at_once_and_says_what_to_do(tmp_path: Path, api: responses.RequestsMock) -> None:
    said = "Authentication credentials not found."
    api.post(f"{CONTACTS}/search", status=401, json=error("INVALID_AUTHENTICATION", said))
    with pytest.raises(GiveUp, match=r"access_token, then: dialer deliveries replay --plugin hubspot") as caught:
        make(tmp_path).call_ended(CALL)
    assert "pat-na1-x" not in str(caught.value)


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (403, error("MISSING_SCOPES", "This app hasn't been granted all required scopes"), "the scopes of the README"),
        (400, error("VALIDATION_ERROR", "Property values were not valid"), r"refuses it \(400\): Property values"),
        (302, {}, r"refuses it \(302\)"),
    ],
)
def test_what_no_repetition_mends_is_given_up(
    tmp_path: Path, api: responses.RequestsMock, status: int, body: dict[str, str], reason: str
) -> None:
    found(api)
    api.post(CALLS, status=status, json=body)
    with pytest.raises(GiveUp, match=reason):
        make(tmp_path).call_ended(CALL)


DAILY = error("RATE_LIMITS", "You have reached your daily limit.", errorType="RATE_LIMIT", policyName="DAILY")
SECONDLY = error("RATE_LIMITS", "You have reached your secondly limit.", policyName="SECONDLY")


@pytest.mark.parametrize(
    ("status", "headers", "body", "seconds"),
    [
        (429, {"Retry-After": "7"}, SECONDLY, 7),
        (429, {}, SECONDLY, 10),
        (429, {}, DAILY, 3600),
        (429, {"Retry-After": "Tue, 22 Sep 2026 12:02:40 GMT"}, SECONDLY, 60),
        (409, {}, error("CONFLICT", "edited at the same time"), 0),
        (423, {}, error("LOCKED", "locked"), 0),
        (477, {"Retry-After": "5000"}, error("MIGRATION", "in progress"), 5000),
        (500, {}, error("INTERNAL_ERROR", "internal error"), 0),
        (502, {}, None, 0),
        (503, {"Retry-After": "30"}, None, 30),
        (504, {}, None, 0),
    ],
)
def test_what_passes_is_tried_again_and_not_before_hubspot_wants_it(
    tmp_path: Path,
    api: responses.RequestsMock,
    status: int,
    headers: dict[str, str],
    body: dict[str, str] | None,
    seconds: float,
) -> None:
    found(api)
    text = "<html>Bad gateway</html>" if body is None else json.dumps(body)
    api.post(CALLS, status=status, headers=headers, body=text)
    with pytest.raises(RetryLater) as caught:
        make(tmp_path).call_ended(CALL)
    assert caught.value.seconds == seconds


def test_a_network_that_is_down_is_tried_again(tmp_path: Path, api: responses.RequestsMock) -> None:
    api.post(f"{CONTACTS}/search", body=requests.ConnectionError("no route"))
    with pytest.raises(RetryLater, match="HubSpot cannot be reached: ConnectionError"):
        make(tmp_path).call_ended(CALL)


@pytest.mark.parametrize(
    ("wish", "fault"),
    [
        ({"owners": ("alice",)}, "owners 'alice' must be"),
        ({"owners": ("alice = bob",)}, "owners 'alice' needs the number of an owner, not 'bob'"),
        ({"dispositions": ("later = 5",)}, "dispositions 'later' needs an id such as"),
        ({"recording_url": "http://x"}, "recording_url must be"),
        ({"recording_url": "https://x/{sid}"}, "recording_url must be"),
        ({"contact_param": "a b"}, "contact_param must be letters"),
    ],
)
def test_settings_are_checked_at_the_start(wish: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        HubSpot(access_token=Secret("x"), **wish)


def test_the_readme_lists_every_setting() -> None:
    text = (Path(__file__).parents[2] / "plugins/hubspot/README.md").read_text()
    for name in settings_of(HubSpot):
        assert f"| `{name}` |" in text
