"""What one would write without Dialer: the SDK's validator and TwiML in two Flask views, nothing stored."""

import os

from flask import Flask, Response, abort, request
from twilio.request_validator import RequestValidator
from twilio.twiml.voice_response import Dial, VoiceResponse

app = Flask(__name__)
validator = RequestValidator(os.environ["TWILIO_AUTH_TOKEN"])


def refuse_forgeries() -> None:
    if not validator.validate(request.url, request.form, request.headers.get("X-Twilio-Signature", "")):
        abort(403)


@app.post("/v1/voice/twiml")
def twiml() -> Response:
    refuse_forgeries()
    dial = Dial()
    dial.conference(
        request.form["CallSid"],
        participant_label="agent",
        start_conference_on_enter=True,
        end_conference_on_exit=False,
        beep=False,
        status_callback=request.url_root + "v1/voice/conference-status",
        status_callback_event="start end join leave mute hold",
    )
    return Response(str(VoiceResponse().append(dial)), content_type="text/xml; charset=utf-8")


@app.post("/v1/voice/status")
def status() -> Response:
    refuse_forgeries()
    return Response(status=204)
