"""What an account owns, over REST: TwiML Apps, numbers, caller IDs; and the countries it may dial."""

from __future__ import annotations

from typing import Any
from urllib.parse import urlsplit

from dialer.simulator.account_records import Account, Application, IncomingPhoneNumber, OutgoingCallerId
from dialer.simulator.geography import COUNTRIES, Country, is_number
from dialer.simulator.model import Params, TwilioError
from dialer.simulator.resources import Json
from dialer.simulator.resources_account import (
    render_account,
    render_application,
    render_caller_id,
    render_country,
    render_number,
)
from dialer.simulator.rest_pages import list_response, list_v1
from dialer.simulator.rest_routes import Asked, RestResponse, delete_response, read_boolean, route

VOICE_BASE = "https://voice.twilio.com"
URLS = {
    "VoiceUrl": "voice_url",
    "VoiceFallbackUrl": "voice_fallback_url",
    "StatusCallback": "status_callback",
}
METHODS = {
    "VoiceMethod": "voice_method",
    "VoiceFallbackMethod": "voice_fallback_method",
    "StatusCallbackMethod": "status_callback_method",
}
SETTINGS = " ".join([*URLS, *METHODS, "FriendlyName"])
MAX_NAME = 64  # characters of a FriendlyName (Twilio docs, application, incomingphonenumber)


def read_settings(form: Params) -> dict[str, Any]:
    """The fields of a TwiML App or a number that the form sets. Raises TwilioError."""
    settings = {
        field: _check(name, form.get(name))
        for name, field in {**URLS, **METHODS, "FriendlyName": "friendly_name"}.items()
        if name in form
    }
    # An empty method means the default, as if it had not been sent.
    return {field: value for field, value in settings.items() if value or not field.endswith("_method")}


def _check(name: str, value: str) -> str:
    if name in URLS and value and not _is_url(value):
        code = 21609 if name == "StatusCallback" else 21205
        raise TwilioError(400, code, f"{name} is not a valid URL: {value!r}")
    if name in METHODS and value.upper() not in ("", "GET", "POST"):
        raise TwilioError(400, 21209, f"{name} must be GET or POST, not {value!r}")
    if name == "FriendlyName" and len(value) > MAX_NAME:
        raise TwilioError(400, 20422, f"FriendlyName is longer than {MAX_NAME} characters")
    return value.upper() if name in METHODS else value


def _is_url(value: str) -> bool:
    try:
        parts = urlsplit(value)
    except ValueError:
        return False
    return parts.scheme in ("http", "https") and bool(parts.hostname)


# Accounts


def fetch_account(asked: Asked) -> RestResponse:
    return RestResponse.json(render_account(asked.account))


def list_accounts(asked: Asked) -> RestResponse:
    query = asked.request.query
    rows = [asked.account] if query.get("FriendlyName") in ("", asked.account.friendly_name) else []
    return list_response(asked, "accounts", rows, render_account)


# TwiML Apps


def _find_application(asked: Asked) -> Application:
    return asked.find(asked.account.applications, "application")


def list_applications(asked: Asked) -> RestResponse:
    query = asked.request.query
    own = reversed(asked.account.applications.values())
    rows = [each for each in own if query.get("FriendlyName") in ("", each.friendly_name)]
    return list_response(asked, "applications", rows, render_application)


def fetch_application(asked: Asked) -> RestResponse:
    return RestResponse.json(render_application(_find_application(asked)))


def create_application(asked: Asked) -> RestResponse:
    application = asked.network.add_application(asked.account.sid, **read_settings(asked.request.form))
    return RestResponse.json(render_application(application), 201)


def update_application(asked: Asked) -> RestResponse:
    application = _find_application(asked)
    _apply(asked, application, read_settings(asked.request.form))
    return RestResponse.json(render_application(application))


def delete_application(asked: Asked) -> RestResponse:
    del asked.account.applications[_find_application(asked).sid]
    return delete_response()


def _apply(asked: Asked, target: Application | IncomingPhoneNumber, settings: dict[str, Any]) -> None:
    for field, value in settings.items():
        setattr(target, field, value)
    target.date_updated = asked.network.now


# Numbers


def _find_number(asked: Asked) -> IncomingPhoneNumber:
    for number in asked.account.numbers.values():
        if number.sid == asked.names["number"]:
            return number
    raise asked.not_found()


def list_numbers(asked: Asked) -> RestResponse:
    query = asked.request.query
    rows = [
        each
        for each in reversed(asked.account.numbers.values())
        if _is_named(query, each) and query.get("Origin", "twilio") == "twilio"
    ]
    return list_response(asked, "incoming_phone_numbers", rows, render_number)


def _is_named(query: Params, row: IncomingPhoneNumber | OutgoingCallerId) -> bool:
    """Whether FriendlyName and PhoneNumber agree; a part of the number is enough (Twilio docs)."""
    digits = query.get("PhoneNumber").lstrip("+")
    return query.get("FriendlyName") in ("", row.friendly_name) and digits in row.phone_number


def fetch_number(asked: Asked) -> RestResponse:
    return RestResponse.json(render_number(_find_number(asked)))


def create_number(asked: Asked) -> RestResponse:
    wanted = asked.request.form.get("PhoneNumber")
    if not is_number(wanted):
        raise TwilioError(400, 21421, f"PhoneNumber is invalid: {wanted!r}")
    if wanted in asked.network.owners:
        raise TwilioError(400, 21422, f"{wanted} is not available")
    number = asked.network.add_number(asked.account.sid, wanted, **_read_number_settings(asked))
    return RestResponse.json(render_number(number), 201)


def update_number(asked: Asked) -> RestResponse:
    number = _find_number(asked)
    _apply(asked, number, _read_number_settings(asked))
    return RestResponse.json(render_number(number))


def _read_number_settings(asked: Asked) -> dict[str, Any]:
    settings = read_settings(asked.request.form)
    if "VoiceApplicationSid" in asked.request.form:
        sid = asked.request.form.get("VoiceApplicationSid")
        if sid and sid not in asked.account.applications:
            raise TwilioError(400, 21420, f"VoiceApplicationSid {sid} was not found")
        settings["voice_application_sid"] = sid
    return settings


def delete_number(asked: Asked) -> RestResponse:
    number = _find_number(asked)
    del asked.account.numbers[number.phone_number]
    del asked.network.owners[number.phone_number]
    return delete_response()


# Caller IDs


def list_caller_ids(asked: Asked) -> RestResponse:
    query = asked.request.query
    rows = [each for each in reversed(asked.account.caller_ids.values()) if _is_named(query, each)]
    return list_response(asked, "outgoing_caller_ids", rows, render_caller_id)


def fetch_caller_id(asked: Asked) -> RestResponse:
    for caller_id in asked.account.caller_ids.values():
        if caller_id.sid == asked.names["caller_id"]:
            return RestResponse.json(render_caller_id(caller_id))
    raise asked.not_found()


# Dialling permissions, at voice.twilio.com


def list_countries(asked: Asked) -> RestResponse:
    query = asked.request.query
    switches = {
        "LowRiskNumbersEnabled": "low_risk_numbers_enabled",
        "HighRiskSpecialNumbersEnabled": "high_risk_special_numbers_enabled",
        "HighRiskTollfraudNumbersEnabled": "high_risk_tollfraud_numbers_enabled",
    }
    wanted = {field: read_boolean(query, name) for name, field in switches.items()}
    shown = [_render_country(asked.account, country) for country in COUNTRIES.values() if _is_asked(query, country)]
    rows = [row for row in shown if all(value in (None, row[field]) for field, value in wanted.items())]
    url = VOICE_BASE + asked.request.path
    return RestResponse.json(list_v1("content", url, query, rows, lambda row: str(row["iso_code"]), dict))


def _is_asked(query: Params, country: Country) -> bool:
    codes = [code.lstrip("+") for code in country.codes]
    return (
        query.get("IsoCode") in ("", country.iso_code)
        and query.get("Continent") in ("", country.continent)
        and query.get("CountryCode").lstrip("+") in ("", *codes)
    )


def fetch_country(asked: Asked) -> RestResponse:
    country = COUNTRIES.get(asked.names["country"])
    if country is None:
        raise asked.not_found()
    return RestResponse.json(_render_country(asked.account, country))


def _render_country(account: Account, country: Country) -> Json:
    return render_country(country, account, f"{VOICE_BASE}/v1/DialingPermissions/Countries/{country.iso_code}")


_ACCOUNT = "/2010-04-01/Accounts/{account}"
_APPLICATION = f"{_ACCOUNT}/Applications/{{application}}.json"
_NUMBER = f"{_ACCOUNT}/IncomingPhoneNumbers/{{number}}.json"
_NUMBER_SETTINGS = f"{SETTINGS} VoiceApplicationSid"

ROUTES = (
    route("GET", "/2010-04-01/Accounts.json", list_accounts),
    route("GET", f"{_ACCOUNT}.json", fetch_account),
    route("GET", f"{_ACCOUNT}/Applications.json", list_applications),
    route("POST", f"{_ACCOUNT}/Applications.json", create_application, SETTINGS),
    route("GET", _APPLICATION, fetch_application),
    route("POST", _APPLICATION, update_application, SETTINGS),
    route("DELETE", _APPLICATION, delete_application),
    route("GET", f"{_ACCOUNT}/IncomingPhoneNumbers.json", list_numbers),
    route("POST", f"{_ACCOUNT}/IncomingPhoneNumbers.json", create_number, f"PhoneNumber {_NUMBER_SETTINGS}"),
    route("GET", _NUMBER, fetch_number),
    route("POST", _NUMBER, update_number, _NUMBER_SETTINGS),
    route("DELETE", _NUMBER, delete_number),
    route("GET", f"{_ACCOUNT}/OutgoingCallerIds.json", list_caller_ids),
    route("GET", f"{_ACCOUNT}/OutgoingCallerIds/{{caller_id}}.json", fetch_caller_id),
    route("GET", "/v1/DialingPermissions/Countries", list_countries),
    route("GET", "/v1/DialingPermissions/Countries/{country}", fetch_country),
)
