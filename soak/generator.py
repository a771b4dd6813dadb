"""Requests that nobody should send, made from a seed and a number: each can be made again by itself.

A `Sender` has everything that requests are made of. Most start as what Twilio or a client of the API sends, and are
then spoilt in a few ways: that gets deeper than noise does.
"""

from __future__ import annotations

import io
from dataclasses import dataclass, field
from random import Random
from typing import Any
from urllib.parse import parse_qsl, urlencode

from twilio.request_validator import RequestValidator
from werkzeug.datastructures import MultiDict

from dialer.signature import FORM, MAX_FIELDS, signature_of
from soak.pools import (
    API_PATHS,
    DATES,
    EVENTS,
    JSONS,
    LENGTHS,
    MAX_BODY,
    METHODS,
    NAMES,
    ODD,
    PATHS,
    QUERY_NAMES,
    RAW,
    STATUSES,
    TYPES,
    VALUES,
)

Form = list[tuple[str, str]]


@dataclass(slots=True)
class Made:
    """One request. `signed`: the signature is right for what is sent; `keyed`: it carries a good key."""

    path: str
    query: str = ""
    method: str = "POST"
    body: bytes = b""
    content_type: str = FORM
    length: str | None = None
    headers: dict[str, str] = field(default_factory=dict)
    webhook: bool = True
    signed: bool = False
    keyed: bool = False

    def received(self) -> bytes:
        """As much of the body as its length says; nothing for a length that is none, or too much."""
        try:
            length = len(self.body) if self.length is None else int(self.length or 0)
        except ValueError:
            return b""
        return self.body[:length] if 0 < length <= MAX_BODY else b""

    @property
    def target(self) -> str:
        return self.path + (f"?{self.query}" if self.query else "")

    def environ(self) -> dict[str, Any]:
        """As a WSGI server would hand it on."""
        return {
            "REQUEST_METHOD": self.method,
            "PATH_INFO": self.path,
            "QUERY_STRING": self.query,
            "RAW_URI": self.target,
            "SERVER_NAME": "dialer.example",
            "SERVER_PORT": "443",
            "SERVER_PROTOCOL": "HTTP/1.1",
            "REMOTE_ADDR": "127.0.0.1",
            "CONTENT_TYPE": self.content_type,
            "CONTENT_LENGTH": str(len(self.body)) if self.length is None else self.length,
            "wsgi.url_scheme": "https",
            "wsgi.input": io.BytesIO(self.body),
            "wsgi.errors": io.StringIO(),
            **{f"HTTP_{name.upper().replace('-', '_')}": value for name, value in self.headers.items()},
        }


@dataclass(slots=True)
class Sender:
    """What requests are made of: an application's address, its accounts' secrets, its keys and its calls."""

    public_url: str
    account_sid: str
    token: str
    keys: list[str]
    calls: list[dict[str, str]]
    webhooks: dict[str, tuple[str, ...]]

    def make(self, seed: int, number: int) -> Made:
        """Request `number` of a seed."""
        random = Random((seed << 64) + number)
        draw = random.random()
        if draw < 0.2:
            return self.api(random)
        made = self.webhook(random)
        form = self.form(random, made.path)
        if draw < 0.45:
            return self.sign(made, spoil_form(random, form))
        return self.forge(random, made, form)

    def webhook(self, random: Random) -> Made:
        path = random.choice(list(self.webhooks))
        call, draw = random.choice(self.calls), random.random()
        if draw < 0.6:
            return Made(path, urlencode({"intent": call["intent"], "conference": call["conference"]}))
        return Made(path, "" if draw < 0.8 else any_query(random))

    def form(self, random: Random, path: str) -> Form:
        """What Twilio would send there, of a call that is or is not there."""
        call = random.choice(self.calls)
        known = {
            "AccountSid": self.account_sid,
            "CallSid": random.choice([call["agent"], call["customer"], f"CA{random.getrandbits(128):032x}"]),
            "Caller": "client:ws_demo_agent_0",
            "To": "+14155550103",
            "From": "+14155550199",
            "CallStatus": random.choice(STATUSES),
            "StatusCallbackEvent": random.choice(EVENTS),
            "ConferenceSid": "CF" + "e" * 32,
            "FriendlyName": call["conference"],
            "ParticipantLabel": random.choice(["agent", "customer", ""]),
            "SequenceNumber": str(random.randrange(9)),
            "Timestamp": DATES[0],
            "RecordingSid": "RE" + "b" * 32,
            "RecordingStatus": "completed",
            "AnsweredBy": "human",
        }
        names = [*self.webhooks[path], *random.sample(list(known), 4)]
        return [(name, known.get(name, "x")) for name in dict.fromkeys(names)]

    def sign(self, made: Made, form: Form) -> Made:
        """Send this form as Twilio would."""
        made.headers["X-Twilio-Signature"] = signature_of(self.public_url + made.target, form, self.token)
        made.body = urlencode(form).encode()
        made.signed = len(made.body) <= MAX_BODY and len(form) <= MAX_FIELDS and self.is_ours(made, form)
        return made

    def forge(self, random: Random, made: Made, form: Form) -> Made:
        """Sign it, and send something else; sometimes it comes to the same, as `signed` then says."""
        self.sign(made, form)
        random.choice(FORGERIES)(random, made)
        made.signed = self.is_signed(made)
        return made

    def is_ours(self, made: Made, form: Form) -> bool:
        """Whether a form says that it is of our account, or does not say; a URL is ASCII."""
        return dict(form).get("AccountSid", "") in ("", self.account_sid) and made.target.isascii()

    def is_signed(self, made: Made) -> bool:
        """Whether Twilio's own library finds the signature right; wherever the request is no form, it is not."""
        signature = made.headers.get("X-Twilio-Signature", "")
        usual, body = made.method.upper() == "POST" and made.path in self.webhooks, made.received()
        if not usual or made.content_type.partition(";")[0].strip().lower() != FORM:
            return False
        try:
            fields = parse_qsl(body.decode(), keep_blank_values=True, errors="strict", max_num_fields=MAX_FIELDS)
        except ValueError:
            return False
        url = self.public_url + made.target
        valid = RequestValidator(self.token).validate(url, MultiDict(fields), signature)
        return bool(valid) and self.is_ours(made, fields)

    def api(self, random: Random) -> Made:
        """Something of the REST API, with a good key, a spoilt one or none."""
        call_id = random.choice([*(call["id"] for call in self.calls), "call_0", *ODD])
        path = random.choice(API_PATHS if random.random() < 0.5 else API_PATHS[:5]).replace("{}", call_id)
        path = path.encode().decode("latin-1")  # as WSGI has it
        made = Made(path, webhook=False, method=random.choice(["GET", "GET", "POST", "POST", *METHODS]))
        made.query = any_query(random)
        made.content_type = random.choice(["application/json", "application/json", *TYPES])
        made.body = any_body(random)
        if random.random() < 0.1:
            made.length = random.choice(LENGTHS)
        key, draw = self.keys[random.random() < 0.2], random.random()
        made.keyed = draw < 0.7
        if draw < 0.9:
            shown = key if made.keyed else spoil_text(random, key)
            made.headers["Authorization"] = f"Bearer {shown}"
            made.keyed = shown == key
        flood(random, made)
        return made


def any_query(random: Random) -> str:
    """A query string: of our names, or of bytes that are none."""
    if random.random() < 0.2:
        return random.choice(RAW).decode("latin-1") * random.randrange(1, 40)
    names = random.choices(QUERY_NAMES, k=random.randrange(4))
    return urlencode([(name, random.choice(VALUES)) for name in names])


def any_body(random: Random) -> bytes:
    draw = random.random()
    if draw < 0.5:
        return b""
    if draw < 0.8:
        return random.choice(JSONS).encode()
    return random.randbytes(random.randrange(200)) if draw < 0.98 else b"x" * (MAX_BODY + 1)


def spoil_form(random: Random, form: Form) -> Form:
    """A few fields changed, left out, added or sent twice."""
    form = list(form)
    for _ in range(random.randrange(4)):
        place, draw = random.randrange(len(form) + 1), random.random()
        name = form[place - 1][0] if form else "x"
        if draw < 0.5 and form:
            form[place - 1] = (name, random.choice(VALUES))
        elif draw < 0.7 and form:
            del form[place - 1]
        elif draw < 0.9:
            form.insert(place, (random.choice(NAMES), random.choice(VALUES)))
        else:
            form.insert(place, (name, random.choice(VALUES)))
    if random.random() < 0.01:
        form += [(f"x{number}", "") for number in range(MAX_FIELDS)]
    return form


def spoil_text(random: Random, text: str) -> str:
    """One character changed, lost or added."""
    place = random.randrange(len(text))
    return text[:place] + random.choice(["", "0", "A", "é", "\x00", text[place] * 2]) + text[place + 1 :]


def spoil_signature(random: Random, made: Made) -> None:
    right = made.headers["X-Twilio-Signature"]
    made.headers["X-Twilio-Signature"] = random.choice(
        ["", right[:-1], right + right[0], f"{right},{right}", right.lower(), "A" * 27 + "=", spoil_text(random, right)]
    )


def leave_unsigned(random: Random, made: Made) -> None:
    del made.headers["X-Twilio-Signature"]


def flip_a_bit(random: Random, made: Made) -> None:
    body = bytearray(made.body)
    body[random.randrange(len(body))] ^= 1 << random.randrange(8)
    made.body = bytes(body)


def spoil_body(random: Random, made: Made) -> None:
    place = random.randrange(len(made.body) + 1)
    made.body = made.body[:place] + random.choice(RAW) + made.body[place + random.randrange(3) :]


def swell(random: Random, made: Made) -> None:
    made.body += random.choice([b"x" * MAX_BODY, b"&x=y" * MAX_FIELDS, b"&CallSid=CA" + b"0" * 32])


def spoil_type(random: Random, made: Made) -> None:
    made.content_type = random.choice(TYPES)


def spoil_length(random: Random, made: Made) -> None:
    made.length = random.choice(LENGTHS)


def spoil_method(random: Random, made: Made) -> None:
    made.method = random.choice(METHODS)


def spoil_path(random: Random, made: Made) -> None:
    made.path = random.choice(PATHS).replace("{}", made.path)


def spoil_query(random: Random, made: Made) -> None:
    made.query += random.choice(["&x=1", "?", "&intent=di_0", "%", "\xff", "&bodySHA256=" + "0" * 64])


def flood(random: Random, made: Made) -> None:
    if random.random() < 0.02:
        made.headers |= {f"X-{number}": "y" * 100 for number in range(200)}


def flood_unsigned(random: Random, made: Made) -> None:
    leave_unsigned(random, made)
    made.headers |= {f"X-Twilio-Signature-{number}": "A" * 27 + "=" for number in range(200)}


FORGERIES = [spoil_signature, spoil_signature, leave_unsigned, flip_a_bit, flip_a_bit, spoil_body, spoil_body, swell]
FORGERIES += [spoil_type, spoil_length, spoil_method, spoil_path, spoil_query, flood_unsigned]
