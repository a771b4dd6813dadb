"""What `dialer doctor` asks Twilio about an account. Checks only read; `mend_app` writes."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

import phonenumbers
import requests
from twilio.base.exceptions import TwilioException
from twilio.rest import Client

from dialer.discovery import set_up
from dialer.errors import ConfigError, DialerError
from dialer.service import FALLBACK_PATH, STATUS_PATH, TWIML_PATH
from dialer.settings import Account, Settings
from dialer.store import Store, open_store
from dialer.twilio import Carrier

CONSOLE = "https://console.twilio.com"


@dataclass(frozen=True, slots=True)
class Finding:
    """One line of the report. `fix` is a sentence for the admin; `unreachable`: Twilio gave no answer."""

    level: Literal["ok", "warning", "failed"]
    looked_at: str
    found: str
    fix: str = ""
    unreachable: bool = False


def ok(looked_at: str, found: str, fix: str = "") -> Finding:
    return Finding("ok", looked_at, found, fix)


def warning(looked_at: str, found: str, fix: str) -> Finding:
    return Finding("warning", looked_at, found, fix)


def failed(looked_at: str, found: str, fix: str) -> Finding:
    return Finding("failed", looked_at, found, fix)


@dataclass(frozen=True)
class Case:
    """One account under examination. `clock` gives epoch seconds, `say` shows a line at once."""

    settings: Settings
    account: Account
    clock: Callable[[], float] = time.time
    say: Callable[[str], None] = print

    @property
    def public_url(self) -> str:
        return self.settings.server.public_url

    @cached_property
    def client(self) -> Client:
        """The client with the auth token: a standard API key may not read the account (Twilio docs, keys)."""
        account = replace(self.account, api_key="", api_secret=None)
        return Carrier(account, self.settings.twilio.api_base).client

    def name_of(self, key: str) -> str:
        """How an admin sets one value of this account."""
        if self.account.workspace:
            return f"{key} of [workspaces.{self.account.workspace}.twilio]"
        return f"TWILIO_{key.upper()}"


Check = Callable[[Case], Iterator[Finding]]


def explain(case: Case, looked_at: str, error: Exception) -> Finding:
    """A check that raised, as a finding."""
    if isinstance(error, TwilioException):
        status, code, told = refusal_of(error)
        fix = f"Read https://www.twilio.com/docs/errors/{code}" if code else "Try again later"
        if status == 401:
            fix = f"Set {case.name_of('auth_token')} to the primary auth token of {case.account.sid}"
        return failed(looked_at, told, fix)
    if isinstance(error, requests.RequestException):
        base = case.settings.twilio.api_base
        fix = "Start it: dialer run" if case.settings.simulated else f"Let this machine connect to {base}"
        found = f"{base} does not answer: {cause_of(error)}"
        return Finding("failed", looked_at, found, fix, unreachable=True)
    if isinstance(error, DialerError):
        return failed(looked_at, str(error), "")
    return failed(looked_at, f"the check itself failed: {type(error).__name__}: {error}", "Please report it")


def refusal_of(error: TwilioException) -> tuple[int, int, str]:
    """HTTP status, Twilio's error code, and both with the message in words."""
    status, code, message = (getattr(error, name, None) for name in ("status", "code", "msg"))
    if status is None and len(error.args) > 1:  # of a list: the general exception, with the response
        response = error.args[1]
        status = response.status_code
        try:
            told = json.loads(response.text)
            code, message = told["code"], told["message"]
        except (ValueError, TypeError, KeyError):
            message = "not an answer in Twilio's form"
    error_code = f", error {code}" if code else ""
    return int(status or 0), int(code or 0), f"Twilio answers HTTP {status}{error_code}: {message or error}"


def cause_of(error: Exception) -> str:
    """The innermost reason of a failed request, without the wrapping of requests and urllib3."""
    inner = getattr(error.args[0] if error.args else error, "reason", error)
    return str(inner).rpartition(": ")[2].strip("()'") or type(error).__name__


def check_credentials(case: Case) -> Iterator[Finding]:
    """The auth token is good and the account active."""
    sid = case.account.sid
    account = case.client.api.accounts(sid).fetch()
    if account.status != "active":
        yield failed(f"account {sid}", f"it is {account.status}", f"Activate it at {CONSOLE}")
    elif account.type == "Trial":
        found = "the auth token works; a trial account calls verified numbers only, and 5 at a time"
        yield warning(f"account {sid}", found, f"Upgrade it at {CONSOLE} before you go live")
    else:
        yield ok(f"account {sid}", "the auth token works; it is active and no trial")


def check_key(case: Case) -> Iterator[Finding]:
    """The API key may read calls, as Dialer does with it."""
    account, key, secret = case.account, case.name_of("api_key"), case.name_of("api_secret")
    if not account.api_key:
        fix = f"Make a standard API key at {CONSOLE} and set {key} and {secret}"
        yield failed("API key", f"{key} is not set: no browser can get a token", fix)
        return
    looked_at = f"API key {account.api_key}"
    try:
        Carrier(account, case.settings.twilio.api_base).client.calls.list(limit=1)
    except TwilioException as error:
        fix = f"Set {key} and {secret} to a standard API key of {account.sid}"
        yield failed(looked_at, refusal_of(error)[2], fix)
    else:
        yield ok(looked_at, "works")


def wanted_settings(public_url: str) -> dict[str, str]:
    """What a TwiML App must hold, by the SDK's names."""
    return {
        "voice_url": public_url + TWIML_PATH,
        "voice_method": "POST",
        "status_callback": public_url + STATUS_PATH,
        "status_callback_method": "POST",
        "voice_fallback_url": public_url + FALLBACK_PATH,
        "voice_fallback_method": "POST",
    }


def wrong_settings(app: Any, public_url: str) -> dict[str, tuple[str, str]]:
    """What differs in an App: name to (what it is, what it must be). A fragment (#rc=5) is no difference."""
    pairs = {name: (getattr(app, name) or "", must) for name, must in wanted_settings(public_url).items()}
    return {name: pair for name, pair in pairs.items() if pair[0].partition("#")[0] != pair[1]}


def twilio_name(name: str) -> str:
    """voice_url as Twilio writes it: VoiceUrl."""
    return "".join(word.capitalize() for word in name.split("_"))


def mend_app(case: Case) -> Iterator[Finding]:
    """Set what is wrong in the App; each change is shown before it is made."""
    if not case.account.app_sid:
        return
    app = case.client.applications(case.account.app_sid).fetch()
    wrong = wrong_settings(app, case.public_url)
    for name, (now, must) in wrong.items():
        case.say(f'TwiML App {app.sid}: {twilio_name(name)} changes from "{now}" to "{must}"')
    if wrong:
        case.client.applications(app.sid).update(**{name: must for name, (_, must) in wrong.items()})
        yield ok(f"TwiML App {app.sid}", f"changed {', '.join(map(twilio_name, wrong))}")


def check_app(case: Case) -> Iterator[Finding]:
    """The TwiML App exists and sends calls, their end and their errors to us."""
    sid, key = case.account.app_sid, case.name_of("app_sid")
    looked_at = f"TwiML App {sid}".rstrip()
    if not sid:
        fix = f"Make one at {CONSOLE} and set {key} to its sid"
        yield failed(looked_at, f"{key} is not set: no browser can call", fix)
        return
    try:
        app = case.client.applications(sid).fetch()
    except TwilioException as error:
        if refusal_of(error)[0] != 404:
            raise
        found = f"there is none in {case.account.sid}"
        yield failed(looked_at, found, f"Set {key} to the sid of a TwiML App of that account")
        return
    wrong = wrong_settings(app, case.public_url)
    for name, (now, must) in wrong.items():
        fix = f"Set it to {must} (dialer doctor --fix does)"
        yield failed(looked_at, f'{twilio_name(name)} is "{now}"', fix)
    if not wrong:
        yield ok(looked_at, f"sends calls to {case.public_url}{TWIML_PATH}")


def database_file(settings: Settings) -> Path:
    """The file of the store; raises ConfigError when the store is not one."""
    scheme, _, path = settings.store.url.partition(":///")
    if scheme != "sqlite":
        raise ConfigError("only a store in SQLite can be examined")
    return Path(path)


@contextmanager
def opened_store(settings: Settings) -> Iterator[Store]:
    """The store as it is, none is made: it would be owned by whoever asks. Raises DialerError."""
    file = database_file(settings)
    if not file.exists():
        raise DialerError(f"there is no database {file} yet; dialer run makes it")
    with closing(open_store(settings.store.url)) as store:
        yield store


def own_workspaces(case: Case) -> dict[str, list[str]]:
    """The workspaces that call through this account, with their numbers."""
    settings = case.settings
    with opened_store(settings) as store, store.read() as tx:
        names = [row["id"] for row in tx.all("workspaces") if not row["disabled_at"]]
        own = [name for name in names if settings.account_of(name).sid == case.account.sid]
        return {name: [row["number"] for row in tx.all("numbers", workspace=name)] for name in own}


def check_numbers(case: Case) -> Iterator[Finding]:
    """Every number may be shown as caller ID (Twilio, error 21210)."""
    owners = {number: name for name, numbers in own_workspaces(case).items() for number in numbers}
    if not owners:
        fix = "Give a workspace one: dialer numbers add NUMBER --workspace WORKSPACE"
        yield warning(f"numbers of {case.account.sid}", "no workspace has one to call from", fix)
        return
    owned = {one.phone_number for one in case.client.incoming_phone_numbers.list(page_size=1000)}
    verified = {one.phone_number for one in case.client.outgoing_caller_ids.list(page_size=1000)}
    missing = sorted(owners.keys() - owned - verified)
    for number in missing:
        looked_at = f"number {number} of {owners[number]}"
        revoke = f"dialer numbers revoke {number} --workspace {owners[number]}"
        fix = f"Buy or verify {number} at {CONSOLE}, or run: {revoke}"
        yield failed(looked_at, f"neither owned nor verified by {case.account.sid} (error 21210)", fix)
    if not missing:
        counts = f"{len(owners.keys() & owned)} owned, {len(owners.keys() - owned)} verified"
        yield ok(f"numbers of {case.account.sid}", f"all may be called from: {counts}")


def called_countries(case: Case) -> dict[str, str]:
    """The ISO countries that are to be called, and what says so."""
    countries: dict[str, str] = {}
    for name, numbers in own_workspaces(case).items():
        countries |= {country_of(number): f"number {number} of {name}" for number in numbers}
        region = case.settings.default_region(name)
        countries |= {region: f"default_region of {name}"} if region else {}
    for plugin in set_up(case.settings).plugins:
        named = getattr(plugin.instance, "countries", ())
        countries |= {str(country): f"countries of [plugins.{plugin.name}]" for country in named}
    return countries


def country_of(number: str) -> str:
    """ISO code; of a number in no known range, that of the country which leads its calling code."""
    parsed = phonenumbers.parse(number)
    own = phonenumbers.region_code_for_number(parsed)
    return own or phonenumbers.region_code_for_country_code(parsed.country_code or 0)


def check_countries(case: Case) -> Iterator[Finding]:
    """Geo permissions let through what is to be called (error 21215), and not what fraud calls."""
    where, all_of_them = f"{CONSOLE} (Voice, Geo permissions)", f"geo permissions of {case.account.sid}"
    wanted = called_countries(case)
    listed = {one.iso_code: one for one in case.client.voice.v1.dialing_permissions.countries.list()}
    off = sorted(code for code in wanted if code in listed and not listed[code].low_risk_numbers_enabled)
    for code in off:
        found = f"calls are refused (error 21215); asked for by {wanted[code]}"
        yield failed(f"geo permission {code}", found, f"Allow {listed[code].name} at {where}")
    for code in sorted(wanted.keys() - listed.keys()):
        found = f"Twilio lists no such country; asked for by {wanted[code]}"
        yield warning(f"geo permission {code}", found, "Name one that Twilio calls")
    risky = ", ".join(sorted(code for code, one in listed.items() if is_risky(one)))
    if risky:
        found = f"high-risk numbers, which toll fraud calls, are allowed in {risky}"
        yield warning(all_of_them, found, f"Turn the high-risk switches of {risky} off at {where}")
    if not off:
        yield ok(all_of_them, f"cover what is to be called: {', '.join(sorted(wanted)) or 'nothing'}")


def is_risky(country: Any) -> bool:
    return bool(country.high_risk_special_numbers_enabled or country.high_risk_tollfraud_numbers_enabled)
