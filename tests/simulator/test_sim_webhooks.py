"""Signatures, overrides, time-outs, retries, fallback, redirects and the injected faults."""

from __future__ import annotations

from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator

from dialer.simulator import Faults, Knobs, WebAnswer, WebRequest
from dialer.simulator.addresses import resolve, split_overrides
from dialer.simulator.webhooks import sign, signed_url

if TYPE_CHECKING:
    from tests.simulator.conftest import Play

U = "https://mycompany.com/myapp.php?foo=1&bar=2"
P = [
    ("CallSid", "CA1234567890ABCDE"),
    ("Digits", "1234"),
    ("From", "+14158675309"),
    ("To", "+18005551212"),
    ("Caller", "+14158675309"),
]
EMPTY = WebAnswer(200, {"Content-Type": "text/xml"}, b"<Response/>")


@pytest.mark.parametrize(
    ("fields", "signature"),
    [
        pytest.param(P, "RSOYDt4T1cUTdK1PDd93/VVr8B8=", id="V01"),
        pytest.param(
            [("Sid", "CA123"), ("SidAccount", "AC123"), ("Digits", "5678"), ("Digits", "1234"), ("Digits", "1234")],
            "IK+Dwps556ElfBT0I3Rgjkr1wJU=",
            id="V02",
        ),
        pytest.param(
            [("Digits", ""), ("CallSid", "CA1234567890ABCDE"), ("EmptyParam", "")],
            "9HHp/OqQMEwdrVebHDdA/+tqjX8=",
            id="V15",
        ),
        pytest.param(
            [*P, ("ReasonConferenceEnded", "test"), ("Reason", "Participant")],
            "vOEb5UThFn24KEfnOFLQY2AE5FY=",
            id="V27",
        ),
    ],
)
def test_the_official_vectors(fields: list[tuple[str, str]], signature: str) -> None:
    assert sign("12345", U, fields) == signature


@given(
    st.text(min_size=1, max_size=40),
    st.dictionaries(st.text(min_size=1), st.text()),
    st.text("abc/?&=%", max_size=9),
)
def test_the_signature_is_the_official_one(token: str, fields: dict[str, str], path: str) -> None:
    url = f"https://app.example/{path}"
    assert sign(token, url, list(fields.items())) == RequestValidator(token).compute_signature(url, fields)


@pytest.mark.parametrize(
    ("url", "signed"),
    [
        ("https://a.example:8443/x?y=1", "https://a.example/x?y=1"),
        ("https://user:pass@a.example:8443/x", "https://a.example/x"),
        ("http://user:pass@a.example:8000/x", "http://a.example:8000/x"),
        ("https://a.example", "https://a.example"),
    ],
)
def test_what_is_signed_of_a_url(url: str, signed: str) -> None:
    assert signed_url(url) == signed


def test_a_request_passes_the_official_validator(play: Play) -> None:
    story = play(voice="<Response/>")
    story.connect(note="a&b é")
    story.run(5)
    for heard in story.heard:
        request = heard.request
        validator = RequestValidator(story.account.auth_token)
        assert validator.validate(request.url, dict(request.form), request.headers["X-Twilio-Signature"])
        assert request.headers["User-Agent"] == "TwilioProxy/1.1"
        assert request.headers["Content-Type"] == "application/x-www-form-urlencoded; charset=UTF-8"


def test_a_get_carries_its_fields_in_the_query(play: Play) -> None:
    story = play(join="<Response/>")
    story.call(Url="https://app.example/join?s=1", Method="GET")
    story.run(10)
    (heard,) = story.told("voice")
    assert heard.request.method == "GET"
    assert heard.request.form == []
    assert heard.request.url.startswith("https://app.example/join?s=1&AccountSid=AC")
    validator = RequestValidator(story.account.auth_token)
    assert validator.validate(heard.request.url, {}, heard.request.headers["X-Twilio-Signature"])


def test_overrides() -> None:
    url, policy = split_overrides("https://a.example/x?y=1#ct=2000&rt=3000&tt=8000&rc=2&rp=4xx,5xx", 1, "ct")
    assert url == "https://a.example/x?y=1"
    assert (policy.connect, policy.read, policy.total, policy.retries) == (2.0, 3.0, 8.0, 2)
    assert policy.retry_on == {"4xx", "5xx"}
    assert policy.bad == ""
    _, plain = split_overrides("https://a.example/", 1, "ct")
    assert (plain.connect, plain.read, plain.total, plain.retries) == (5.0, 15.0, 15.0, 1)


@pytest.mark.parametrize("fragment", ["rc=6", "ct=99", "rt=15001", "rp=all,never", "tt=-5", "rc=x"])
def test_a_bad_override_is_ignored_with_an_alert(play: Play, fragment: str) -> None:
    story = play(join="<Response/>")
    story.call(Url=f"https://app.example/join#{fragment}")
    story.run(10)
    assert story.alerts() == [11243]
    request = story.told("voice")[0].request
    assert (request.connect_timeout, request.read_timeout, request.total_timeout) == (5.0, 15.0, 15.0)


@pytest.mark.parametrize(
    ("fragment", "answer", "attempts"),
    [
        ("", WebAnswer.failure("connect"), 2),
        ("", WebAnswer.failure("reset"), 1),
        ("", WebAnswer(500), 1),
        ("#rc=3&rp=5xx", WebAnswer(500), 4),
        ("#rc=3&rp=5xx", WebAnswer(404), 1),
        ("#rc=2&rp=4xx", WebAnswer(404), 3),
        ("#rc=5&rp=all", WebAnswer.failure("timeout"), 6),
        ("#rc=0", WebAnswer.failure("connect"), 1),
    ],
)
def test_retries(play: Play, fragment: str, answer: WebAnswer, attempts: int) -> None:
    story = play(join="<Response/>", status=answer)
    story.call(StatusCallback=f"https://app.example/status{fragment}", StatusCallbackEvent="completed")
    story.run(60)
    told = story.told("status")
    assert [heard.request.attempt for heard in told] == list(range(1, attempts + 1))
    assert len({heard.request.headers["I-Twilio-Idempotency-Token"] for heard in told}) == 1
    assert len({heard.request.headers["X-Twilio-Signature"] for heard in told}) == 1
    assert len({heard.request.id for heard in told}) == attempts
    assert story.alerts() == [15003]


def test_all_attempts_together_have_fifteen_seconds(play: Play) -> None:
    story = play(join="<Response/>", status=None)
    url = "https://app.example/status#rc=5&rp=all&rt=6000&ct=100"
    story.call(StatusCallback=url, StatusCallbackEvent="completed")
    story.run(60)
    told = story.told("status")
    assert len(told) == 3
    assert 14.0 < told[-1].at + told[-1].request.total_timeout - told[0].at <= 15.0


def test_a_good_answer_is_not_retried(play: Play) -> None:
    answers = iter([WebAnswer(500), WebAnswer(204)])
    story = play(join="<Response/>", status=lambda request: next(answers))
    story.call(StatusCallback="https://app.example/status#rc=5&rp=all", StatusCallbackEvent="completed")
    story.run(60)
    assert (len(story.told("status")), story.alerts()) == (2, [])


def test_an_answer_after_the_time_out_is_ignored(play: Play) -> None:
    kept: list[WebRequest] = []
    story = play(voice=lambda request: kept.append(request))
    agent = story.connect()
    story.run(16)
    story.network.answer(kept[0].id, EMPTY)
    story.network.answer("WR-unknown", EMPTY)
    assert agent.ended_by == ""
    story.run(10)
    assert agent.ended_by == "application-error"


def test_the_fallback_url_gets_the_error(play: Play) -> None:
    story = play(join=WebAnswer(500), fallback="<Response><Say>Sorry</Say></Response>")
    call = story.call(FallbackUrl="https://app.example/fallback")
    story.run(20)
    (fallback,) = story.told("fallback")
    assert fallback.fields["ErrorCode"] == "11200"
    assert fallback.fields["ErrorUrl"] == "https://app.example/join"
    assert fallback.fields["CallStatus"] == "in-progress"
    assert story.entries("said") == [{"text": "Sorry"}]
    assert call.ended_by == "program"


def test_the_fallback_of_a_browser_keeps_its_parameters(play: Play) -> None:
    story = play(voice="<Respond/>", fallback="<Response/>")
    story.app.voice_fallback_url = "https://app.example/fallback"
    story.connect(workspaceId="42")
    story.run(5)
    (fallback,) = story.told("fallback")
    assert (fallback.fields["workspaceId"], fallback.fields["ErrorCode"]) == ("42", "12102")


def test_a_failing_fallback_ends_in_the_apology(play: Play) -> None:
    story = play(join=WebAnswer(500), fallback=WebAnswer(500))
    call = story.call(FallbackUrl="https://app.example/fallback")
    story.run(20)
    assert len(story.told("fallback")) == 1
    assert (call.ended_by, story.alerts()) == ("application-error", [11200, 11200])


def test_redirects_are_followed(play: Play) -> None:
    story = play(join=WebAnswer(302, {"Location": "/other"}), other="<Response><Say>Hi</Say></Response>")
    story.call()
    story.run(20)
    first, second = story.told("voice")
    assert (first.request.method, second.request.method, second.path) == ("POST", "GET", "/other")
    assert second.fields["CallStatus"] == "in-progress"
    assert story.entries("said") == [{"text": "Hi"}]


@pytest.mark.parametrize(
    ("answer", "code", "requests"),
    [(WebAnswer(302, {"Location": "/join"}), 11215, 11), (WebAnswer(302), 11216, 1)],
)
def test_redirects_that_lead_nowhere(play: Play, answer: WebAnswer, code: int, requests: int) -> None:
    story = play(join=answer)
    story.call()
    story.run(20)
    assert (story.alerts(), len(story.told("voice"))) == ([code], requests)


def test_cookies_are_kept_within_a_call(play: Play) -> None:
    page = b"<Response><Redirect>/next</Redirect></Response>"
    headers = {"Content-Type": "text/xml", "Set-Cookie": "session=7; Path=/\nlanguage=de; Secure"}
    story = play(join=WebAnswer(200, headers, page), next="<Response/>")
    story.call()
    story.run(20)
    assert "Cookie" not in story.told("voice")[0].request.headers
    assert story.told("redirect")[0].request.headers["Cookie"] == "session=7; language=de"


def test_text_is_spoken_and_audio_is_played(play: Play) -> None:
    story = play(join=WebAnswer(200, {"Content-Type": "text/plain"}, b"Good day to you"))
    story.call()
    story.run(20)
    assert story.entries("said") == [{"text": "Good day to you"}]
    story.pages["/join"] = WebAnswer(200, {"Content-Type": "audio/mpeg"}, b"...")
    call = story.call()
    story.run(20)
    assert call.duration == 4  # 3 s of sound and the fetch


def test_resolve() -> None:
    assert resolve("https://a.example/x/y?z=1", "../b#rc=1") == "https://a.example/b#rc=1"
    assert resolve("https://a.example/x", "?s=1") == "https://a.example/x?s=1"
    assert resolve(None, "https://a.example/") == "https://a.example/"
    assert resolve(None, "/relative") == ""
    assert resolve("https://a.example/x", "ftp://a.example/") == ""


def faulty(name: str, probability: float = 1.0) -> Faults:
    return replace(Faults(), **{name: probability})


def test_a_lost_callback_is_never_sent(play: Play) -> None:
    story = play(faults=faulty("webhook_lost"), join="<Response/>")
    call = story.call(StatusCallback="https://app.example/status#rc=5&rp=all")
    story.run(20)
    assert (story.told("status"), len(story.told("voice"))) == ([], 1)
    assert (call.status, story.network.injected["webhook_lost"]) == ("completed", 4)


def test_an_unreachable_application_is_retried_then_given_up(play: Play) -> None:
    story = play(faults=faulty("webhook_unreachable"), join="<Response/>")
    call = story.call(StatusCallback="")
    story.run(20)
    assert (story.heard, call.ended_by) == ([], "application-error")
    assert story.network.injected["webhook_unreachable"] == 2


def test_a_lost_answer_is_a_read_time_out(play: Play) -> None:
    story = play(faults=faulty("webhook_answer_lost"), join="<Response/>")
    call = story.call(Url="https://app.example/join#rt=1000&rc=2&rp=rt", StatusCallback="")
    story.run(20)
    assert len(story.told("voice")) == 3
    assert call.ended_by == "application-error"


def test_a_repeated_webhook_has_the_same_token(play: Play) -> None:
    story = play(faults=faulty("webhook_repeated"), join="<Response><Pause length='5'/></Response>")
    story.call(StatusCallbackEvent="completed")
    story.run(20)
    assert len(story.told("voice")) == len(story.told("status")) == 2
    first, second = story.told("voice")
    token = "I-Twilio-Idempotency-Token"
    assert first.request.headers[token] == second.request.headers[token]
    assert first.fields == second.fields
    assert story.kinds().count("program-start") == 1


def test_late_callbacks_come_late_and_the_call_does_not_wait(play: Play) -> None:
    story = play(faults=faulty("webhook_late"), join="<Response/>")
    call = story.call(StatusCallbackEvent="completed")
    story.run(60)
    (told,) = story.told("status")
    assert call.end_time is not None
    assert 1.0 < told.at - call.end_time < 15.2


def test_reordered_callbacks_overtake_each_other(play: Play) -> None:
    story = play(faults=faulty("webhook_reordered", 0.5), join="<Response/>")
    orders = set()
    for _ in range(20):
        call = story.call()
        story.run(20)
        orders.add(tuple(heard.event for heard in story.told("status", call)))
    assert len(orders) > 1


def test_duplicates_by_the_knob(play: Play) -> None:
    story = play(Knobs(cps=float("inf"), duplicate_callbacks=1.0), join="<Response/>")
    story.call(StatusCallbackEvent="completed")
    story.run(20)
    assert (len(story.told("status")), len(story.told("voice"))) == (2, 1)
    assert story.network.injected == {}
