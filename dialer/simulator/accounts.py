"""Accounts with what they own, their debugger, and forgetting what is over."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from dialer.simulator.account_records import Account, Alert, Application, IncomingPhoneNumber, OutgoingCallerId
from dialer.simulator.model import Call, Conference

if TYPE_CHECKING:
    from dialer.simulator.network import Network

WARNINGS = frozenset(
    {
        12200, 13000, 13210, 13212, 13213, 13214, 13215, 13216, 13217, 13218, 13219, 13220, 13221, 13222,
        13223, 13226, 13230, 13232, 13233, 13234, 13235, 13236, 13237, 13248, 13256, 13805, 15003, 20001,
        20104, 21262, 21263, 21302,
    }
)  # fmt: skip
"""Codes that the error dictionary lists as warnings; all others are errors."""


def add_account(network: Network, sid: str, auth_token: str, **fields: Any) -> Account:
    """A new account."""
    account = Account(
        sid or network.sid("AC"),
        auth_token or f"{network.random_bits(128):032x}",
        date_created=network.now,
        date_updated=network.now,
        **fields,
    )
    network.accounts[account.sid] = account
    return account


def add_key(network: Network, account_sid: str, sid: str, secret: str) -> tuple[str, str]:
    """A new API key."""
    sid, secret = sid or network.sid("SK"), secret or f"{network.random_bits(128):032x}"
    network.account(account_sid).keys[sid] = secret
    return sid, secret


def add_application(network: Network, account_sid: str, **fields: Any) -> Application:
    """A new TwiML App."""
    account = network.account(account_sid)
    fields.setdefault("sid", network.sid("AP"))
    application = Application(
        account_sid=account_sid, date_created=network.now, date_updated=network.now, **fields
    )
    account.applications[application.sid] = application
    return application


def add_number(network: Network, account_sid: str, phone_number: str, **fields: Any) -> IncomingPhoneNumber:
    """A number that the account owns."""
    account = network.account(account_sid)
    fields.setdefault("sid", network.sid("PN"))
    fields.setdefault("friendly_name", phone_number)
    number = IncomingPhoneNumber(
        account_sid=account_sid,
        phone_number=phone_number,
        date_created=network.now,
        date_updated=network.now,
        **fields,
    )
    account.numbers[phone_number] = network.owners[phone_number] = number
    return number


def add_caller_id(
    network: Network, account_sid: str, phone_number: str, friendly_name: str
) -> OutgoingCallerId:
    """A verified caller ID."""
    account = network.account(account_sid)
    sid, now = network.sid("PN"), network.now
    caller_id = OutgoingCallerId(sid, account_sid, phone_number, friendly_name or phone_number, now, now)
    account.caller_ids[phone_number] = caller_id
    return caller_id


def alert(
    network: Network,
    account_sid: str,
    code: int,
    message: str,
    call: Call | None = None,
    conference: Conference | None = None,
    url: str | None = None,
) -> None:
    """A line in the account's debugger, and in the log."""
    network.accounts[account_sid].alerts.append(
        Alert(
            network.now,
            code,
            "warning" if code in WARNINGS else "error",
            message,
            call.sid if call else None,
            conference.sid if conference else None,
            url,
        )
    )
    network.note("alert", call, conference, code=code, message=message, url=url)


def forget(network: Network, before: float) -> None:
    """Drop what ended before that moment."""
    ended = [c.sid for c in network.calls.values() if c.end_time is not None and c.end_time < before]
    for sid in ended:
        del network.calls[sid]
    over = [c for c in network.conferences.values() if c.status == "completed" and c.date_updated < before]
    for conference in over:
        del network.conferences[conference.sid]
    final = ("completed", "absent")
    old = [r.sid for r in network.recordings.values() if r.status in final and r.date_updated < before]
    for sid in old:
        del network.recordings[sid]
    for account in network.accounts.values():
        account.alerts = [alert for alert in account.alerts if alert.at >= before]
    while network.log and network.log[0].at < before:
        network.log.popleft()
