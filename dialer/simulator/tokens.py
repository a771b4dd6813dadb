"""The AccessToken a browser shows: what is checked, and the error code of each refusal."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

import jwt
from jwt.types import Options

LONGEST = 86400  # seconds a token may live (Twilio docs, error 20157)
CONTENT_TYPE = "twilio-fpa;v=1"
_TIMES_UNCHECKED: Options = {  # checked here instead, because the clock may be a virtual one
    "verify_exp": False,
    "verify_nbf": False,
    "verify_iat": False,
    "verify_aud": False,
}
IDENTITY = re.compile(r"[A-Za-z0-9_]{1,121}")  # Twilio docs, twiliodevice


class TokenError(Exception):
    """A token Twilio would refuse; `code` is from its error dictionary (20101 to 20107, 20157)."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code
        self.message = message


@dataclass(frozen=True)
class VoiceToken:
    """What a valid token grants."""

    account_sid: str
    key_sid: str
    identity: str
    expires: float  # epoch seconds
    application_sid: str | None = None
    params: Mapping[str, str] = field(default_factory=dict)
    incoming: bool = False


def verify_token(token: str, keys: Mapping[str, Mapping[str, str]], now: float) -> VoiceToken:
    """Check a token at `now`; `keys` is account SID -> API key SID -> secret. Raises TokenError."""
    claims = _read_unverified(token)
    account_sid, key_sid = _read_parties(claims)
    secret = keys.get(account_sid, {}).get(key_sid)
    if secret is None:
        raise TokenError(20103, f"issuer {key_sid!r} is no API key of account {account_sid!r}")
    _check_signature(token, secret)
    expires = _check_times(claims, now)
    return _read_grants(claims, account_sid, key_sid, expires)


def _read_unverified(token: str) -> dict[str, Any]:
    try:
        header = jwt.get_unverified_header(token)
        claims: dict[str, Any] = jwt.decode(token, options={"verify_signature": False})
    except jwt.InvalidTokenError as error:
        raise TokenError(20101, f"not a JSON web token: {error}") from error
    if header.get("alg") != "HS256" or header.get("cty") != CONTENT_TYPE:
        raise TokenError(20102, f"the header must say alg HS256 and cty {CONTENT_TYPE}")
    return claims


def _read_parties(claims: Mapping[str, Any]) -> tuple[str, str]:
    account_sid, key_sid = claims.get("sub"), claims.get("iss")
    if not isinstance(account_sid, str) or not isinstance(key_sid, str):
        raise TokenError(20103, "the token needs an issuer (API key SID) and a subject (account SID)")
    return account_sid, key_sid


def _check_signature(token: str, secret: str) -> None:
    try:
        jwt.decode(token, secret, algorithms=["HS256"], options=_TIMES_UNCHECKED)
    except jwt.InvalidSignatureError as error:
        raise TokenError(20107, "the signature is not made with this API key's secret") from error
    except jwt.InvalidTokenError as error:
        raise TokenError(20101, str(error)) from error


def _check_times(claims: Mapping[str, Any], now: float) -> float:
    expires, starts = _read_time(claims, "exp", None), _read_time(claims, "nbf", now)
    if expires <= now:
        raise TokenError(20104, "the token has expired")
    if starts > now:
        raise TokenError(20105, "the token is not valid yet")
    if expires - starts > LONGEST:
        raise TokenError(20157, f"the token lives longer than {LONGEST} seconds")
    return expires


def _read_time(claims: Mapping[str, Any], name: str, default: float | None) -> float:
    value = claims.get(name, default)
    if isinstance(value, bool) or not isinstance(value, int | float):
        raise TokenError(20104, f"{name} must be a number of seconds")
    return value


def _read_grants(claims: Mapping[str, Any], account_sid: str, key_sid: str, expires: float) -> VoiceToken:
    grants = claims.get("grants")
    voice = grants.get("voice") if isinstance(grants, dict) else None
    if not isinstance(grants, dict) or not isinstance(voice, dict):
        raise TokenError(20106, "the token has no voice grant")
    identity = grants.get("identity")
    if not isinstance(identity, str) or not IDENTITY.fullmatch(identity):
        raise TokenError(20106, "the identity must be 1 to 121 letters, digits or underscores")
    incoming, outgoing = _section(voice, "incoming"), _section(voice, "outgoing")
    return VoiceToken(
        account_sid=account_sid,
        key_sid=key_sid,
        identity=identity,
        expires=expires,
        application_sid=_section_text(outgoing, "application_sid"),
        params={str(name): str(value) for name, value in _section(outgoing, "params").items()},
        incoming=incoming.get("allow") is True,
    )


def _section(parent: Mapping[str, Any], name: str) -> Mapping[str, Any]:
    value = parent.get(name, {})
    if not isinstance(value, dict):
        raise TokenError(20106, f"the grant {name!r} must be an object")
    return value


def _section_text(section: Mapping[str, Any], name: str) -> str | None:
    value = section.get(name)
    if value is not None and not isinstance(value, str):
        raise TokenError(20106, f"the grant {name!r} must be a text")
    return value
