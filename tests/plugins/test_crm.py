"""What the CRM plugins share: how numbers are written, what a call's events say, and who is at work on a record."""

import importlib
import sys
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialer import Call, CallEvent, Host, RetryLater
from dialer_plugins import crm, crm_records

US, UK, GERMANY = "+14155550101", "+442079460123", "+4930123456"
CALL = Call("call_1", "ws", "alice", US, "", "ws-1", status="completed")


@pytest.mark.parametrize(
    ("text", "number"),
    [
        (US, US), ("(415) 555-0101", US), ("415.555.0101", US), ("1 415 555 0101", US), ("14155550101", US),
        ("+1 (415) 555-0101 x22", US), ("415 555 0101 ext. 7", US), ("020-7946-0123", UK),
        ("020 7946 0123", UK), ("+44 (0)20 7946 0123", UK), ("0044 20 7946 0123", UK), ("030/123456", GERMANY),
        ("+49 30 123456", GERMANY),
    ],
)  # fmt: skip
def test_a_number_is_known_however_it_is_written(text: str, number: str) -> None:
    assert crm.is_same_number(text, number)


@pytest.mark.parametrize(
    ("text", "number"),
    [("(415) 5550102", US), ("+44 415 555 0101", US), ("555-0101", US), ("", US), ("none", US), ("+49 2079460123", UK)],
)
def test_another_number_is_another(text: str, number: str) -> None:
    assert not crm.is_same_number(text, number)


@given(st.text(max_size=40))
def test_any_text_is_a_number_or_not(text: str) -> None:
    assert crm.is_same_number(text, US) in (True, False)


@pytest.mark.parametrize("number", [US, UK, GERMANY])
def test_every_written_form_is_the_number(number: str) -> None:
    forms = crm.written_forms(number)
    assert number in forms and len(set(forms)) == len(forms)
    for form in forms:
        assert crm.is_same_number(form, number)


class Told(Host):
    def __init__(self, *events: CallEvent) -> None:
        super().__init__()
        self.told = list(events)

    def events(self, call: Call) -> list[CallEvent]:
        return self.told


def test_the_last_word_on_a_call_counts() -> None:
    facts = crm.facts_of(
        Told(
            CallEvent("call-started", 1.0, detail={"hubspotId": "5"}),
            CallEvent("machine-detection", 2.0, status="human"),
            CallEvent("recording-completed", 3.0, detail={"RecordingSid": "RE1"}),
            CallEvent("recording-completed", 4.0, detail={"RecordingSid": "RE2", "RecordingUrl": "https://t/RE2"}),
            CallEvent("disposition", 5.0, detail={"disposition": "no answer", "notes": "rang"}),
            CallEvent("disposition", 6.0, detail={"disposition": "busy"}),
        ),
        CALL,
    )
    assert (facts.sent, facts.answered_by) == ({"hubspotId": "5"}, "human")
    assert (facts.disposition, facts.notes) == ("busy", "rang")
    assert crm.recording_link("{url}.mp3", CALL, facts) == "https://t/RE2.mp3"
    assert crm.recording_link("https://r/{call}/{recording}", CALL, facts) == "https://r/call_1/RE2"
    assert crm.recording_link("{url}", CALL, crm.Facts()) == ""


def host(tmp_path: Path, clock: Any) -> Host:
    return Host("crm", folder=tmp_path / "crm", clock=clock)


def test_one_at_a_time_is_at_work_on_a_call(tmp_path: Path) -> None:
    now = [1000.0]
    lent = host(tmp_path, lambda: now[0])
    assert crm_records.begin(lent, CALL) == ("", False)
    now[0] += 20
    with pytest.raises(RetryLater) as caught:
        crm_records.begin(lent, CALL)
    assert caught.value.seconds == crm_records.LEASE - 20
    crm_records.end(lent, CALL, "")
    assert crm_records.begin(lent, CALL) == ("", True)  # somebody tried before, and may have got through
    crm_records.end(lent, CALL, "77")
    assert crm_records.begin(lent, CALL) == ("77", True)
    now[0] += crm_records.LEASE
    assert crm_records.begin(lent, CALL) == ("77", True)


@pytest.mark.parametrize(
    ("plugin", "library", "extra"),
    [
        ("webhooks", "standardwebhooks", "dialer[webhooks]"),
        ("hubspot", "hubspot", "dialer[hubspot]"),
        ("salesforce", "simple_salesforce", "dialer[salesforce]"),
    ],
)
def test_without_its_library_a_plugin_says_which_extra_it_needs(
    monkeypatch: pytest.MonkeyPatch, plugin: str, library: str, extra: str
) -> None:
    package = f"dialer_plugins.{plugin}"
    for name in [name for name in sys.modules if name.partition(package)[1] and name.startswith(package)]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(ImportError) as caught:
        importlib.import_module(package)
    assert f"pip install '{extra}'" in str(caught.value)
