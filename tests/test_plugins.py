"""Plugins: found, set up, asked in order, guarded, and swapped when dialer.toml changes."""

import dataclasses
import itertools
import logging
import sys
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Annotated, Any, ClassVar, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialer import discovery
from dialer.calls import Call
from dialer.config import last_good_path, load
from dialer.discovery import Plugin, installed
from dialer.errors import ConfigError, PluginError
from dialer.hookspecs import ASKED, GATHERED, TOLD, CallEvent, Refusal, Route, hookimpl
from dialer.plugins import FixedPlugins, Plugins, PluginSet, Verdict, check
from dialer.settings import Settings
from dialer.tables import Secret, Setting

CALL = Call("call_1", "ws", "alice", "+14155550101", "+14155550199", "ws-1", options={"timeout": "9"})
EVENT = CallEvent("answered", 1.0, "CA1", "customer", "in-progress")


@dataclass(frozen=True, eq=False)
class Caller:
    """Answers whatever it is given, or raises it."""

    answer: Any = None

    @hookimpl
    def choose_caller_id(self, call: Call) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer


@dataclass(frozen=True, eq=False)
class Judge:
    """The same for validate_call, dial_options and route_call."""

    answer: Any = None

    def _answer(self) -> Any:
        if isinstance(self.answer, BaseException):
            raise self.answer
        return self.answer

    @hookimpl
    def validate_call(self, call: Call) -> Any:
        return self._answer()

    @hookimpl
    def dial_options(self, call: Call) -> Any:
        return self._answer()

    @hookimpl
    def route_call(self, call: Call) -> Any:
        return self._answer()


class Listener:
    """Keeps what it is told."""

    def __init__(self) -> None:
        self.heard: list[Any] = []

    @hookimpl
    def call_started(self, call: Call) -> None:
        self.heard.append(call.id)

    @hookimpl
    def call_status(self, call: Call, event: CallEvent) -> None:
        self.heard.append((call.id, event.name))

    @hookimpl
    def call_ended(self, call: Call) -> None:
        raise LookupError("CRM is\ndown")


INLINE = pytest.mark.parametrize("inline", [True, False])


# asking


@INLINE
def test_ask_takes_the_first_answer_in_the_lists_order(inline: bool) -> None:
    plugins = PluginSet.of([Caller(), Caller("+14155550102"), Caller("+14155550103")], inline=inline)
    answer, verdicts = plugins.ask("choose_caller_id", CALL)
    assert answer == "+14155550102"
    assert [(one.plugin, one.answer, one.error) for one in verdicts] == [
        ("caller", "", ""),
        ("caller-2", "+14155550102", ""),
    ]


@INLINE
def test_gather_asks_all_in_the_lists_order(inline: bool) -> None:
    plugins = PluginSet.of([Judge(Refusal("One.", "a")), Judge(), Judge(Refusal("Two."))], inline=inline)
    answers, verdicts = plugins.gather("validate_call", CALL)
    assert answers == [("judge", Refusal("One.", "judge:a")), ("judge-3", Refusal("Two.", "judge-3"))]
    assert [one.answer for one in verdicts] == ["refused (judge:a): One.", "", "refused (judge-3): Two."]


def test_a_rule_starts_with_the_name_of_its_plugin() -> None:
    given_rules = ["", "late", "judge:late", "judge", "number_policy:country", "plugin-error:x"]
    plugins = [PluginSet.of([Judge(Refusal("No.", rule))], inline=True) for rule in given_rules]
    rules = [one.gather("validate_call", CALL)[0][0][1].rule for one in plugins]
    expected = [
        "judge",
        "judge:late",
        "judge:late",
        "judge",
        "judge:number_policy:country",
        "judge:plugin-error:x",
    ]
    assert rules == expected


def test_verdicts_put_answers_in_words() -> None:
    plugins = PluginSet.of([Judge(Route("+14155550102", 9)), Judge(Route("+14155550102"))], inline=True)
    assert plugins.ask("route_call", CALL)[1][0].answer == "+14155550102 for 9 s"
    options = PluginSet.of([Judge({"timeout": "9", "trim": "trim-silence"})], inline=True)
    assert options.gather("dial_options", CALL)[1][0].answer == "timeout=9, trim=trim-silence"


@pytest.mark.parametrize("hook", [*ASKED, *GATHERED])
def test_without_plugins_nothing_is_answered(hook: str) -> None:
    nobody = PluginSet.of([])
    assert (nobody.ask if hook in ASKED else nobody.gather)(hook, CALL) == (
        [] if hook in GATHERED else None,
        [],
    )
    assert (nobody.names, nobody.label, nobody.tells("call_started")) == ((), "", [])


def test_a_hook_that_there_is_not_is_a_mistake_of_the_caller() -> None:
    with pytest.raises(KeyError):
        PluginSet.of([]).ask("choose_calller_id", CALL)


def test_asking_nobody_costs_next_to_nothing() -> None:
    nobody = PluginSet.of([Listener()])
    nobody._clock = nobody._guarded = None  # type: ignore[assignment,method-assign]
    assert nobody.ask("route_call", CALL) == (None, [])
    assert nobody.gather("validate_call", CALL) == ([], [])


def test_a_plugin_cannot_change_the_call_of_others() -> None:
    class Meddler:
        @hookimpl
        def choose_caller_id(self, call: Call) -> None:
            call.options["timeout"] = "600"

    PluginSet.of([Meddler()], inline=True).ask("choose_caller_id", CALL)
    assert CALL.options == {"timeout": "9"}


def test_a_hook_may_leave_out_arguments() -> None:
    class Careless:
        @hookimpl
        def choose_caller_id(self) -> str:
            return "+14155550102"

    assert PluginSet.of([Careless()], inline=True).ask("choose_caller_id", CALL)[0] == "+14155550102"


# guarding


@INLINE
@pytest.mark.parametrize("error", [ValueError("broken"), SystemExit("bye")])
def test_one_plugins_error_is_its_own(
    inline: bool, error: BaseException, caplog: pytest.LogCaptureFixture
) -> None:
    plugins = PluginSet.of([Caller(error), Caller("+14155550102")], inline=inline)
    answer, (bad, good) = plugins.ask("choose_caller_id", CALL)
    assert (answer, good.answer) == ("+14155550102", "+14155550102")
    assert str(error) in bad.error
    assert (bad.plugin, bad.hook, bad.answer) == ("caller", "choose_caller_id", "")
    (record,) = caplog.records
    assert record.levelno == logging.ERROR
    assert record.getMessage().startswith("plugin caller: choose_caller_id: ")
    assert record.exc_info


@INLINE
@pytest.mark.parametrize("answer", [ValueError("broken"), "no", False, Refusal("")])
def test_a_check_that_fails_refuses_the_call(inline: bool, answer: object) -> None:
    plugins = PluginSet.of([Judge(answer), Judge()], inline=inline)
    answers, verdicts = plugins.gather("validate_call", CALL)
    assert answers == [("judge", Refusal("The call could not be checked.", "plugin-error:judge"))]
    assert [bool(one.error) for one in verdicts] == [True, False]
    assert "plugin-error:judge" in verdicts[0].answer


@pytest.mark.parametrize(
    ("answer", "error"),
    [
        ({"url": "https://evil.example"}, "'url' is not an option a plugin may set"),
        ({"timeout": "soon"}, "'soon' is not a value of the option timeout"),
        ("timeout=9", "is not a dict"),
        (KeyError("a"), "KeyError: 'a'"),
    ],
)
def test_options_that_are_nonsense_are_no_options(answer: object, error: str) -> None:
    plugins = PluginSet.of([Judge(answer), Judge({"timeout": "9"})], inline=True)
    answers, (bad, _) = plugins.gather("dial_options", CALL)
    assert answers == [("judge-2", {"timeout": "9"})]
    assert error in bad.error


def test_an_answer_whose_repr_raises_is_an_error_like_any_other() -> None:
    class Mean:
        def __repr__(self) -> str:
            raise RuntimeError("no repr")

    answer, (verdict,) = PluginSet.of([Caller(Mean())], inline=True).ask("choose_caller_id", CALL)
    assert (answer, verdict.error) == (None, "RuntimeError: no repr")


class Late(Refusal):
    """A plugin's own kind of refusal, which cannot be made from a reason and a rule."""

    def __init__(self, word: str) -> None:
        super().__init__("Calls start again at nine.", word)


@INLINE
@pytest.mark.parametrize("word", ["closed", "judge:closed"])
def test_a_plugins_own_kind_of_refusal_is_a_refusal_like_any_other(inline: bool, word: str) -> None:
    answers, _ = PluginSet.of([Judge(Late(word))], inline=inline).gather("validate_call", CALL)
    (answer,) = answers
    assert answer == ("judge", Refusal("Calls start again at nine.", "judge:closed"))
    assert type(answer[1]) is Refusal


class Mute(Exception):
    def __str__(self) -> str:
        raise RuntimeError("no words")


class Odd:
    def __repr__(self) -> str:
        return "\udce9\n"


@pytest.mark.parametrize("answer", [Refusal("caf\udce9"), Refusal("x" * 70_000), Mute(), Odd(), ValueError("\udce9")])
def test_what_cannot_be_said_or_stored_is_an_error_that_can(answer: object) -> None:
    ((_, refusal),), (verdict,) = PluginSet.of([Judge(answer)], inline=True).gather("validate_call", CALL)
    assert refusal.rule == "plugin-error:judge"
    assert verdict.error.isprintable()
    assert 0 < len(verdict.error) < 400
    with pytest.raises(PluginError):
        PluginSet.of([Listener(), Teller(Mute())]).tell("teller", "call_started", CALL)


@dataclass(frozen=True, eq=False)
class Teller:
    error: Exception

    @hookimpl
    def call_started(self, call: Call) -> None:
        raise self.error


# the time of one request


NOT_ASKED = "Overrun: not asked: the time for all plugins is used up"


def test_past_the_time_of_the_request_nobody_is_asked_and_safe_answers_count() -> None:
    plugins, past = PluginSet.of([Judge({"timeout": "9"}), Judge(Route("+14155550102"))]), time.monotonic() - 1
    answers, verdicts = plugins.gather("validate_call", CALL, past)
    assert [refusal.rule for _, refusal in answers] == ["plugin-error:judge", "plugin-error:judge-2"]
    assert [one.error for one in verdicts] == [NOT_ASKED] * 2
    assert plugins.gather("dial_options", CALL, past)[0] == []
    answer, verdicts = plugins.ask("route_call", CALL, past)
    assert (answer, [one.error for one in verdicts]) == (None, [NOT_ASKED] * 2)


def test_a_question_gets_what_is_left_of_the_requests_time(
    gate: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Hanging:
        budget_seconds = 5.0

        @hookimpl
        def route_call(self, call: Call) -> None:
            gate.wait()

    times = iter([100.0, 101.0])
    monkeypatch.setattr("dialer.isolation.time", SimpleNamespace(monotonic=lambda: next(times)))
    plugins = PluginSet.of([Hanging(), Judge(Route("+14155550102"))])
    answer, verdicts = plugins.ask("route_call", CALL, 100.02)
    assert (answer, [one.error for one in verdicts]) == (None, ["Overrun: no answer within 20 ms", NOT_ASKED])


def test_inline_there_is_no_time_that_could_run_out() -> None:
    plugins = PluginSet.of([Judge(Route("+14155550102"))], inline=True)
    assert plugins.ask("route_call", CALL, time.monotonic() - 1)[0] == Route("+14155550102")


class Router:
    """Has no say in whether the call is placed."""

    budget_seconds = 5.0

    @hookimpl
    def route_call(self, call: Call) -> Route:
        return Route("+14155550102")

    @hookimpl
    def conference_options(self, call: Call) -> dict[str, str]:
        return {"beep": "true"}


def placed(stage: Any, monkeypatch: pytest.MonkeyPatch, plugin: object, seconds: float) -> Any:
    """The call that is made when plugins have so many seconds in all, and its verdicts."""
    monkeypatch.setattr(stage.world.dialer.plugins, "_set", PluginSet.of([plugin]))
    monkeypatch.setattr("dialer.placing.ASKING_SECONDS", seconds)
    talker = stage.agent_dials("+14155550101")
    return talker.call, [(row["hook"], row["error"]) for row in talker.rows("verdicts_of_call")]


def test_all_hooks_of_one_call_share_one_time(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    call, verdicts = placed(stage, monkeypatch, Router(), -1.0)
    assert (call.to, call.rule) == ("+14155550101", "")
    assert verdicts == [("route_call", NOT_ASKED), ("conference_options", NOT_ASKED)]
    call, verdicts = placed(stage, monkeypatch, Router(), 30.0)
    assert (call.to, verdicts) == ("+14155550102", [("route_call", ""), ("conference_options", "")])
    call, verdicts = placed(stage, monkeypatch, Judge(), -1.0)
    assert (call.status, call.rule) == ("rejected", "plugin-error:judge")


def test_every_question_about_a_call_ends_at_the_same_moment(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    asked: list[tuple[str, float | None]] = []
    for name in ("ask", "gather"):
        original = getattr(PluginSet, name)

        def noted(self: PluginSet, hook: str, call: Call, until: float | None = None, of: Any = original) -> Any:
            asked.append((hook, until))
            return of(self, hook, call, until)

        monkeypatch.setattr(PluginSet, name, noted)
    before = time.monotonic()
    placed(stage, monkeypatch, Router(), 8.0)
    assert {hook for hook, _ in asked} == {*ASKED, *GATHERED} - {"handle_unanswered"}
    (until,) = {until for _, until in asked}
    assert until is not None and before + 8 <= until <= time.monotonic() + 8


@pytest.fixture
def gate() -> Iterator[threading.Event]:
    event = threading.Event()
    yield event
    event.set()


def test_a_plugin_that_hangs_is_given_up_and_then_refused_at_once(gate: threading.Event) -> None:
    class Hanging:
        budget_seconds = 0.01

        @hookimpl
        def validate_call(self, call: Call) -> None:
            gate.wait()

    plugins = PluginSet.of([Hanging(), Judge()])
    errors = iter(
        lambda: plugins.gather("validate_call", CALL)[1][0].error,
        "Overrun: all its threads hang in earlier calls",
    )
    assert set(errors) == {"Overrun: no answer within 10 ms"}
    (refusal,), (_, fine) = plugins.gather("validate_call", CALL)
    assert refusal[1].rule == "plugin-error:hanging"
    assert fine == Verdict("judge", "validate_call", "", fine.milliseconds)


def test_a_budget_may_be_a_setting() -> None:
    @dataclass(frozen=True)
    class Patient(Caller):
        budget_seconds: float = 2.0

    assert Plugin("a", "", Patient(budget_seconds=3.0)).budget == 3.0
    assert Plugin("a", "", Caller()).budget == 0.25


def test_inline_calls_stay_in_the_thread_and_measure_nothing() -> None:
    class Where:
        @hookimpl
        def name_conference(self, call: Call) -> str:
            return threading.current_thread().name

    here = threading.current_thread().name
    (verdict,) = PluginSet.of([Where()], inline=True).ask("name_conference", CALL)[1]
    assert verdict == Verdict("where", "name_conference", here, 0.0)
    (verdict,) = PluginSet.of([Where()]).ask("name_conference", CALL)[1]
    assert verdict.answer.startswith("plugin-where-")
    assert verdict.milliseconds > 0


@given(st.lists(st.sampled_from([None, "+14155550102", "nonsense", ValueError("x"), 7]), max_size=6))
def test_whatever_plugins_do_the_first_good_answer_counts(answers: list[Any]) -> None:
    plugins = PluginSet.of([Caller(answer) for answer in answers], inline=True)
    answer, verdicts = plugins.ask("choose_caller_id", CALL)
    good = "+14155550102" in answers
    assert answer == ("+14155550102" if good else None)
    assert len(verdicts) == (answers.index("+14155550102") + 1 if good else len(answers))
    assert [bool(one.error) for one in verdicts] == [
        one not in (None, "+14155550102") for one in answers[: len(verdicts)]
    ]


# telling


def test_tell_reaches_one_plugin() -> None:
    first, second = Listener(), Listener()
    plugins = PluginSet.of([first, second, Caller()])
    plugins.tell("listener-2", "call_started", CALL)
    plugins.tell("listener-2", "call_status", CALL, EVENT)
    assert (first.heard, second.heard) == ([], ["call_1", ("call_1", "answered")])


def test_tells_lists_who_has_the_hook_in_order() -> None:
    plugins = PluginSet.of([Listener(), Caller(), Listener()])
    assert {hook: plugins.tells(hook) for hook in TOLD} == {
        "call_started": ["listener", "listener-2"],
        "call_status": ["listener", "listener-2"],
        "conference_event": [],
        "recording_ready": [],
        "call_ended": ["listener", "listener-2"],
    }


def test_what_a_told_plugin_raises_is_a_plugin_error_of_one_line() -> None:
    with pytest.raises(PluginError, match="plugin listener: call_ended: LookupError: CRM is down") as caught:
        PluginSet.of([Listener()]).tell("listener", "call_ended", CALL)
    assert isinstance(caught.value.__cause__, LookupError)


def test_a_told_plugin_cannot_end_the_process() -> None:
    class Leaving:
        @hookimpl
        def call_ended(self, call: Call) -> None:
            sys.exit("bye")

    with pytest.raises(PluginError, match="plugin leaving: call_ended: SystemExit: bye"):
        PluginSet.of([Leaving()]).tell("leaving", "call_ended", CALL)


def test_a_plugin_that_is_off_cannot_be_told() -> None:
    with pytest.raises(PluginError, match=r"plugin crm is not on \(on: listener\)"):
        PluginSet.of([Listener()]).tell("crm", "call_started", CALL)


def test_a_plugin_without_the_hook_is_told_nothing() -> None:
    PluginSet.of([Listener()]).tell("listener", "conference_event", CALL, EVENT)


# hooks that cannot be used


class Misspelt:
    @hookimpl
    def validate_cal(self, call: Call) -> None: ...


class Unmarked:
    @hookimpl
    def call_started(self, call: Call) -> None: ...

    def validate_call(self, call: Call) -> None: ...


class Async:
    @hookimpl
    async def validate_call(self, call: Call) -> None: ...


class Yields:
    @hookimpl
    def validate_call(self, call: Call) -> Iterator[None]:
        yield


class Wraps:
    @hookimpl(wrapper=True)
    def validate_call(self, call: Call) -> Any:
        return (yield)


class First:
    @hookimpl(tryfirst=True)
    def validate_call(self, call: Call) -> None: ...


class Defaults:
    @hookimpl
    def validate_call(self, call: Call, event: str = "") -> None: ...


class Foreign:
    @hookimpl
    def validate_call(self, call: Call, request: Any) -> None: ...


class Hookless:
    pass


class Impatient(Listener):
    budget_seconds = 6


class Switched(Listener):
    budget_seconds = True


class Zero(Listener):
    budget_seconds = 0


class Textual(Listener):
    budget_seconds = "1"


class Raising:
    @property
    def colour(self) -> str:
        raise RuntimeError("no colour")

    @hookimpl
    def call_started(self, call: Call) -> None: ...


@pytest.mark.parametrize(
    ("plugin", "fault"),
    [
        (Misspelt, "plugin misspelt: validate_cal: there is no such hook; did you mean validate_call?"),
        (Unmarked, "plugin unmarked: validate_call is not marked; write @hookimpl above it"),
        (Async, "plugin async: validate_call is async; hooks are plain functions"),
        (Yields, "plugin yields: validate_call is a wrapper or yields; a hook is a plain function"),
        (Wraps, "plugin wraps: validate_call is a wrapper or yields; a hook is a plain function"),
        (First, "plugin first: validate_call asks for a place with tryfirst or trylast"),
        (Defaults, "plugin defaults: validate_call has arguments with defaults (event); take call"),
        (Foreign, "plugin foreign: Plugin 'foreign' for hook 'validate_call'"),
        (Hookless, "plugin hookless: has no hooks; write @hookimpl above its methods"),
        (Impatient, "plugin impatient: budget_seconds must be a number above 0 and up to 5, not 6"),
        (Switched, "plugin switched: budget_seconds must be a number above 0 and up to 5, not True"),
        (Zero, "plugin zero: budget_seconds must be a number above 0 and up to 5, not 0"),
        (Textual, "plugin textual: budget_seconds must be a number above 0 and up to 5, not '1'"),
    ],
)
def test_a_plugin_with_unusable_hooks_is_refused(plugin: Callable[[], object], fault: str) -> None:
    with pytest.raises(ConfigError) as caught:
        PluginSet.of([Caller(), plugin()])
    assert str(caught.value).startswith(fault)
    assert "\n" not in str(caught.value)


def test_a_raising_property_is_the_plugins_own_matter() -> None:
    try:
        assert PluginSet.of([Raising()]).tells("call_started") == ["raising"]
    except ConfigError as error:  # pluggy 1.6 looks at the value of every attribute
        assert "no colour" in str(error)


# finding and setting up


@dataclass(frozen=True)
class Crm:
    """Tells a CRM."""

    url: str
    token: Secret | None = None
    retries: Annotated[int, Setting("how often", numbers=(0, 9))] = 3
    fields: tuple[str, ...] = ()
    level: Literal["low", "high"] = "low"
    region: str | None = None
    instances: ClassVar[list[Any]] = []

    def __post_init__(self) -> None:
        if "example" in self.url:
            raise ValueError("url must not be an example")
        if self.retries == 9 and self.level == "low":
            raise ValueError("too many retries\nfor this level")
        if self.retries == 8:
            raise ZeroDivisionError("odd")
        self.instances.append(self)

    @hookimpl
    def name_conference(self, call: Call) -> str:
        return self.region or "none"


class Plain:
    """A plugin without settings."""

    @hookimpl
    def name_conference(self, call: Call) -> str:
        return "plain"


class Failing:
    def __init__(self) -> None:
        raise OSError("no network")


@dataclass(frozen=True)
class Untyped:
    mapping: dict[str, str] = dataclasses.field(default_factory=dict)

    @hookimpl
    def name_conference(self, call: Call) -> None: ...


@dataclass(frozen=True)
class Forward:
    field: "Nowhere" = None  # type: ignore[name-defined]  # noqa: F821


Install = Callable[..., None]


@pytest.fixture
def install(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Install:
    """Put distributions with these plugins on the path: (name, class or module:attribute, distribution, version)."""

    def install_plugins(*plugins: tuple[str, Any, str, str]) -> None:
        module, site = ModuleType("installed_plugins"), tmp_path / "site"
        for name, target, distribution, version in plugins:
            folder = site / f"{distribution.replace('-', '_')}-{version}.dist-info"
            if not folder.exists():
                folder.mkdir(parents=True)
                (folder / "METADATA").write_text(
                    f"Metadata-Version: 2.1\nName: {distribution}\nVersion: {version}\n"
                )
                (folder / "entry_points.txt").write_text("[dialer.plugins]\n")
            if not isinstance(target, str):
                setattr(module, name, target)
                target = f"installed_plugins:{name}"
            with (folder / "entry_points.txt").open("a") as file:
                file.write(f"{name} = {target}\n")
        monkeypatch.setitem(sys.modules, "installed_plugins", module)
        monkeypatch.syspath_prepend(site)

    return install_plugins


@pytest.fixture
def configure(tmp_path: Path) -> Callable[..., Settings]:
    """Settings from the text of a dialer.toml."""

    def settings(text: str, **environ: str) -> Settings:
        path = tmp_path / "instance" / "dialer.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)
        return load(environ, cwd=tmp_path)

    return settings


Configure = Callable[..., Settings]

CRM = ("crm", Crm, "dialer-crm", "2.1")
PLAIN = ("plain", Plain, "dialer-plain", "0.1.0")


def test_listed_plugins_are_set_up_in_the_lists_order(install: Install, configure: Configure) -> None:
    install(CRM, PLAIN)
    text = """
    [plugins]
    enabled = ["plain", "crm"]
    [plugins.crm]
    url = "https://crm.test"
    token = { env = "TOKEN" }
    fields = ["a", "b"]
    level = "high"
    region = "eu"
    """
    plugins = PluginSet.build(configure(text, TOKEN="hush"))
    assert plugins.names == ("plain", "crm")
    assert plugins.label == "plain 0.1.0, crm 2.1"
    assert plugins.versions == {"plain": "0.1.0", "crm": "2.1"}
    assert plugins.plugins[1].instance == Crm("https://crm.test", Secret("hush"), 3, ("a", "b"), "high", "eu")
    assert plugins.ask("name_conference", CALL)[0] == "plain"
    other = PluginSet.build(configure(text.replace('"plain", "crm"', '"crm", "plain"'), TOKEN="hush"))
    assert other.ask("name_conference", CALL)[0] == "eu"


def test_a_plugin_that_is_not_listed_is_not_imported(install: Install, configure: Configure) -> None:
    install(PLAIN, ("bad", "no.such.module:Bad", "dialer-bad", "1"))
    settings = configure('[plugins]\nenabled = ["plain"]\n[plugins.bad]\nany = "thing"\n')
    assert (PluginSet.build(settings).names, check(settings)) == (("plain",), [])


def test_nothing_is_looked_for_when_nothing_is_listed(
    configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delattr(discovery, "entry_points")
    assert PluginSet.build(configure("[plugins.gone]\na = 1\n")).names == ()


def test_the_bundled_plugins_are_found() -> None:
    (entry_point,) = installed()["number_policy"]
    assert entry_point.value == "dialer_plugins.number_policy:NumberPolicy"
    assert discovery.brought_by(entry_point).startswith("dialer ")


def test_the_bundled_plugin_works_from_its_settings(configure: Configure) -> None:
    settings = configure(
        '[plugins]\nenabled = ["number_policy"]\n[plugins.number_policy]\ncountries = ["GB"]\n'
    )
    plugins = PluginSet.build(settings)
    assert plugins.gather("validate_call", CALL)[0][0][1].rule == "number_policy:country"
    settings = configure(
        '[plugins]\nenabled = ["number_policy"]\n[plugins.number_policy]\ncountries = ["UK"]\n'
    )
    (fault,) = check(settings)
    assert "[plugins.number_policy].countries: 'UK' is not an ISO country such as US or GB" in fault


LISTED = '[plugins]\nenabled = ["{0}"]\n[plugins.{0}]\n'


@pytest.mark.parametrize(
    ("text", "where", "fault"),
    [
        (
            LISTED.format("crmm"),
            "[plugins].enabled",
            "crmm: there is no such plugin; did you mean crm? (plugins: ",
        ),
        (LISTED.format("crm"), "[plugins.crm].url", "missing; it must be a text in quotes"),
        (
            LISTED.format("crm") + 'url = "a"\nurll = "b"\n',
            "[plugins.crm].urll",
            "there is no such setting; did you",
        ),
        (LISTED.format("crm") + "url = 1\n", "[plugins.crm].url", "must be a text in quotes, not 1"),
        (
            LISTED.format("crm") + 'url = "a"\nretries = 10\n',
            "[plugins.crm].retries",
            "must be 0 to 9, not 10",
        ),
        (
            LISTED.format("crm") + 'url = "a"\nretries = 1.5\n',
            "[plugins.crm].retries",
            "must be a whole number",
        ),
        (
            LISTED.format("crm") + 'url = "a"\nlevel = "mid"\n',
            "[plugins.crm].level",
            'must be "low" or "high"',
        ),
        (
            LISTED.format("crm") + 'url = "a"\nfields = "a"\n',
            "[plugins.crm].fields",
            "must be a list, each a text",
        ),
        (
            LISTED.format("crm") + 'url = "a"\nfields = [1]\n',
            "[plugins.crm].fields",
            "must be a text in quotes, not 1",
        ),
        (
            LISTED.format("crm") + 'url = "a"\ntoken = { env = "NO" }\n',
            "[plugins.crm].token",
            "the environment has no NO",
        ),
        (LISTED.format("crm") + 'url = "example"\n', "[plugins.crm].url", "must not be an example"),
        (
            LISTED.format("crm") + 'url = "a"\nretries = 9\n',
            "[plugins.crm]",
            "too many retries for this level",
        ),
        (LISTED.format("crm") + 'url = "a"\nretries = 8\n', "[plugins.crm]", "ZeroDivisionError: odd"),
        (LISTED.format("plain") + "a = 1\n", "[plugins.plain].a", "plain has no settings"),
        (LISTED.format("failing"), "[plugins.failing]", "OSError: no network"),
        (LISTED.format("async"), "[plugins.async]", "validate_call is async"),
        (
            LISTED.format("untyped") + "mapping = {}\n",
            "[plugins.untyped].mapping",
            "has the type dict[str, str], which no",
        ),
        (LISTED.format("forward"), "[plugins.forward]", "NameError: name 'Nowhere' is not defined"),
        (
            LISTED.format("bad"),
            "[plugins].enabled",
            "bad (dialer-bad 1) cannot be imported: ModuleNotFoundError: No mod",
        ),
        (
            LISTED.format("twice"),
            "[plugins].enabled",
            "twice is brought by dialer-a 1 and dialer-b 2; uninstall all but",
        ),
        (
            LISTED.format("plain") + "[plugins.crmm]\n",
            "[plugins.crmm]",
            "there is no such plugin; did you mean crm?",
        ),
    ],
)
def test_each_fault_is_one_line_with_file_and_key(
    install: Install, configure: Configure, text: str, where: str, fault: str
) -> None:
    bad = ("bad", "no.such.module:Bad", "dialer-bad", "1")
    twice = (("twice", Plain, "dialer-b", "2"), ("twice", Plain, "dialer-a", "1"))
    others = tuple(
        (one.__name__.lower(), one, "dialer-odd", "1") for one in (Failing, Async, Untyped, Forward)
    )
    install(CRM, PLAIN, bad, *twice, *others)
    settings = configure(text)
    (line,) = check(settings)
    assert line.startswith(f"{settings.source.file}: {where}: {fault}")
    assert line.isprintable()
    with pytest.raises(ConfigError) as caught:
        PluginSet.build(settings)
    assert str(caught.value) == line


def test_all_faults_are_collected(install: Install, configure: Configure) -> None:
    install(CRM, ("async", Async, "dialer-odd", "1"))
    settings = configure('[plugins]\nenabled = ["async", "none", "crm"]\n[plugins.crm]\na = 1\n')
    assert len(check(settings)) == 4
    with pytest.raises(ConfigError, match=r"\(and 3 more: run dialer check\)$"):
        PluginSet.build(settings)


def test_an_object_that_is_ready_made_can_be_a_plugin(install: Install, configure: Configure) -> None:
    install(("ready", Plain(), "dialer-ready", "1"))
    assert PluginSet.build(configure(LISTED.format("ready"))).label == "ready 1"


def test_no_secret_is_shown_by_a_plugin_or_its_faults(install: Install, configure: Configure) -> None:
    install(CRM)
    settings = configure(LISTED.format("crm") + 'url = "a"\ntoken = "hush"\n')
    assert "hush" not in repr(PluginSet.build(settings).plugins) + repr(settings)


# swapping


def write(settings: Settings, text: str) -> None:
    """Replace dialer.toml as a whole, as an admin should."""
    new = settings.source.file.with_suffix(".new")
    new.write_text(text)
    new.rename(settings.source.file)


BOTH = '[plugins]\nenabled = ["plain", "crm"]\n[plugins.crm]\nurl = "a"\nregion = "eu"\n'


def test_a_change_of_the_list_works_at_once(install: Install, configure: Configure) -> None:
    install(CRM, PLAIN)
    settings = configure(BOTH)
    plugins = Plugins(settings)
    before = plugins.current()
    write(settings, BOTH.replace('"plain", "crm"', '"crm", "plain"'))
    assert plugins.current().names == ("crm", "plain")
    write(settings, BOTH.replace('"plain", "crm"', '"plain"'))
    assert plugins.current().names == ("plain",)
    assert before.names == ("plain", "crm")
    assert before.ask("name_conference", CALL)[0] == "plain"


def test_a_change_of_a_setting_works_at_once(install: Install, configure: Configure) -> None:
    install(CRM)
    settings = configure(LISTED.format("crm") + 'url = "a"\nregion = "eu"\n')
    plugins = Plugins(settings)
    write(settings, LISTED.format("crm") + 'url = "a"\nregion = "us"\n')
    assert plugins.current().ask("name_conference", CALL)[0] == "us"


def test_an_unchanged_file_gives_the_same_set(install: Install, configure: Configure) -> None:
    install(PLAIN)
    plugins = Plugins(configure(LISTED.format("plain")))
    assert plugins.current() is plugins.current()


def test_changes_within_one_tick_of_the_clock_are_seen(
    install: Install, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(CRM)
    settings = configure(LISTED.format("crm") + 'url = "a"\nregion = "eu"\n')
    stood_still = settings.source.mark
    assert stood_still is not None
    for module in ("dialer.plugins.mark", "dialer.reading.mark_of"):
        monkeypatch.setattr(module, lambda _: stood_still)
    monkeypatch.setattr("dialer.plugins.time.time_ns", lambda: stood_still[0] + 1_000_000)
    plugins = Plugins(settings)
    settings.source.file.write_text(LISTED.format("crm") + 'url = "a"\nregion = "us"\n')
    assert plugins.current().ask("name_conference", CALL)[0] == "us"


@pytest.mark.parametrize(
    ("text", "problem"),
    [
        ("[plugins", "is not TOML"),
        ("[calls]\nring_seconds = 1\n", "must be 5 to 600"),
        (LISTED.format("none"), "there is no such plugin"),
        (LISTED.format("crm"), "missing; it must be a text in quotes"),
        (LISTED.format("async"), "is async"),
        ("", "the file is gone or empty"),
        (None, "the file is gone or empty"),
    ],
)
def test_a_broken_change_keeps_the_last_good_set(
    install: Install,
    configure: Configure,
    caplog: pytest.LogCaptureFixture,
    text: str | None,
    problem: str,
) -> None:
    install(CRM, PLAIN, ("async", Async, "dialer-odd", "1"))
    settings = configure(BOTH)
    plugins = Plugins(settings)
    good = plugins.current()
    if text is None:
        settings.source.file.unlink()
    else:
        write(settings, text)
    assert [plugins.current() for _ in range(3)] == [good] * 3
    assert problem in plugins.problem
    assert str(settings.source.file) in plugins.problem
    (record,) = caplog.records
    assert record.getMessage().startswith("change of plugins ignored, still on: plain 0.1.0, crm 2.1: ")
    write(settings, BOTH.replace('"plain", "crm"', '"crm"'))
    assert (plugins.current().names, plugins.problem) == (("crm",), "")


def test_a_process_that_missed_a_good_change_takes_it_when_the_next_is_broken(
    install: Install, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(CRM, PLAIN)
    settings = configure(LISTED.format("plain"))
    monkeypatch.setenv("DIALER_LAST_GOOD", str(last_good_path(settings)))
    idle, busy = Plugins(settings), Plugins(settings)
    write(settings, BOTH)
    assert busy.current().names == ("plain", "crm")
    write(settings, "[plugins")
    assert [one.current().names for one in (busy, idle)] == [("plain", "crm")] * 2
    write(settings, LISTED.format("plain"))
    assert idle.current().names == ("plain",)


def test_going_back_to_the_last_good_file_ends_the_problem(install: Install, configure: Configure) -> None:
    install(PLAIN)
    settings = configure(LISTED.format("plain"))
    plugins = Plugins(settings)
    write(settings, "[plugins")
    plugins.current()
    assert plugins.problem
    write(settings, LISTED.format("plain"))
    assert (plugins.current().names, plugins.problem) == (("plain",), "")


def test_a_file_that_appears_later_is_read(install: Install, tmp_path: Path) -> None:
    install(PLAIN)
    settings = load({}, cwd=tmp_path)
    plugins = Plugins(settings)
    assert plugins.current().names == ()
    settings.source.file.parent.mkdir()
    write(settings, LISTED.format("plain"))
    assert plugins.current().names == ("plain",)


def test_faults_at_the_start_stop_it(install: Install, configure: Configure) -> None:
    install(PLAIN)
    with pytest.raises(ConfigError, match="there is no such plugin"):
        Plugins(configure(LISTED.format("none")))


def test_threads_never_see_half_a_change(install: Install, configure: Configure) -> None:
    install(CRM, PLAIN)
    settings = configure(BOTH)
    plugins, stop, seen = (
        Plugins(settings, inline=True),
        threading.Event(),
        set[tuple[tuple[str, ...], tuple[str, ...]]](),
    )

    def ask() -> None:
        while not stop.is_set():
            now = plugins.current()
            answers = tuple(now.ask("name_conference", CALL)[0] for _ in range(3))
            seen.add((now.names, answers))

    askers = [threading.Thread(target=ask) for _ in range(3)]
    for asker in askers:
        asker.start()
    lists = itertools.cycle(['"crm", "plain"', '"crm"', '"plain", "crm"'])
    for _ in range(60):
        write(settings, BOTH.replace('"plain", "crm"', next(lists)))
    stop.set()
    for asker in askers:
        asker.join()
    first = {"crm": "eu", "plain": "plain"}
    assert all(answers == (first[names[0]],) * 3 for names, answers in seen)
    assert plugins.current().names == ("plain", "crm")
    assert plugins.problem == ""


def test_only_one_thread_builds_and_the_others_do_not_wait(
    install: Install, configure: Configure, monkeypatch: pytest.MonkeyPatch
) -> None:
    install(PLAIN)
    settings = configure(LISTED.format("plain"))
    plugins, building, go_on = Plugins(settings), threading.Event(), threading.Event()
    before = plugins.current()

    def slow_reload(old: Settings) -> Settings:
        building.set()
        go_on.wait()
        return load(old.source.environ, cwd=old.source.cwd)

    monkeypatch.setattr("dialer.plugins.reload", slow_reload)
    write(settings, LISTED.format("plain") + "\n")
    builder = threading.Thread(target=plugins.current)
    builder.start()
    building.wait()
    assert plugins.current() is before
    go_on.set()
    builder.join()
    assert plugins.current() is not before


def test_a_fixed_set_never_changes() -> None:
    fixed = PluginSet.of([Caller()])
    assert FixedPlugins(fixed).current() is fixed
    assert FixedPlugins(fixed).problem == ""


def test_a_change_that_is_used_is_kept_for_processes_that_start_while_a_later_one_is_broken(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, kept = tmp_path / "dialer.toml", tmp_path / "dialer.toml.last-good"
    file.write_text("[plugins]\nenabled = []\n")
    monkeypatch.setenv("DIALER_LAST_GOOD", str(kept))
    plugins = Plugins(load({"DIALER_CONFIG": str(file)}, cwd=tmp_path))
    file.write_text('[plugins]\nenabled = ["number_policy"]\n')
    assert plugins.current().names == ("number_policy",)
    assert kept.read_text() == file.read_text()
    assert kept.stat().st_mode & 0o777 == 0o600
    file.write_text("[plugins")
    assert plugins.current().names == ("number_policy",)
    assert "[plugins]" in kept.read_text()
