"""What generated requests are spoilt with: values, names, bytes and the rest, each odd in its own way."""

from __future__ import annotations

from dialer.signature import FORM

MAX_BODY = 64 * 1024


def words(text: str) -> list[str]:
    """The words of a text."""
    return text.split()


SIDS = ["CA" + "a" * 32, "CA" + "0" * 32, "CA" + "A" * 32, "CA" + "a" * 31, "CA", "CF" + "e" * 32, "RE" + "b" * 32]
STATUSES = words("queued initiated ringing in-progress completed busy no-answer failed canceled")
EVENTS = words("participant-join participant-leave participant-mute conference-start conference-end")
DATES = ["Sun, 22 Nov 2026 10:00:00 +0000", "Mon, 99 Foo 0000 99:99:99 +9999", "Fri, 31 Dec 9999 23:59:59 -2359"]
DATES += ["Mon, 01 Jan 0001 00:00:00 +0000", "Thu, 01 Jan 1970 00:00:00 +2359", "2026-11-22T10:00:00Z"]
NUMBERS = ["9" * 12, "9" * 400, "9" * 5000, *words("0 -1 1 007 1e309 nan inf 1_0 \u0661 0x1f 1.5")]
ODD = ["", " ", "\x00", "a\x00b", "\r\nX-Evil: 1", "\u2028", "\x7f", "\ufffe", "x" * 5000, "&amp;", "]]>", "';--"]
ODD += words("é 𝄞 \ufeff \u202e %00 %zz ../../etc/passwd <Response/> {{7*7}} ${jndi:x} null true []")
PHONES = words("+14155550103 +1415555010 +999 client: client:ws_demo_agent_0 sip:a@b +1-415-555-0101 911")
VALUES = [*SIDS, *STATUSES, *EVENTS, *DATES, *NUMBERS, *ODD, *PHONES, "agent", "customer", "human", "absent"]
NAMES = words("""AccountSid CallSid CallStatus Caller From To toNumber callerId workspaceId StatusCallbackEvent
    ConferenceSid FriendlyName ParticipantLabel SequenceNumber Timestamp CallDuration ReasonParticipantLeft
    ReasonConferenceEnded CallSidEndingConference ErrorCode ErrorUrl AnsweredBy RecordingSid RecordingStatus callsid
    é a[] __proto__""")
NAMES += ["", "CallSid "]
RAW = [b"\xff\xfe", b"\x00", *b"% %2 %zz %ED%A0%80 %C0%AF %00 & = && ; + %25".split()]
TYPES = [FORM, FORM.upper(), f"{FORM}; charset=utf-16", f"{FORM}\t", "multipart/form-data; boundary=x", "", "a" * 3000]
TYPES += words("application/json text/xml multipart/form-data / ;")
LENGTHS = ["", " 5 ", "9" * 30, "9" * 5000, str(MAX_BODY), *words("0 -1 1 x 1_0 \u0661 +5 0x10 70000")]
METHODS = ["", "A" * 300, *words("GET HEAD PUT DELETE PATCH OPTIONS TRACE CONNECT post")]
PATHS = ["{}\x00", "{}\xff", *words("{}/ /{} {}// {}/.. /v1/../{} {}%00 {};x=1 {}.json /x{} {}/{}")]
API_PATHS = words("""/v1/voice/token /v1/calls /v1/calls/{} /v1/calls/{}/events /v1/calls/{}/hangup /v1/openapi.json
    /healthz /readyz / /v1 /v1/ /v1/calls/ /v1/nothing /static/x""")
QUERY_NAMES = ["limit", "before", "after", "status", "identity", "ttl", "", "é", "limit[]"]
JSONS = ["{}", "[]", "null", "1", '"x"', "{", '{"ttl":60}', '{"ttl":6e1}', '{"ttl":1e999}', '{"identity":"\\ud800"}']
JSONS += ["[" * 60000, '{"ttl":' * 5000, '{"identity":' + "[" * 900 + "]" * 900 + "}", '{"ttl":' + "9" * 5000 + "}"]
JSONS += ['{"identity":"ws_demo_agent_0","ttl":120}', '{"identity":null}', '{"\\u0000":"\\u0000"}', "\ufeff{}", "NaN"]
