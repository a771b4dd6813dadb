"""The contract with plugins: written down whole, in call order, and called by the core in one place each."""

import ast
import inspect
import json
import typing
from collections import Counter, OrderedDict
from collections.abc import Iterator
from enum import Enum
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialer import hookspecs
from dialer.calls import Call
from dialer.discovery import HOOKS
from dialer.hookspecs import (
    ASKED,
    CONFERENCE_OPTIONS,
    DIAL_OPTIONS,
    FAILS_CLOSED,
    GATHERED,
    SET_UP,
    TOLD,
    CallEvent,
    Refusal,
    Route,
    answer_fault,
    plain,
)
from dialer.placing import ASKING_SECONDS
from dialer.reference import hooks

ROOT = Path(__file__).parent.parent
IN_CALL_ORDER = [
    "validate_call",
    "choose_caller_id",
    "name_conference",
    "route_call",
    "dial_options",
    "conference_options",
    "handle_unanswered",
    "call_started",
    "call_status",
    "conference_event",
    "recording_ready",
    "call_ended",
]


def test_hooks_stand_in_call_order_and_are_each_of_one_kind() -> None:
    specified = [name for name, value in vars(hookspecs).items() if hasattr(value, "dialer_spec")]
    assert specified == [*IN_CALL_ORDER, *SET_UP]
    assert sorted(HOOKS) == sorted([*IN_CALL_ORDER, *SET_UP])
    assert set(FAILS_CLOSED) <= set(GATHERED)
    for name in IN_CALL_ORDER:
        assert getattr(hookspecs, name).dialer_spec["firstresult"] is (name in ASKED)


@pytest.mark.parametrize("name", [*IN_CALL_ORDER, *SET_UP])
def test_a_hook_says_when_what_how_many_and_if_it_raises(name: str) -> None:
    first, blank, *parts = inspect.cleandoc(getattr(hookspecs, name).__doc__).splitlines()
    assert first.endswith(".")
    assert blank == ""
    assert [part.partition(": ")[0] for part in parts] == [
        "When",
        "Answer",
        "Several plugins",
        "If it raises",
    ]
    assert all(part.endswith(".") for part in parts)


@pytest.mark.parametrize("name", IN_CALL_ORDER)
def test_a_hook_takes_the_call_and_at_most_one_event(name: str) -> None:
    hints = typing.get_type_hints(getattr(hookspecs, name))
    answer = hints.pop("return")
    assert list(hints) in (["call"], ["call", "event"])
    assert hints["call"] is Call
    assert hints.get("event", CallEvent) is CallEvent
    assert (answer is type(None)) is (name in TOLD)
    assert name in TOLD or type(None) in typing.get_args(answer)


def names_given_to_calls(path: Path) -> Iterator[str]:
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            yield from (
                one.value for one in node.args if isinstance(one, ast.Constant) and isinstance(one.value, str)
            )


def test_every_hook_is_called_in_exactly_one_place() -> None:
    found = Counter[str]()
    for path in (ROOT / "dialer").glob("*.py"):
        if path.name != "hookspecs.py":
            found.update(name for name in names_given_to_calls(path) if name in (*IN_CALL_ORDER, *SET_UP))
    assert found == dict.fromkeys([*IN_CALL_ORDER, *SET_UP], 1)


def test_the_page_about_hooks_is_fresh() -> None:
    assert (ROOT / "docs" / "hooks.md").read_text() == hooks()


def test_the_page_says_how_long_plugins_get() -> None:
    assert f"together get {ASKING_SECONDS:g} seconds" in " ".join(hooks().split())


@pytest.mark.parametrize("name", IN_CALL_ORDER)
def test_the_page_shows_every_hook_with_its_signature(name: str) -> None:
    arguments = ", ".join(inspect.signature(getattr(hookspecs, name)).parameters)
    heading = hooks().partition(f"\n## {name}\n")[2].partition("\n## ")[0]
    assert (
        f"`{name}({arguments.replace('call', 'call: Call').replace('event', 'event: CallEvent')})" in heading
    )


@pytest.mark.parametrize(
    ("hook", "answer"),
    [
        ("validate_call", Refusal("No.")),
        ("validate_call", Refusal("No.", "rule")),
        ("validate_call", Refusal("x" * 1000, "y" * 100)),
        ("choose_caller_id", "+14155550199"),
        ("name_conference", "a" * 128),
        ("route_call", Route("+14155550101")),
        ("route_call", Route("+14155550101", 600)),
        ("dial_options", {}),
        ("dial_options", {"timeout": "5", "machine_detection": "Enable", "send_digits": "ww12#"}),
        ("conference_options", {"beep": "onEnter", "wait_url": "", "max_participants": "250"}),
        ("conference_options", {"wait_url": "https://a.example/music?x=1"}),
    ],
)
def test_a_good_answer_has_no_fault(hook: str, answer: object) -> None:
    assert answer_fault(hook, answer) == ""


@pytest.mark.parametrize(
    ("hook", "answer", "fault"),
    [
        ("validate_call", True, "True is not a Refusal"),
        ("validate_call", "no", "'no' is not a Refusal"),
        ("validate_call", Refusal(" "), "needs a sentence"),
        ("validate_call", Refusal("No.", None), "needs a sentence"),  # type: ignore[arg-type]
        ("validate_call", Refusal("x" * 1001), "has 1001 characters, more than 1000"),
        ("validate_call", Refusal("No.", "x" * 101), "has 101 characters, more than 100"),
        ("validate_call", Refusal("caf\udce9"), "'caf\\udce9' cannot be written in UTF-8"),
        ("validate_call", Refusal("No.", "\udce9"), "cannot be written in UTF-8"),
        ("choose_caller_id", "+1415555019\udce9", "is not a number in E.164"),
        ("name_conference", "\udce9", "is not a conference name"),
        ("route_call", Route("\udce9"), "is not a number in E.164"),
        ("dial_options", {"call_reason": "caf\udce9"}, "cannot be written in UTF-8"),
        ("conference_options", {"wait_url": "https://\udce9.example"}, "cannot be written in UTF-8"),
        ("conference_options", {"wait_url": f"https://a.example/{'x' * 999}"}, "more than 1000"),
        ("choose_caller_id", "4155550199", "is not a number in E.164"),
        ("choose_caller_id", "+0155550199", "is not a number in E.164"),
        ("choose_caller_id", "client:alice", "is not a number in E.164"),
        ("name_conference", "a" * 129, "is not a conference name"),
        ("name_conference", "a/b", "is not a conference name"),
        ("name_conference", "", "is not a conference name"),
        ("route_call", "+14155550101", "is not a Route"),
        ("route_call", Route("sip:a@b"), "is not a number in E.164"),
        ("route_call", Route("+14155550101", 4), "ring_seconds 4 is not 5 to 600"),
        ("route_call", Route("+14155550101", 6.0), "ring_seconds 6.0 is not"),  # type: ignore[arg-type]
        ("dial_options", [("timeout", "5")], "is not a dict"),
        ("dial_options", {"timeout": 5}, "5 is not a value of the option timeout"),
        ("dial_options", {"timeout": "4"}, "'4' is not a value of the option timeout"),
        ("dial_options", {"timeout": "\u0665\u0665"}, "is not a value of the option timeout"),
        (
            "dial_options",
            {"url": "https://a.example"},
            "'url' is not an option a plugin may set (options: timeout,",
        ),
        ("conference_options", {1: "a"}, "1 is not an option a plugin may set"),
        ("conference_options", {"wait_url": "https://a.example/\n"}, "is not a value of the option wait_url"),
    ],
)
def test_a_bad_answer_is_told_in_words(hook: str, answer: object, fault: str) -> None:
    assert fault in answer_fault(hook, answer)


@pytest.mark.parametrize(
    "own",
    [
        "participant_label",
        "start_conference_on_enter",
        "end_conference_on_exit",
        "status_callback",
        "status_callback_event",
        "recording_status_callback",
        "url",
        "twiml",
        "to",
        "from_",
        "caller_id",
    ],
)
def test_what_is_dialers_own_cannot_be_set(own: str) -> None:
    assert own not in DIAL_OPTIONS
    assert own not in CONFERENCE_OPTIONS


_TEXTS = st.text(st.characters())  # with lone surrogates
_ANSWERS = (
    st.none()
    | st.integers()
    | _TEXTS
    | st.builds(Refusal, _TEXTS, _TEXTS)
    | st.builds(Route, _TEXTS, st.none() | st.integers())
    | st.dictionaries(st.sampled_from([*DIAL_OPTIONS, *CONFERENCE_OPTIONS]) | _TEXTS, _TEXTS | st.integers())
)


@given(st.sampled_from([*ASKED, *GATHERED]), _ANSWERS)
def test_any_answer_is_judged_and_one_without_a_fault_can_be_stored(hook: str, answer: object) -> None:
    fault = answer_fault(hook, answer)
    assert fault.encode() or json.dumps(plain(answer), default=vars_of, ensure_ascii=False).encode()


def vars_of(answer: object) -> list[object]:
    return [getattr(answer, name) for name in type(answer).__slots__]  # type: ignore[attr-defined]


class Rule(str, Enum):  # noqa: UP042 (a StrEnum reads as its value, this one does not)
    CLOSED = "closed"


class Late(Refusal):
    def __init__(self, until: str) -> None:
        super().__init__(f"Calls start again at {until}.", Rule.CLOSED)


class Detour(Route):
    pass


@pytest.mark.parametrize(
    ("answer", "values"),
    [
        (Late("nine"), Refusal("Calls start again at nine.", "closed")),
        (Detour(Rule.CLOSED, 9), Route("closed", 9)),
        (Rule.CLOSED, "closed"),
        (OrderedDict({Rule.CLOSED: Rule.CLOSED}), {"closed": "closed"}),
        (None, None),
        (7, 7),
    ],
)
def test_a_plain_answer_has_no_class_of_the_plugin(answer: object, values: object) -> None:
    made = plain(answer)
    assert (type(made), repr(made)) == (type(values), repr(values))


@given(st.integers())
def test_a_number_is_accepted_within_its_range_only(number: int) -> None:
    assert DIAL_OPTIONS["timeout"].accepts(str(number)) is (5 <= number <= 600)
