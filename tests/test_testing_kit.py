"""dialer.testing: what authors of plugins get to play their plugin with, used here on bundled and on bad plugins."""

from __future__ import annotations

import inspect
import re
import socket
import urllib.request
from collections.abc import Callable
from contextlib import nullcontext
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Annotated, Any
from zoneinfo import ZoneInfo

import httpx
import pytest
import requests
import responses
import urllib3

import dialer.testing
from dialer import Call, ConfigError, GiveUp, Host, Refusal, RetryLater, Route, Setting, hookimpl
from dialer.conformance import conformance
from dialer.conformance_target import target_of
from dialer.offline import offline
from dialer.testing import (
    ANSWERS,
    BUSY,
    HANGS_UP,
    NEVER_ANSWERS,
    VOICEMAIL,
    AgentCall,
    DeadLetter,
    Dialer,
    MakeDialer,
    Phone,
)
from dialer_plugins.call_log import CallLog
from dialer_plugins.calling_hours import CallingHours
from dialer_plugins.do_not_call import DoNotCall, lists

pytest_plugins = ["dialer.testing", "pytester"]

CRM = "https://crm.example.com/calls"


@dataclass(frozen=True, eq=False)
class Silence:
    """Refuse some numbers."""

    numbers: Annotated[tuple[str, ...], Setting("numbers that are not called")] = ()

    @hookimpl
    def validate_call(self, call: Call) -> Refusal | None:
        return Refusal("Not this one.", "silent") if call.to in self.numbers else None


@dataclass(frozen=True, eq=False)
class Sync:
    """Tell a CRM of every call that has ended."""

    url: Annotated[str, Setting("where")] = CRM
    host: Host = field(default_factory=Host)

    @hookimpl
    def call_ended(self, call: Call) -> None:
        answer = requests.post(self.url, json={"to": call.to}, timeout=5)
        if answer.status_code == 429:
            raise RetryLater(60, "the CRM is busy")
        if answer.status_code == 401:
            raise GiveUp("the CRM does not know us")
        answer.raise_for_status()
        self.host.add_event(call, "synced", {"status": str(answer.status_code)})


PAGE = (Path(__file__).parents[1] / "docs/plugin-authors.md").read_text()


def test_the_page_for_authors_names_all_that_is_promised_and_checked() -> None:
    names = [*dialer.__all__, *dialer.testing.__all__]
    members = [name for cls in (Dialer, AgentCall, Phone) for name in vars(cls) if not name.startswith("_")]
    internal = {"dialer", "leg", "world", "require_answered", "spoken_to"}
    arguments = [name for name in inspect.signature(MakeDialer.__call__).parameters if name != "self"]
    wanted = [*names, *(set(members) - internal), *arguments]
    assert [name for name in wanted if not re.search(rf"`[^`\n]*\b{name}\b[^`\n]*`", PAGE)] == []
    checks = [check.name for check in conformance(target_of("number_policy"), {}, calls=3, seed=1)]
    assert [name for name in checks if f"| `{name}` |" not in PAGE] == []


def test_the_example_on_the_page_for_authors_works(make_dialer: MakeDialer) -> None:
    example = next(block for block in re.findall(r"```python\n(.*?)```", PAGE, re.DOTALL) if "def test_" in block)
    namespace: dict[str, Any] = {"__name__": "example"}
    exec(compile(example, __file__, "exec", dont_inherit=True), namespace)
    namespace["test_the_crm_is_told_again_after_an_error"](make_dialer)


def test_a_story_is_told_by_agent_phone_and_time(make_dialer: MakeDialer) -> None:
    dialer = make_dialer(Silence, settings={"numbers": [BUSY]})
    call = dialer.agent_dials(NEVER_ANSWERS)
    assert (call.status, call.phone.number) == ("ringing", NEVER_ANSWERS)
    call.phone.answers()
    began = dialer.now
    dialer.lasts(10)
    assert (call.status, dialer.now - began) == ("in-progress", 10)
    call.hangs_up()
    dialer.ends()
    assert (call.status, call.record.ended_by) == ("completed", "agent")
    assert "participant-join" in [event.name for event in call.events]


def test_a_refused_call_has_a_rule_a_reason_a_verdict_and_no_phone(make_dialer: MakeDialer) -> None:
    dialer = make_dialer(Silence, settings={"numbers": [BUSY]})
    call = dialer.agent_dials(BUSY)
    dialer.ends()
    assert (call.status, call.rule, call.reason) == ("rejected", "silence:silent", "Not this one.")
    assert [(one.hook, one.answer) for one in call.verdicts] == [
        ("validate_call", "refused (silence:silent): Not this one.")
    ]
    assert call.heard == ["Not this one."]
    with pytest.raises(AssertionError, match=r"it is rejected \(rule silence:silent\): Not this one\."):
        call.phone.hangs_up()


def test_a_story_in_which_somebody_still_talks_has_no_end(make_dialer: MakeDialer) -> None:
    dialer = make_dialer(Silence())
    call = dialer.agent_dials(ANSWERS)
    with pytest.raises(AssertionError, match="somebody has to hang up"):
        dialer.ends()
    call.phone.hangs_up()
    dialer.ends()
    assert call.record.ended_by == "customer"


@pytest.mark.parametrize(
    ("does", "status"), [("declines", "busy"), ("answers", "in-progress"), ("hangs_up", "busy")]
)
def test_what_a_ringing_phone_can_do(make_dialer: MakeDialer, does: str, status: str) -> None:
    dialer = make_dialer(Silence())
    call = dialer.agent_dials(NEVER_ANSWERS)
    getattr(call.phone, does)()
    assert call.status == status


def test_settings_are_checked_as_those_of_the_file(make_dialer: MakeDialer) -> None:
    with pytest.raises(ConfigError, match=r"\[plugins.silence\].nombers: there is no such setting; did you mean numb"):
        make_dialer(Silence, settings={"nombers": []})
    with pytest.raises(ConfigError, match="must be a list"):
        make_dialer(Silence, settings={"numbers": BUSY})
    with pytest.raises(TypeError, match="silence is an object, which has its settings"):
        make_dialer(Silence(), settings={"numbers": [BUSY]})


def test_names_that_do_not_exist_are_refused_with_those_that_do(make_dialer: MakeDialer) -> None:
    with pytest.raises(LookupError, match="did you mean webhook_lost"):
        make_dialer(Silence(), faults={"webhok_lost": 0.5})
    with pytest.raises(LookupError, match=r"there is no such workspace; .*workspaces: acme"):
        make_dialer(Silence()).agent_dials(ANSWERS, workspace="other")
    with pytest.raises(ValueError, match="needs a time zone"):
        make_dialer(Silence(), starts=datetime(2026, 11, 26, 9))


def test_workspaces_have_settings_of_their_own_or_no_plugin(make_dialer: MakeDialer) -> None:
    dialer = make_dialer(
        Silence,
        settings={"numbers": [BUSY]},
        workspaces=("acme", "other", "third"),
        settings_in={"other": {"numbers": [HANGS_UP]}},
        off_in=["third"],
    )
    rules = {
        (workspace, number): dialer.agent_dials(number, workspace=workspace).rule
        for workspace in ("acme", "other", "third")
        for number in (BUSY, HANGS_UP)
    }
    refused = "silence:silent"
    assert [place for place, rule in rules.items() if rule == refused] == [("acme", BUSY), ("other", HANGS_UP)]
    assert (dialer.plugin.numbers, dialer.plugin_in("other").numbers) == ((BUSY,), (HANGS_UP,))


def test_the_time_can_be_chosen_and_a_bundled_plugin_played(make_dialer: MakeDialer) -> None:
    evening = datetime(2026, 11, 25, 23, 30, tzinfo=ZoneInfo("America/Los_Angeles"))
    dialer = make_dialer(CallingHours, starts=evening)
    late = dialer.agent_dials(ANSWERS)
    dialer.ends()
    assert (late.status, late.rule.partition(":")[0]) == ("rejected", "calling_hours")
    noon = datetime(2026, 11, 25, 12, 0, tzinfo=ZoneInfo("America/Los_Angeles"))
    dialer = make_dialer(CallingHours, starts=noon)
    assert dialer.now == noon.timestamp()
    call = dialer.agent_dials(HANGS_UP)
    dialer.ends()
    assert call.status == "completed"


def test_a_plugin_has_its_folder_its_database_and_its_name(make_dialer: MakeDialer) -> None:
    dialer = make_dialer(DoNotCall)
    host = dialer.plugin.host
    entry = lists.Incoming(ANSWERS, "", None)
    assert (dialer.name, host.folder) == ("do_not_call", dialer.folder)
    assert entry.number == ANSWERS
    call = dialer.agent_dials(HANGS_UP)
    dialer.ends()
    assert "not listed" in call.verdicts[0].answer
    assert [path.name for path in dialer.folder.glob("*.db")] == ["do_not_call.db"]


def test_news_come_late_twice_and_in_disorder_and_a_bundled_plugin_bears_it(make_dialer: MakeDialer) -> None:
    faults = {"webhook_repeated": 0.5, "webhook_reordered": 0.5, "webhook_late": 0.2}
    dialer = make_dialer(CallLog, faults=faults, seed=7)
    for number in (HANGS_UP, BUSY, VOICEMAIL):
        dialer.agent_dials(number)
    dialer.ends()
    assert dialer.world.network.injected["webhook_repeated"] > 0
    lines = (dialer.folder / "calls.jsonl").read_text().splitlines()
    assert len(lines) == 3


@responses.activate
def test_an_answered_request_is_told_once(make_dialer: MakeDialer) -> None:
    responses.post(CRM, status=201)
    dialer = make_dialer(Sync())
    call = dialer.agent_dials(HANGS_UP)
    dialer.ends()
    assert [(one.hook, one.error) for one in dialer.told] == [("call_ended", None)]
    assert [event.name for event in call.events].count("sync.synced") == 1
    assert (dialer.failures, dialer.dead_letters) == ([], [])


@responses.activate
def test_a_failed_delivery_is_tried_again_and_each_try_is_on_record(make_dialer: MakeDialer) -> None:
    responses.post(CRM, status=500)
    responses.post(CRM, status=429)
    responses.post(CRM, status=200)
    dialer = make_dialer(Sync())
    call = dialer.agent_dials(HANGS_UP)
    dialer.ends(plugin_fails=True)
    assert [type(one.error).__name__ for one in dialer.told] == ["HTTPError", "RetryLater", "NoneType"]
    assert {one.call.id for one in dialer.told} == {call.record.id}
    assert [failure.partition(":")[0] for failure in dialer.failures] == ["call_ended"] * 2
    with pytest.raises(AssertionError, match="the plugin failed: call_ended: HTTPError"):
        dialer.ends()


@responses.activate
def test_what_is_given_up_is_a_dead_letter(make_dialer: MakeDialer) -> None:
    responses.post(CRM, status=401)
    dialer = make_dialer(Sync())
    call = dialer.agent_dials(HANGS_UP)
    dialer.ends(plugin_fails=True)
    (letter,) = dialer.dead_letters
    assert letter == DeadLetter("call_ended", call.record.id, 1, letter.reason)
    assert "the CRM does not know us" in letter.reason


class Unwilling:
    """Fail at a question."""

    @hookimpl
    def route_call(self, call: Call) -> Route | None:
        raise KeyError("routes")


def test_a_hook_that_raises_fails_the_test_unless_it_may(make_dialer: MakeDialer) -> None:
    dialer = make_dialer(Unwilling())
    dialer.agent_dials(HANGS_UP)
    with pytest.raises(AssertionError, match="the plugin failed: route_call: KeyError: 'routes'"):
        dialer.ends()
    dialer.ends(plugin_fails=True)


SOURCE = Path(__file__).read_text().partition("self.url, json")[0]
ASKED = f"the plugin asked for POST {CRM} ({__file__}:{SOURCE.count(chr(10)) + 1}); nothing answers that: add"


@pytest.mark.parametrize("others", [True, False], ids=["responses has other answers", "no responses"])
def test_an_unanswered_request_fails_the_test_with_its_place(make_dialer: MakeDialer, others: bool) -> None:
    dialer = make_dialer(Sync())
    with responses.RequestsMock() if others else nullcontext():
        dialer.agent_dials(HANGS_UP)
        with pytest.raises(AssertionError, match=re.escape(ASKED)):
            dialer.ends(plugin_fails=True)
    dialer.unanswered.clear()  # else the fixture says it, too


def test_a_test_that_never_ends_the_story_fails_for_unanswered_requests_too(pytester: pytest.Pytester) -> None:
    pytester.makeconftest('pytest_plugins = ["dialer.testing"]')
    pytester.makepyfile(f"""
        import socket
        from dialer import hookimpl
        class Curious:
            @hookimpl
            def call_started(self, call):
                try:
                    socket.create_connection(("crm.example.com", 443), timeout=1)
                except OSError:
                    pass
        def test_it(make_dialer):
            make_dialer(Curious()).agent_dials("{ANSWERS}")
    """)
    outcome = pytester.runpytest("-p", "no:cacheprovider")
    outcome.assert_outcomes(passed=1, errors=1)
    outcome.stdout.fnmatch_lines(["*the plugin asked for crm.example.com:443 (*:7); nothing answers that: *"])


@pytest.mark.parametrize(
    ("request_it", "what", "endless"),
    [
        (lambda: requests.get("https://a.example.com/b?key=1"), "GET https://a.example.com/b", True),
        (lambda: requests.get("https://a.example.com/", timeout=(3, None)), "GET https://a.example.com/", True),
        (lambda: requests.get("https://a.example.com/", timeout=3), "GET https://a.example.com/", False),
        (lambda: urllib3.PoolManager().request("PUT", "http://a.example.com/"), "PUT http://a.example.com/", True),
        (
            lambda: urllib3.PoolManager(timeout=2.0, retries=False).request("PUT", "http://a.example.com/"),
            "PUT http://a.example.com/",
            False,
        ),
        (lambda: httpx.get("https://a.example.com/?q=1"), "GET https://a.example.com/", False),
        (lambda: httpx.get("https://a.example.com/", timeout=None), "GET https://a.example.com/", True),
        (
            lambda: httpx.get("https://a.example.com/", timeout=httpx.Timeout(5, read=None)),
            "GET https://a.example.com/",
            True,
        ),
        (lambda: urllib.request.urlopen("http://a.example.com/"), "a.example.com:80", True),
        (lambda: urllib.request.urlopen("http://a.example.com/", timeout=3), "a.example.com:80", False),
        (lambda: socket.create_connection(("a.example.com", 99)), "a.example.com:99", True),
        (lambda: socket.create_connection(("192.0.2.77", 99), 1), "192.0.2.77:99", False),
    ],
)
def test_every_request_is_seen_with_its_place_and_whether_it_has_a_time_out(
    request_it: Callable[[], object], what: str, endless: bool
) -> None:
    failures = (OSError, httpx.TransportError, urllib3.exceptions.HTTPError)
    with offline(Path(__file__).parent) as seen, pytest.raises(failures):
        request_it()
    (one,) = seen
    assert (one.what, one.endless) == (what, endless)
    assert one.where.startswith(f"{__file__}:")


def test_this_machine_itself_is_reached_and_the_network_is_back_afterwards() -> None:
    plain = socket.socket.connect, socket.getaddrinfo
    with offline(Path(__file__).parent) as seen, socket.create_server(("127.0.0.1", 0)) as server:
        assert (socket.socket.connect, socket.getaddrinfo) != plain
        socket.create_connection(("localhost", server.getsockname()[1]), 5).close()
    assert len(seen) == 0
    assert (socket.socket.connect, socket.getaddrinfo) == plain


def test_the_log_of_a_plugin_is_seen_by_caplog(make_dialer: MakeDialer, caplog: pytest.LogCaptureFixture) -> None:
    dialer = make_dialer(Silence())
    Host("silence").log.error("look at this")
    assert "look at this" in caplog.text
    assert dialer.failures == []
