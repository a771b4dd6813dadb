from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialer.simulator.account_records import Account, Alert, Application, IncomingPhoneNumber, OutgoingCallerId
from dialer.simulator.geography import COUNTRIES
from dialer.simulator.model import Call, Conference, Participant, Recording
from dialer.simulator.resources import (
    format_number,
    render_call,
    render_call_recording,
    render_conference,
    render_conference_recording,
    render_participant,
    render_recording,
    render_time,
)
from dialer.simulator.resources_account import (
    render_account,
    render_application,
    render_caller_id,
    render_country,
    render_notification,
    render_number,
)

AC, CA, CF = "AC" + "1" * 32, "CA" + "2" * 32, "CF" + "3" * 32
AT = 1_800_000_000.0

# The fields of each resource in Twilio's published OpenAPI schema (twilio_api_v2010, twilio_voice_v1).
SCHEMA = {
    "call": """sid date_created date_updated parent_call_sid account_sid to to_formatted from from_formatted
        phone_number_sid status start_time end_time duration price price_unit direction answered_by
        api_version forwarded_from group_sid caller_name queue_time trunk_sid uri subresource_uris""",
    "conference": """account_sid date_created date_updated api_version friendly_name region sid status uri
        subresource_uris reason_conference_ended call_sid_ending_conference""",
    "participant": """account_sid call_sid label call_sid_to_coach coaching conference_sid date_created
        date_updated end_conference_on_exit muted hold start_conference_on_enter status queue_time uri""",
    "recording": """account_sid api_version call_sid conference_sid date_created date_updated start_time
        duration sid price price_unit status channels source error_code uri encryption_details
        subresource_uris media_url""",
    "call_recording": """account_sid api_version call_sid conference_sid date_created date_updated start_time
        duration sid price uri encryption_details price_unit status channels source error_code track""",
    "conference_recording": """account_sid api_version call_sid conference_sid date_created date_updated
        start_time duration sid price price_unit status channels source error_code encryption_details uri""",
    "application": """account_sid api_version date_created date_updated friendly_name message_status_callback
        sid sms_fallback_method sms_fallback_url sms_method sms_status_callback sms_url status_callback
        status_callback_method uri voice_caller_id_lookup voice_fallback_method voice_fallback_url
        voice_method voice_url public_application_connect_enabled""",
    "incoming_phone_number": """account_sid address_sid address_requirements api_version beta capabilities
        date_created date_updated friendly_name identity_sid phone_number origin sid sms_application_sid
        sms_fallback_method sms_fallback_url sms_method sms_url status_callback status_callback_method
        trunk_sid uri voice_receive_mode voice_application_sid voice_caller_id_lookup voice_fallback_method
        voice_fallback_url voice_method voice_url emergency_status emergency_address_sid
        emergency_address_status bundle_sid status type""",
    "call_notification": """account_sid api_version call_sid date_created date_updated error_code log
        message_date message_text more_info request_method request_url sid uri""",
    "outgoing_caller_id": "sid date_created date_updated friendly_name account_sid phone_number uri",
    "account": """auth_token date_created date_updated friendly_name owner_account_sid sid status
        subresource_uris type uri""",
    "country": """iso_code name continent country_codes low_risk_numbers_enabled
        high_risk_special_numbers_enabled high_risk_tollfraud_numbers_enabled url links""",
}

CALL = Call(CA, AC, "outbound-api", "+14155550199", "+14155550101", AT, AT)
CONFERENCE = Conference(CF, AC, "room", AT, AT)
PARTICIPANT = Participant(CA, CF, AC, AT, AT)
RECORDING = Recording("RE" + "4" * 32, AC, CA, CF, "Conference", 1, "both", AT, AT, AT, url="https://api.twilio.com/x")
NUMBER = IncomingPhoneNumber(sid="PN1", account_sid=AC, phone_number="+14155550199")

RENDERED = {
    "call": render_call(CALL),
    "conference": render_conference(CONFERENCE),
    "participant": render_participant(PARTICIPANT),
    "recording": render_recording(RECORDING),
    "call_recording": render_call_recording(RECORDING),
    "conference_recording": render_conference_recording(RECORDING),
    "application": render_application(Application(sid="AP1", account_sid=AC)),
    "incoming_phone_number": render_number(NUMBER),
    "call_notification": render_notification(AC, Alert(AT, 12200, "warning", "told", CA)),
    "outgoing_caller_id": render_caller_id(OutgoingCallerId("PN2", AC, "+14155550198", "", AT, AT)),
    "account": render_account(Account(AC, "token")),
    "country": render_country(COUNTRIES["US"], Account(AC, "token"), "https://voice.twilio.com/v1/x"),
}


@pytest.mark.parametrize("resource", SCHEMA)
def test_every_field_of_the_schema_and_no_other(resource: str) -> None:
    assert set(RENDERED[resource]) == set(SCHEMA[resource].split())


def test_dates_are_rfc_2822_in_utc() -> None:
    assert render_time(AT) == "Fri, 15 Jan 2027 08:00:00 +0000"
    assert render_time(None) is None


@pytest.mark.parametrize(
    ("party", "shown"),
    [
        ("+14158675309", "(415) 867-5309"),
        ("+442071838750", "+442071838750"),
        ("client:bob", "client:bob"),
        ("+1415867530", "+1415867530"),
    ],
)
def test_only_north_american_numbers_are_formatted(party: str, shown: str) -> None:
    assert format_number(party) == shown


@given(st.text())
def test_no_party_breaks_its_format(party: str) -> None:
    assert isinstance(format_number(party), str)


def test_numbers_of_a_call_are_texts_or_null() -> None:
    ended = Call(CA, AC, "inbound", "client:a", "", AT, AT, status="completed", duration=7, queue_time=40)
    shown = render_call(ended)
    assert (shown["duration"], shown["queue_time"], shown["price"]) == ("7", "40", None)
    assert RENDERED["call"]["duration"] is None


def test_only_the_creation_of_a_participant_tells_its_queue_time() -> None:
    assert render_participant(PARTICIPANT)["queue_time"] is None
    assert render_participant(PARTICIPANT, created=True)["queue_time"] == "0"


@pytest.mark.parametrize("resource", ["call", "conference", "participant", "recording", "application"])
def test_links_start_at_the_account(resource: str) -> None:
    links: list[Any] = [RENDERED[resource]["uri"], *RENDERED[resource].get("subresource_uris", {}).values()]
    assert all(link.startswith(f"/2010-04-01/Accounts/{AC}/") and link.endswith(".json") for link in links)


def test_the_parts_of_a_call_are_those_of_the_schema() -> None:
    assert set(RENDERED["call"]["subresource_uris"]) == {
        "notifications",
        "recordings",
        "payments",
        "events",
        "siprec",
        "streams",
        "transcriptions",
        "user_defined_message_subscriptions",
        "user_defined_messages",
    }
    link = RENDERED["call"]["subresource_uris"]["user_defined_messages"]
    assert link == f"/2010-04-01/Accounts/{AC}/Calls/{CA}/UserDefinedMessages.json"


def test_two_alerts_have_two_sids_and_one_keeps_its_own() -> None:
    first, second = Alert(AT, 12200, "warning", "a", CA), Alert(AT, 12200, "warning", "b", CA)
    sids = [render_notification(AC, alert)["sid"] for alert in (first, second, first)]
    assert sids[0] == sids[2] != sids[1]
    assert len(sids[0]) == 34
