"""The doctor against a real simulator and a real Dialer on loopback: all is well, and each thing that may be wrong."""

import asyncio
import dataclasses
import json
import os
import re
import socket
import threading
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result
from hypothesis import given
from hypothesis import strategies as st
from twilio.base.exceptions import TwilioException
from twilio.http.response import Response as TwilioResponse
from werkzeug.serving import BaseWSGIServer, make_server
from werkzeug.wrappers import Request, Response

from dialer import doctor as doctor_module
from dialer.app import create_app
from dialer.auth import add_workspace
from dialer.checkup import Case, Finding, refusal_of, wanted_settings
from dialer.cli import cli
from dialer.config import load
from dialer.doctor import ACCOUNT_CHECKS, MACHINE_CHECKS, WRITES, examine, examine_all, exit_code, wrong_claims
from dialer.reach import check_public_url, signed_url
from dialer.settings import Account, Settings
from dialer.signature import signature_of
from dialer.simulator import Account as SimulatedAccount
from dialer.simulator import resources_account
from dialer.simulator.server import AccountConfig, Simulator, SimulatorConfig, serve
from dialer.store import StoreError, open_store
from dialer.store.sqlite import SqliteStore

SID, TOKEN, KEY, SECRET, APP = (
    "AC" + "1" * 32,
    "token-" + "2" * 26,
    "SK" + "3" * 32,
    "secret-" + "4" * 25,
    "AP" + "5" * 32,
)
NUMBER = "+14155550199"
CHECKS = {
    "account", "key", "app", "numbers", "countries", "rate", "token", "webhooks", "clock", "disk", "store",
}  # fmt: skip
WsgiApp = Callable[..., Iterable[bytes]]


@contextmanager
def running_simulator(config: SimulatorConfig) -> Iterator[tuple[Simulator, str]]:
    """The simulator's server in a thread: what it holds, and its base URL."""
    started: list[tuple[Simulator, str, asyncio.AbstractEventLoop, asyncio.Event]] = []
    ready = threading.Event()

    async def main() -> None:
        stop = asyncio.Event()
        async with serve(config) as (simulator, base):
            started.append((simulator, base, asyncio.get_running_loop(), stop))
            ready.set()
            await stop.wait()

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert ready.wait(10)
    simulator, base, loop, stop = started[0]
    try:
        yield simulator, base
    finally:
        loop.call_soon_threadsafe(stop.set)
        thread.join()


@contextmanager
def served(app: WsgiApp) -> Iterator[BaseWSGIServer]:
    """A WSGI application on a loopback port; `server.app` may be exchanged."""
    server = make_server("127.0.0.1", 0, app, threaded=True)
    thread = threading.Thread(target=server.serve_forever, args=(0.02,))
    thread.start()
    try:
        yield server
    finally:
        server.shutdown()
        thread.join()
        server.server_close()


def nothing(environ: Any, start_response: Any) -> Iterable[bytes]:
    return Response(status=404)(environ, start_response)


@dataclass
class Clinic:
    """A simulator and a Dialer that work together, to be made ill. `environ` is what the doctor is told."""

    simulator: Simulator
    server: BaseWSGIServer
    environ: dict[str, str]
    folder: Path
    config: str = ""
    settings: Settings = field(init=False)

    def __post_init__(self) -> None:
        self.reload()
        with open_store(self.settings.store.url).write() as tx:
            add_workspace(tx, "ws_a", "A", 1.0)
            tx.run("add_number", workspace="ws_a", number=NUMBER, created_at=1.0)
        self.server.app = create_app(self.settings)

    @property
    def account(self) -> SimulatedAccount:
        return self.simulator.network.accounts[SID]

    def reload(self, **environ: str) -> None:
        """Tell the doctor, and not the running Dialer, something else."""
        self.environ |= environ
        self.settings = load(self.environ, cwd=self.folder)

    def write(self, toml: str) -> None:
        file = self.folder / "dialer.toml"
        file.write_text(toml)
        file.chmod(0o600)
        self.reload(DIALER_CONFIG=str(file))

    def examine(self, **options: Any) -> list[tuple[str, Finding]]:
        return list(examine_all(self.settings, **options))

    def bad(self, **options: Any) -> dict[str, list[Finding]]:
        """What is not ok, by check."""
        found: dict[str, list[Finding]] = {}
        for name, finding in self.examine(**options):
            if finding.level != "ok":
                found.setdefault(name, []).append(finding)
        return found

    def only(self, name: str, **options: Any) -> Finding:
        """The one finding that is not ok, and is of this check."""
        bad = self.bad(**options)
        assert list(bad) == [name], bad
        assert len(bad[name]) == 1, bad
        return bad[name][0]

    def run(self, *arguments: str) -> Result:
        return CliRunner().invoke(cli, ["doctor", *arguments], env=self.environ)


@pytest.fixture
def clinic(tmp_path: Path) -> Iterator[Clinic]:
    with ExitStack() as stack:
        server = stack.enter_context(served(nothing))
        public_url = f"http://127.0.0.1:{server.port}"
        config = AccountConfig(
            sid=SID,
            auth_token=TOKEN,
            keys={KEY: SECRET},
            applications=({"sid": APP, **wanted_settings(public_url)},),
            numbers=({"phone_number": NUMBER},),
        )
        simulator, base = stack.enter_context(running_simulator(SimulatorConfig(port=0, accounts=(config,))))
        environ = {
            "DIALER_INSTANCE": str(tmp_path / "instance"),
            "DIALER_STORE": f"sqlite:///{tmp_path / 'dialer.db'}",
            "DIALER_PUBLIC_URL": public_url,
            "DIALER_PLUGINS": "",
            "TWILIO_ACCOUNT_SID": SID,
            "TWILIO_AUTH_TOKEN": TOKEN,
            "TWILIO_API_KEY": KEY,
            "TWILIO_API_SECRET": SECRET,
            "TWILIO_APP_SID": APP,
            "TWILIO_API_BASE": base,
        }
        yield Clinic(simulator, server, environ, tmp_path)


def closed_port() -> int:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        return int(free.getsockname()[1])


# All is well


def test_everything_passes_against_the_bundled_simulator(clinic: Clinic) -> None:
    found = clinic.examine()
    assert [finding for _, finding in found if finding.level != "ok"] == []
    assert {name for name, _ in found} == CHECKS
    assert exit_code(finding for _, finding in found) == 0
    store = next(finding.found for name, finding in found if name == "store")
    assert re.fullmatch(r"SQLite 3\.\d+\.\d+, WAL, writable; 0 open calls, 0 overdue jobs, 0 dead deliveries", store)


def test_prints_one_line_a_finding_and_a_sum(clinic: Clinic) -> None:
    result = clinic.run()
    assert result.exit_code == 0, result.output
    lines = result.output.splitlines()
    assert lines[-1] == "11 ok, 0 warnings, 0 failed"
    assert len(lines) == 12
    assert all(line.startswith("ok       ") for line in lines[:-1])


def test_prints_one_json_document(clinic: Clinic) -> None:
    clinic.account.applications[APP].voice_url = "https://old.example.com/"
    result = clinic.run("--json")
    assert result.exit_code == 1
    told = json.loads(result.stdout)
    assert told["ok"] is False
    assert {row["check"] for row in told["findings"]} == CHECKS
    (row,) = [row for row in told["findings"] if row["level"] == "failed"]
    assert (row["check"], row["looked_at"]) == ("app", f"TwiML App {APP}")
    assert clinic.environ["DIALER_PUBLIC_URL"] + "/v1/voice/twiml" in row["fix"]


@pytest.mark.parametrize("arguments", [(), ("--json",), ("--fix",)])
def test_shows_no_secret(clinic: Clinic, arguments: tuple[str, ...]) -> None:
    clinic.account.auth_token = "other"
    clinic.account.keys[KEY] = "other"
    result = clinic.run(*arguments)
    assert result.exit_code == 1
    assert TOKEN not in result.output
    assert SECRET not in result.output


def test_changes_nothing_unless_it_is_told_to(clinic: Clinic) -> None:
    clinic.account.applications[APP].voice_url = "https://old.example.com/"
    clinic.run()
    assert clinic.account.applications[APP].voice_url == "https://old.example.com/"


# Configuration, Twilio not there


def test_without_an_account_it_is_the_configuration(clinic: Clinic) -> None:
    clinic.environ |= {name: "" for name in clinic.environ if name.startswith("TWILIO_")}
    result = clinic.run()
    assert result.exit_code == 3
    assert "TWILIO_ACCOUNT_SID" in result.stderr
    assert result.stdout == ""


def test_without_twilio_every_check_still_runs_and_the_exit_code_is_4(clinic: Clinic) -> None:
    base = f"http://127.0.0.1:{closed_port()}"
    clinic.reload(TWILIO_API_BASE=base)
    found = clinic.examine()
    assert {name for name, _ in found} == CHECKS
    assert {name for name, finding in found if finding.unreachable} == {
        "account", "key", "app", "numbers", "countries", "clock",
    }  # fmt: skip
    assert {name for name, finding in found if finding.level == "ok"} == {
        "rate", "token", "webhooks", "disk", "store",
    }  # fmt: skip
    assert f"{base} does not answer: [Errno 111] Connection refused" in found[0][1].found
    assert clinic.run("--json").exit_code == 4


# The account


def test_a_wrong_auth_token(clinic: Clinic) -> None:
    clinic.reload(TWILIO_AUTH_TOKEN="f" * 32)
    bad = clinic.bad()
    assert set(bad) == {"account", "app", "numbers", "countries", "webhooks"}
    assert "HTTP 401, error 20003" in bad["account"][0].found
    assert bad["account"][0].fix == f"Set TWILIO_AUTH_TOKEN to the primary auth token of {SID}"
    assert "another token" in bad["webhooks"][0].found
    assert "the same TWILIO_AUTH_TOKEN" in bad["webhooks"][0].fix
    assert exit_code(finding for findings in bad.values() for finding in findings) == 1


def test_a_wrong_api_secret(clinic: Clinic) -> None:
    clinic.reload(TWILIO_API_SECRET="wrong-" + "0" * 26)
    finding = clinic.only("key")
    assert finding.level == "failed"
    assert "HTTP 401, error 20003" in finding.found
    assert finding.fix == f"Set TWILIO_API_KEY and TWILIO_API_SECRET to a standard API key of {SID}"


def test_no_api_key(clinic: Clinic) -> None:
    clinic.reload(TWILIO_API_KEY="", TWILIO_API_SECRET="")
    bad = clinic.bad()
    assert set(bad) == {"key", "token"}
    assert "set TWILIO_API_KEY and TWILIO_API_SECRET" in bad["key"][0].fix
    assert bad["token"][0].level == "failed"


def test_a_trial_account_is_a_warning(clinic: Clinic) -> None:
    clinic.account.type = "Trial"
    assert clinic.only("account").level == "warning"
    assert clinic.run().exit_code == 0


def test_a_suspended_account(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    render = resources_account.render_account

    def suspended(account: SimulatedAccount) -> dict[str, Any]:
        return {**render(account), "status": "suspended"}

    monkeypatch.setattr("dialer.simulator.rest_account.render_account", suspended)
    assert "suspended" in clinic.only("account").found


# The TwiML App


@pytest.mark.parametrize("name", list(wanted_settings("")))
def test_each_setting_of_the_app(clinic: Clinic, name: str) -> None:
    now = "GET" if name.endswith("method") else "https://old.example.com/voice"
    setattr(clinic.account.applications[APP], name, now)
    finding = clinic.only("app")
    must = wanted_settings(clinic.environ["DIALER_PUBLIC_URL"])[name]
    twilio_name = name.title().replace("_", "")
    assert (finding.level, finding.found) == ("failed", f'{twilio_name} is "{now}"')
    assert finding.fix == f"Set it to {must} (dialer doctor --fix does)"


def test_overrides_in_a_fragment_are_no_difference(clinic: Clinic) -> None:
    clinic.account.applications[APP].status_callback += "#rc=5&rp=all"
    assert clinic.bad() == {}


def test_an_app_that_is_not_there(clinic: Clinic) -> None:
    clinic.reload(TWILIO_APP_SID="AP" + "9" * 32)
    assert clinic.only("app").fix == "Set TWILIO_APP_SID to the sid of a TwiML App of that account"


def test_no_app(clinic: Clinic) -> None:
    clinic.reload(TWILIO_APP_SID="")
    bad = clinic.bad(mend=True)
    assert set(bad) == {"app", "token"}
    assert "set TWILIO_APP_SID to its sid" in bad["app"][0].fix


def test_fix_shows_each_change_and_then_makes_it(clinic: Clinic) -> None:
    app, must = clinic.account.applications[APP], wanted_settings(clinic.environ["DIALER_PUBLIC_URL"])
    app.voice_url, app.voice_fallback_url = "https://old.example.com/", ""
    result = clinic.run("--fix", "--json")
    assert result.exit_code == 0, result.output
    assert result.stderr.splitlines() == [
        f'TwiML App {APP}: VoiceUrl changes from "https://old.example.com/" to "{must["voice_url"]}"',
        f'TwiML App {APP}: VoiceFallbackUrl changes from "" to "{must["voice_fallback_url"]}"',
    ]
    assert json.loads(result.stdout)["findings"][0]["found"] == "changed VoiceUrl, VoiceFallbackUrl"
    assert {name: getattr(app, name) for name in must} == must


def test_fix_changes_nothing_that_is_right(clinic: Clinic) -> None:
    before = clinic.account.applications[APP].date_updated
    result = clinic.run("--fix")
    assert (result.exit_code, result.stderr) == (0, "")
    assert clinic.account.applications[APP].date_updated == before


# Numbers and countries


def test_a_number_that_is_not_the_accounts(clinic: Clinic) -> None:
    del clinic.account.numbers[NUMBER]
    finding = clinic.only("numbers")
    assert (finding.level, finding.looked_at) == ("failed", f"number {NUMBER} of ws_a")
    assert f"dialer numbers revoke {NUMBER} --workspace ws_a" in finding.fix


def test_a_verified_number_will_do(clinic: Clinic) -> None:
    del clinic.account.numbers[NUMBER]
    clinic.simulator.network.add_caller_id(SID, NUMBER)
    found = [finding.found for name, finding in clinic.examine() if name == "numbers"]
    assert found == ["all may be called from: 0 owned, 1 verified"]


def test_no_number_at_all(clinic: Clinic) -> None:
    with open_store(clinic.settings.store.url).write() as tx:
        tx.run("remove_number", workspace="ws_a", number=NUMBER)
    assert clinic.only("numbers").level == "warning"


def test_a_disabled_workspaces_number_is_not_asked_for(clinic: Clinic) -> None:
    with open_store(clinic.settings.store.url).write() as tx:
        add_workspace(tx, "ws_old", "old", 1.0)
        tx.run("add_number", workspace="ws_old", number="+37120000000", created_at=1.0)
        tx.run("disable_workspace", workspace="ws_old", now=2.0)
    assert clinic.bad() == {}


def test_geo_permission_of_the_workspaces_own_number(clinic: Clinic) -> None:
    clinic.account.blocked_countries.add("US")
    finding = clinic.only("countries")
    assert (finding.level, finding.looked_at) == ("failed", "geo permission US")
    assert f"asked for by number {NUMBER} of ws_a" in finding.found
    assert finding.fix.startswith("Allow United States at ")


def test_geo_permission_of_a_plugins_countries(clinic: Clinic) -> None:
    clinic.account.blocked_countries |= {"LV", "CA"}
    clinic.write('[plugins.number_policy]\ncountries = ["US", "LV"]\n')
    clinic.reload(DIALER_PLUGINS="number_policy")
    assert "countries of [plugins.number_policy]" in clinic.only("countries").found


def test_geo_permission_of_a_plugins_default(clinic: Clinic) -> None:
    clinic.account.blocked_countries.add("CA")
    clinic.reload(DIALER_PLUGINS="number_policy")
    assert clinic.only("countries").looked_at == "geo permission CA"


def test_geo_permission_of_a_default_region(clinic: Clinic) -> None:
    clinic.account.blocked_countries.add("GB")
    clinic.write('[workspaces.ws_a]\ndefault_region = "GB"\n')
    assert "default_region of ws_a" in clinic.only("countries").found


def test_a_country_that_twilio_does_not_list(clinic: Clinic) -> None:
    clinic.write('[calls]\ndefault_region = "SJ"\n')
    finding = clinic.only("countries")
    assert (finding.level, finding.looked_at) == ("warning", "geo permission SJ")


@pytest.mark.parametrize("risk", ["high_risk_special_countries", "high_risk_tollfraud_countries"])
def test_high_risk_switches_are_warned_about(clinic: Clinic, risk: str) -> None:
    setattr(clinic.account, risk, {"LV", "GB"})
    finding = clinic.only("countries")
    assert finding.level == "warning"
    assert "are allowed in GB, LV" in finding.found


# The clock


@pytest.mark.parametrize(
    ("off", "level", "words"),
    [(8, "warning", "ahead of"), (-8, "warning", "behind"), (70, "failed", "ahead of"), (-70, "failed", "behind")],
)
def test_a_clock_that_is_off(clinic: Clinic, off: float, level: str, words: str) -> None:
    finding = clinic.only("clock", clock=lambda: time.time() + off)
    assert finding.level == level
    assert words in finding.found


# The public URL


def answer(status: int, body: str = "", **headers: str) -> WsgiApp:
    content_type = headers.pop("content_type", "text/plain")
    return Response(body, status, headers={k.title(): v for k, v in headers.items()}, content_type=content_type)


@pytest.mark.parametrize(
    ("app", "found", "fix"),
    [
        (nothing, "HTTP 404: this is not Dialer", "lead to 127.0.0.1:8000"),
        (answer(502), "HTTP 502: the proxy finds no Dialer", "Start dialer run"),
        (answer(200, "<html>", content_type="text/html"), "not TwiML", "unchanged"),
        (answer(200, "\n<?xml", content_type="text/xml"), "not TwiML", "unchanged"),
        (answer(200, "<?xml version='1.0'?><Response/>"), "text/plain", "unchanged"),
        (answer(200, "<?xml version='1.0'?><Response/>", content_type="text/xml"), "HTTP 200 for a wrong", "unchanged"),
        (answer(403, "blocked by a firewall"), "HTTP 403: blocked by a firewall", SID),
        (answer(301, location="/v1/voice/fallback/"), "HTTP 301 to http://127", "Set DIALER_PUBLIC_URL to http://127"),
        (answer(302, location="/login"), "/login", "without it"),
    ],
)
def test_what_else_may_stand_at_the_public_url(clinic: Clinic, app: WsgiApp, found: str, fix: str) -> None:
    clinic.server.app = app
    finding = clinic.only("webhooks")
    assert finding.level == "failed"
    assert found in finding.found
    assert fix in finding.fix


def rewriting(app: WsgiApp, change: Callable[[str], str]) -> WsgiApp:
    """A proxy that changes path or query on the way."""

    def proxied(environ: Any, start_response: Any) -> Iterable[bytes]:
        raw = change(environ["RAW_URI"])
        return app({**environ, "RAW_URI": raw, "REQUEST_URI": raw}, start_response)

    return proxied


@pytest.mark.parametrize("change", [lambda uri: "/inner" + uri, lambda uri: uri.partition("?")[0]])
def test_a_proxy_that_rewrites_the_url(clinic: Clinic, change: Callable[[str], str]) -> None:
    clinic.server.app = rewriting(clinic.server.app, change)
    finding = clinic.only("webhooks")
    url = clinic.environ["DIALER_PUBLIC_URL"]
    assert "a proxy rewrites" in finding.found
    assert f"(hashed {url}{change('/v1/voice/fallback')}" in finding.found
    assert f"DIALER_PUBLIC_URL={url}" in finding.fix


def test_a_server_with_another_public_url(clinic: Clinic) -> None:
    other = load({**clinic.environ, "DIALER_PUBLIC_URL": "https://calls.example.com"}, cwd=clinic.folder)
    clinic.server.app = create_app(other)
    assert "(hashed https://calls.example.com/v1/voice/fallback" in clinic.only("webhooks").found


def test_a_public_url_where_nobody_listens(clinic: Clinic) -> None:
    clinic.reload(DIALER_PUBLIC_URL=f"http://127.0.0.1:{closed_port()}")
    bad = clinic.bad()
    assert set(bad) == {"app", "webhooks"}  # the App leads to the old one
    assert "no answer: [Errno 111] Connection refused" in bad["webhooks"][0].found
    assert exit_code(finding for _, finding in clinic.examine()) == 1


def test_a_public_url_without_a_certificate(clinic: Clinic) -> None:
    clinic.reload(DIALER_PUBLIC_URL=clinic.environ["DIALER_PUBLIC_URL"].replace("http:", "https:"))
    assert clinic.bad()["webhooks"][0].found.startswith("no good certificate: ")


def test_the_harmless_webhook_leaves_no_trace(clinic: Clinic) -> None:
    clinic.examine()
    with open_store(clinic.settings.store.url).read() as tx:
        assert tx.all("events_of_call", call_id="", workspace="", after=0) == []
        row = tx.one("open_calls")
    assert row is not None
    assert row["open"] == 0


@pytest.mark.parametrize(
    ("url", "levels"),
    [
        ("https://calls.example.com", []),
        ("https://calls.example.com/dialer", []),
        ("http://calls.example.com", ["warning"]),
        ("https://calls.example.com:8443", ["warning"]),
        ("http://calls.example.com:8080", ["warning", "warning"]),
        ("https://10.1.2.3", ["failed"]),
    ],
)
def test_the_form_of_a_public_url_matters_with_a_real_account(tmp_path: Path, url: str, levels: list[str]) -> None:
    environ = {"TWILIO_ACCOUNT_SID": SID, "TWILIO_AUTH_TOKEN": TOKEN, "DIALER_PUBLIC_URL": url}
    settings = load(environ, cwd=tmp_path)
    found = list(check_public_url(Case(settings, settings.accounts[0])))
    assert [finding.level for finding in found] == levels
    assert all("Set it to https://calls.example.com" in one.fix for one in found if one.level == "warning")


def test_signs_as_twilio_does() -> None:
    assert signed_url("https://calls.example.com:8443/a?b=c") == "https://calls.example.com/a?b=c"
    assert signed_url("http://127.0.0.1:8000/a?b=c") == "http://127.0.0.1:8000/a?b=c"
    assert signed_url("https://[2001:db8::1]/a") == "https://[2001:db8::1]/a"


def test_the_form_is_signed_with_the_current_token(clinic: Clinic) -> None:
    seen: list[tuple[Mapping[str, str], str, str]] = []

    def record(environ: Any, start_response: Any) -> Iterable[bytes]:
        request = Request(environ)
        seen.append((request.form.to_dict(), request.headers["X-Twilio-Signature"], environ["RAW_URI"]))
        return Response(status=404)(environ, start_response)

    clinic.server.app = record
    clinic.examine()
    ((form, signature, raw),) = seen
    assert signature == signature_of(clinic.environ["DIALER_PUBLIC_URL"] + raw, form.items(), TOKEN)


# This machine


def test_a_slow_disk_is_a_warning(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(doctor_module, "write_durably", lambda folder: [0.1] * WRITES)
    finding = clinic.only("disk")
    assert finding.level == "warning"
    assert "fsync takes 100.00 ms (at most 100.00), which carries 2571 calls an hour" in finding.found
    assert "3600 calls an hour" in finding.fix


def test_the_disk_is_tried_where_the_store_is(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    real, synced = os.fsync, list[str]()

    def fsync(descriptor: int) -> None:
        synced.append(os.readlink(f"/proc/self/fd/{descriptor}"))
        real(descriptor)

    monkeypatch.setattr(os, "fsync", fsync)
    before = sorted(path.name for path in clinic.folder.iterdir())
    assert clinic.bad() == {}
    assert len(synced) == WRITES
    assert {Path(name).parent for name in synced} == {clinic.folder}
    assert sorted(path.name for path in clinic.folder.iterdir()) == before


def test_a_store_that_is_not_there_is_not_made(clinic: Clinic) -> None:
    clinic.reload(DIALER_STORE=f"sqlite:///{clinic.folder / 'elsewhere' / 'dialer.db'}")
    bad = clinic.bad()
    assert set(bad) == {"numbers", "countries", "disk", "store"}
    assert "dialer run makes it" in bad["store"][0].found
    assert not (clinic.folder / "elsewhere").exists()


def test_a_store_that_is_no_database(clinic: Clinic) -> None:
    broken = clinic.folder / "broken.db"
    broken.write_bytes(b"no database" * 100)
    clinic.reload(DIALER_STORE=f"sqlite:///{broken}")
    assert "file is not a database" in clinic.bad()["store"][0].found


def add_job(clinic: Clinic, **values: Any) -> None:
    row = {
        "workspace": "ws_a", "call_id": "call_1", "kind": "dial", "key": "k", "call_sid": "", "plugin": "", "hook": "",
        "event_id": None, "status": "pending", "run_at": 1.0, "created_at": 1.0,
    }  # fmt: skip
    with open_store(clinic.settings.store.url).write() as tx:
        tx.run("add_job", **row | values)


def test_work_that_nobody_does(clinic: Clinic) -> None:
    add_job(clinic)
    finding = clinic.only("store")
    assert finding.level == "failed"
    assert finding.found.startswith("1 jobs wait")
    assert "dialer run" in finding.fix
    assert len([name for name, _ in clinic.examine() if name == "store"]) == 1


def test_a_disk_that_cannot_have_a_wal(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("sqlite_utils.Database.journal_mode", "delete")  # as on some network disks
    assert clinic.only("store").found == "its journal mode is delete, not wal"


def test_a_store_that_cannot_be_written(clinic: Clinic, monkeypatch: pytest.MonkeyPatch) -> None:
    def read_only(store: SqliteStore) -> Iterator[None]:
        raise StoreError("store dialer.db: attempt to write a readonly database")

    monkeypatch.setattr(SqliteStore, "write", read_only)
    bad = clinic.bad()
    assert "readonly" in bad["store"][0].found


def test_work_that_is_not_yet_due(clinic: Clinic) -> None:
    add_job(clinic, run_at=time.time() + 3600)
    assert clinic.bad() == {}


def test_dead_deliveries_are_a_warning(clinic: Clinic) -> None:
    add_job(clinic, kind="deliver", status="dead")
    finding = clinic.only("store")
    assert (finding.level, finding.found) == ("warning", "1 deliveries to plugins were given up")


# Several accounts


def test_each_account_answers_for_its_own_workspaces(clinic: Clinic) -> None:
    other = clinic.simulator.network.add_account("AC" + "7" * 32, "other-token")
    clinic.write(f'[workspaces.ws_b.twilio]\naccount_sid = "{other.sid}"\nauth_token = "other-token"\n')
    with open_store(clinic.settings.store.url).write() as tx:
        add_workspace(tx, "ws_b", "B", 1.0)
        tx.run("add_number", workspace="ws_b", number="+14155550198", created_at=1.0)
    clinic.server.app = create_app(clinic.settings)
    bad = clinic.bad()
    assert set(bad) == {"key", "app", "numbers", "token"}
    assert [finding.looked_at for finding in bad["numbers"]] == ["number +14155550198 of ws_b"]
    assert "app_sid of [workspaces.ws_b.twilio] is not set" in bad["app"][0].found
    assert "TWILIO_" not in bad["key"][0].fix


# What the checks stand on


def case_of(tmp_path: Path) -> Case:
    settings = load({"TWILIO_API_BASE": "http://127.0.0.1:1"}, cwd=tmp_path)
    return Case(settings, Account(SID, ()))


def test_a_check_that_hangs_is_left_behind_with_what_it_found(tmp_path: Path) -> None:
    release, first = threading.Event(), Finding("ok", "first", "seen")

    def hang(case: Case) -> Iterator[Finding]:
        yield first
        release.wait()

    try:
        found = examine(case_of(tmp_path), "hang", hang, seconds=0.05)
    finally:
        release.set()
    assert found[0] == first
    assert (found[1].level, found[1].found) == ("failed", "no result within 0.05 s")


def test_a_check_that_breaks_says_so(tmp_path: Path) -> None:
    def crash(case: Case) -> Iterator[Finding]:
        yield Finding("ok", "first", "seen")
        raise KeyError("x")

    first, second = examine(case_of(tmp_path), "crash", crash)
    assert first.level == "ok"
    assert second.found == "the check itself failed: KeyError: 'x'"


def test_a_list_that_is_refused_without_json() -> None:
    error = TwilioException("Unable to fetch page", TwilioResponse(502, "<html>"))
    assert refusal_of(error) == (502, 0, "Twilio answers HTTP 502: not an answer in Twilio's form")


def claims_at(now: int) -> dict[str, Any]:
    voice = {"outgoing": {"application_sid": APP}}
    return {
        "iss": KEY, "sub": SID, "nbf": now, "exp": now + 3600, "grants": {"identity": "doctor", "voice": voice},
    }  # fmt: skip


@given(st.integers(0, 2**31), st.sampled_from(["iss", "sub", "nbf", "exp", "grants"]))
def test_a_wrong_claim_is_named(now: int, name: str) -> None:
    account, names = Account(SID, (), KEY, None, APP), {
        "iss": ["issuer"], "sub": ["subject"], "nbf": ["start"], "exp": ["lifetime"], "grants": ["identity", "grant"],
    }  # fmt: skip
    claims = claims_at(now)
    assert wrong_claims(claims, account, now) == []
    assert wrong_claims({key: value for key, value in claims.items() if key != name}, account, now) == names[name]


def test_the_rate_says_what_it_means(clinic: Clinic) -> None:
    account = dataclasses.replace(clinic.settings.accounts[0], calls_per_second=5.0)
    clinic.settings = dataclasses.replace(clinic.settings, accounts=(account,))
    (finding,) = [finding for name, finding in clinic.examine() if name == "rate"]
    assert "5 calls are started a second, 18000 an hour" in finding.found
    assert finding.level == "ok"
    assert "Twilio grants 1" in finding.fix


def test_every_check_is_on_the_page() -> None:
    page = (Path(__file__).parent.parent / "docs" / "doctor.md").read_text()
    rows = {line.split("`")[1] for line in page.splitlines() if line.startswith("| `")}
    assert rows == {*ACCOUNT_CHECKS, *MACHINE_CHECKS}
    assert set(ACCOUNT_CHECKS) | set(MACHINE_CHECKS) == {*CHECKS, "public_url"}
