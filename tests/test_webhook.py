"""Twilio's webhooks from outside: what is refused, with which answer and which line in the log, and what it changes."""

from __future__ import annotations

import io
import json
import logging
import re
from dataclasses import replace
from typing import Any, Literal
from urllib.parse import urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from werkzeug.test import TestResponse, run_wsgi_app

from dialer.app import create_app
from dialer.calls import Call
from dialer.dialling import request_options
from dialer.records import find_call
from dialer.service import Service
from dialer.settings import Account, Server
from dialer.signature import signature_of
from dialer.simulator.world import PUBLIC_URL
from dialer.tables import Secret
from dialer.webhook import DECIDING

FORM = "application/x-www-form-urlencoded"
AGENT, CUSTOMER, OTHER = "CA" + "a" * 32, "CA" + "c" * 32, "CA" + "d" * 32
CONFERENCE = "CF" + "e" * 32
SECOND = Account(sid="AC" + "9" * 32, tokens=(Secret("second"),), workspace="ws_second")
TWIML, JOIN, STATUS = "/v1/voice/twiml", "/v1/voice/conference-join", "/v1/voice/status"
CONFERENCE_STATUS, FALLBACK = "/v1/voice/conference-status", "/v1/voice/fallback"
ENDPOINTS = [TWIML, JOIN, STATUS, CONFERENCE_STATUS, FALLBACK]


@pytest.mark.parametrize("raw", [True, False])
def test_an_application_mounted_under_a_prefix_is_signed_for_with_it(stage: Any, raw: bool) -> None:
    given = stage.world.dialer
    settings = replace(given.settings, server=Server(public_url=f"{PUBLIC_URL}/calls"))
    app = create_app(settings, plugins=given.plugins, store=given.store, clock=given.clock)
    form = [("AccountSid", given.settings.accounts[0].sid), ("CallSid", AGENT), ("ErrorCode", "1")]
    token = given.settings.accounts[0].tokens[0].reveal()
    environ = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": "/calls",
        "PATH_INFO": FALLBACK,
        "SERVER_NAME": "x",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "CONTENT_TYPE": FORM,
        "CONTENT_LENGTH": str(len(urlencode(form))),
        "wsgi.input": io.BytesIO(urlencode(form).encode()),
        "HTTP_X_TWILIO_SIGNATURE": signature_of(f"{PUBLIC_URL}/calls{FALLBACK}", form, token),
        **({"RAW_URI": f"/calls{FALLBACK}"} if raw else {}),
    }
    _, status, _ = run_wsgi_app(app, environ)
    assert status == "200 OK"


class Twilio:
    """Sends what Twilio sends, to the application of a stage."""

    def __init__(self, stage: Any, log: Literal["text", "json"] = "text") -> None:
        self.world = stage.world
        given = stage.world.dialer
        mine = given.settings.accounts[0]
        self.account = replace(mine, tokens=(*mine.tokens, Secret("the-token-before")))
        wanted = replace(
            given.settings, accounts=(self.account, SECOND), server=Server(public_url=PUBLIC_URL, log=log)
        )  # fmt: skip
        self.app = create_app(wanted, plugins=given.plugins, store=given.store, clock=given.clock)
        self.client = self.app.test_client()

        self.log = io.StringIO()
        logging.getLogger("dialer").handlers[0].setStream(self.log)  # type: ignore[attr-defined]

    @property
    def dialer(self) -> Service:
        found: Service = self.app.extensions["dialer"]
        return found

    def post(self, path: str, account: Account | None = None, /, **fields: Any) -> TestResponse:
        """One signed webhook; a field given as None is left out."""
        signer = account or self.account
        form = {"AccountSid": signer.sid, "CallSid": AGENT, **fields}
        return self.send(path, [(name, value) for name, value in form.items() if value is not None], signer)

    def send(self, path: str, form: list[tuple[str, str]], signer: Account | None = None) -> TestResponse:
        token = (signer or self.account).tokens[0].reveal()
        signature = signature_of(PUBLIC_URL + path, form, token)
        return self.deliver(path, urlencode(form), signature)

    def deliver(self, path: str, body: str, signature: str | None) -> TestResponse:
        headers = {} if signature is None else {"X-Twilio-Signature": signature}
        return self.client.post(path, data=body, content_type=FORM, headers=headers)

    def agent_calls(self, **fields: Any) -> TestResponse:
        wanted: dict[str, Any] = {"Caller": "client:ws_demo_agent_0", "To": "+14155550103", "CallStatus": "ringing"}
        return self.post(TWIML, **wanted | fields)

    def agent_joins(self, call: Call, **fields: Any) -> TestResponse:
        wanted: dict[str, Any] = {"StatusCallbackEvent": "participant-join", "ParticipantLabel": "agent"}
        wanted |= {"ConferenceSid": CONFERENCE, "FriendlyName": call.conference, "SequenceNumber": "1"}
        return self.post(CONFERENCE_STATUS, **wanted | fields)

    def customer_is(self, call: Call, status: str, **fields: Any) -> TestResponse:
        return self.post(f"{STATUS}?intent={call.intent}", CallSid=CUSTOMER, CallStatus=status, **fields)

    def customer_asks(self, call: Call, call_sid: str = CUSTOMER, intent: str | None = None) -> TestResponse:
        path = f"{JOIN}?intent={call.intent if intent is None else intent}&conference={call.conference}"
        return self.post(path, CallSid=call_sid, CallStatus="in-progress")

    def call(self, call_sid: str = AGENT) -> Call:
        with self.dialer.store.read() as tx:
            found = find_call(tx, "call_of_leg", call_sid=call_sid, account_sid=self.account.sid)
        assert found is not None
        return found

    def jobs(self, call: Call) -> list[tuple[str, str]]:
        with self.dialer.store.read() as tx:
            return [
                (job["kind"], job["call_sid"])
                for job in tx.all("jobs_of_call", call_id=call.id, workspace=call.workspace)
            ]  # fmt: skip

    def rows(self) -> dict[str, list[Any]]:
        """All that is on record."""
        database = self.dialer.store.database()  # type: ignore[attr-defined]
        return {name: database.execute(f"SELECT * FROM {name}").fetchall() for name in database.table_names()}

    def lines(self) -> list[str]:
        """What was logged since this was last asked."""
        written = self.log.getvalue()
        self.log.truncate(self.log.seek(0))
        return written.splitlines()


@pytest.fixture
def twilio(make_stage: Any) -> Twilio:
    return Twilio(make_stage())


def spoken(response: TestResponse) -> list[str]:
    assert response.data.startswith(b"<?xml")
    return re.findall(r"<Say[^>]*>([^<]*)</Say><Hangup />", response.text)


def test_the_answer_begins_with_the_declaration_and_holds_the_agents_conference(twilio: Twilio) -> None:
    answer = twilio.agent_calls()
    assert answer.status_code == 200
    assert answer.content_type == "text/xml; charset=utf-8"
    assert answer.data.startswith(b'<?xml version="1.0" encoding="UTF-8"?><Response><Dial')
    assert f">{twilio.call().conference}</Conference>" in answer.text
    assert 'participantLabel="agent"' in answer.text


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("signature", [None, "", "short", "A" * 27 + "=", "é" * 28, "A" * 5000])
def test_a_wrong_signature_is_refused_with_the_hashed_url(
    twilio: Twilio, endpoint: str, signature: str | None
) -> None:
    before = twilio.rows()
    body = urlencode({"AccountSid": twilio.account.sid, "CallSid": AGENT, "CallStatus": "completed"})
    answer = twilio.deliver(f"{endpoint}?a=%27b", body, signature)
    assert (answer.status_code, twilio.rows()) == (403, before)
    assert f"(hashed {PUBLIC_URL}{endpoint}?a=%27b)" in twilio.lines()[-1]


def test_a_signature_of_other_fields_or_of_another_path_is_refused(twilio: Twilio) -> None:
    form = [("AccountSid", twilio.account.sid), ("CallSid", AGENT), ("CallStatus", "completed")]
    good = signature_of(PUBLIC_URL + STATUS, form, twilio.account.tokens[0].reveal())
    assert twilio.deliver(STATUS, urlencode(form), good).status_code == 404
    assert twilio.deliver(STATUS, urlencode([*form, ("x", "1")]), good).status_code == 403
    assert twilio.deliver(FALLBACK, urlencode(form), good).status_code == 403
    assert twilio.deliver(f"{STATUS}?intent=di_1", urlencode(form), good).status_code == 403


def test_the_token_before_the_rotation_is_still_good(twilio: Twilio) -> None:
    form = [("AccountSid", twilio.account.sid), ("CallSid", AGENT)]
    signature = signature_of(PUBLIC_URL + FALLBACK, form, "the-token-before")
    assert twilio.deliver(FALLBACK, urlencode(form), signature).status_code == 200


def test_json_is_taken_only_with_its_hash_and_then_lacks_its_fields(twilio: Twilio) -> None:
    body = json.dumps({"AccountSid": twilio.account.sid})
    signature = signature_of(PUBLIC_URL + STATUS, [], twilio.account.tokens[0].reveal())
    headers = {"X-Twilio-Signature": signature}
    answer = twilio.client.post(STATUS, data=body, content_type="application/json", headers=headers)
    assert answer.status_code == 403


REQUIRED = [
    (TWIML, ["AccountSid", "CallSid", "Caller", "To"]),
    (STATUS, ["AccountSid", "CallSid", "CallStatus"]),
    (CONFERENCE_STATUS, ["AccountSid", "StatusCallbackEvent", "ConferenceSid", "FriendlyName"]),
    (JOIN, ["AccountSid", "CallSid"]),
    (FALLBACK, ["AccountSid", "CallSid"]),
]


@pytest.mark.parametrize(("path", "missing"), [(path, name) for path, names in REQUIRED for name in names])
def test_a_missing_field_is_named(twilio: Twilio, path: str, missing: str) -> None:
    names = next(names for other, names in REQUIRED if other == path)
    known = {"AccountSid": twilio.account.sid, "CallSid": AGENT}
    form = [(name, known.get(name, "x")) for name in names if name != missing]
    before = twilio.rows()
    answer = twilio.send(path, form)
    assert (answer.status_code, answer.text) == (400, f"field {missing} is missing\n")
    assert twilio.rows() == before


@pytest.mark.parametrize("event", ["participant-join", "participant-leave"])
def test_a_participant_event_needs_its_leg(twilio: Twilio, event: str) -> None:
    twilio.agent_calls()
    answer = twilio.agent_joins(twilio.call(), StatusCallbackEvent=event, CallSid=None)
    assert (answer.status_code, answer.text) == (400, "field CallSid is missing\n")


@pytest.mark.parametrize("sid", ["", "CA", "CA" + "g" * 32, "CA" + "A" * 32, f"{AGENT}\n", "../" + AGENT])
def test_a_call_sid_of_another_shape_is_refused(twilio: Twilio, sid: str) -> None:
    answer = twilio.post(STATUS, CallSid=sid, CallStatus="completed")
    assert answer.status_code == 400
    assert "field CallSid is not a call sid" in answer.text


@pytest.mark.parametrize("name", [*DECIDING])
def test_a_repeated_field_that_decides_is_refused(twilio: Twilio, name: str) -> None:
    known = {"AccountSid": twilio.account.sid, "CallSid": AGENT, "Caller": "client:ws_demo_agent_0", "To": "+1"}
    form = [*known.items(), (name, known.get(name, "x")), (name, known.get(name, "x"))]
    answer = twilio.send(TWIML, form)
    assert (answer.status_code, answer.text) == (400, f"field {name} came more than once\n")


def test_the_account_of_somebody_else_is_refused(twilio: Twilio) -> None:
    stranger = replace(SECOND, sid="AC" + "8" * 32)
    answer = twilio.post(STATUS, stranger, CallStatus="completed")
    assert answer.status_code == 403
    assert "names no account of ours" in twilio.lines()[-1]


def test_one_account_cannot_sign_for_another(twilio: Twilio) -> None:
    answer = twilio.post(STATUS, SECOND, AccountSid=twilio.account.sid, CallStatus="completed")
    assert answer.status_code == 403


@pytest.mark.parametrize("endpoint", ENDPOINTS)
@pytest.mark.parametrize("method", ["GET", "PUT", "DELETE", "PATCH", "HEAD"])
def test_other_methods_are_refused(twilio: Twilio, endpoint: str, method: str) -> None:
    assert twilio.client.open(endpoint, method=method).status_code == 405


def ask(
    app: Any, path: str, *, body: bytes = b"", query: str = "", headers: dict[str, str] | None = None, **environ: Any
) -> tuple[int, bytes]:
    """One POST as bytes on the wire would make it, however odd."""
    asked = {
        "REQUEST_METHOD": "POST",
        "PATH_INFO": path,
        "QUERY_STRING": query,
        "RAW_URI": path + (f"?{query}" if query else ""),
        "SERVER_NAME": "x",
        "SERVER_PORT": "80",
        "SERVER_PROTOCOL": "HTTP/1.1",
        "REMOTE_ADDR": "127.0.0.1",
        "CONTENT_TYPE": FORM,
        "CONTENT_LENGTH": str(len(body)),
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in (headers or {}).items()},
        **environ,
    }
    content, status, _ = run_wsgi_app(app, {name: value for name, value in asked.items() if value is not None})
    return int(status.split()[0]), b"".join(content)


def test_a_body_over_64_kilobytes_is_refused_before_it_is_read(twilio: Twilio) -> None:
    class Unread:
        def read(self, size: int = -1) -> bytes:
            raise AssertionError("read")

    environ: Any = {"CONTENT_LENGTH": "65537", "wsgi.input": Unread()}
    assert ask(twilio.app, STATUS, **environ)[0] == 413


def test_a_chunked_body_over_64_kilobytes_is_refused(twilio: Twilio) -> None:
    chunked: Any = {"CONTENT_LENGTH": None, "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    assert ask(twilio.app, STATUS, body=b"a" * 65537, **chunked)[0] == 413
    assert ask(twilio.app, STATUS, body=b"a" * 65536, **chunked)[0] == 403


def test_a_chunked_body_is_read_like_any_other(twilio: Twilio) -> None:
    form = [("AccountSid", twilio.account.sid), ("CallSid", AGENT)]
    signature = signature_of(PUBLIC_URL + FALLBACK, form, twilio.account.tokens[0].reveal())
    chunked: Any = {"CONTENT_LENGTH": None, "HTTP_TRANSFER_ENCODING": "chunked", "wsgi.input_terminated": True}
    answer = ask(
        twilio.app, FALLBACK, body=urlencode(form).encode(), headers={"X-Twilio-Signature": signature}, **chunked
    )
    assert answer[0] == 200


def test_a_body_longer_than_its_length_says_is_cut_there(twilio: Twilio) -> None:
    form = [("AccountSid", twilio.account.sid), ("CallSid", AGENT), ("CallStatus", "completed")]
    signature = signature_of(PUBLIC_URL + STATUS, form, twilio.account.tokens[0].reveal())
    for length, status in (("-1", 403), ("x", 400), ("0", 403), ("20", 403)):
        environ: Any = {"CONTENT_LENGTH": length, "HTTP_X_TWILIO_SIGNATURE": signature}
        assert ask(twilio.app, STATUS, body=urlencode(form).encode(), **environ)[0] == status


def test_a_status_of_an_unknown_leg_is_404(twilio: Twilio) -> None:
    before = twilio.rows()
    assert twilio.post(STATUS, CallStatus="completed").status_code == 404
    assert twilio.post(f"{STATUS}?intent=", CallStatus="completed").status_code == 404
    assert twilio.post(f"{STATUS}?intent=di_{'0' * 32}", CallStatus="completed").status_code == 404
    assert twilio.rows() == before


def test_an_event_of_an_unknown_conference_is_404(twilio: Twilio) -> None:
    fields = {"StatusCallbackEvent": "conference-end", "ConferenceSid": CONFERENCE, "FriendlyName": "nobody-knows"}
    assert twilio.post(CONFERENCE_STATUS, **fields).status_code == 404


def test_another_accounts_signed_requests_for_our_call_change_nothing(twilio: Twilio) -> None:
    twilio.agent_calls()
    call = twilio.call()
    twilio.agent_joins(call)
    twilio.customer_is(call, "ringing")
    call, before = twilio.call(), twilio.rows()
    intent = f"?intent={call.intent}&conference={call.conference}"
    joins = {"StatusCallbackEvent": "participant-leave", "ConferenceSid": CONFERENCE, "FriendlyName": call.conference}
    assert twilio.post(STATUS, SECOND, CallStatus="completed").status_code == 404
    assert twilio.post(STATUS + intent, SECOND, CallStatus="completed").status_code == 404
    assert twilio.post(CONFERENCE_STATUS, SECOND, ParticipantLabel="agent", **joins).status_code == 404
    assert spoken(twilio.post(JOIN + intent, SECOND)) == ["This call cannot be connected. Goodbye."]
    assert twilio.post(FALLBACK + intent, SECOND, ErrorCode="11200").status_code == 200
    assert (twilio.call(), twilio.rows()) == (call, before)


def test_the_customer_who_answers_joins_the_agent(twilio: Twilio) -> None:
    twilio.agent_calls()
    twilio.agent_joins(twilio.call())
    answer = twilio.customer_asks(twilio.call())
    assert answer.data.startswith(b"<?xml")
    assert f">{twilio.call().conference}</Conference>" in answer.text
    assert 'endConferenceOnExit="true"' in answer.text
    assert (twilio.call().status, twilio.call().dial) == ("in-progress", "accepted")


def test_the_customer_may_ask_twice_and_hears_the_same(twilio: Twilio) -> None:
    twilio.agent_calls()
    twilio.agent_joins(twilio.call())
    answers = {twilio.customer_asks(twilio.call()).data for _ in range(3)}
    assert len(answers) == 1
    assert len(twilio.call().legs) == 2


@pytest.mark.parametrize("conference", ["", "nobody-knows", "%00", "a%2Fb"])
def test_an_unknown_conference_is_a_sentence_and_a_hang_up(twilio: Twilio, conference: str) -> None:
    before = twilio.rows()
    answer = twilio.post(f"{JOIN}?conference={conference}", CallSid=CUSTOMER)
    assert (answer.status_code, spoken(answer)) == (200, ["This call cannot be connected. Goodbye."])
    assert twilio.rows() == before
    assert 'outcome="refused unknown-conference"' in twilio.lines()[-1]


def test_a_leg_that_we_did_not_dial_does_not_enter_a_known_conference(twilio: Twilio) -> None:
    twilio.agent_calls()
    twilio.agent_joins(twilio.call())
    before = twilio.rows()
    for intent in ("", "di_" + "0" * 32):
        answer = twilio.customer_asks(twilio.call(), OTHER, intent)
        assert spoken(answer) == ["This call cannot be connected. Goodbye."]
    assert twilio.rows() == before


def test_a_leg_of_one_call_does_not_enter_the_conference_of_another(twilio: Twilio) -> None:
    twilio.agent_calls()
    twilio.agent_calls(CallSid=OTHER, Caller="client:ws_demo_agent_1")
    mine, other = twilio.call(), twilio.call(OTHER)
    answer = twilio.post(f"{JOIN}?intent={mine.intent}&conference={other.conference}", CallSid=CUSTOMER)
    assert spoken(answer) == ["This call cannot be connected. Goodbye."]


def test_the_agents_own_leg_does_not_enter_as_the_customer(twilio: Twilio) -> None:
    twilio.agent_calls()
    assert spoken(twilio.customer_asks(twilio.call(), AGENT)) != []
    assert [leg.role for leg in twilio.call().legs] == ["agent"]


def leaves(twilio: Twilio) -> None:
    twilio.agent_joins(twilio.call(), StatusCallbackEvent="participant-leave", SequenceNumber="2")


def hangs_up(twilio: Twilio) -> None:
    twilio.post(STATUS, CallStatus="completed", CallDuration="3")


@pytest.mark.parametrize("gone", [leaves, hangs_up])
def test_a_customer_who_answers_after_the_agent_left_hears_an_apology(twilio: Twilio, gone: Any) -> None:
    twilio.agent_calls()
    twilio.agent_joins(twilio.call())
    twilio.customer_is(twilio.call(), "ringing")
    gone(twilio)
    answer = twilio.customer_asks(twilio.call())
    assert spoken(answer) == ["Sorry, nobody is available to talk to you now. Goodbye."]
    assert ("hang_up", CUSTOMER) in twilio.jobs(twilio.call())


def test_a_second_leg_of_the_same_dial_is_sent_away(twilio: Twilio) -> None:
    twilio.agent_calls()
    twilio.agent_joins(twilio.call())
    twilio.customer_asks(twilio.call())
    answer = twilio.customer_asks(twilio.call(), OTHER)
    assert spoken(answer) == ["Sorry, nobody is available to talk to you now. Goodbye."]
    assert [(leg.role, leg.call_sid) for leg in twilio.call().legs][2:] == [("stray", OTHER)]
    assert any("double_dial" in line and OTHER in line for line in twilio.lines())


def test_a_doubled_dial_is_noticed_and_hung_up(stage: Any) -> None:
    talker = stage.agent_dials("+14155550103")
    carrier = stage.world.worker.carriers(stage.world.account_sid)
    alarms = []
    handler = logging.Handler()
    handler.emit = lambda record: alarms.append(record.getMessage())  # type: ignore[method-assign]
    logging.getLogger("dialer").addHandler(handler)
    carrier.dial(talker.call.to, talker.call.from_, request_options(stage.world.dialer, talker.call))
    stage.lasts(3)
    first, second = stage.dialled()
    assert (first.end_time, second.status) == (None, "canceled")
    assert [alarm for alarm in alarms if "double_dial" in alarm] == [
        f"double_dial: {talker.call.id} has a second customer leg {second.sid}"
    ]
    talker.hangs_up()
    stage.world.settle()
    assert talker.call.settled


def test_fallback_speaks_and_keeps_the_error_code(twilio: Twilio) -> None:
    twilio.agent_calls()
    answer = twilio.post(FALLBACK, ErrorCode="11200", ErrorUrl=f"{PUBLIC_URL}{TWIML}")
    assert spoken(answer) == ["Sorry, this call could not be connected. Please try again in a moment."]
    assert "error_code=11200" in twilio.lines()[-1]
    call = twilio.call()
    with twilio.dialer.store.read() as tx:
        rows = tx.all("events_of_call", call_id=call.id, workspace=call.workspace, after=0)
    assert [row["key"] for row in rows][-1] == f"fallback:{AGENT}:11200"


def test_fallback_speaks_to_a_leg_that_nobody_knows(twilio: Twilio) -> None:
    assert spoken(twilio.post(FALLBACK)) != []


def test_an_identity_without_its_prefix_is_nobody(twilio: Twilio) -> None:
    assert spoken(twilio.agent_calls(Caller="ws_demo_agent_0")) == [
        "You are not set up to make calls. Please ask your administrator."
    ]
    assert twilio.call().rule == "unknown-agent"


def test_an_agent_whose_workspace_has_no_account_here_is_refused(twilio: Twilio) -> None:
    only = replace(twilio.dialer.settings, accounts=(replace(twilio.account, workspace="ws_else"), SECOND))
    twilio.client = create_app(only, plugins=twilio.dialer.plugins, store=twilio.dialer.store).test_client()
    assert spoken(twilio.agent_calls()) == ["Your account cannot make calls here. Please ask your administrator."]


WORDS = r"\S+ (\w+) dialer\.voice webhook (\S+) (.*)"


def test_each_webhook_is_one_line_with_call_leg_status_outcome_and_time(twilio: Twilio) -> None:
    twilio.agent_calls()
    call = twilio.call()
    twilio.agent_joins(call)
    twilio.customer_is(call, "ringing")
    twilio.customer_is(call, "ringing")
    twilio.customer_asks(call)
    twilio.post(STATUS)
    found = [re.fullmatch(WORDS, line) for line in twilio.lines()]
    told = [(one[1], one[2], re.sub(r"ms=[\d.]+$", "ms", one[3])) for one in found if one]
    assert len(told) == len(found)
    who = f"leg={AGENT} call={call.id}"
    customer = f"leg={CUSTOMER} call={call.id}"
    assert told == [
        ("INFO", TWIML, f"{who} status=requested outcome=conference ms"),
        ("INFO", CONFERENCE_STATUS, f"{who} status=agent-joined outcome=stored event=participant-join ms"),
        ("INFO", STATUS, f"{customer} status=ringing outcome=stored event=leg-ringing ms"),
        ("INFO", STATUS, f'{customer} status=ringing outcome="known already" event=leg-ringing ms'),
        ("INFO", JOIN, f"{customer} status=in-progress outcome=conference event=customer-answered ms"),
        ("WARNING", STATUS, f'leg={AGENT} outcome="refused 400" reason="field CallStatus is missing" ms'),
    ]


@pytest.mark.parametrize("style", ["text", "json"])
def test_no_line_holds_a_number_a_token_or_a_forged_line(
    make_stage: Any, style: Literal["text", "json"]
) -> None:
    twilio = Twilio(make_stage(), style)
    secrets = [token.reveal() for token in twilio.account.tokens]
    twilio.agent_calls(To="+14155550101", callerId="+14155550177")
    twilio.agent_calls(CallSid=OTHER, To="+14155550101")
    twilio.post(FALLBACK, ErrorCode="1\nforged\u2028line", ErrorUrl="https://x.example/?To=%2B14155550101&x=+14155550101")
    twilio.post(f"{STATUS}?To=%2B14155550101", CallStatus="x\r\ny +14155550101")
    twilio.deliver(f"{STATUS}?To=%2B14155550101&t=+14155550101", "", "A" * 28)
    written = twilio.log.getvalue()
    assert not [secret for secret in secrets if secret in written]
    assert "4155550101" not in written
    assert "+1******0101" in written
    assert len(written.splitlines()) == 5
    assert all(json.loads(line)["what"].startswith("webhook") for line in written.splitlines() if style == "json")


text = st.text(st.characters(codec="utf-8"), max_size=40)
header = st.text(st.characters(max_codepoint=255), max_size=60)
uri = st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters="#"), max_size=60)
once = settings(
    deadline=None, max_examples=400, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@once
@given(
    path=st.sampled_from(ENDPOINTS),
    query=uri | header,
    body=st.binary(max_size=200) | st.builds(lambda form: urlencode(form).encode(), st.dictionaries(text, text)),
    signature=st.none() | header | st.just("A" * 27 + "="),
    content_type=st.sampled_from([FORM, "application/json", "", "multipart/form-data; boundary=x"]) | header,
    length=st.none() | st.sampled_from(["0", "-1", "9" * 30, "\u0661"]) | header,
)
def test_nothing_unsigned_changes_anything_or_fails(twilio: Twilio, **asked: Any) -> None:
    before = twilio.rows()
    environ = {"CONTENT_TYPE": asked["content_type"], "HTTP_X_TWILIO_SIGNATURE": asked["signature"]}
    if asked["length"] is not None:
        environ["CONTENT_LENGTH"] = asked["length"]
    status, _ = ask(twilio.app, asked["path"], query=asked["query"], body=asked["body"], **environ)
    assert status in (400, 403, 413)
    assert twilio.rows() == before


FIELDS = ["CallSid", "AccountSid", "CallStatus", "Caller", "To", "From", "toNumber", "callerId", "workspaceId"]
FIELDS += ["StatusCallbackEvent", "ConferenceSid", "FriendlyName", "ParticipantLabel", "SequenceNumber", "Timestamp"]
FIELDS += ["CallDuration", "ReasonParticipantLeft", "ReasonConferenceEnded", "CallSidEndingConference", "ErrorCode"]
VALUES = [AGENT, CUSTOMER, OTHER, "client:ws_demo_agent_0", "+14155550103", "ws_demo", "agent", "customer", "completed"]
VALUES += ["participant-join", "participant-leave", "conference-end", "busy", "ringing", "queued", "9" * 400, "-1"]
VALUES += ["Sun, 22 Nov 2026 10:00:00 +0000", "Mon, 99 Foo 0000 99:99:99 +9999", "Fri, 31 Dec 9999 23:59:59 -2359"]


@once
@given(
    path=st.sampled_from(ENDPOINTS),
    form=st.dictionaries(st.sampled_from(FIELDS) | text, st.sampled_from(VALUES) | text, max_size=12),
    intent=st.booleans(),
    query=uri,
)
def test_nothing_signed_fails_whatever_it_says(
    twilio: Twilio, path: str, form: dict[str, str], intent: bool, query: str
) -> None:
    twilio.agent_calls(CallSid=OTHER)
    call = twilio.call(OTHER)
    known = {"CallSid": CUSTOMER, "FriendlyName": call.conference, "AccountSid": twilio.account.sid}
    path = f"{path}?{f'intent={call.intent}&conference={call.conference}' if intent else query}"
    form = {**known, **form} | {"AccountSid": twilio.account.sid}
    signature = signature_of(PUBLIC_URL + path, list(form.items()), twilio.account.tokens[0].reveal())
    answer = ask(
        twilio.app,
        path.partition("?")[0],
        query=path.partition("?")[2],
        body=urlencode(form).encode(),
        headers={"X-Twilio-Signature": signature},
        RAW_URI=path,
    )
    assert answer[0] in (200, 204, 400, 404)


def test_a_request_for_a_leg_of_another_call_does_not_rewrite_it(twilio: Twilio) -> None:
    twilio.agent_calls()
    twilio.agent_joins(twilio.call())
    twilio.customer_is(twilio.call(), "in-progress")
    before = twilio.call()
    twilio.agent_calls(CallSid=CUSTOMER)
    assert twilio.call() == before
