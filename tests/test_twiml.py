"""TwiML: the right attributes, nothing that Twilio's parser refuses, nothing of ours that a plugin can take over."""

from __future__ import annotations

from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialer.simulator.documents import parse
from dialer.simulator.lint import lint
from dialer.twiml import Opening, agent_conference, clean, customer_conference, sentence

DECLARATION = '<?xml version="1.0" encoding="UTF-8"?><Response>'


def agents(**options: str) -> str:
    return agent_conference(
        "ws-1",
        status_callback="https://x.example/cs?a=1&b=2#rc=5",
        recording_callback="https://x.example/r",
        wait_url="",
        time_limit=60,
        options=options,
    )


def attributes(text: str) -> dict[str, str]:
    conference = ElementTree.fromstring(text.encode()).find("Dial/Conference")
    assert conference is not None
    return conference.attrib


def test_the_agent_keeps_his_conference_open_and_silent_and_is_reported() -> None:
    text = agents()
    assert text.startswith(DECLARATION + '<Dial timeLimit="60"><Conference ')
    assert attributes(text) == {
        "beep": "false",
        "waitUrl": "",
        "participantLabel": "agent",
        "startConferenceOnEnter": "true",
        "endConferenceOnExit": "false",
        "statusCallback": "https://x.example/cs?a=1&b=2#rc=5",
        "statusCallbackEvent": "start end join leave mute hold",
    }


def test_the_customers_exit_ends_the_conference() -> None:
    text = customer_conference("ws-1", status_callback="https://d.example/s", time_limit=60)
    assert attributes(text) == {
        "beep": "false",
        "waitUrl": "",
        "participantLabel": "customer",
        "endConferenceOnExit": "true",
        "statusCallback": "https://d.example/s",
        "statusCallbackEvent": "start end join leave mute hold",
    }


def test_options_are_taken_but_not_for_what_is_ours() -> None:
    found = attributes(
        agents(
            beep="onEnter",
            wait_url="https://w.example",
            participant_label="x",
            end_conference_on_exit="true",
            status_callback="https://evil.example",
            status_callback_event="end",
            start_conference_on_enter="false",
        )
    )
    assert (found["beep"], found["waitUrl"]) == ("onEnter", "https://w.example")
    assert found == {**attributes(agents()), "beep": "onEnter", "waitUrl": "https://w.example"}


CUSTOMERS = customer_conference("c", status_callback="https://d.example/s", time_limit=9)


def announced(announcement: str, **recording: str) -> str:
    opening = Opening(announcement, "de-DE", recording)
    return customer_conference("c", status_callback="https://d.example/s", time_limit=9, opening=opening)


ANNOUNCED = announced("Wir zeichnen auf.", channels="dual", recording_status_callback="https://d.example/r")


def test_an_announcement_comes_first_then_the_recording_begins_then_the_customer_is_joined() -> None:
    verbs = parse(ANNOUNCED.encode())
    assert [verb.name for verb in verbs] == ["Say", "Start", "Dial"]
    assert (verbs[0].text, verbs[0].get("language")) == ("Wir zeichnen auf.", "de-DE")
    assert verbs[1].children[0].attributes == {
        "channels": "dual",
        "recordingStatusCallback": "https://d.example/r",
    }
    assert attributes(ANNOUNCED) == attributes(CUSTOMERS)


def test_an_announcement_can_be_a_sound_and_need_not_be_recorded() -> None:
    verbs = parse(announced("https://d.example/a.mp3").encode())
    assert [(verb.name, verb.text) for verb in verbs] == [("Play", "https://d.example/a.mp3"), ("Dial", "")]


@pytest.mark.parametrize("text", [agents(), CUSTOMERS, ANNOUNCED, sentence("No.", "en-US")])
def test_twilio_knows_every_word_of_it(text: str) -> None:
    assert list(lint(parse(text.encode()))) == []


def test_a_sentence_is_said_in_its_language_and_then_hung_up() -> None:
    assert sentence("A & B <c>", "de-DE") == (
        DECLARATION + '<Say language="de-DE">A &amp; B &lt;c&gt;</Say><Hangup /></Response>'
    )


@given(st.text())
def test_any_text_is_well_formed_and_says_what_can_be_said(text: str) -> None:
    spoken = sentence(text, "en-US")
    assert spoken.startswith(DECLARATION)
    said = ElementTree.fromstring(spoken.encode()).findtext("Say")
    assert said == clean(text).replace("\r\n", "\n").replace("\r", "\n")


@given(st.text(), st.dictionaries(st.sampled_from(["beep", "wait_url", "region"]), st.text()))
def test_any_name_and_options_are_well_formed(name: str, options: dict[str, str]) -> None:
    text = agent_conference(
        clean(name),
        status_callback="https://x.example",
        recording_callback="https://x.example/r",
        wait_url="",
        time_limit=1,
        options=options,
    )
    assert attributes(text)["participantLabel"] == "agent"
