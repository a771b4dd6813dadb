"""next_number: which number follows, in which order, never one twice; and what the agent hears when none does."""

from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from dialer import Call, DialerError, Host, Leg, Unanswered
from dialer.calls import changed
from dialer.hookspecs import answer_fault
from dialer.simulator import AgentPlan
from dialer.tables import Source, read, settings_of
from dialer_plugins.next_number import NextNumber, numbers
from dialer_plugins.next_number.numbers import Pair

ANSWERS, BUSY, NEVER, UNREACHABLE = (f"+1415555010{digit}" for digit in range(1, 5))


def make_host(tmp_path: Path) -> Host:
    return Host("next_number", folder=tmp_path, clock=lambda: 1_790_000_000.0)


def tried(to: str, outcome: str = "busy", *, tries: int = 0, workspace: str = "ws", number: int = 1) -> Call:
    legs = (Leg("CA0", "agent", "in-progress"), Leg("CA1", "customer", outcome))
    return Call(f"call_{number}", workspace, "alice", to, "", f"c-{number}", legs=legs, tries=tries)


def numbers_tried(plugin: NextNumber, first: str) -> list[str]:
    """All that a call dials after the first number, when nobody ever answers."""
    call, found = tried(first), []
    while (answer := plugin.handle_unanswered(call)) and answer.try_number:
        assert answer_fault("handle_unanswered", answer) == ""
        found.append(answer.try_number)
        call = changed(call, to=answer.try_number, tries=call.tries + 1)
    return found


def n(digit: int) -> str:
    return f"+1415555020{digit}"


@pytest.mark.parametrize(
    ("pairs", "expected"),
    [
        ([(1, 2), (1, 3)], [2, 3]),
        ([(1, 3), (1, 2)], [3, 2]),
        ([(1, 2), (2, 3)], [2, 3]),
        ([(1, 2), (1, 4), (2, 3)], [2, 3, 4]),
        ([(1, 2), (2, 1)], [2]),
        ([(1, 2), (2, 1), (2, 3), (3, 2)], [2, 3]),
        ([(2, 3)], []),
        ([], []),
    ],
)
def test_lists_and_chains_are_followed_and_no_number_comes_twice(
    tmp_path: Path, pairs: list[tuple[int, int]], expected: list[int]
) -> None:
    plugin = NextNumber(most=5, host=make_host(tmp_path))
    numbers.add(plugin.host, "ws", [Pair(n(one), n(other)) for one, other in pairs])
    assert numbers_tried(plugin, n(1)) == [n(digit) for digit in expected]


@given(st.lists(st.tuples(st.integers(0, 6), st.integers(0, 6)), max_size=20), st.integers(0, 5))
def test_any_table_ends(tmp_path_factory: pytest.TempPathFactory, pairs: list[tuple[int, int]], most: int) -> None:
    plugin = NextNumber(most=most, host=make_host(tmp_path_factory.mktemp("next")))
    numbers.add(plugin.host, "ws", [Pair(n(one), n(other)) for one, other in pairs])
    found = numbers_tried(plugin, n(0))
    assert len(found) <= most
    assert len({n(0), *found}) == len(found) + 1


def test_whoever_is_asked_twice_says_the_same(tmp_path: Path) -> None:
    plugin = NextNumber(host=make_host(tmp_path))
    numbers.add(plugin.host, "ws", [Pair(n(1), n(2)), Pair(n(1), n(3))])
    assert [plugin.handle_unanswered(tried(n(1))) for _ in range(3)] == [Unanswered(try_number=n(2))] * 3


def test_workspaces_and_calls_are_apart(tmp_path: Path) -> None:
    plugin = NextNumber(host=make_host(tmp_path))
    numbers.add(plugin.host, "ws", [Pair(n(1), n(2))])
    assert plugin.handle_unanswered(tried(n(1), workspace="other")) is None
    assert [plugin.handle_unanswered(tried(n(1), number=one)) for one in (1, 2)] == [Unanswered(try_number=n(2))] * 2


def test_another_number_is_tried_only_after_what_it_shall_be_tried_after(tmp_path: Path) -> None:
    plugin = NextNumber(try_after=("busy",), ring_seconds=12, no_answer="Nobody.", host=make_host(tmp_path))
    numbers.add(plugin.host, "ws", [Pair(n(1), n(2))])
    assert plugin.handle_unanswered(tried(n(1), "busy")) == Unanswered(try_number=n(2), ring_seconds=12)
    assert plugin.handle_unanswered(tried(n(1), "no-answer")) == Unanswered("Nobody.")
    assert plugin.handle_unanswered(tried(n(1), "failed")) is None


def test_each_outcome_has_its_sentence_and_the_agent_may_stay() -> None:
    plugin = NextNumber(try_after=(), busy="B.", no_answer="N.", failed="F.", stay_seconds=20)
    said = [plugin.handle_unanswered(tried(n(1), outcome)) for outcome in ("busy", "no-answer", "failed")]
    assert said == [Unanswered(text, stay_seconds=20) for text in ("B.", "N.", "F.")]
    assert NextNumber(try_after=(), stay_seconds=5).handle_unanswered(tried(n(1))) == Unanswered(stay_seconds=5)


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"try_after": ["canceled"]}, 'try_after: must be "busy" or "no-answer" or "failed", not "canceled"'),
        ({"most": 6}, "most: must be 0 to 5, not 6"),
        ({"stay_seconds": 601}, "stay_seconds: must be 0 to 600"),
    ],
)
def test_wrong_settings_are_refused_by_name(tmp_path: Path, table: dict[str, Any], fault: str) -> None:
    _, faults = read(NextNumber, table, Source(tmp_path / "dialer.toml"), "plugins.next_number")
    assert len(faults) == 1
    assert fault in faults[0].replace("[plugins.next_number].", "")


@pytest.mark.parametrize(
    ("wrong", "fault"), [({"ring_seconds": 4}, "ring_seconds must be 5"), ({"busy": "x" * 1001}, "busy has more than")]
)
def test_values_that_the_core_would_refuse_are_refused_at_once(wrong: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        NextNumber(**wrong)


# The commands


def run(host: Host, *arguments: str) -> Any:
    return CliRunner().invoke(NextNumber(host=host).register_commands(), list(arguments), catch_exceptions=False)


def write(tmp_path: Path, text: str) -> str:
    (tmp_path / "pairs.csv").write_text(text)
    return str(tmp_path / "pairs.csv")


@pytest.mark.parametrize("separator", [",", ";", "\t"])
def test_a_file_is_imported_and_comes_out_again(tmp_path: Path, separator: str) -> None:
    host = make_host(tmp_path / "own")
    text = f"name,Number,Next Number\nA,{n(1)},(415) 555-0202\n\nB,{n(1)},{n(3)}\nA,{n(1)},{n(2)}\n"
    done = run(host, "import", write(tmp_path, text.replace(",", separator)), "--workspace", "ws", "--region", "US")
    assert done.output == "3 rows of pairs.csv: 2 new\n"
    assert numbers.pairs(host, "ws") == [Pair(n(1), n(2)), Pair(n(1), n(3))]
    written = run(host, "export", "--workspace", "ws").output
    assert written == f"number,next_number\n{n(1)},{n(2)}\n{n(1)},{n(3)}\n"
    run(host, "import", write(tmp_path, f"number,next_number\n{n(4)},{n(5)}\n"), "--workspace", "ws", "--replace")
    assert numbers.pairs(host, "ws") == [Pair(n(4), n(5))]


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        ("a,b\n", "needs the columns number and next_number"),
        ("", "needs the columns number and next_number"),
        (f"number,next_number\n{n(1)},{n(2)}\n{n(1)},5550101\n", "1 bad rows"),
        (f"number,next_number\n{n(1)},{n(1)}\n", "1 bad rows"),
        (f"number,next_number\n{n(1)}\n", "1 bad rows"),
    ],
)
def test_a_bad_file_changes_nothing(tmp_path: Path, text: str, fault: str) -> None:
    host = make_host(tmp_path / "own")
    numbers.add(host, "ws", [Pair(n(8), n(9))])
    with pytest.raises(DialerError, match=fault):
        run(host, "import", write(tmp_path, text), "--workspace", "ws", "--replace")
    assert numbers.pairs(host, "ws") == [Pair(n(8), n(9))]


def test_a_bad_row_is_named_by_its_line(tmp_path: Path) -> None:
    path = write(tmp_path, f"number,next_number\n{n(1)},{n(2)}\nx,{n(2)}\n")
    result = CliRunner().invoke(
        NextNumber(host=make_host(tmp_path)).register_commands(), ["import", path, "--workspace", "ws"]
    )
    assert "line 3: number 'x' is not a number" in result.output


def test_pairs_are_added_listed_and_taken_away(tmp_path: Path) -> None:
    host = make_host(tmp_path)
    assert run(host, "add", n(1), n(2), "--workspace", "ws").output == f"after {n(1)}, {n(2)} is tried now\n"
    assert "tried already" in run(host, "add", n(1), n(2), "--workspace", "ws").output
    run(host, "add", n(1), n(3), "--workspace", "ws")
    assert n(3) in run(host, "list", "--workspace", "ws").output
    assert run(host, "list", "--workspace", "other").output.startswith("there are none")
    assert run(host, "remove", n(1), n(2), "--workspace", "ws").output == "1 taken away\n"
    assert numbers.pairs(host, "ws") == [Pair(n(1), n(3))]
    with pytest.raises(DialerError, match="nothing of the kind follows"):
        run(host, "remove", n(1), "--workspace", "other")
    assert run(host, "add", n(1), n(1), "--workspace", "ws").exit_code == 2


# Stories


def test_the_next_number_is_dialled_in_the_same_call(make_stage: Any) -> None:
    plugin = NextNumber(ring_seconds=9)
    stage = make_stage(plugins=(plugin,))
    numbers.add(plugin.host, "ws_demo", [Pair(BUSY, UNREACHABLE), Pair(BUSY, ANSWERS)])
    talker = stage.agent_dials(BUSY, plan=AgentPlan(hang_up_after_bridged=5))
    stage.ends()
    assert [leg.to for leg in stage.dialled()] == [BUSY, UNREACHABLE, ANSWERS]
    assert (talker.call.status, talker.call.to, talker.call.tries) == ("completed", ANSWERS, 2)


def test_when_none_is_left_the_agent_hears_the_sentence(make_stage: Any) -> None:
    plugin = NextNumber(busy="Busy. Try after lunch.")
    stage = make_stage(plugins=(plugin,))
    numbers.add(plugin.host, "ws_demo", [Pair(UNREACHABLE, BUSY), Pair(BUSY, UNREACHABLE)])
    talker = stage.agent_dials(UNREACHABLE)
    stage.ends()
    assert (talker.heard, len(stage.dialled())) == (["Busy. Try after lunch."], 2)


@pytest.mark.parametrize("seed", range(3))
def test_no_number_is_dialled_twice_whatever_is_lost(make_stage: Any, seed: int) -> None:
    faults = dict.fromkeys(("webhook_lost", "webhook_late", "webhook_repeated", "webhook_reordered"), 0.1)
    plugin = NextNumber(ring_seconds=5)
    stage = make_stage(plugins=(plugin,), faults=faults, seed=seed)
    numbers.add(plugin.host, "ws_demo", [Pair(BUSY, NEVER), Pair(NEVER, ANSWERS), Pair(NEVER, BUSY)])
    for _ in range(8):
        stage.agent_dials(BUSY, plan=AgentPlan(hang_up_after_bridged=4))
    stage.ends()
    made = [leg.to for leg in stage.dialled()]
    assert all(made.count(number) <= 8 for number in (BUSY, NEVER, ANSWERS))
    assert ANSWERS in made


def test_the_readme_shows_every_setting() -> None:
    readme = (Path(__file__).parent.parent.parent / "plugins" / "next_number" / "README.md").read_text()
    for name, (_, setting, _) in settings_of(NextNumber).items():
        assert f"| `{name}` |" in readme
        assert setting.meaning
