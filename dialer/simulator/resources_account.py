"""Accounts and what they own as REST shows it, with every field of Twilio's schema."""

from __future__ import annotations

import hashlib

from dialer.simulator.account_records import (
    Account,
    Alert,
    Application,
    IncomingPhoneNumber,
    OutgoingCallerId,
    VoiceUrls,
)
from dialer.simulator.geography import Country
from dialer.simulator.model import API_VERSION
from dialer.simulator.resources import Json, account_path, pascal_case, render_time

_ACCOUNT_PARTS = (
    "applications",
    "calls",
    "conferences",
    "incoming_phone_numbers",
    "outgoing_caller_ids",
    "recordings",
)


def render_account(account: Account) -> Json:
    """Account; the token in it is the one that asked."""
    path = account_path(account.sid)
    return {
        "sid": account.sid,
        "friendly_name": account.friendly_name,
        "auth_token": account.auth_token,
        "owner_account_sid": account.sid,
        "status": account.status,
        "type": account.type,
        "date_created": render_time(account.date_created),
        "date_updated": render_time(account.date_updated),
        "subresource_uris": {part: f"{path}/{pascal_case(part)}.json" for part in _ACCOUNT_PARTS},
        "uri": f"{path}.json",
    }


def _render_urls(urls: VoiceUrls) -> Json:
    """What applications and numbers have in common. Messages are no part of the network: their fields are empty."""
    return {
        "voice_url": urls.voice_url or None,
        "voice_method": urls.voice_method,
        "voice_fallback_url": urls.voice_fallback_url or None,
        "voice_fallback_method": urls.voice_fallback_method,
        "voice_caller_id_lookup": False,
        "status_callback": urls.status_callback or None,
        "status_callback_method": urls.status_callback_method,
        "sms_url": None,
        "sms_method": "POST",
        "sms_fallback_url": None,
        "sms_fallback_method": "POST",
    }


def render_application(application: Application) -> Json:
    """TwiML App."""
    return {
        "sid": application.sid,
        "account_sid": application.account_sid,
        "friendly_name": application.friendly_name,
        **_render_urls(application),
        "public_application_connect_enabled": False,
        "message_status_callback": None,
        "sms_status_callback": None,
        "date_created": render_time(application.date_created),
        "date_updated": render_time(application.date_updated),
        "api_version": API_VERSION,
        "uri": f"{account_path(application.account_sid)}/Applications/{application.sid}.json",
    }


def render_number(number: IncomingPhoneNumber) -> Json:
    """IncomingPhoneNumber: a number with voice and nothing else."""
    return {
        "sid": number.sid,
        "account_sid": number.account_sid,
        "phone_number": number.phone_number,
        "friendly_name": number.friendly_name,
        **_render_urls(number),
        "voice_application_sid": number.voice_application_sid or None,
        "voice_receive_mode": "voice",
        "capabilities": {"voice": True, "sms": False, "mms": False, "fax": False},
        "sms_application_sid": None,
        "address_sid": None,
        "address_requirements": "none",
        "identity_sid": None,
        "bundle_sid": None,
        "trunk_sid": None,
        "emergency_status": "Active",
        "emergency_address_sid": None,
        "emergency_address_status": "unregistered",
        "beta": False,
        "origin": "twilio",
        "status": "in-use",
        "type": "local",
        "date_created": render_time(number.date_created),
        "date_updated": render_time(number.date_updated),
        "api_version": API_VERSION,
        "uri": f"{account_path(number.account_sid)}/IncomingPhoneNumbers/{number.sid}.json",
    }


def render_caller_id(caller_id: OutgoingCallerId) -> Json:
    """OutgoingCallerId."""
    return {
        "sid": caller_id.sid,
        "account_sid": caller_id.account_sid,
        "phone_number": caller_id.phone_number,
        "friendly_name": caller_id.friendly_name,
        "date_created": render_time(caller_id.date_created),
        "date_updated": render_time(caller_id.date_updated),
        "uri": f"{account_path(caller_id.account_sid)}/OutgoingCallerIds/{caller_id.sid}.json",
    }


def render_country(country: Country, account: Account, url: str) -> Json:
    """Dialling permissions of a country for an account."""
    return {
        "iso_code": country.iso_code,
        "name": country.name,
        "continent": country.continent,
        "country_codes": list(country.codes),
        "low_risk_numbers_enabled": country.iso_code not in account.blocked_countries,
        "high_risk_special_numbers_enabled": country.iso_code in account.high_risk_special_countries,
        "high_risk_tollfraud_numbers_enabled": country.iso_code in account.high_risk_tollfraud_countries,
        "url": url,
        "links": {"highrisk_special_prefixes": f"{url}/HighRiskSpecialPrefixes"},
    }


def notification_sid(alert: Alert) -> str:
    """The SID of an alert: made from what it says, because the network gives it none."""
    told = f"{alert.at}/{alert.code}/{alert.call_sid}/{alert.url}/{alert.message}"
    return "NO" + hashlib.sha256(told.encode()).hexdigest()[:32]


def render_notification(account_sid: str, alert: Alert) -> Json:
    """An alert about a call, as its Notifications show it (log 0 is an error, 1 a warning)."""
    sid = notification_sid(alert)
    at = render_time(alert.at)
    return {
        "sid": sid,
        "account_sid": account_sid,
        "call_sid": alert.call_sid,
        "error_code": str(alert.code),
        "log": "0" if alert.level == "error" else "1",
        "message_text": alert.message,
        "message_date": at,
        "more_info": f"https://www.twilio.com/docs/errors/{alert.code}",
        "request_method": None,
        "request_url": alert.url or "",
        "date_created": at,
        "date_updated": at,
        "api_version": API_VERSION,
        "uri": f"{account_path(account_sid)}/Calls/{alert.call_sid}/Notifications/{sid}.json",
    }
