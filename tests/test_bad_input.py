"""Bad input: nothing fails, nothing unsigned is taken, and both ways to a webhook answer alike."""

from __future__ import annotations

import io
import json
from collections.abc import Iterator
from itertools import accumulate, pairwise
from typing import Any
from urllib.parse import parse_qsl, urlencode

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from dialer.signature import FORM, signature_of
from dialer.simulator.world import PUBLIC_URL
from dialer.voice import webhooks
from soak.generator import Made, any_query
from soak.pools import NAMES, RAW, TYPES, VALUES
from soak.requests import BATCH, WARM_UP, Reply, Result, Target, differs, drive, explain, judge

PATHS = sorted(webhooks.views)
STATE = ("calls", "legs", "dial_intents", "jobs", "verdicts")
many = settings(
    deadline=None, max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Target]:
    made = Target(tmp_path_factory.mktemp("target"))
    yield made
    made.close()


@pytest.fixture
def target(shared: Target) -> Target:
    shared.begin_batch()
    return shared


def everything(target: Target, tables: tuple[str, ...] = ()) -> dict[str, list[Any]]:
    """All rows, of some tables or of all."""
    return {name: target.database.execute(f"SELECT * FROM {name}").fetchall() for name in tables or target.rows()}


def genuine(target: Target, path: str, **fields: str) -> Made:
    """What Twilio would send there of the first call."""
    sender, call = target.sender, target.sender.calls[0]
    known = {
        "AccountSid": sender.account_sid,
        "CallSid": call["customer"],
        "CallStatus": "in-progress",
        "Called": "+14155550101",
        "Caller": "client:ws_demo_agent_0",
        "ConferenceSid": "CF" + "e" * 32,
        "Direction": "outbound-api",
        "FriendlyName": call["conference"],
        "From": "+14155550199",
        "ParticipantLabel": "customer",
        "RecordingSid": "RE" + "b" * 32,
        "RecordingStatus": "completed",
        "AnsweredBy": "human",
        "SequenceNumber": "2",
        "StatusCallbackEvent": "participant-join",
        "To": "+14155550101",
    }
    query = urlencode({"intent": call["intent"], "conference": call["conference"]})
    return sender.sign(Made(path, query), list((known | fields).items()))


@pytest.mark.timeout(300)
def test_twenty_thousand_generated_requests(target: Target, record_property: Any) -> None:
    result = drive(target, 1, range(20_000))
    assert result.breaches == []
    assert result.unsigned > 8_000
    assert {200, 204, 400, 401, 403, 404, 405, 413, 429} <= set(result.statuses)
    record_property("figure", f"{result.figure()}, seed {result.seed}")


def test_a_request_follows_from_its_seed_and_number_alone(target: Target) -> None:
    first = [target.sender.make(7, number) for number in range(50)]
    assert [target.sender.make(7, number) for number in reversed(range(50))] == first[::-1]
    assert first != [target.sender.make(8, number) for number in range(50)]


def test_a_request_is_played_again_with_what_its_batch_sent_before(target: Target) -> None:
    whole, number = drive(target, 3, range(BATCH, BATCH + 41)), BATCH + 40
    reply = target.ask(target.sender.make(3, number), number)
    drive(target, 5, range(20))
    told = explain(target, 3, number)
    assert whole.breaches == []
    assert f"answered {reply.status} " in told[2]
    assert told[3] == ""


@pytest.mark.parametrize(
    ("answer", "breach"),
    [
        ((500, ""), "answered 500"),
        ((204, ""), "not signed, and answered 204"),
        ((400, "no"), "a refusal that names nothing"),
        ((403, "no"), ""),
    ],
)
def test_what_is_wrong_with_an_answer_is_seen(answer: tuple[int, str], breach: str) -> None:
    reply = Reply(answer[0], {"Content-Type": "text/plain"}, answer[1].encode())
    assert judge(Made("/v1/voice/status"), reply, changed=False).startswith(breach)
    assert bool(judge(Made("/v1/voice/status"), reply, changed=False)) == bool(breach)
    assert judge(Made("/v1/voice/status"), reply, changed=True)
    unkeyed = Made("/v1/calls", method="GET", webhook=False)
    assert judge(unkeyed, Reply(200, {}, b"{}"), changed=False) == "no good key, and answered 200"


def test_growth_is_the_slope_after_the_warm_up() -> None:
    climbing = Result(1, memory=[(0, 0), *((x, 1_000_000 + 3 * x) for x in range(WARM_UP, 3 * WARM_UP, 20_000))])
    assert climbing.growth() == pytest.approx(3.0)
    assert Result(1, memory=[(0, 5)]).growth() == 0.0


@pytest.mark.parametrize("path", PATHS)
def test_every_bit_of_a_signature_counts(target: Target, path: str) -> None:
    made, before = genuine(target, path), everything(target)
    right = made.headers["X-Twilio-Signature"]
    for bit in range(len(right) * 8):
        place, flipped = bit // 8, chr(ord(right[bit // 8]) ^ (1 << bit % 8))
        made.headers["X-Twilio-Signature"] = right[:place] + flipped + right[place + 1 :]
        assert target.ask(made).status == 403
    assert everything(target) == before
    made.headers["X-Twilio-Signature"] = right
    assert target.ask(made).status in (200, 204, 400)


@pytest.mark.parametrize("path", PATHS)
def test_every_byte_of_a_signed_body_counts(target: Target, path: str) -> None:
    made, before = genuine(target, path), everything(target)
    right, fields = made.body, parse_qsl(made.body.decode(), keep_blank_values=True)
    for place in range(len(right)):
        for wrong in (right[place] ^ 1, right[place] ^ 0x20, right[place] ^ 0x80):
            made.body = right[:place] + bytes([wrong]) + right[place + 1 :]
            # Else it is but the case of a percent code's digit.
            if parse_qsl(made.body.decode("latin-1"), keep_blank_values=True) != fields:
                assert target.ask(made).status == 403, made.body
    for made.body in (right[:-1], right + b"&x", right[1:], right + b"\x00", right + right, b""):
        assert target.ask(made).status == 403
    for byte in range(len(made.query)):
        wrong_query = made.query[:byte] + chr(ord(made.query[byte]) ^ 1) + made.query[byte + 1 :]
        assert target.ask(Made(path, wrong_query, body=right, headers=made.headers)).status == 403
    assert everything(target) == before


def splits(draw: Any, text: str) -> list[tuple[str, str]]:
    """Names and values that come to this text when they are joined."""
    places = sorted(draw(st.sets(st.integers(0, len(text)), min_size=1, max_size=30)) | {0, len(text)})
    parts = [text[start:end] for start, end in pairwise(places)]
    return [(name, "".join(value)) for name, *value in zip(parts[::2], [*parts[1::2], ""], strict=False)]


@pytest.mark.parametrize("path", PATHS)
@many
@given(data=st.data())
def test_a_captured_request_split_otherwise_moves_no_call(shared: Target, path: str, data: st.DataObject) -> None:
    shared.begin_batch()
    made = genuine(shared, path)
    shared.ask(made)
    before, pairs = everything(shared, STATE), sorted(parse_qsl(made.body.decode(), keep_blank_values=True))
    kept = data.draw(st.integers(0, len(pairs)))
    lengths = list(accumulate(len(name) + len(value) for name, value in pairs[:kept]))
    text = "".join(name + value for name, value in pairs)
    form = pairs[:kept] + splits(data.draw, text[lengths[-1] if lengths else 0 :])
    into_query = data.draw(st.sampled_from(["", "".join(form[0]) if form else ""]))
    again = Made(path, made.query + into_query, body=urlencode(form[1:] if into_query else form).encode())
    again.headers = made.headers
    assert shared.ask(again).status in (200, 204, 400, 403, 404)
    assert everything(shared, STATE) == before


@pytest.mark.parametrize("path", PATHS)
@many
@given(
    query=st.randoms().map(any_query) | st.text(st.characters(min_codepoint=33, max_codepoint=255), max_size=60),
    body=st.binary(max_size=300) | st.lists(st.sampled_from(RAW) | st.binary(max_size=5), max_size=40).map(b"".join),
    signatures=st.lists(st.text(st.characters(max_codepoint=255), max_size=40) | st.just("A" * 27 + "="), max_size=2),
    content_type=st.sampled_from(TYPES) | st.text(st.characters(max_codepoint=255), max_size=40),
    length=st.none() | st.text("0123456789-+ x_\u0661", max_size=8),
    method=st.sampled_from(["POST"] * 4 + ["GET", "PUT", "HEAD", "DELETE", "post", "PROPFIND"]),
)
def test_nothing_unsigned_is_taken_on_either_way(shared: Target, path: str, **asked: Any) -> None:
    made = Made(path, asked["query"], asked["method"], asked["body"], asked["content_type"], asked["length"])
    if asked["signatures"]:
        made.headers["X-Twilio-Signature"] = ",".join(asked["signatures"])  # as servers hand on a repeated header
    before = shared.changes()
    reply = shared.ask(made)
    assert reply.status in (400, 403, 405, 413)
    assert judge(made, reply, changed=shared.changes() != before) == ""
    assert differs(shared, made, reply) == ""


text = st.text(st.characters(codec="utf-8"), max_size=60) | st.sampled_from(VALUES)


@pytest.mark.parametrize("path", PATHS)
@many
@given(
    changes=st.dictionaries(st.sampled_from(NAMES) | text, st.none() | text, max_size=6),
    repeated=st.lists(st.tuples(st.sampled_from(NAMES), text), max_size=2),
    query=st.none() | st.randoms().map(any_query).filter(str.isascii),
    flask_first=st.booleans(),
)
def test_nothing_signed_fails_and_again_it_is_answered_alike(
    shared: Target, path: str, changes: dict[str, str | None], flask_first: bool, **asked: Any
) -> None:
    shared.begin_batch()
    usual = genuine(shared, path)
    form = {**dict(parse_qsl(usual.body.decode())), **changes, "AccountSid": shared.sender.account_sid}
    pairs = [(name, value) for name, value in form.items() if value is not None]
    made = Made(path, usual.query if asked["query"] is None else asked["query"])
    shared.sender.sign(made, [*pairs, *((name, value) for name, value in asked["repeated"] if name != "AccountSid")])
    ways: list[Any] = [shared.flask, shared.fast] if flask_first else [shared.fast, shared.flask]
    first = shared.ask(made, through=ways[0])
    before = everything(shared)
    again = shared.ask(made, through=ways[1])
    assert judge(made, first, changed=True) == "" or not made.signed
    assert (again.status, again.body) == (first.status, first.body)
    assert everything(shared) == before


@pytest.mark.parametrize("path", ["/v1/calls", "/v1/calls/x", "/v1/calls/x/events", "/v1/voice/token", "/v1/nothing"])
def test_bytes_that_are_no_text_in_a_query_are_refused(target: Target, path: str) -> None:
    reply = target.ask(api(target, path, query="limit=\xff\xfe"))
    assert reply.status in (400, 404)
    assert path not in ("/v1/calls", "/v1/voice/token") or b"the query is not UTF-8" in reply.body


@pytest.mark.parametrize(
    "body", ['{"identity":"\\ud800"}', "[" * 60_000, '{"ttl":' * 9_000, '{"ttl":' + "[" * 990 + "]" * 990 + "}"]
)
def test_json_that_nothing_can_be_made_of_is_refused(target: Target, body: str) -> None:
    asked = {"method": "POST", "body": body.encode(), "content_type": "application/json"}
    reply = target.ask(api(target, "/v1/voice/token", **asked))
    assert (reply.status, json.loads(reply.body)["error"]["code"]) == (400, "bad-field")


@pytest.mark.parametrize("content_type", ["application/json", FORM, "multipart/form-data; boundary=x"])
@pytest.mark.parametrize("chunked", [False, True])
def test_a_body_of_the_api_is_bounded_too(target: Target, content_type: str, chunked: bool) -> None:
    made = api(target, "/v1/voice/token", method="POST", body=b"x" * 70_000, content_type=content_type)
    environ = made.environ() | ({"CONTENT_LENGTH": None, "wsgi.input_terminated": True} if chunked else {})
    status, body = raw(target, {name: value for name, value in environ.items() if value is not None})
    code = json.loads(body)["error"]["code"]
    # What comes in chunks is read up to the limit, and then is not what it was.
    assert (status, code) == (413, "request-entity-too-large") or (chunked and status == 400)


@pytest.mark.parametrize("path", ["//v1/voice/status", "/v1//voice/status", "/v1/voice/status/", "//evil.example/v1"])
def test_nobody_is_sent_elsewhere(target: Target, path: str) -> None:
    reply = target.ask(Made(path, headers={"Host": "evil.example"}))
    assert reply.status in (403, 404)
    assert "evil" not in str(reply.headers)


def test_a_request_without_a_path_is_answered(target: Target) -> None:
    environ = Made("").environ()
    del environ["PATH_INFO"]
    assert raw(target, environ)[0] == 404


def test_a_body_that_breaks_off_is_the_senders_fault(target: Target) -> None:
    class Broken(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise OSError("invalid chunk")

    environ = genuine(target, "/v1/voice/status").environ() | {"wsgi.input": Broken()}
    assert raw(target, environ) == (400, b"the body broke off\n")


@pytest.mark.parametrize("field", ["SequenceNumber", "Timestamp"])
@pytest.mark.parametrize("value", ["9" * 20, "9" * 300, "-" + "9" * 300, "Mon, 01 Jan 0001 00:00:00 +0000"])
def test_a_time_that_no_calendar_has_is_taken_as_now(target: Target, field: str, value: str) -> None:
    times = {"Timestamp": "Sun, 22 Nov 2026 10:00:00 +0000"} | {field: value}
    assert target.ask(genuine(target, "/v1/voice/status", CallStatus="completed", **times)).status == 204
    call_id = target.sender.calls[0]["id"]
    for path in ("/v1/calls", f"/v1/calls/{call_id}", f"/v1/calls/{call_id}/events"):
        assert target.ask(api(target, path)).status == 200


def test_a_leg_that_is_the_customers_cannot_call_as_an_agent(target: Target) -> None:
    before = target.rows()
    for _ in range(2):
        reply = target.ask(genuine(target, "/v1/voice/twiml"))
        assert (reply.status, reply.body) == (400, b"field CallSid is of a leg that no agent called with\n")
    assert target.rows() == before


def api(target: Target, path: str, **values: Any) -> Made:
    """A request of the REST API with a key."""
    wanted: dict[str, Any] = {"method": "GET", "webhook": False, "keyed": True} | values
    return Made(path, headers={"Authorization": f"Bearer {target.sender.keys[0]}"}, **wanted)


def raw(target: Target, environ: dict[str, Any]) -> tuple[int, bytes]:
    """An environment that `Made` cannot make, answered."""
    statuses: list[str] = []
    body = b"".join(target.fast(environ, lambda status, *_: statuses.append(status)))
    return int(statuses[0].split()[0]), body


def test_signatures_here_are_those_of_twilio(target: Target) -> None:
    made = genuine(target, "/v1/voice/status")
    form = parse_qsl(made.body.decode())
    assert target.sender.is_signed(made)
    assert made.headers["X-Twilio-Signature"] == signature_of(PUBLIC_URL + made.target, form, target.sender.token)
