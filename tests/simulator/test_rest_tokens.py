import base64
import json
from typing import Any

import jwt
import pytest
from hypothesis import given
from hypothesis import strategies as st
from twilio.jwt.access_token import AccessToken
from twilio.jwt.access_token.grants import VoiceGrant

from dialer.simulator.tokens import TokenError, verify_token

ACCOUNT = "AC" + "1" * 32
KEY = "SK" + "2" * 32
SECRET = "s" * 32
APP = "AP" + "3" * 32
KEYS = {ACCOUNT: {KEY: SECRET}}
NOW = 1_800_000_000.0


def make_token(
    secret: str = SECRET, cty: str | None = "twilio-fpa;v=1", algorithm: str = "HS256", **changes: Any
) -> str:
    claims: dict[str, Any] = {
        "iss": KEY,
        "sub": ACCOUNT,
        "nbf": NOW,
        "exp": NOW + 3600,
        "jti": f"{KEY}-{NOW}",
        "grants": {"identity": "alice", "voice": {"outgoing": {"application_sid": APP}}},
    }
    claims.update(changes)
    headers = {"cty": cty} if cty else {}
    return jwt.encode({k: v for k, v in claims.items() if v is not None}, secret, algorithm, headers)


def refusal(token: str, now: float = NOW) -> int:
    with pytest.raises(TokenError) as caught:
        verify_token(token, KEYS, now)
    return caught.value.code


def test_a_token_made_by_the_sdk_is_accepted() -> None:
    grant = VoiceGrant(incoming_allow=True, outgoing_application_sid=APP, outgoing_application_params={"team": "7"})
    token = AccessToken(ACCOUNT, KEY, SECRET, grants=[grant], identity="alice_1", ttl=600)
    claims = jwt.decode(token.to_jwt(), options={"verify_signature": False})
    seen = verify_token(token.to_jwt(), KEYS, claims["nbf"] + 1)
    assert (seen.account_sid, seen.key_sid, seen.identity) == (ACCOUNT, KEY, "alice_1")
    assert (seen.application_sid, seen.params, seen.incoming) == (APP, {"team": "7"}, True)
    assert seen.expires == claims["nbf"] + 600


def test_a_token_without_an_outgoing_grant_only_receives() -> None:
    grants = {"identity": "bob", "voice": {"incoming": {"allow": True}}}
    seen = verify_token(make_token(grants=grants), KEYS, NOW)
    assert seen.application_sid is None
    assert seen.incoming


@pytest.mark.parametrize("token", ["", "nonsense", "a.b.c", "Zm9v.Zm9v.Zm9v"])
def test_what_is_no_token_is_20101(token: str) -> None:
    assert refusal(token) == 20101


def test_a_wrong_header_is_20102() -> None:
    assert refusal(make_token(cty=None)) == 20102
    assert refusal(make_token("s" * 64, algorithm="HS512")) == 20102


def test_an_unsigned_token_is_20102() -> None:
    claims = make_token().split(".")[1]
    header = base64.urlsafe_b64encode(json.dumps({"alg": "none", "cty": "twilio-fpa;v=1"}).encode())
    assert refusal(f"{header.decode().rstrip('=')}.{claims}.") == 20102


def test_another_issuer_or_subject_is_20103() -> None:
    assert refusal(make_token(iss="SK" + "9" * 32)) == 20103
    assert refusal(make_token(sub="AC" + "9" * 32)) == 20103
    assert refusal(make_token(iss=None)) == 20103
    assert refusal(make_token(sub=None)) == 20103


def test_an_expired_token_is_20104_to_the_second() -> None:
    token = make_token(exp=NOW + 10)
    assert verify_token(token, KEYS, NOW + 9.9).identity == "alice"
    assert refusal(token, NOW + 10) == 20104
    assert refusal(make_token(exp=None)) == 20104
    assert refusal(make_token(exp=True)) == 20104


def test_a_future_token_is_20105() -> None:
    assert refusal(make_token(nbf=NOW + 1, exp=NOW + 100)) == 20105


def test_a_token_for_more_than_a_day_is_20157() -> None:
    assert verify_token(make_token(exp=NOW + 86400), KEYS, NOW).expires == NOW + 86400
    assert refusal(make_token(exp=NOW + 86401)) == 20157
    assert refusal(make_token(exp=NOW + 86401, nbf=None)) == 20157


@pytest.mark.parametrize(
    "grants",
    [
        None,
        [],
        {"identity": "alice"},
        {"identity": "alice", "voice": []},
        {"identity": "", "voice": {}},
        {"voice": {}},
        {"identity": "a b", "voice": {}},
        {"identity": "a" * 122, "voice": {}},
        {"identity": "alice", "voice": {"outgoing": "x"}},
        {"identity": "alice", "voice": {"outgoing": {"application_sid": 5}}},
    ],
)
def test_bad_grants_are_20106(grants: Any) -> None:
    assert refusal(make_token(grants=grants)) == 20106


def test_another_secret_is_20107() -> None:
    assert refusal(make_token("x" * 32)) == 20107


def test_a_changed_claim_is_20107() -> None:
    header, _, signature = make_token().split(".")
    other = make_token(grants={"identity": "mallory", "voice": {}}).split(".")[1]
    assert refusal(f"{header}.{other}.{signature}") == 20107


@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda b: base64.b64encode(b).decode() + ".e30.x"))
def test_no_text_breaks_the_check(text: str) -> None:
    assert refusal(text) in range(20101, 20108)
