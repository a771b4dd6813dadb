"""`dialer doctor`: what stands between this installation and a call, one line each, with the value to set.

What Twilio is asked stands in `checkup.py`, what is sent through the public URL in `reach.py`.
"""

from __future__ import annotations

import itertools
import os
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import asdict
from email.utils import parsedate_to_datetime
from statistics import fmean
from typing import Any

import click
import jwt

from dialer import checkup, demo
from dialer.checkup import Case, Check, Finding, explain, failed, mend_app, ok, warning
from dialer.errors import ConfigError
from dialer.printing import json_option, print_json
from dialer.reach import check_public_url, check_webhooks
from dialer.settings import Account, Settings
from dialer.store.sqlite import SqliteStore
from dialer.tables import one_line
from dialer.transport import Transport
from dialer.twilio import browser_token

#: Seconds that one check may take, all of its requests together.
CHECK_SECONDS = 30.0
#: Seconds that our clock may be off: browser tokens begin and end to the second.
CLOCK_WARNS, CLOCK_FAILS = 5.0, 60.0
TOKEN_SECONDS = 3600
#: Writes of the disk check, each as large as a usual commit, and the commits of one call: 12 webhooks and the jobs.
WRITES, WRITE_BYTES, COMMITS_A_CALL = 32, 8192, 14
#: Seconds that a due job may wait: a running dispatcher looks many times a second.
JOB_WAITS = 60.0
WORDS = {"ok": ("ok", "green"), "warning": ("warning", "yellow"), "failed": ("FAILED", "red")}


def check_clock(case: Case) -> Iterator[Finding]:
    """Our clock in the middle of an exchange, against the Date header of the answer."""
    url = f"https://api.twilio.com/2010-04-01/Accounts/{case.account.sid}.json"
    before = case.clock()
    answer = Transport(case.settings.twilio.api_base).request("GET", url)
    ours = (before + case.clock()) / 2
    date = {name.lower(): value for name, value in (answer.headers or {}).items()}.get("date")
    if date is None:
        yield warning("clock", "Twilio's answer has no Date header", "Compare the time yourself: timedatectl")
        return
    off = ours - (parsedate_to_datetime(date).timestamp() + 0.5)  # a Date has no fraction: the middle of it
    if abs(off) <= CLOCK_WARNS:
        yield ok("clock", f"within {max(1, round(abs(off)))} s of Twilio's")
        return
    found = f"{abs(off):.0f} s {'ahead of' if off > 0 else 'behind'} Twilio's, which judges browser tokens"
    judge = failed if abs(off) > CLOCK_FAILS else warning
    yield judge("clock", found, "Set it from the network: timedatectl set-ntp true")


def check_token(case: Case) -> Iterator[Finding]:
    """A browser token can be made, and says what it must."""
    account, now = case.account, int(case.clock())
    looked_at = f"browser token of {account.sid}"
    if not (account.api_key and account.api_secret and account.app_sid):
        names = ", ".join(case.name_of(key) for key in ("api_key", "api_secret", "app_sid"))
        yield failed(looked_at, "it cannot be made", f"Set {names}")
        return
    token = browser_token(account, "doctor", TOKEN_SECONDS, now=now)
    claims = jwt.decode(
        token,
        account.api_secret.reveal(),
        algorithms=["HS256"],
        options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},  # the clock has its own check
    )
    wrong = ", ".join(wrong_claims(claims, account, now))
    if wrong:
        yield failed(looked_at, f"wrong: {wrong}", "Install the package twilio anew, 9.13 or later")
    else:
        yield ok(looked_at, f"made by {account.api_key} for {account.app_sid}, good for an hour")


def wrong_claims(claims: Mapping[str, Any], account: Account, now: int) -> list[str]:
    """The claims of the doctor's token that Twilio would refuse (Twilio docs, errors 20103 to 20106)."""
    grants = claims.get("grants", {})
    expected = {
        "issuer": (claims.get("iss"), account.api_key),
        "subject": (claims.get("sub"), account.sid),
        "start": (claims.get("nbf"), now),
        "lifetime": (claims.get("exp"), now + TOKEN_SECONDS),
        "identity": (grants.get("identity"), "doctor"),
        "grant": (grants.get("voice", {}).get("outgoing", {}).get("application_sid"), account.app_sid),
    }
    return [name for name, (found, wanted) in expected.items() if found != wanted]


def check_rate(case: Case) -> Iterator[Finding]:
    """How fast calls are started; what Twilio grants cannot be asked."""
    rate = case.account.calls_per_second
    found = f"{rate:g} calls are started a second, {rate * 3600:.0f} an hour; others wait in Dialer"
    grants = f"Twilio grants 1 unless it was raised: if {rate:g} is more than yours, calls wait in its queue too"
    yield ok(f"calls_per_second of {case.account.sid}", found, grants if rate > 1 else "")


def check_disk(case: Case) -> Iterator[Finding]:
    """What a durable write costs, and how many calls an hour that carries."""
    folder, accounts = checkup.database_file(case.settings).parent, case.settings.accounts
    try:
        seconds = [*write_durably(str(folder))]
    except OSError as error:
        yield failed(f"disk at {folder}", f"cannot be written: {error.strerror}", "Let Dialer's user write there")
        return
    carried, wanted = 3600 / (fmean(seconds) * COMMITS_A_CALL), 3600 * sum(one.calls_per_second for one in accounts)
    mean, most = fmean(seconds) * 1000, max(seconds) * 1000
    cost = f"fsync takes {mean:.2f} ms (at most {most:.2f})"
    found = f"{cost}, which carries {carried:.0f} calls an hour, one commit at a time"
    if carried >= wanted:
        yield ok(f"disk at {folder}", found)
    else:
        fix = f"Move DIALER_STORE to a faster disk, or lower calls_per_second (now {wanted:.0f} calls an hour)"
        yield warning(f"disk at {folder}", found, fix)


def write_durably(folder: str) -> Iterator[float]:
    """Seconds of each of some writes with fsync; raises OSError."""
    with tempfile.NamedTemporaryFile(dir=folder, prefix="doctor-") as file:
        for _ in range(WRITES):
            started = time.perf_counter()
            os.write(file.fileno(), b"\0" * WRITE_BYTES)
            os.fsync(file.fileno())
            yield time.perf_counter() - started


def check_store(case: Case) -> Iterator[Finding]:
    """The database takes commits in WAL mode, and somebody does what it owes."""
    looked_at, before = f"store {case.settings.store.url}", case.clock() - JOB_WAITS
    with checkup.opened_store(case.settings) as store:
        with store.write() as tx:
            row = tx.one("open_calls")
        assert isinstance(store, SqliteStore)
        database = store.database()
        version = ".".join(map(str, database.sqlite_version))
        mode, jobs = database.journal_mode, database["jobs"]
        overdue = jobs.count_where("status IN ('pending', 'doing') AND run_at < ?", [before])
        dead = jobs.count_where("status = 'dead'")
    counts = f"{row['open'] if row else 0} open calls, {overdue} overdue jobs, {dead} dead deliveries"
    if mode != "wal":
        yield failed(looked_at, f"its journal mode is {mode}, not wal", "Move DIALER_STORE to a local disk")
    if overdue:
        found = f"{overdue} jobs wait for over {JOB_WAITS:.0f} s: nothing is dialled or delivered"
        yield failed(looked_at, found, "Start the dispatcher: dialer run, or dialer worker")
    if dead:
        yield warning(looked_at, f"{dead} deliveries to plugins were given up", "Mend the plugin that failed")
    if mode == "wal" and not overdue:
        yield ok(looked_at, f"SQLite {version}, WAL, writable; {counts}")


#: What is examined for each account, and then once.
ACCOUNT_CHECKS: Mapping[str, Check] = {
    "account": checkup.check_credentials,
    "key": checkup.check_key,
    "app": checkup.check_app,
    "numbers": checkup.check_numbers,
    "countries": checkup.check_countries,
    "rate": check_rate,
    "token": check_token,
    "webhooks": check_webhooks,
}
MACHINE_CHECKS: Mapping[str, Check] = {
    "clock": check_clock,
    "public_url": check_public_url,
    "disk": check_disk,
    "store": check_store,
}


def examine(case: Case, looked_at: str, check: Check, seconds: float = CHECK_SECONDS) -> list[Finding]:
    """What a check finds; one that raises or takes too long has failed, and is left behind."""
    found: list[Finding] = []

    def collect() -> None:
        try:
            for finding in check(case):
                found.append(finding)
        except Exception as error:
            found.append(explain(case, looked_at, error))

    thread = threading.Thread(target=collect, daemon=True)
    thread.start()
    thread.join(seconds)
    late = failed(looked_at, f"no result within {seconds:g} s", "Try again; if it stays so, please report it")
    return [*found, late] if thread.is_alive() else found


def examine_all(
    settings: Settings, *, mend: bool = False, clock: Callable[[], float] = time.time
) -> Iterator[tuple[str, Finding]]:
    """Each finding with the name of its check, as it is found; raises ConfigError without an account."""
    if not settings.accounts:
        raise ConfigError(
            f"{settings.source.file}: [twilio]: no Twilio account;"
            " set TWILIO_ACCOUNT_SID and TWILIO_AUTH_TOKEN, or run: dialer run"
        )
    cases = [Case(settings, account, clock, say) for account in settings.accounts]
    checks = {"fix": mend_app, **ACCOUNT_CHECKS} if mend else ACCOUNT_CHECKS
    for case, (name, check) in itertools.product(cases, checks.items()):
        yield from ((name, finding) for finding in examine(case, f"{name} of {case.account.sid}", check))
    for name, check in MACHINE_CHECKS.items():
        yield from ((name, finding) for finding in examine(cases[0], name, check))


def say(text: str) -> None:
    """Show a line that is no finding: standard output may be one JSON document."""
    click.echo(text, err=True)


def exit_code(findings: Iterable[Finding]) -> int:
    """4: Twilio gave no answer; 1: something failed; 0: all is well, or has a warning at most."""
    seen = list(findings)
    if any(finding.unreachable for finding in seen):
        return 4
    return int(any(finding.level == "failed" for finding in seen))


def line_of(finding: Finding) -> str:
    """One line for people: the level, what was looked at, what was found, what to do."""
    word, colour = WORDS[finding.level]
    fix = f" {finding.fix}." if finding.fix else ""
    return click.style(f"{word:<8} ", fg=colour) + one_line(f"{finding.looked_at}: {finding.found}.{fix}")


@click.command()
@json_option
@click.option("--fix", "mend", is_flag=True, help="Set the URLs of the TwiML App, showing each change before.")
@click.pass_context
def doctor(ctx: click.Context, as_json: bool, mend: bool) -> None:
    """Ask Twilio, the public URL and this machine whether calls can be made, and say what to change.

    Exit codes: 0 fine, or warnings only; 1 something failed; 3 configuration; 4 Twilio does not answer.
    """
    seen: list[tuple[str, Finding]] = []
    for name, finding in examine_all(demo.settings(), mend=mend):
        seen.append((name, finding))
        if not as_json:
            click.echo(line_of(finding))
    code = exit_code(finding for _, finding in seen)
    levels = Counter(finding.level for _, finding in seen)
    if as_json:
        print_json({"ok": code == 0, "findings": [{"check": name, **asdict(finding)} for name, finding in seen]})
    else:
        click.echo(f"{levels['ok']} ok, {levels['warning']} warnings, {levels['failed']} failed")
    ctx.exit(code)
