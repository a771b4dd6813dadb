"""The signature check: Twilio's own test data, the SDK as an oracle, and everything that must be refused."""

from base64 import b64decode, b64encode
from collections.abc import Iterable
from typing import Any
from urllib.parse import urlencode

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st
from twilio.request_validator import RequestValidator
from werkzeug.datastructures import MultiDict

from dialer.signature import MAX_FIELDS, Verdict, parse_form, signature_of, verify

TOKEN = "12345"
BASE = "https://mycompany.com"
PATH = "/myapp.php?foo=1&bar=2"
FORM_TYPE = "application/x-www-form-urlencoded; charset=UTF-8"
P = [
    ("CallSid", "CA1234567890ABCDE"),
    ("Digits", "1234"),
    ("From", "+14158675309"),
    ("To", "+18005551212"),
    ("Caller", "+14158675309"),
]
CONFERENCE = [*P, ("ReasonConferenceEnded", "test"), ("Reason", "Participant")]
EMPTY = [("Digits", ""), ("CallSid", "CA1234567890ABCDE"), ("EmptyParam", "")]
REPEATED = [
    ("Sid", "CA123"),
    ("SidAccount", "AC123"),
    ("Digits", "5678"),
    ("Digits", "1234"),
    ("Digits", "1234"),
]
ADDRESSES = [("MessagingBinding.Address", "+1415xxxxxxx"), ("MessagingBinding.Address", "+1325xxxxxxx")]
JSON = b'{"property": "value", "boolean": true}'
JSON_HASH = "0a1ff7634d9ab3b95db5c9a2dfe9416e41502b283a80c7cf19632632f96e6620"
BRACES_HASH = "44136fa355b3678a1146ad16f7e8649e94fb4fc21fe77e8310c060f61caaff8a"

texts = st.text(st.characters(exclude_categories=["Cs"]), max_size=8)
fields = st.lists(st.tuples(texts, texts), max_size=12)
targets = st.text("abzAZ09/?&=%'+;:@!$()*,~._-", max_size=20).map("/".__add__)
deterministic = settings(deadline=None)


def check(form: Iterable[tuple[str, str]] = P, **changes: Any) -> Verdict:
    """Verify a form post to BASE + PATH, signed for what was sent unless `changes` say otherwise."""
    form = list(form)
    request: dict[str, Any] = {
        "public_url": BASE,
        "raw_uri": PATH,
        "body": urlencode(form).encode(),
        "content_type": FORM_TYPE,
        "tokens": [TOKEN],
        **changes,
    }
    url = request["public_url"] + request["raw_uri"]
    return verify(**{"signature": signature_of(url, form, TOKEN), **request})


def check_json(query: str, signature: str, body: bytes = JSON) -> Verdict:
    raw_uri = "/myapp.php?" + query
    return check([], raw_uri=raw_uri, body=body, content_type="application/json", signature=signature)


# Twilio's test data: the unit tests of the SDKs for Python, Java, Node, PHP, Ruby and Go.


@pytest.mark.parametrize(
    ("form", "signature"),
    [
        pytest.param(P, "RSOYDt4T1cUTdK1PDd93/VVr8B8=", id="form post"),
        pytest.param(REPEATED, "IK+Dwps556ElfBT0I3Rgjkr1wJU=", id="repeated values count once"),
        pytest.param(ADDRESSES, "83O6e2vORAoJHUNzJjDWN1jz+BA=", id="values are sorted"),
        pytest.param(ADDRESSES[::-1], "83O6e2vORAoJHUNzJjDWN1jz+BA=", id="whatever their order"),
        pytest.param(EMPTY, "9HHp/OqQMEwdrVebHDdA/+tqjX8=", id="empty values"),
        pytest.param(CONFERENCE, "vOEb5UThFn24KEfnOFLQY2AE5FY=", id="one name begins with another"),
    ],
)
def test_vectors_of_forms(form: list[tuple[str, str]], signature: str) -> None:
    assert signature_of(BASE + PATH, form, TOKEN) == signature
    assert check(form, signature=signature) == Verdict(True, "", BASE + PATH)


def test_vector_sorted_by_name_and_value_together_is_refused() -> None:
    assert not check(CONFERENCE, signature="95+Bu0JVPi0r/SsESZCVf0dWAjw=").ok


@pytest.mark.parametrize(
    ("public_url", "signature", "hashed"),
    [
        pytest.param(BASE + ":1234", "RSOYDt4T1cUTdK1PDd93/VVr8B8=", BASE, id="https port left out"),
        pytest.param(BASE, "kvajT1Ptam85bY51eRf/AJRuM3w=", BASE + ":443", id="https port added"),
        pytest.param("http://mycompany.com:1234", "Zmvh+3yNM1Phv2jhDCwEM3q5ebU=", None, id="http port kept"),
        pytest.param(
            "http://mycompany.com",
            "0ZXoZLH/DfblKGATFgpif+LLRf4=",
            "http://mycompany.com:80",
            id="http port added",
        ),
        pytest.param(
            "https://user:pass@mycompany.com", "CukzLTc1tT5dXEDIHm/tKBanW10=", None, id="user, password"
        ),
        pytest.param("https://user@mycompany.com", "2YRLlVAflCqxaNicjMpJcSTgzSs=", None, id="user"),
        pytest.param(
            "https://user:pass@mycompany.com",
            "ZQFR1PTIZXF2MXB8ZnKCvnnA+rI=",
            "https://user:pass@mycompany.com:443",
            id="user, password, port added",
        ),
    ],
)
def test_vectors_of_ports_and_credentials(public_url: str, signature: str, hashed: str | None) -> None:
    verdict = check(public_url=public_url, signature=signature)
    assert verdict == Verdict(True, "", (hashed or public_url) + PATH)


def test_vector_of_an_apostrophe_signed_as_it_is_or_escaped() -> None:
    plain, escaped = PATH + "&Body=It's+amazing", PATH + "&Body=It%27s+amazing"
    assert check(raw_uri=plain, signature="dsq4Ehbj6cs+KdTkpF5sSSplOWw=") == Verdict(True, "", BASE + plain)
    signature = signature_of(BASE + escaped, P, TOKEN)
    assert check(raw_uri=plain, signature=signature) == Verdict(True, "", BASE + escaped)
    with_port = signature_of(BASE + ":443" + escaped, P, TOKEN)
    assert check(raw_uri=plain, signature=with_port) == Verdict(True, "", BASE + ":443" + escaped)


@pytest.mark.parametrize(
    ("query", "signature", "body"),
    [
        (f"foo=1&bar=2&bodySHA256={JSON_HASH}", "a9nBmqA0ju/hNViExpshrM61xv4=", JSON),
        (f"bodySHA256={JSON_HASH}", "y77kIzt2vzLz71DgmJGsen2scGs=", JSON),
        (f"foo=1&bar=2&bodySHA256={BRACES_HASH}", "Ldidvp12m26NI7eqEvxnEpkd9Hc=", b"{}"),
    ],
)
def test_vectors_of_json_bodies(query: str, signature: str, body: bytes) -> None:
    assert check_json(query, signature, body).ok
    assert check_json(query, signature, body + b" ").reason == "body does not match bodySHA256"
    assert not check_json(query, signature, b"").ok


# The SDK as an oracle.


@deterministic
@given(targets, fields, texts)
@example("/a?b", [("Digits", "2"), ("Digits", "10"), ("Digits", ""), ("digits", "ñ"), ("", "")], "token")
def test_same_signature_as_the_sdk(raw_uri: str, form: list[tuple[str, str]], token: str) -> None:
    expected = RequestValidator(token).compute_signature(BASE + raw_uri, MultiDict(form))
    assert signature_of(BASE + raw_uri, form, token) == expected


@deterministic
@given(targets, fields)
def test_what_the_sdk_signs_is_accepted(raw_uri: str, form: list[tuple[str, str]]) -> None:
    form = [pair for pair in form if pair != ("", "")]
    signature = RequestValidator(TOKEN).compute_signature(BASE + raw_uri, MultiDict(form))
    if "bodySHA256=" not in raw_uri:
        assert check(form, raw_uri=raw_uri, signature=signature) == Verdict(True, "", BASE + raw_uri)


@deterministic
@given(st.integers(0, 159))
def test_a_signature_with_one_bit_flipped_is_refused(bit: int) -> None:
    digest = int.from_bytes(b64decode(signature_of(BASE + PATH, P, TOKEN))) ^ (1 << bit)
    assert check(signature=b64encode(digest.to_bytes(20)).decode()).reason == "signature does not match"


@deterministic
@given(st.data())
def test_a_body_with_one_bit_flipped_is_refused_unless_it_says_the_same(data: st.DataObject) -> None:
    body = bytearray(urlencode(P).encode())
    body[data.draw(st.integers(0, len(body) - 1))] ^= 1 << data.draw(st.integers(0, 7))
    signature = signature_of(BASE + PATH, P, TOKEN)
    try:
        same = signature_of(BASE + PATH, parse_form(bytes(body)), TOKEN) == signature
    except ValueError:
        same = False
    assert check(body=bytes(body), signature=signature).ok == same


@deterministic
@given(st.binary(), st.text(), st.text(), st.one_of(st.none(), st.text()), st.lists(st.text()), fields)
@example(b"", "/", FORM_TYPE, "A" * 27 + "=", [""], [])
@example(b"a=%ff", "/", FORM_TYPE, "A" * 27 + "=", ["t"], [])
@example(b"", "/\udcff", FORM_TYPE, "ñ" * 28, ["\udcff"], [])
def test_nothing_raises(
    body: bytes,
    raw_uri: str,
    content_type: str,
    signature: str | None,
    tokens: list[str],
    form: list[tuple[str, str]],
) -> None:
    for given_form in (None, form):
        verdict = verify(
            public_url=BASE,
            raw_uri=raw_uri,
            body=body,
            content_type=content_type,
            signature=signature,
            tokens=tokens,
            form=given_form,
        )
        assert not verdict.ok
        assert verdict.reason
        assert verdict.url == BASE + raw_uri


# The URL, byte for byte.


@pytest.mark.parametrize(
    "raw_uri",
    [
        "/a?q=It%27s",
        "/a?q=a%2fb",
        "/a?q=a%2Fb",
        "/%7Eb",
        "/%C3%B1",
        "/a?",
        "/a??",
        "/a?b#",
        "//a",
        "/a?q=a+b",
        "/",
    ],
)
def test_the_url_is_hashed_as_it_came(raw_uri: str) -> None:
    signature = RequestValidator(TOKEN).compute_signature(BASE + raw_uri, MultiDict(P))
    assert check(raw_uri=raw_uri, signature=signature) == Verdict(True, "", BASE + raw_uri)


@pytest.mark.parametrize(
    ("signed", "received"),
    [
        ("/a?q=%2f", "/a?q=%2F"),
        ("/a?q=%2F", "/a?q=/"),
        ("/a?q=%7E", "/a?q=~"),
        ("/a?", "/a"),
        ("/a", "/a?"),
        ("/a?q=a+b", "/a?q=a%20b"),
        ("/a?x=1&y=2", "/a?y=2&x=1"),
        ("/a#rc=5", "/a"),
        ("/a/", "/a"),
        ("/A", "/a"),
    ],
)
def test_a_url_written_in_another_way_is_refused(signed: str, received: str) -> None:
    assert not check(raw_uri=received, signature=signature_of(BASE + signed, P, TOKEN)).ok


@pytest.mark.parametrize(
    "other", ["http://mycompany.com", BASE + ":8443", "https://example.com", BASE + "/prefix"]
)
def test_another_scheme_port_host_or_prefix_is_refused(other: str) -> None:
    assert not check(signature=signature_of(other + PATH, P, TOKEN)).ok


def test_a_port_is_looked_for_in_the_authority_alone() -> None:
    def accepts(signed: str) -> bool:
        signature = signature_of(signed + PATH, P, TOKEN)
        return check(public_url="https://[::1]:8443/calls:80", signature=signature).ok

    assert accepts("https://[::1]/calls:80")
    assert accepts("https://[::1]:443/calls:80")
    assert not accepts("https://[::1]:8443/calls")


@pytest.mark.parametrize("raw_uri", ["", "myapp.php", "https://example.com/", "*", "/ñ", "@example.com/"])
def test_a_malformed_target_is_refused_even_if_signed(raw_uri: str) -> None:
    assert check(raw_uri=raw_uri).reason == "malformed request target"


# Tokens, signatures and bodies.


def test_every_token_of_a_rotation_is_tried() -> None:
    assert check(tokens=["old", TOKEN]).ok
    assert check(tokens=["old", "older", TOKEN], public_url=BASE, signature="kvajT1Ptam85bY51eRf/AJRuM3w=").ok
    assert not check(tokens=["old", "older"]).ok


def test_without_a_token_nothing_is_accepted() -> None:
    unkeyed = signature_of(BASE + PATH, P, "")
    assert check(tokens=[], signature=unkeyed).reason == "no auth token to check with"
    assert check(tokens=[""], signature=unkeyed).reason == "no auth token to check with"
    assert check(tokens=["", "other"], signature=unkeyed).reason == "signature does not match"


@pytest.mark.parametrize(
    ("signature", "reason"),
    [
        (None, "no signature"),
        ("", "no signature"),
        ("RSOYDt4T1cUTdK1PDd93/VVr8B8", "malformed signature"),
        ("RSOYDt4T1cUTdK1PDd93/VVr8B8= ", "malformed signature"),
        ("RSOYDt4T1cUTdK1PDd93/VVr8B8ñ", "malformed signature"),
        ("RSOYDt4T1cUTdK1PDd93/VVr8B9=", "signature does not match"),  # decodes to the same bytes
        ("rsoydt4t1cutdk1pdd93/vvr8b8=", "signature does not match"),
    ],
)
def test_a_signature_of_another_shape_is_refused(signature: str | None, reason: str) -> None:
    assert check(signature=signature) == Verdict(False, reason, BASE + PATH)


def test_a_get_signs_the_url_alone() -> None:
    assert check([], body=b"", content_type="").ok
    assert not check([], body=b"", content_type="", signature=signature_of(BASE + PATH, P, TOKEN)).ok


@pytest.mark.parametrize(
    "content_type", ["", "application/json", "multipart/form-data; boundary=x", "text/plain"]
)
def test_a_body_that_nothing_vouches_for_is_refused(content_type: str) -> None:
    verdict = check([], body=b"To=%2B1900", content_type=content_type)
    assert verdict.reason == "body is neither a form nor covered by bodySHA256"


@pytest.mark.parametrize(
    "content_type", [FORM_TYPE, "application/x-www-form-urlencoded", "Application/X-WWW-Form-URLencoded ;"]
)
def test_a_form_may_name_its_type_in_any_way(content_type: str) -> None:
    assert check(content_type=content_type).ok


@pytest.mark.parametrize(
    "query", [f"bodySHA256={JSON_HASH}&bodySHA256={JSON_HASH}", "bodySHA256=", f"xbodySHA256={JSON_HASH}"]
)
def test_a_signed_url_without_one_clear_hash_is_refused(query: str) -> None:
    assert check_json(query, signature_of(f"{BASE}/myapp.php?{query}", [], TOKEN)).reason


def test_a_json_request_cannot_be_replayed_as_an_empty_form() -> None:
    signature = "a9nBmqA0ju/hNViExpshrM61xv4="
    raw_uri = f"{PATH}&bodySHA256={JSON_HASH}"
    assert not check([], raw_uri=raw_uri, body=b"", signature=signature).ok


def test_a_form_already_parsed_is_what_counts() -> None:
    def accepts(body: bytes, form: list[tuple[str, str]]) -> bool:
        return verify(
            public_url=BASE,
            raw_uri=PATH,
            body=body,
            content_type=FORM_TYPE,
            signature=signature_of(BASE + PATH, P, TOKEN),
            tokens=[TOKEN],
            form=form,
        ).ok

    assert accepts(b"", P)
    assert not accepts(urlencode(P).encode(), P[1:])


# Parsing.


@deterministic
@given(fields)
def test_parse_form_undoes_urlencode(form: list[tuple[str, str]]) -> None:
    assert parse_form(urlencode(form).encode()) == form


def test_parse_form_keeps_order_repeats_and_empty_values() -> None:
    assert parse_form(b"b=2&a=&a&b=1&b=2") == [("b", "2"), ("a", ""), ("a", ""), ("b", "1"), ("b", "2")]
    assert parse_form(b"a=b=c&&x+y=%2B1+2") == [("a", "b=c"), ("x y", "+1 2")]
    assert parse_form("n=ñ&m=%C3%B1&p=%zz%".encode()) == [("n", "ñ"), ("m", "ñ"), ("p", "%zz%")]
    assert parse_form(b"") == []


@pytest.mark.parametrize("body", [b"a=\xff", b"a=%ff", b"%ff=a", b"a=%C3", b"&" * MAX_FIELDS])
def test_parse_form_refuses_what_is_not_form_data(body: bytes) -> None:
    with pytest.raises(ValueError):
        parse_form(body)
    assert check([], body=body).reason


def test_parse_form_takes_as_many_fields_as_allowed() -> None:
    assert len(parse_form(b"&".join([b"a=1"] * MAX_FIELDS))) == MAX_FIELDS
