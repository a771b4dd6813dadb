"""The product's own flow (facts 7.4) and its scenarios (7.5), told by a scripted application."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from dialer.simulator import AgentPlan, Call, Params, WebAnswer

if TYPE_CHECKING:
    from tests.simulator.conftest import Heard, Play, Story

AGENT = (
    '<?xml version="1.0" encoding="UTF-8"?><Response><Dial><Conference participantLabel="agent" beep="false"'
    ' startConferenceOnEnter="true" endConferenceOnExit="false" waitUrl="" statusCallback="/conference"'
    ' statusCallbackEvent="start end join leave mute hold">room</Conference></Dial></Response>'
)
CUSTOMER = (
    '<Response><Dial><Conference participantLabel="customer" endConferenceOnExit="true">room'
    "</Conference></Dial></Response>"
)


def dial_on_join(story: Story, to: str, calls: list[Call]) -> None:
    """The application dials the customer when the agent is in."""

    def on_heard(heard: Heard) -> None:
        if heard.event == "participant-join" and heard.fields["ParticipantLabel"] == "agent":
            calls.append(story.call(to))

    story.on_heard = on_heard


@pytest.fixture
def calls() -> list[Call]:
    return []


def test_the_whole_flow(play: Play, calls: list[Call]) -> None:
    story = play(voice=AGENT, join=CUSTOMER)
    dial_on_join(story, "+14155550101", calls)
    agent = story.connect(plan=AgentPlan(hang_up_after_bridged=5.0))
    story.run()
    customer = calls[0]
    assert story.told("voice", agent)[0].fields == {
        "AccountSid": story.account.sid,
        "ApiVersion": "2010-04-01",
        "ApplicationSid": story.app.sid,
        "CallSid": agent.sid,
        "CallStatus": "ringing",
        "Direction": "inbound",
        "From": "client:alice",
        "Caller": "client:alice",
        "To": "+14155550101",
        "Called": "",
    }
    assert story.statuses(customer) == ["initiated", "ringing", "in-progress"]
    assert story.events() == [
        "participant-join", "participant-join", "conference-start", "participant-leave",
    ]  # fmt: skip
    assert (agent.status, agent.duration) == ("completed", 7)
    assert story.told("status", agent)[0].fields["CallStatus"] == "completed"
    # The agent left with endConferenceOnExit="false": the customer is alone, and stays so.
    assert customer.status == "in-progress"
    conference = next(iter(story.network.conferences.values()))
    assert [p.label for p in conference.participants.values()] == ["customer"]
    story.network.update_conference(conference, Params({"Status": "completed"}))
    story.run(1)
    assert story.events()[-2:] == ["conference-end", "participant-leave"]
    assert customer.status == story.statuses(customer)[-1] == "completed"


def test_the_log_of_the_flow(play: Play, calls: list[Call]) -> None:
    story = play(voice=AGENT, join=CUSTOMER)
    dial_on_join(story, "+14155550106", calls)
    agent = story.connect()
    story.run()
    assert story.kinds(calls[0]) == [
        "call-created", "call-initiated", "ring-start", "ring-stop", "answered", "program-start", "verb",
        "conference-enter", "bridged", "call-ended", "conference-exit",
    ]  # fmt: skip
    assert story.kinds(agent) == [
        "call-created", "program-start", "verb", "answered", "conference-enter", "bridged", "conference-exit",
        "program-end", "call-ended",
    ]  # fmt: skip
    assert [k for k in story.kinds() if k.startswith("conference-")] == [
        "conference-created", "conference-enter", "conference-enter", "conference-start", "conference-exit",
        "conference-end", "conference-exit",
    ]  # fmt: skip


def test_the_customer_hangs_up_first(play: Play, calls: list[Call]) -> None:
    story = play(voice=AGENT, join=CUSTOMER)
    dial_on_join(story, "+14155550106", calls)
    agent = story.connect()
    story.run()
    customer = calls[0]
    told = {(heard.event, heard.fields.get("ParticipantLabel")): heard for heard in story.told("conference")}
    assert story.events()[3:] == ["participant-leave", "conference-end", "participant-leave"]
    left = told["participant-leave", "customer"].fields
    assert left["ParticipantCallStatus"] == "completed"
    assert left["ReasonParticipantLeft"] == "participant_hung_up"
    ended = told["conference-end", None].fields
    assert ended["ReasonConferenceEnded"] == "participant-with-end-conference-on-exit-left"
    assert ended["CallSidEndingConference"] == customer.sid
    assert ended["ParticipantLabelEndingConference"] == "customer"
    sent_away = told["participant-leave", "agent"].fields
    assert sent_away["ReasonParticipantLeft"] == "moderator_ended_conference"
    assert sent_away["ParticipantCallStatus"] == "in-progress"
    assert agent.status == customer.status == "completed"
    final = story.told("status", customer)[-1].fields
    assert (final["CallDuration"], final["Duration"], final["SipResponseCode"]) == ("3", "1", "200")


def test_fields_of_the_customers_requests(play: Play, calls: list[Call]) -> None:
    story = play(voice=AGENT, join=CUSTOMER)
    dial_on_join(story, "+14155550106", calls)
    story.connect()
    story.run()
    (join,) = story.told("voice", calls[0])
    assert join.fields["CallStatus"] == "in-progress"
    assert join.fields["Direction"] == "outbound-api"
    assert (join.fields["To"], join.fields["Called"]) == ("+14155550106", "+14155550106")
    assert join.fields["CallerCity"] == "SAN FRANCISCO"
    assert join.fields["ToCountry"] == "US"
    assert "SequenceNumber" not in join.fields
    first, *_, last = sorted(story.told("status", calls[0]), key=lambda h: int(h.fields["SequenceNumber"]))
    assert first.fields["CallbackSource"] == "call-progress-events"
    assert first.fields["Timestamp"] == "Tue, 14 Nov 2023 22:13:20 +0000"
    assert "CallDuration" not in first.fields
    assert "StirStatus" not in first.fields
    assert story.told("status", calls[0])[1].fields["StirStatus"] == "A"
    assert last.fields["CallStatus"] == "completed"


@pytest.mark.parametrize(
    ("to", "status", "sip"),
    [
        ("+14155550102", "busy", "486"),
        ("+14155550103", "no-answer", "487"),
        ("+14155550104", "failed", "404"),
    ],
)
def test_nobody_answers_and_the_agent_keeps_waiting(
    play: Play, calls: list[Call], to: str, status: str, sip: str
) -> None:
    story = play(voice=AGENT, join=CUSTOMER)
    dial_on_join(story, to, calls)
    agent = story.connect()
    story.run(120)
    final = story.told("status", calls[0])[-1].fields
    assert final["CallStatus"] == calls[0].status == status
    assert (final["CallDuration"], final["Duration"], final["SipResponseCode"]) == ("0", "0", sip)
    assert story.told("voice", calls[0]) == []
    assert agent.status == "in-progress"
    conference = next(iter(story.network.conferences.values()))
    assert conference.status == "init"
    story.network.update_conference(conference, Params({"Status": "completed"}))
    story.run(1)
    assert agent.status == "completed"
    assert story.told("conference")[-1].fields["ReasonParticipantLeft"] == "conference_ended_via_api"


def test_the_agent_leaves_while_it_rings(play: Play, calls: list[Call]) -> None:
    story = play(voice=AGENT, join=CUSTOMER)
    dial_on_join(story, "+14155550108", calls)
    agent = story.connect(plan=AgentPlan(hang_up_after=3.0))
    story.run(10)
    assert agent.status == "completed"
    assert story.events() == ["participant-join", "participant-leave", "conference-end"]
    assert story.told("conference")[-1].fields["ReasonConferenceEnded"] == "last-participant-left"
    assert calls[0].status == "ringing"  # it rings on until somebody cancels it
    story.run(10)
    # Answered after all: a new conference of the same name, with the customer alone in it.
    first, second = story.network.conferences.values()
    assert first.friendly_name == second.friendly_name == "room"
    assert first.sid != second.sid
    assert (second.status, len(second.participants)) == ("init", 1)


def test_the_application_cancels_the_ringing_call(play: Play, calls: list[Call]) -> None:
    story = play(voice=AGENT, join=CUSTOMER)
    dial_on_join(story, "+14155550103", calls)
    story.connect()
    story.run(5)
    story.network.update_call(calls[0], Params({"Status": "canceled"}))
    story.run(5)
    assert story.statuses(calls[0])[-1] == "canceled"
    assert "ring-stop" in story.kinds(calls[0])


def test_a_lost_browser_is_noticed_later(play: Play, calls: list[Call]) -> None:
    story = play(voice=AGENT, join=CUSTOMER)
    dial_on_join(story, "+14155550101", calls)
    agent = story.connect()
    story.run(10)
    story.network.lose(agent.sid)
    story.run(29)
    assert agent.status == "in-progress"
    story.run(2)
    assert agent.status == "completed"


def test_the_voice_webhook_fails(play: Play) -> None:
    story = play(voice=WebAnswer(500))
    agent = story.connect()
    story.run(30)
    assert agent.status == "completed"
    assert len(story.told("voice")) == 1
    assert story.alerts() == [11200]
    assert story.entries("application-error") == [{"code": 11200}]


def test_the_customer_hears_an_error_when_the_join_url_fails(play: Play, calls: list[Call]) -> None:
    story = play(voice=AGENT, join=WebAnswer(503))
    dial_on_join(story, "+14155550101", calls)
    story.connect()
    story.run(30)
    assert calls[0].status == "completed"
    assert calls[0].ended_by == "application-error"
    assert calls[0].duration == 5


def test_the_voice_webhook_hangs(play: Play) -> None:
    story = play(voice=None)
    agent = story.connect()
    story.run(14.9)
    assert agent.status == "ringing"
    story.run(6)
    assert (agent.status, story.alerts()) == ("completed", [11205])
    assert len(story.heard) == 2  # one voice request, not repeated, and the status callback


@pytest.mark.parametrize(
    ("answer", "code"),
    [
        (WebAnswer(200, {"Content-Type": "text/xml"}, b"\n<?xml version='1.0'?><Response/>"), 12100),
        (WebAnswer(200, {"Content-Type": "text/xml"}, b"<Respond/>"), 12102),
        (WebAnswer(200, {"Content-Type": "text/xml"}, b"<?xml version='1.1'?><Response/>"), 12101),
        (WebAnswer(200, {"content-type": "application/json"}, b"{}"), 12300),
        (WebAnswer(200, {"Content-Type": "text/xml"}), 11770),
        (WebAnswer(200, {"Content-Type": "text/xml"}, b"<Response>" + b" " * 65536 + b"</Response>"), 11750),
    ],
)
def test_an_answer_that_cannot_be_run(play: Play, answer: WebAnswer, code: int) -> None:
    story = play(voice=answer)
    agent = story.connect()
    story.run(30)
    assert (agent.ended_by, story.alerts()) == ("application-error", [code])


def test_an_empty_response_ends_the_call_at_once(play: Play) -> None:
    story = play(voice="<Response/>")
    agent = story.connect()
    story.run(0.2)
    assert (agent.status, agent.ended_by) == ("completed", "program")


def test_an_unknown_attribute_is_a_warning(play: Play) -> None:
    story = play(voice='<Response><Dial><Conference label="agent">room</Conference></Dial></Response>')
    story.connect()
    story.run(2)
    assert (story.alerts(), story.account.alerts[0].level) == ([12200], "warning")
    (participant,) = next(iter(story.network.conferences.values())).participants.values()
    assert participant.label == ""


def test_a_failing_status_callback_changes_nothing(play: Play) -> None:
    story = play(join="<Response><Pause length='2'/></Response>", status=WebAnswer(500))
    call = story.call()
    story.run(20)
    assert call.status == "completed"
    assert story.alerts() == [15003] * 4


def test_a_status_callback_answered_with_json_is_warned_about(play: Play) -> None:
    story = play(join="<Response/>", status=WebAnswer(200, {"Content-Type": "application/json"}, b"{}"))
    story.call(StatusCallbackEvent="completed")
    story.run(20)
    assert story.alerts() == [15003]


def test_a_failing_conference_callback_is_16011(play: Play) -> None:
    story = play(voice=AGENT, conference=WebAnswer(404))
    story.connect()
    story.run(2)
    assert story.alerts() == [16011]


def test_somebody_dials_in(play: Play) -> None:
    story = play(voice="<Response><Say>Hello</Say><Hangup/></Response>")
    call = story.network.dial_in("+14155550106", "+14155550199")
    story.run(10)
    fields = story.told("voice")[0].fields
    assert (fields["From"], fields["To"], fields["Called"]) == ("+14155550106", "+14155550199", "+14155550199")
    assert (fields["CallStatus"], fields["FromState"]) == ("ringing", "CA")
    assert (call.status, call.duration) == ("completed", 1)
