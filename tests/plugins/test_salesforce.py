"""salesforce: one Task per call, on the right record or on none, and what each refusal of Salesforce's leads to."""

import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

import pytest
import requests
import responses
from hypothesis import given
from hypothesis import strategies as st

from dialer import Call, CallEvent, GiveUp, Host, RetryLater, Secret
from dialer.tables import settings_of
from dialer_plugins.salesforce import Salesforce
from dialer_plugins.salesforce.org import LOCKED_OUT, TIMEOUT, escape_sosl

HOME = "https://acme.my.salesforce.com"
TOKEN, DATA = f"{HOME}/services/oauth2/token", f"{HOME}/services/data/v59.0"
SEARCH, QUERY, TASKS = f"{DATA}/search/", f"{DATA}/query/", f"{DATA}/sobjects/Task/"
CONTACT, LEAD, ACCOUNT, TASK = "003000000000001AAA", "00Q000000000001AAA", "001000000000001AAA", "00T000000000001AAA"
NOON = 1_790_078_400.0
NUMBER = "+14155550101"
CALL = Call(
    "call_1", "ws", "alice", NUMBER, "+14155550199", "ws-1", status="completed", requested_at=NOON,
    answered_at=NOON + 5, ended_at=NOON + 65, duration=60,
)  # fmt: skip
STARTED = CallEvent("call-started", NOON, detail={"To": NUMBER, "salesforceId": CONTACT})


@dataclass
class Known:
    """What Dialer has on record of the call."""

    events: list[CallEvent] = field(default_factory=list)
    added: list[tuple[str, dict[str, str]]] = field(default_factory=list)
    now: float = NOON + 100


class FixedHost(Host):
    def __init__(self, folder: Path, known: Known) -> None:
        super().__init__("salesforce", folder=folder / "salesforce", clock=lambda: known.now)
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


def make(tmp_path: Path, known: Known | None = None, **wish: Any) -> Salesforce:
    login = {"domain": "acme.my", "consumer_key": "3MVG9", "consumer_secret": Secret("s3cret")}
    return Salesforce(**{**login, **wish}, host=FixedHost(tmp_path, known or Known()))


def signs_in(api: responses.RequestsMock, token: str = "00D!x") -> None:
    api.post(TOKEN, json={"access_token": token, "instance_url": HOME, "token_type": "Bearer"})


def has_no_task(api: responses.RequestsMock) -> None:
    api.get(QUERY, json={"totalSize": 0, "done": True, "records": []})


def finds(api: responses.RequestsMock, *records: tuple[str, str, dict[str, str | None]]) -> None:
    found = [{"attributes": {"type": kind, "url": "x"}, "Id": one, **phones} for kind, one, phones in records]
    api.get(SEARCH, json={"searchRecords": found})


def makes_task(api: responses.RequestsMock) -> None:
    api.post(TASKS, json={"id": TASK, "success": True, "errors": []}, status=201)


def refusal(code: str, message: str) -> list[dict[str, str]]:
    """An error (Salesforce docs, REST API, status codes and error responses)."""
    return [{"errorCode": code, "message": message}]


def sent(api: responses.RequestsMock, place: int = -1) -> Any:
    return json.loads(api.calls[place].request.body or "null")


def asked(api: responses.RequestsMock, url: str) -> list[str]:
    """The queries of requests to this URL."""
    urls = [urlsplit(str(call.request.url)) for call in api.calls]
    return [parse_qs(one.query)["q"][0] for one in urls if f"{one.scheme}://{one.netloc}{one.path}" == url]


def test_a_call_is_a_task_on_the_record_that_the_browser_named(tmp_path: Path, api: responses.RequestsMock) -> None:
    known = Known([STARTED])
    signs_in(api)
    has_no_task(api)
    makes_task(api)
    make(tmp_path, known, owners=("alice = 005000000000001",)).call_ended(CALL)
    assert sent(api) == {
        "Subject": "Call to +14155550101",
        "Status": "Completed",
        "TaskSubtype": "Call",
        "CallType": "Outbound",
        "CallDurationInSeconds": 60,
        "CallDisposition": "Answered",
        "ActivityDate": "2026-09-22",
        "OwnerId": "005000000000001",
        "CallObject": "call_1",
        "WhoId": CONTACT,
    }
    assert api.calls[-1].request.headers["Authorization"] == "Bearer 00D!x"
    assert known.added == [("logged", {"task": TASK, "WhoId": CONTACT, "by": "id"})]


def test_what_the_browser_sent_when_it_called_reaches_salesforce(
    make_stage: Any, api: responses.RequestsMock
) -> None:
    signs_in(api)
    has_no_task(api)
    makes_task(api)
    login = {"domain": "acme.my", "consumer_key": "3MVG9", "consumer_secret": Secret("s3cret")}
    stage = make_stage(plugins=[Salesforce(**login)])
    agent = stage.agent_dials(NUMBER, salesforceId=LEAD)
    customer = stage.phone()
    customer.answers()
    customer.hangs_up()
    stage.ends()
    assert (sent(api)["WhoId"], sent(api)["CallObject"]) == (LEAD, agent.call.id)


@pytest.mark.parametrize(("record", "links"), [(LEAD, "WhoId"), (ACCOUNT, "WhatId"), ("006000000000001", "WhatId")])
def test_people_stand_in_who_and_things_in_what(
    tmp_path: Path, api: responses.RequestsMock, record: str, links: str
) -> None:
    signs_in(api)
    has_no_task(api)
    makes_task(api)
    make(tmp_path, Known([replace(STARTED, detail={"salesforceId": record})])).call_ended(CALL)
    assert sent(api)[links] == record


def test_every_request_has_a_time_out_the_sign_in_too(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    seen: list[Any] = []

    def send(self: requests.adapters.HTTPAdapter, request: Any, **how: Any) -> requests.Response:
        seen.append(how["timeout"])
        raise requests.ReadTimeout

    monkeypatch.setattr(requests.adapters.HTTPAdapter, "send", send)
    with pytest.raises(RetryLater, match="Salesforce did not answer within 15 s"):
        make(tmp_path).call_ended(CALL)
    assert seen == [TIMEOUT]


def test_a_user_signs_in_with_password_and_token(tmp_path: Path, api: responses.RequestsMock) -> None:
    answer = f"<r><sessionId>00D!soap</sessionId><serverUrl>{HOME}/services/Soap/u/59.0/00D</serverUrl></r>"
    api.post("https://login.salesforce.com/services/Soap/u/59.0", body=answer)
    has_no_task(api)
    finds(api)
    makes_task(api)
    by_user: dict[str, Any] = {"username": "a@b.example", "password": Secret("p&w"), "security_token": Secret("tok")}
    make(tmp_path, domain="login", consumer_key="", consumer_secret=None, **by_user).call_ended(CALL)
    assert "<n1:password>p&amp;wtok</n1:password>" in str(api.calls[0].request.body)
    assert api.calls[-1].request.headers["Authorization"] == "Bearer 00D!soap"


def test_without_an_id_the_number_finds_the_record(tmp_path: Path, api: responses.RequestsMock) -> None:
    known = Known()
    signs_in(api)
    has_no_task(api)
    other = ("Contact", "003000000000002AAA", {"Phone": "(415) 555-0102", "MobilePhone": None})
    finds(api, ("Account", ACCOUNT, {"Phone": NUMBER}), ("Lead", LEAD, {"MobilePhone": "415.555.0101"}), other)
    makes_task(api)
    make(tmp_path, known).call_ended(CALL)
    assert sent(api)["WhoId"] == LEAD
    (search,) = asked(api, SEARCH)
    assert search.startswith('FIND {"\\+14155550101" OR "14155550101" OR "4155550101" OR "\\(415\\) 555\\-0101" OR ')
    assert "Lead(Id, Phone, MobilePhone WHERE IsConverted = false" in search


def test_an_account_with_the_number_is_taken_when_no_person_has_it(tmp_path: Path, api: responses.RequestsMock) -> None:
    signs_in(api)
    has_no_task(api)
    finds(api, ("Account", ACCOUNT, {"Phone": "415 555 0101"}))
    makes_task(api)
    make(tmp_path).call_ended(CALL)
    assert sent(api)["WhatId"] == ACCOUNT and "WhoId" not in sent(api)


def test_two_people_with_the_number_are_shown_and_neither_is_taken(tmp_path: Path, api: responses.RequestsMock) -> None:
    known = Known()
    signs_in(api)
    has_no_task(api)
    finds(api, ("Contact", CONTACT, {"HomePhone": NUMBER}), ("Lead", LEAD, {"Phone": NUMBER}))
    makes_task(api)
    make(tmp_path, known).call_ended(CALL)
    assert not {"WhoId", "WhatId"} & set(sent(api))
    assert known.added[0] == ("ambiguous", {"number": NUMBER, "records": f"{CONTACT}, {LEAD}", "count": "2"})


def test_a_call_without_a_record_may_be_left_out(tmp_path: Path, api: responses.RequestsMock) -> None:
    known = Known()
    signs_in(api)
    has_no_task(api)
    api.get(SEARCH, json={"searchRecords": []})
    make(tmp_path, known, without_record="skip").call_ended(CALL)
    assert known.added == [("no-record", {"number": NUMBER})]


@pytest.mark.parametrize("code", ["MALFORMED_ID", "INVALID_CROSS_REFERENCE_KEY", "ENTITY_IS_DELETED"])
def test_an_id_that_is_nobodys_is_told_and_the_number_decides(
    tmp_path: Path, api: responses.RequestsMock, code: str
) -> None:
    known = Known([STARTED])
    signs_in(api)
    has_no_task(api)
    api.post(TASKS, status=400, json=refusal(code, "Name ID: id value of incorrect type"))
    finds(api, ("Lead", LEAD, {"Phone": NUMBER}))
    makes_task(api)
    make(tmp_path, known).call_ended(CALL)
    assert sent(api)["WhoId"] == LEAD
    assert [name for name, _ in known.added] == ["unknown-record", "logged"]


@pytest.mark.parametrize("text", ["003' OR Id != '", "../User/005", "0050000000000001AA", "x"])
def test_what_the_browser_sends_is_an_id_or_nothing(tmp_path: Path, api: responses.RequestsMock, text: str) -> None:
    known = Known([replace(STARTED, detail={"salesforceId": text})])
    signs_in(api)
    has_no_task(api)
    finds(api)
    makes_task(api)
    make(tmp_path, known).call_ended(CALL)
    assert known.added[0] == ("unknown-record", {"record": text, "note": "that is no record's id"})
    assert text not in str(sent(api))


def test_a_repeated_delivery_updates_the_same_task(tmp_path: Path, api: responses.RequestsMock) -> None:
    plugin = make(tmp_path)
    signs_in(api)
    has_no_task(api)
    finds(api)
    makes_task(api)
    api.patch(f"{TASKS}{TASK}", status=204)
    plugin.call_ended(CALL)
    plugin.call_ended(replace(CALL, duration=61))
    assert sent(api)["CallDurationInSeconds"] == 61 and "WhoId" not in sent(api)
    assert api.calls[-1].request.method == "PATCH"


def test_a_task_that_was_made_unnoticed_is_found_and_updated(tmp_path: Path, api: responses.RequestsMock) -> None:
    plugin = make(tmp_path)
    signs_in(api)
    has_no_task(api)
    finds(api)
    api.post(TASKS, body=requests.ReadTimeout())
    with pytest.raises(RetryLater):
        plugin.call_ended(CALL)
    api.replace(responses.GET, QUERY, json={"totalSize": 1, "done": True, "records": [{"Id": TASK}]})
    api.patch(f"{TASKS}{TASK}", status=204)
    plugin.call_ended(CALL)
    assert asked(api, QUERY)[-1] == "SELECT Id FROM Task WHERE CallObject = 'call_1' ORDER BY CreatedDate LIMIT 1"


def test_a_field_of_your_own_can_hold_the_call(tmp_path: Path, api: responses.RequestsMock) -> None:
    signs_in(api)
    has_no_task(api)
    finds(api)
    makes_task(api)
    make(tmp_path, external_id_field="Dialer_Id__c").call_ended(CALL)
    assert sent(api)["Dialer_Id__c"] == "call_1" and "CallObject" not in sent(api)
    assert "WHERE Dialer_Id__c = 'call_1'" in asked(api, QUERY)[0]


def test_texts_are_as_configured(tmp_path: Path, api: responses.RequestsMock) -> None:
    recorded = CallEvent("recording-completed", NOON + 70, detail={"RecordingSid": "RE1", "RecordingUrl": "https://t/RE1"})
    chosen = CallEvent("disposition", NOON + 80, detail={"disposition": "Call back", "notes": "{to} after lunch"})
    signs_in(api)
    has_no_task(api)
    finds(api)
    makes_task(api)
    wish = {"subject": "{agent} -> {to}", "description": "{disposition}: {notes}", "recording_url": "https://r/{recording}"}
    make(tmp_path, Known([recorded, chosen]), **wish).call_ended(CALL)
    assert sent(api)["Subject"] == "alice -> +14155550101"
    assert sent(api)["Description"] == "Call back: {to} after lunch\nRecording: https://r/RE1"
    assert sent(api)["CallDisposition"] == "Call back"


@pytest.mark.parametrize(
    ("status", "said"), [("busy", "Busy"), ("no-answer", "No answer"), ("failed", "Failed"), ("canceled", "Canceled")]
)
def test_calls_that_nobody_answered(tmp_path: Path, api: responses.RequestsMock, status: str, said: str) -> None:
    signs_in(api)
    has_no_task(api)
    finds(api)
    makes_task(api)
    make(tmp_path).call_ended(replace(CALL, status=status, duration=None))
    assert (sent(api)["CallDisposition"], sent(api)["CallDurationInSeconds"]) == (said, 0)


def test_a_session_that_has_expired_is_renewed(tmp_path: Path, api: responses.RequestsMock) -> None:
    plugin = make(tmp_path)
    signs_in(api)
    expired = responses.Response(
        responses.GET, QUERY, status=401, json=refusal("INVALID_SESSION_ID", "Session expired or invalid")
    )
    api.add(expired)
    signs_in(api, "00D!new")
    has_no_task(api)
    finds(api)
    makes_task(api)
    plugin.call_ended(CALL)
    assert api.calls[-1].request.headers["Authorization"] == "Bearer 00D!new"


def test_a_wrong_secret_is_dead_at_once_and_not_tried_until_the_user_is_locked_out(
    tmp_path: Path, api: responses.RequestsMock
) -> None:
    known = Known()
    plugin = make(tmp_path, known)
    api.post(TOKEN, status=400, json={"error": "invalid_client", "error_description": "invalid client credentials"})
    for _ in range(3):
        with pytest.raises(GiveUp, match=r"to sign in \(invalid_client: inv.*then: dialer deliveries") as caught:
            plugin.call_ended(CALL)
        assert "s3cret" not in str(caught.value)
    assert len(api.calls) == 1
    known.now += LOCKED_OUT
    with pytest.raises(GiveUp):
        plugin.call_ended(CALL)
    assert len(api.calls) == 2


@pytest.mark.parametrize(("status", "body"), [(500, "<html>"), (400, '{"error": "unknown_error"}')])
def test_a_sign_in_that_is_out_of_order_is_tried_again(
    tmp_path: Path, api: responses.RequestsMock, status: int, body: str
) -> None:
    api.post(TOKEN, status=status, body=body)
    with pytest.raises(RetryLater, match="Salesforce's sign-in answered"):
        make(tmp_path).call_ended(CALL)


@pytest.mark.parametrize(
    ("status", "headers", "body", "seconds"),
    [
        (403, {}, refusal("REQUEST_LIMIT_EXCEEDED", "TotalRequests Limit exceeded."), 3600),
        (429, {"Retry-After": "9"}, [], 9),
        (503, {"Retry-After": "30"}, refusal("SERVER_UNAVAILABLE", "server too busy"), 30),
        (500, {}, refusal("UNKNOWN_EXCEPTION", "An unexpected error occurred"), 0),
        (502, {}, None, 0),
        (409, {}, refusal("CONFLICT", "conflict"), 0),
        (400, {}, refusal("UNABLE_TO_LOCK_ROW", "unable to obtain exclusive access"), 0),
        (401, {}, refusal("INVALID_AUTH_HEADER", "no"), 0),
        (404, {}, refusal("NOT_FOUND", "Provided external ID field does not exist"), 0),
    ],
)
def test_what_passes_is_tried_again(
    tmp_path: Path, api: responses.RequestsMock, status: int, headers: dict[str, str], body: Any, seconds: float
) -> None:
    signs_in(api)
    has_no_task(api)
    finds(api)
    api.post(TASKS, status=status, headers=headers, body="<html>" if body is None else json.dumps(body))
    with pytest.raises(RetryLater) as caught:
        make(tmp_path).call_ended(CALL)
    assert caught.value.seconds == seconds


@pytest.mark.parametrize(
    ("status", "body", "reason"),
    [
        (403, refusal("API_DISABLED_FOR_ORG", "API is not enabled"), r"forbids it \(403\).*API is not enabled"),
        (400, refusal("INVALID_FIELD_FOR_INSERT_UPDATE", "CallObject"), r"refuses it \(400\): INVALID_FIELD"),
        (302, {}, r"refuses it \(302\)"),
    ],
)
def test_what_no_repetition_mends_is_given_up(
    tmp_path: Path, api: responses.RequestsMock, status: int, body: Any, reason: str
) -> None:
    signs_in(api)
    has_no_task(api)
    finds(api)
    api.post(TASKS, status=status, json=body)
    with pytest.raises(GiveUp, match=reason):
        make(tmp_path).call_ended(CALL)


def test_a_task_that_somebody_deleted_stays_deleted(tmp_path: Path, api: responses.RequestsMock) -> None:
    known = Known()
    plugin = make(tmp_path, known)
    signs_in(api)
    has_no_task(api)
    finds(api)
    makes_task(api)
    api.patch(f"{TASKS}{TASK}", status=404, json=refusal("ENTITY_IS_DELETED", "entity is deleted"))
    for _ in range(3):
        plugin.call_ended(CALL)
    assert known.added[-1][0] == "deleted"
    assert [call.request.method for call in api.calls].count("PATCH") == 1


def test_the_calls_of_workspaces_are_kept_apart(tmp_path: Path, api: responses.RequestsMock) -> None:
    plugin = make(tmp_path)
    signs_in(api)
    has_no_task(api)
    finds(api)
    makes_task(api)
    plugin.call_ended(CALL)
    plugin.call_ended(replace(CALL, workspace="other"))
    assert [call.request.method for call in api.calls].count("PATCH") == 0


@given(st.text())
def test_nothing_within_find_has_a_meaning(text: str) -> None:
    escaped = escape_sosl(text)
    plain = escaped.replace("\\\\", "")
    assert all(plain[place - 1] == "\\" for place, char in enumerate(plain) if char in "?&|!{}[]()^~*:\"'+-")
    assert len(escaped) - len(text) == sum(text.count(char) for char in "?&|!{}[]()^~*:\\\"'+-")


@pytest.mark.parametrize(
    ("wish", "fault"),
    [
        ({"domain": "acme.my.salesforce.com"}, "domain must be what stands before .salesforce.com"),
        ({"domain": "evil.example/"}, "domain must be what stands"),
        ({"domain": "login"}, "domain must be your own"),
        ({"consumer_secret": None}, "consumer_key and consumer_secret must be given"),
        ({"username": "a"}, "consumer_key and consumer_secret must be given"),
        ({"external_id_field": "Id FROM User"}, "external_id_field must be the name of a field of your own"),
        ({"owners": ("alice = bob",)}, "owners 'alice' needs the id of a user"),
        ({"subject": "{who}"}, r"subject has \{who\}, which is nothing"),
        ({"record_param": ""}, "record_param must be letters"),
    ],
)
def test_settings_are_checked_at_the_start(tmp_path: Path, wish: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        make(tmp_path, **wish)


def test_the_readme_lists_every_setting() -> None:
    text = (Path(__file__).parents[2] / "plugins/salesforce/README.md").read_text()
    for name in settings_of(Salesforce):
        assert f"| `{name}` |" in text
