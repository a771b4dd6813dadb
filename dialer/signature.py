"""X-Twilio-Signature: who sent this webhook, and is it as they sent it."""

import hashlib
import hmac
import re
from binascii import b2a_base64
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import chain
from urllib.parse import unquote_to_bytes

FORM = "application/x-www-form-urlencoded"
MAX_FIELDS = 200  # Twilio sends about 40; what sends more is not Twilio
SIGNATURE_LENGTH = 28  # 20 bytes of SHA-1 in base64


@dataclass(frozen=True, slots=True)
class Verdict:
    """Say whether a request is Twilio's, why not, and which URL was hashed."""

    ok: bool
    reason: str
    url: str


def signature_of(url: str, form: Iterable[tuple[str, str]], token: str) -> str:
    """Sign a URL and decoded form fields as Twilio does (Twilio docs, "Webhooks security").

    Fields are sorted by name; the values of a repeated name are sorted, and equal ones count once.
    """
    data = url + "".join(chain.from_iterable(sorted(set(form))))
    return b2a_base64(hmac.digest(token.encode(), data.encode(), "sha1"), newline=False).decode()


def parse_form(body: bytes) -> list[tuple[str, str]]:
    """Decode a form body to (name, value) pairs, empty values kept.

    Raises ValueError for bytes that are not UTF-8 and for more than MAX_FIELDS fields.
    """
    pieces = body.decode().replace("+", " ").split("&")
    if len(pieces) > MAX_FIELDS:
        raise ValueError(f"more than {MAX_FIELDS} form fields")
    pairs = []
    for piece in pieces:
        if piece:
            name, _, value = piece.partition("=")
            pairs.append((unescape(name), unescape(value)))
    return pairs


def unescape(text: str) -> str:
    return unquote_to_bytes(text).decode() if "%" in text else text


def verify(
    *,
    public_url: str,
    raw_uri: str,
    body: bytes,
    content_type: str,
    signature: str | None,
    tokens: Sequence[str],
    form: list[tuple[str, str]] | None = None,
) -> Verdict:
    """Check one request; never raises.

    `public_url` is the configured base without a closing slash, `raw_uri` the path and query as received,
    `tokens` the account's auth tokens (several in a rotation), `form` the body's fields if already parsed.
    """
    url = public_url + raw_uri
    hashed = "bodySHA256=" in raw_uri
    try:
        sealed = check_shape(raw_uri, signature)
        fields = signed_fields(body, content_type, form, hashed=hashed)
        matched = find_match(public_url, raw_uri, fields, usable(tokens), sealed)
    except ValueError as fault:
        return Verdict(False, str(fault), url)
    intact = not hashed or body_matches(raw_uri, body)
    if not matched:
        return Verdict(False, "signature does not match", url)
    return Verdict(True, "", matched) if intact else Verdict(False, "body does not match bodySHA256", url)


def check_shape(raw_uri: str, signature: str | None) -> str:
    """Return the signature; raises ValueError for what cannot have come from Twilio."""
    if not signature:
        raise ValueError("no signature")
    if len(signature) != SIGNATURE_LENGTH or not signature.isascii():
        raise ValueError("malformed signature")
    if not raw_uri.startswith("/") or not raw_uri.isascii():
        raise ValueError("malformed request target")
    return signature


def usable(tokens: Sequence[str]) -> list[str]:
    """Leave out empty tokens, with which anybody could sign; raises ValueError if nothing is left."""
    keys = [token for token in tokens if token]
    if not keys:
        raise ValueError("no auth token to check with")
    return keys


def signed_fields(
    body: bytes, content_type: str, form: list[tuple[str, str]] | None, *, hashed: bool
) -> list[tuple[str, str]]:
    """Return the fields that the signature covers; raises ValueError for a body that nothing vouches for."""
    if content_type == FORM or content_type.partition(";")[0].strip().lower() == FORM:
        return parse_form(body) if form is None else form
    if body and not hashed:
        raise ValueError("body is neither a form nor covered by bodySHA256")
    return []


def body_matches(raw_uri: str, body: bytes) -> bool:
    """Compare the raw body with the hash that Twilio puts in the query of a JSON request."""
    query = raw_uri.partition("?")[2].split("&")
    hashes = [part.removeprefix("bodySHA256=") for part in query if part.startswith("bodySHA256=")]
    actual = hashlib.sha256(body).hexdigest()
    # Exactly one: a second would be open to choice.
    return len(hashes) == 1 and hmac.compare_digest(hashes[0], actual)


def find_match(
    public_url: str, raw_uri: str, fields: list[tuple[str, str]], tokens: Sequence[str], signature: str
) -> str:
    """Return the URL under which the signature is right, or nothing."""
    ordinary = public_url + raw_uri
    if hmac.compare_digest(signature_of(ordinary, fields, tokens[0]), signature):
        return ordinary
    matched = ""
    for url in candidates(public_url, raw_uri):
        for token in tokens:  # to the end: the time taken must not tell which one it was
            if hmac.compare_digest(signature_of(url, fields, token), signature):
                matched = url
    return matched


def candidates(public_url: str, raw_uri: str) -> list[str]:
    """Return the forms of a URL that Twilio is known to sign.

    The port as configured, left out (Twilio does so for voice over https) or the default; an apostrophe as it
    is or escaped (both occur in the test data of Twilio's SDKs).
    """
    scheme, _, rest = public_url.partition("://")
    authority, slash, prefix = rest.partition("/")
    bare = re.sub(r":\d*$", "", authority)
    default = bare + (":443" if scheme.lower() == "https" else ":80")
    urls = [f"{scheme}://{host}{slash}{prefix}{raw_uri}" for host in (authority, bare, default)]
    return list(dict.fromkeys(urls + [url.replace("'", "%27") for url in urls]))
