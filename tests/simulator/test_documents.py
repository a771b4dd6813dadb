"""TwiML is parsed and checked as Twilio would."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.twiml.voice_response import Dial, VoiceResponse

from dialer.simulator.documents import DocumentError, Verb, parse, read_answer
from dialer.simulator.lint import lint

XML = {"Content-Type": "text/xml"}


def codes(body: str) -> list[int]:
    return [finding.code for finding in lint(parse(f"<Response>{body}</Response>"))]


def test_the_sdks_documents_pass_without_a_warning() -> None:
    response = VoiceResponse()
    response.say("Hello & welcome", voice="Polly.Amy", loop=2)
    dial = Dial(action="/after", method="GET", time_limit=60, hangup_on_star=True)
    dial.conference(
        "room",
        participant_label="agent",
        start_conference_on_enter=True,
        end_conference_on_exit=False,
        status_callback="https://a.example/c#rc=5&rp=all",
        status_callback_event="start end join leave",
    )
    response.append(dial)
    gather = response.gather(num_digits=1, action="/keys")
    gather.say("Press")
    response.redirect("/next", method="POST")
    verbs = parse(str(response))
    assert list(lint(verbs)) == []
    assert [verb.name for verb in verbs] == ["Say", "Dial", "Gather", "Redirect"]
    assert verbs[0].text == "Hello & welcome"
    assert verbs[1].children[0].get("statusCallback") == "https://a.example/c#rc=5&rp=all"


@pytest.mark.parametrize(
    ("body", "code"),
    [
        (b"", 12100),
        (b"hello", 12100),
        (b"<Response>", 12100),
        (b" <?xml version='1.0'?><Response/>", 12100),
        (b"<Response>\x01</Response>", 12100),
        (b"<?xml version='1.0' encoding='nonsense'?><Response/>", 12100),
        (b"<!DOCTYPE r [<!ENTITY a 'b'>]><Response>&a;</Response>", 12100),
        (b"<?xml version='2.0'?><Response/>", 12101),
        (b"<response/>", 12102),
    ],
)
def test_documents_that_cannot_be_run(body: bytes, code: int) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(body)
    assert caught.value.code == code


@pytest.mark.parametrize(
    ("headers", "body", "code"),
    [
        ({}, b"<Response/>", 12300),
        ({"Content-Type": "application/json"}, b"{}", 12300),
        (XML, b"", 11770),
        (XML, b" \n", 11770),
        (XML, b"<Response>" + b"x" * 65536 + b"</Response>", 11750),
    ],
)
def test_answers_that_cannot_be_run(headers: dict[str, str], body: bytes, code: int) -> None:
    with pytest.raises(DocumentError) as caught:
        read_answer(headers, body)
    assert caught.value.code == code


@pytest.mark.parametrize("media_type", ["text/xml", "application/xml; charset=utf-8", "TEXT/HTML"])
def test_content_types_of_a_document(media_type: str) -> None:
    assert read_answer({"content-type": media_type}, b"<Response><Pause/></Response>") == [Verb("Pause")]


@pytest.mark.parametrize(
    ("body", "found"),
    [
        ("<Say>Hi</Say><!-- quiet -->", []),
        ("<Shout>Hi</Shout>", [12200]),
        ("<say>Hi</say>", [12200]),
        ("<Dial><Conference label='x'>room</Conference></Dial>", [12200]),
        ("<Dial statusCallback='/x'>+14155550101</Dial>", [12200]),
        ("<Dial><Say>Hi</Say></Dial>", [13215]),
        ("<Gather><Dial/></Gather>", [12200]),
        ("<Dial timeout='soon' method='PUT'/>", [13212, 13210]),
        ("<Dial hangupOnStar='1' timeLimit='-1' record='always'/>", [13213, 13216, 13217]),
        ("<Dial><Conference muted='yes' endConferenceOnExit='' beep='loud'>r</Conference></Dial>",
         [13230, 13231, 13235]),
        ("<Dial><Conference statusCallbackEvent='start begin'>r</Conference></Dial>", [12200]),
        ("<Dial><Number statusCallbackEvent='no-answer'>+14155550101</Number></Dial>", [12200]),
        ("<Redirect method='get'>/x</Redirect>", []),
    ],
)  # fmt: skip
def test_warnings(body: str, found: list[int]) -> None:
    assert codes(body) == found


def test_reading_attributes() -> None:
    verb = Verb("Dial", {"a": " TRUE ", "b": "12", "c": "x", "d": "get"})
    assert (verb.flag("a"), verb.flag("c"), verb.flag("c", True), verb.flag("none")) == (True, False, True, False)
    assert (verb.number("b", 5), verb.number("c", 5), verb.number("none", 5)) == (12, 5, 5)
    assert (verb.choice("c", ("x", "y")), verb.choice("b", ("x", "y"))) == ("x", "x")
    assert (verb.method("d"), verb.method("c"), verb.method("none", "GET")) == ("GET", "POST", "GET")


@given(st.binary(max_size=200) | st.text("<>/Response='& ", max_size=60).map(str.encode))
def test_any_bytes_give_verbs_or_a_document_error(body: bytes) -> None:
    try:
        verbs = parse(body)
    except DocumentError as error:
        assert error.code in (12100, 12101, 12102)
    else:
        list(lint(verbs))


@given(st.text(), st.dictionaries(st.sampled_from(["loop", "voice", "x"]), st.text("ab1<&\"'"), max_size=3))
def test_what_the_sdk_writes_is_read_back(text: str, attributes: dict[str, str]) -> None:
    response = VoiceResponse()
    response.say(text, **attributes)
    try:
        (verb,) = parse(str(response))
    except DocumentError:
        # The SDK lets control characters through, and lone surrogates cannot be encoded.
        assert any(ord(c) < 32 or 0xD800 <= ord(c) <= 0xDFFF or ord(c) in (0xFFFE, 0xFFFF) for c in text)
        return
    assert verb.attributes == attributes
    assert verb.text == text.replace("\r\n", "\n").replace("\r", "\n")
