"""Calls over REST: what is refused, the queue, progress, updates; and browsers that call and are called."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import pytest

from dialer.simulator import AgentPlan, Call, Knobs, Params, TwilioError

if TYPE_CHECKING:
    from tests.simulator.conftest import Play, Story

TALK = "<Response><Pause length='60'/></Response>"
FAST = float("inf")


def refused(story: Story, **params: str | list[str]) -> TwilioError:
    """The error of a create request; nothing may be left behind by it."""
    with pytest.raises(TwilioError) as caught:
        story.call(**params)  # type: ignore[arg-type]
    assert story.network.calls == {}
    assert (story.account.live, story.account.queued) == (0, 0)
    return caught.value


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"to": ""}, 21201),
        ({"From": ""}, 21213),
        ({"to": "14155550101"}, 21211),
        ({"to": "+1415555010x"}, 21211),
        ({"to": "sip:bob@example.com"}, 21211),
        ({"From": "alice"}, 21212),
        ({"From": "+14155550123"}, 21210),
        ({"to": "+19005550100"}, 21202),
        ({"Url": "nowhere"}, 21205),
        ({"Url": "https://under_score.example/"}, 21205),
        ({"Url": ""}, 21205),
        ({"Url": "", "ApplicationSid": "AP" + "0" * 32}, 21218),
        ({"Url": "", "Twiml": "<Respond/>"}, 12102),
        ({"Url": "", "Twiml": "<Response>"}, 12100),
        ({"Url": "", "Twiml": "<Response>" + " " * 4000 + "</Response>"}, 32018),
        ({"Method": "PUT"}, 21209),
        ({"StatusCallback": "ftp://x.example/"}, 21609),
        ({"StatusCallback": "https://a.example:port/"}, 21609),
        ({"Timeout": "601"}, 21208),
        ({"Timeout": "soon"}, 21208),
        ({"TimeLimit": "0"}, 13216),
        ({"SendDigits": "12x"}, 21206),
        ({"MachineDetection": "Maybe"}, 21234),
        ({"MachineDetection": "Enable", "MachineDetectionTimeout": "60"}, 21234),
        ({"MachineDetection": "Enable", "MachineDetectionSpeechThreshold": "999"}, 21234),
        ({"Record": "perhaps"}, 20422),
        ({"Record": "true", "RecordingStatusCallbackEvent": "begun"}, 13621),
        ({"Record": "true", "RecordingChannels": "quad"}, 20422),
    ],
)
def test_refused_calls(play: Play, params: dict[str, str], code: int) -> None:
    assert refused(play(), **params).code == code


def test_refusals_of_the_account(play: Play) -> None:
    story = play()
    story.account.blocked_countries = {"GB", "CA"}
    assert refused(story, to="+442079460000").code == 21215
    assert refused(story, to="+16045550100").code == 21215
    story.account.type = "Trial"
    assert refused(story).code == 21219
    story.account.status = "suspended"
    assert refused(story).code == 20005
    with pytest.raises(TwilioError) as caught:
        story.connect()
    assert caught.value.code == 10001
    with pytest.raises(TwilioError) as caught:
        story.network.create_call("AC" + "0" * 32, Params())
    assert (caught.value.http_status, caught.value.code) == (404, 20404)


def test_a_verified_caller_id_will_do(play: Play) -> None:
    story = play(join=TALK)
    story.network.add_caller_id(story.account.sid, "+14155550123")
    story.call(From="+14155550123")
    story.run(5)
    assert story.told("status")[1].fields["StirStatus"] == "B"


def test_a_limit_of_calls_at_once(play: Play) -> None:
    story = play(join="<Response/>")
    story.account.max_calls = 1
    story.call()
    with pytest.raises(TwilioError) as caught:
        story.call()
    assert caught.value.code == 10004
    story.run(10)
    story.call()


def test_the_queue_paces_the_calls(play: Play) -> None:
    story = play(Knobs(cps=2.0, jitter=0.0), join=TALK)
    calls = [story.call() for _ in range(4)]
    assert [call.queue_time for call in calls] == [0, 500, 1000, 1500]
    assert {call.status for call in calls} == {"queued"}
    story.run(5)
    starts = [call.start_time - story.start for call in calls if call.start_time]
    assert starts == pytest.approx([0.1, 0.6, 1.1, 1.6])
    story.account.cps = 0.5
    assert [story.call().queue_time for _ in range(2)] == [0, 2000]


def test_a_browser_and_a_dial_in_do_not_queue(play: Play) -> None:
    story = play(Knobs(cps=0.01), voice="<Response><Play loop='0'/></Response>")
    story.connect()
    story.connect()
    story.network.dial_in("+14155550101", "+14155550199")
    story.run(2)
    assert [call.status for call in story.network.calls.values()] == ["in-progress"] * 3


def test_canceled_while_queued_tells_nobody(play: Play) -> None:
    story = play(Knobs(cps=0.1))
    story.call()
    waiting = story.call()
    story.network.update_call(waiting, Params({"Status": "canceled"}))
    story.run(100)
    assert (waiting.status, waiting.start_time) == ("canceled", None)
    assert story.told("status", waiting) == []
    assert "call-initiated" not in story.kinds(waiting)
    assert (story.account.live, story.account.queued) == (0, 0)


def test_the_queue_has_an_end(play: Play) -> None:
    story = play(Knobs(cps=0.5, queue_limit=2))
    story.call()
    story.call()
    with pytest.raises(TwilioError) as caught:
        story.call()
    assert caught.value.code == 22005


def test_whoever_waits_too_long_is_canceled(play: Play) -> None:
    story = play(Knobs(cps=0.1, queue_seconds=15.0))
    calls = [story.call() for _ in range(3)]
    story.run(30)
    assert [call.status for call in calls] == ["completed", "completed", "canceled"]
    assert story.told("status", calls[2]) == []


def test_only_the_end_is_told_by_default(play: Play) -> None:
    story = play(join="<Response/>")
    call = story.call(StatusCallbackEvent="")
    story.run(10)
    (told,) = story.told("status", call)
    assert (told.fields["CallStatus"], told.fields["SequenceNumber"]) == ("completed", "0")


@pytest.mark.parametrize(
    ("mode", "events", "told"),
    [
        ("drop-invalid", ["ringing", "no-answer"], ["ringing"]),
        ("drop-invalid", ["no-answer", "busy"], ["completed"]),
        ("drop-invalid", ["initiated ringing"], ["completed"]),
        ("drop-all", ["ringing", "no-answer"], []),
    ],
)
def test_invalid_events(play: Play, mode: Any, events: list[str], told: list[str]) -> None:
    story = play(Knobs(cps=FAST, invalid_events=mode), join="<Response/>")
    call = story.call(StatusCallbackEvent=events)
    story.run(10)
    assert story.statuses(call) == told
    assert story.alerts() == [21626]


def test_invalid_events_refused(play: Play) -> None:
    story = play(Knobs(cps=FAST, invalid_events="refuse", invalid_events_status=422))
    error = refused(story, StatusCallbackEvent=["completed", "busy"])
    assert (error.http_status, error.code) == (422, 21626)


def test_twiml_in_the_request(play: Play) -> None:
    story = play()
    call = story.call(Url="", Twiml="<Response><Say>Hello there</Say></Response>")
    story.run(10)
    assert story.told("voice") == []
    assert story.entries("said") == [{"text": "Hello there"}]
    assert call.status == "completed"


def test_an_application_answers_an_outbound_call(play: Play) -> None:
    story = play(voice="<Response/>")
    call = story.call(Url="", ApplicationSid=story.app.sid, StatusCallbackEvent=["initiated", "answered"])
    story.run(10)
    assert story.told("voice")[0].fields["ApplicationSid"] == story.app.sid
    assert story.statuses(call) == ["completed"]


def test_send_digits_come_before_the_program(play: Play) -> None:
    story = play(join="<Response/>")
    call = story.call(SendDigits="ww12", MachineDetection="Enable")
    story.run(10)
    (told,) = story.told("voice")
    assert call.answer_time is not None
    assert told.at - call.answer_time == pytest.approx(1.55, abs=0.02)
    assert "AnsweredBy" not in told.fields
    assert story.entries("digits-sent") == [{"digits": "ww12"}]


def test_the_timeout_ends_the_ringing(play: Play) -> None:
    story = play()
    call = story.call("+14155550103", Timeout="7")
    story.run(10)
    assert (call.status, call.ended_by) == ("no-answer", "timeout")
    stopped = next(entry.at for entry in story.network.log if entry.kind == "ring-stop")
    assert stopped - story.start == pytest.approx(7.5, abs=0.2)


def test_the_time_limit_ends_the_talk(play: Play) -> None:
    story = play(join=TALK)
    call = story.call(TimeLimit="10")
    longer = story.call(TimeLimit="10")
    story.run(5)
    story.network.update_call(longer, Params({"TimeLimit": "20"}))
    story.run(30)
    assert (call.status, call.ended_by, call.duration) == ("completed", "time-limit", 10)
    assert longer.duration == 24


# Updates


def ringing(story: Story) -> Call:
    call = story.call("+14155550103")
    story.run(3)
    assert call.status == "ringing"
    return call


def talking(story: Story, **params: str) -> Call:
    story.pages["/join"] = TALK
    call = story.call(**params)
    story.run(3)
    assert call.status == "in-progress"
    return call


@pytest.mark.parametrize("final", ["canceled", "completed", "no-answer"])
def test_completed_on_ringing(play: Play, final: Any) -> None:
    story = play(Knobs(cps=FAST, completed_on_ringing_final=final))
    call = ringing(story)
    story.network.update_call(call, Params({"Status": "completed"}))
    story.run(1)
    assert call.status == final
    assert story.statuses(call)[-1] == final


def test_canceled_has_no_effect_on_a_talk(play: Play) -> None:
    story = play()
    call = talking(story)
    story.network.update_call(call, Params({"Status": "canceled"}))
    assert call.status == "in-progress"
    story.network.update_call(call, Params({"Status": "completed"}))
    assert call.status == "completed"


@pytest.mark.parametrize("status", ["completed", "canceled"])
def test_ending_the_ended(play: Play, status: str) -> None:
    story = play(Knobs(cps=FAST, completed_on_ended="ok"))
    call = talking(story)
    story.network.hang_up(call.sid)
    assert story.network.update_call(call, Params({"Status": status})).status == "completed"
    story.network.knobs = Knobs(cps=FAST, completed_on_ended="21220")
    with pytest.raises(TwilioError) as caught:
        story.network.update_call(call, Params({"Status": status}))
    assert caught.value.code == 21220


@pytest.mark.parametrize("params", [{"Url": "https://app.example/other"}, {"Twiml": "<Response/>"}])
def test_only_a_talk_can_be_redirected(play: Play, params: dict[str, str]) -> None:
    story = play()
    for call in (ringing(story), story.call()):
        with pytest.raises(TwilioError) as caught:
            story.network.update_call(call, Params(params))
        assert caught.value.code == 21220


def test_redirecting_a_talk(play: Play) -> None:
    story = play(other="<Response><Say>Somewhere else</Say></Response>")
    call = talking(story)
    story.network.update_call(call, Params({"Url": "https://app.example/other", "Method": "GET"}))
    story.run(1)
    assert (story.told("voice")[-1].path, story.told("voice")[-1].request.method) == ("/other", "GET")
    story.network.update_call(call, Params({"Twiml": "<Response><Say>And again</Say></Response>"}))
    story.run(5)
    assert [entry["text"] for entry in story.entries("said")] == ["Somewhere else", "And again"]
    assert call.ended_by == "program"


def test_redirecting_before_the_first_program(play: Play) -> None:
    story = play(join=TALK, other="<Response><Say>Other</Say></Response>")
    call = story.call(MachineDetection="Enable")
    story.run(2)
    story.network.update_call(call, Params({"Url": "https://app.example/other"}))
    story.run(10)
    assert ([heard.path for heard in story.told("voice")], call.status) == (["/other"], "completed")


def test_a_relative_action_in_twiml_of_an_update(play: Play) -> None:
    story = play()
    call = talking(story)
    twiml = "<Response><Dial action='/after'>+14155550102</Dial></Response>"
    story.network.update_call(call, Params({"Twiml": twiml}))
    story.run(20)
    assert 15004 in story.alerts()


def test_changing_callbacks(play: Play) -> None:
    story = play()
    call = talking(story)
    params = {"StatusCallback": "https://app.example/new", "FallbackUrl": "https://app.example/fallback"}
    story.network.update_call(call, Params(params))
    story.network.hang_up(call.sid)
    story.run(1)
    assert story.heard[-1].path == "/new"
    assert story.heard[-1].fields["SequenceNumber"] == "3"
    assert call.urls.voice_fallback_url == "https://app.example/fallback"


def test_a_new_fallback_leaves_the_application_alone(play: Play) -> None:
    story = play(voice=TALK)
    call = story.connect()
    story.run(1)
    story.network.update_call(call, Params({"FallbackUrl": "https://app.example/fallback"}))
    assert story.app.voice_fallback_url == ""


@pytest.mark.parametrize(
    ("params", "code"),
    [
        ({"Status": "ringing"}, 20422),
        ({"Url": "x"}, 21205),
        ({"Twiml": "<"}, 12100),
        ({"StatusCallback": "x"}, 21609),
        ({"TimeLimit": "86401"}, 13216),
    ],
)
def test_refused_updates(play: Play, params: dict[str, str], code: int) -> None:
    story = play()
    call = talking(story)
    with pytest.raises(TwilioError) as caught:
        story.network.update_call(call, Params(params))
    assert (caught.value.http_status, caught.value.code, call.status) == (400, code, "in-progress")


def test_deleting(play: Play) -> None:
    story = play()
    call = talking(story)
    with pytest.raises(TwilioError) as caught:
        story.network.delete_call(call)
    assert caught.value.code == 20009
    story.network.hang_up(call.sid)
    story.network.delete_call(call)
    assert call.sid not in story.network.calls


# Browsers


def test_custom_parameters_come_with_the_first_request_only(play: Play) -> None:
    story = play(voice="<Response><Redirect>/next</Redirect></Response>", next="<Response/>")
    story.connect(workspaceId="42", AccountSid="forged", CallStatus="forged")
    story.run(5)
    first, second = story.told("voice")[0].fields, story.told("redirect")[0].fields
    assert (first["workspaceId"], first["AccountSid"], first["CallStatus"]) == (
        "42", story.account.sid, "ringing",
    )  # fmt: skip
    assert "workspaceId" not in second


@pytest.mark.parametrize(("knob", "from_"), [("identity", "client:alice"), ("custom", "+14155550123")])
def test_a_from_of_the_browser(play: Play, knob: Any, from_: str) -> None:
    story = play(Knobs(from_param=knob), voice="<Response/>")
    story.connect(From="+14155550123")
    story.run(1)
    fields = story.told("voice")[0].fields
    assert (fields["From"], fields["Caller"]) == (from_, "client:alice")
    assert [name for name, _ in story.told("voice")[0].request.form].count("From") == 1
    assert (fields["Called"], "FromCity" in fields) == ("", False)


@pytest.mark.parametrize(("token_wins", "plan"), [(True, "token"), (False, "browser")])
def test_params_of_the_token(play: Play, token_wins: bool, plan: str) -> None:
    story = play(Knobs(outgoing_params_win=token_wins), voice="<Response/>")
    story.network.connect(
        story.account.sid, story.app.sid, "alice", {"plan": "browser"}, None, {"plan": "token", "only": "1"}
    )
    story.run(1)
    fields = story.told("voice")[0].fields
    assert (fields["plan"], fields["only"], fields["To"]) == (plan, "1", "")


def test_connections_that_are_refused(play: Play) -> None:
    story = play()
    silent = story.network.add_application(story.account.sid)
    for application, params, code in (
        ("AP" + "0" * 32, {}, 31001),
        (silent.sid, {}, 31404),
        (story.app.sid, {"note": "x" * 800}, 31103),
    ):
        with pytest.raises(TwilioError) as caught:
            story.network.connect(story.account.sid, application, "alice", params)
        assert caught.value.code == code
    assert story.network.calls == {}


@pytest.mark.parametrize("final", ["canceled", "no-answer", "failed", "busy", "completed"])
def test_the_browser_leaves_before_its_program(play: Play, final: Any) -> None:
    story = play(Knobs(early_agent_final=final), voice=None)
    call = story.connect(plan=AgentPlan(hang_up_after=1.0))
    story.run(5)
    assert call.status == final
    (told,) = story.told("status")
    assert (told.fields["CallStatus"], told.fields["CallDuration"]) == (final, "0")


def test_calling_a_browser(play: Play) -> None:
    story = play(join=TALK)
    story.network.register(story.account.sid, "bob", answer_after=2.0, plan=AgentPlan(hang_up_after=3.0))
    call = story.call("client:bob")
    story.run(20)
    assert story.statuses(call) == ["initiated", "ringing", "in-progress", "completed"]
    assert (call.duration, call.to) == (3, "client:bob")
    fields = story.told("voice")[0].fields
    assert fields["To"] == "client:bob"
    assert "ToCity" not in fields


def test_a_browser_that_waits_for_its_person(play: Play) -> None:
    story = play(join=TALK)
    story.network.register(story.account.sid, "bob", answer_after=None)
    call = story.call("client:bob")
    story.run(20)
    assert call.status == "ringing"
    story.network.pick_up(call.sid)
    assert call.status == "in-progress"


def test_a_browser_that_is_not_there(play: Play) -> None:
    story = play(join=TALK)
    story.network.register(story.account.sid, "bob")
    story.network.unregister(story.account.sid, "bob")
    call = story.call("client:bob")
    story.run(20)
    assert story.statuses(call) == ["initiated", "no-answer"]
    assert call.sip_code == 480


def test_dialling_in(play: Play) -> None:
    story = play(voice=TALK, other="<Response/>")
    with pytest.raises(TwilioError):
        story.network.dial_in("+14155550101", "+14155550198")
    other = story.network.add_application(story.account.sid, voice_url="https://app.example/other")
    story.network.add_number(story.account.sid, "+14155550198", voice_application_sid=other.sid)
    silent = story.network.add_number(story.account.sid, "+14155550197")
    story.network.dial_in("+14155550101", "+14155550198")
    story.run(2)
    assert story.told("voice")[0].path == "/other"
    assert story.told("voice")[0].fields["ApplicationSid"] == other.sid
    call = story.network.dial_in("+14155550101", silent.phone_number)
    assert (call.status, story.alerts()) == ("failed", [11200])
    impatient = story.network.dial_in("+14155550101", "+14155550199")
    story.network.hang_up(impatient.sid)
    assert impatient.status == "canceled"
