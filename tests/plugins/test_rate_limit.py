"""rate_limit: who may place one more call, that places are taken once and freed, and the switch that stops all."""

import re
import threading
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from dialer import Call, Host, Refusal, Remark
from dialer.hookspecs import answer_fault
from dialer.tables import settings_of
from dialer_plugins.rate_limit import RateLimit, places
from dialer_plugins.rate_limit.prices import Prices, start_of_day

ANSWERS, NEVER = "+14155550101", "+14155550103"
NOON = 1_790_078_400.0  # 2026-09-22 12:00 UTC


@dataclass
class Known:
    """What Dialer would know of the calls."""

    calls: list[Call] = field(default_factory=list)
    now: float = NOON


class FixedHost(Host):
    """A host with the calls that a test gives it."""

    def __init__(self, folder: Path, known: Known) -> None:
        super().__init__("rate_limit", folder=folder, clock=lambda: known.now)
        self.known = known

    def calls(self, workspace: str, *, since: float, agent: str = "") -> list[Call]:
        return [call for call in self.known.calls if call.workspace == workspace and call.requested_at >= since]

    def plugin(self, workspace: str) -> RateLimit:
        return RateLimit(host=self)

    def open_calls(self, workspace: str, *, agent: str = "") -> list[Call]:
        return [call for call in self.calls(workspace, since=0.0) if not call.over]


@dataclass
class Centre:
    """A plugin and the calls that are placed past it."""

    plugin: RateLimit
    known: Known
    count: int = 0

    def asks(self, agent: str = "alice", to: str = ANSWERS, workspace: str = "ws") -> Call | str:
        """The call that is placed, or the rule that refuses it."""
        self.count += 1
        call = Call(f"call_{self.count}", workspace, agent, to, "", f"c{self.count}", requested_at=self.known.now)
        answer = self.plugin.validate_call(call)
        assert answer_fault("validate_call", answer) == ""
        if isinstance(answer, Refusal):
            return answer.rule.removeprefix("rate_limit:")
        self.known.calls.append(call)
        return call

    def remark(self) -> str:
        answer = self.plugin.validate_call(Call("call_x", "ws", "alice", ANSWERS, "", "x"))
        assert isinstance(answer, Remark)
        return answer.text

    def ends(self, call: Call | str, seconds: int = 60, *, told: bool = True) -> Call:
        assert isinstance(call, Call)
        over = replace(call, status="completed", duration=seconds, ended_at=self.known.now)
        self.known.calls = [over if one.id == over.id else one for one in self.known.calls]
        if told:
            self.plugin.call_ended(over)
        return over


def make_centre(tmp_path: Path, **limits: Any) -> Centre:
    unlimited: dict[str, Any] = {"agent_calls_per_minute": 0, "agent_calls_at_once": 0}
    known = Known()
    return Centre(RateLimit(**(unlimited | limits), host=FixedHost(tmp_path, known)), known)


def test_an_agent_has_two_calls_at_once_by_default(tmp_path: Path) -> None:
    known = Known()
    centre = Centre(RateLimit(host=FixedHost(tmp_path, known)), known)
    first = centre.asks()
    centre.asks()
    assert centre.asks() == "agent-at-once"
    assert isinstance(centre.asks("bob"), Call)
    centre.ends(first)
    assert isinstance(centre.asks(), Call)


def test_calls_of_the_last_sixty_seconds_count_even_when_they_are_over(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, agent_calls_per_minute=2)
    for _ in range(2):
        centre.ends(centre.asks(), 0)
    assert centre.asks() == "agent-per-minute"
    assert isinstance(centre.asks("bob"), Call)
    centre.known.now += 60
    assert isinstance(centre.asks(), Call)


def test_a_refused_call_does_not_count(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, agent_calls_per_minute=1)
    call = centre.asks()
    assert isinstance(call, Call)
    centre.plugin.call_started(replace(call, status="rejected"))
    assert isinstance(centre.asks(), Call)
    assert [centre.asks() for _ in range(3)] == ["agent-per-minute"] * 3


def test_a_workspace_is_limited_over_all_its_agents_and_apart_from_others(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, workspace_calls_at_once=2)
    centre.asks("alice")
    centre.asks("bob")
    assert centre.asks("carol") == "workspace-at-once"
    assert isinstance(centre.asks("dora", workspace="other"), Call)
    minute = make_centre(tmp_path / "b", workspace_calls_per_minute=1)
    minute.asks("alice")
    assert minute.asks("bob") == "workspace-per-minute"


def test_minutes_of_a_day_are_started_ones_and_end_at_midnight(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, agent_minutes_per_day=3)
    centre.ends(centre.asks(), 61)
    centre.ends(centre.asks(), 1)
    assert centre.asks() == "agent-minutes"
    assert isinstance(centre.asks("bob"), Call)
    centre.known.now += 12 * 3600
    assert isinstance(centre.asks(), Call)


def test_running_calls_use_minutes_too(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, workspace_minutes_per_day=10)
    centre.asks()
    centre.known.now += 9 * 60 + 1
    assert centre.asks("bob") == "workspace-minutes"


def test_an_unanswered_call_uses_no_minute(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, agent_minutes_per_day=1)
    centre.ends(centre.asks(), 0)
    assert isinstance(centre.asks(), Call)


def test_spend_is_the_price_of_the_longest_prefix(tmp_path: Path) -> None:
    centre = make_centre(
        tmp_path, workspace_spend_per_day=1.0, prices=("+1=0.1", "+1415=0.4", "+44=0.9"), default_price=2.0
    )
    assert centre.asks(to="+81312345678") == "workspace-spend"
    centre.ends(centre.asks(to="+14155550101"), 60)
    centre.ends(centre.asks(to="+12125550101"), 60)
    assert centre.asks(to="+442079460000") == "workspace-spend"
    centre.ends(centre.asks(to="+14155550101"), 0)
    assert isinstance(centre.asks(to="+14155550101"), Call)


def test_a_call_that_runs_has_spent_at_least_a_minute(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, agent_spend_per_day=0.25, default_price=0.1)
    assert [isinstance(centre.asks(), Call) for _ in range(3)] == [True, True, False]


def test_the_day_begins_at_midnight_of_the_setting_through_a_change_of_clocks() -> None:
    before, after = 1_792_886_400.0, 1_792_890_000.0  # 2026-10-25 00:00 and 01:00 UTC; clocks go back in Berlin
    assert start_of_day(before, "Europe/Berlin") == start_of_day(after, "Europe/Berlin") == 1_792_879_200.0
    assert start_of_day(1_792_886_400.0 + 82_799, "Europe/Berlin") == 1_792_879_200.0  # the 25th hour
    assert start_of_day(NOON, "UTC") == NOON - 12 * 3600


def test_twenty_threads_never_take_the_same_last_place(tmp_path: Path) -> None:
    known, placed = Known(), []
    hosts = [FixedHost(tmp_path, known) for _ in range(2)]  # as two workers have them

    def ask(number: int) -> None:
        plugin = RateLimit(0, 0, 0, workspace_calls_at_once=5, host=hosts[number % 2])
        call = Call(f"call_{number}", "ws", f"agent_{number}", ANSWERS, "", f"c{number}")
        if not isinstance(plugin.validate_call(call), Refusal):
            placed.append(call)

    threads = [threading.Thread(target=ask, args=(number,)) for number in range(20)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(placed) == 5


def test_asked_again_after_a_new_route_the_call_keeps_its_place(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, agent_calls_at_once=1, workspace_spend_per_day=1.0, prices=("+44=0.9",))
    call = centre.asks()
    assert isinstance(call, Call)
    assert isinstance(centre.plugin.validate_call(replace(call, to="+442079460000")), Remark)
    assert centre.asks() == "agent-at-once"


def test_repeated_and_reordered_ends_count_once(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, agent_minutes_per_day=2)
    over = centre.ends(centre.asks(), 30)
    for told in (over, over):
        centre.plugin.call_ended(told)
    centre.plugin.call_started(over)
    assert "1 of 2 minutes" in centre.remark()


def test_an_end_without_a_beginning_counts_its_minutes(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, agent_minutes_per_day=2)
    call = Call("call_old", "ws", "alice", ANSWERS, "", "x", status="completed", requested_at=NOON - 300, duration=100)
    centre.plugin.call_ended(call)
    assert centre.asks() == "agent-minutes"


def test_a_place_whose_end_was_never_told_is_freed_when_it_is_wanted(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, agent_calls_at_once=1, agent_minutes_per_day=100)
    centre.ends(centre.asks(), 130, told=False)
    centre.known.now += places.UNKNOWN_SECONDS + 1
    centre.ends(centre.asks(), 60)
    assert "4 of 100 minutes" in centre.remark()  # three of the first, one of the second


def test_a_place_of_a_request_that_came_to_nothing_is_freed(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, agent_calls_at_once=1)
    centre.asks()
    centre.known.calls.clear()
    assert centre.asks() == "agent-at-once"  # it may be on its way into the store
    centre.known.now += 4  # Twilio asks again
    assert isinstance(centre.asks(), Call)


def test_a_place_is_freed_by_time_when_nothing_was_heard(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, agent_calls_at_once=1)
    centre.asks()
    centre.known.now += 7200 + 30 + places.GRACE + 1
    used = places.used_by(centre.plugin.host, "ws", "alice", centre.known.now, centre.known.now)
    assert (used.agent.at_once, used.agent.minutes) == (0, 0)


def test_old_places_are_forgotten(tmp_path: Path) -> None:
    centre = make_centre(tmp_path)
    centre.ends(centre.asks())
    centre.known.now += places.KEPT_SECONDS + 1
    centre.ends(centre.asks())
    assert centre.plugin.host.database().table("places").count == 1


def test_what_was_used_is_evidence(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, agent_calls_at_once=2, workspace_spend_per_day=5.0, default_price=0.5)
    centre.asks()
    text = "used before this call: agent: 1 of 2 calls at once; workspace: 0.50 of 5.00 a day"
    assert centre.remark() == text
    assert make_centre(tmp_path / "b").remark() == "used before this call: nothing is limited"


def test_the_setting_stops_all_calls(tmp_path: Path) -> None:
    assert make_centre(tmp_path, stopped=True).asks() == "stopped"


def run(plugin: RateLimit, *words: str) -> Any:
    return CliRunner().invoke(plugin.register_commands(), words)


def test_stop_and_go_say_so_once(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    plugin = make_centre(tmp_path).plugin
    assert run(plugin, "stop", "--all").output.count("calls stopped") == 1
    assert run(plugin, "go", "--all").output.count("calls go on") == 1
    assert caplog.records == []  # which standard error would show beside it


def test_stop_and_go_work_at_once_in_another_worker(tmp_path: Path) -> None:
    centre = make_centre(tmp_path)
    elsewhere = RateLimit(host=FixedHost(tmp_path, centre.known))
    stopped = run(elsewhere, "stop", "--workspace", "ws", "--reason", "We are being defrauded.")
    assert stopped.exit_code == 0
    assert "calls stopped for ws" in stopped.output
    answer = centre.plugin.validate_call(Call("c", "ws", "alice", ANSWERS, "", "c"))
    assert answer == Refusal("We are being defrauded.", "rate_limit:stopped")
    assert isinstance(centre.asks(workspace="other"), Call)
    assert run(elsewhere, "go", "--workspace", "ws").output == "calls go on for ws\n"
    assert isinstance(centre.asks(), Call)
    assert run(elsewhere, "go", "--workspace", "ws").output == "calls were not stopped for ws\n"


def test_a_stop_of_all_outlasts_the_go_of_one(tmp_path: Path) -> None:
    centre = make_centre(tmp_path)
    run(centre.plugin, "stop", "--all")
    assert "still stopped: all workspaces" in run(centre.plugin, "go", "--workspace", "ws").output
    assert centre.asks() == "stopped"
    run(centre.plugin, "go", "--all")
    assert isinstance(centre.asks(), Call)


def test_stop_wants_to_know_whom(tmp_path: Path) -> None:
    centre = make_centre(tmp_path)
    for words in ((), ("--workspace", "ws", "--all"), ("--all", "--hang-up")):
        assert run(centre.plugin, "stop", *words).exit_code == 2
    assert isinstance(centre.asks(), Call)


def test_status_shows_stops_and_usage(tmp_path: Path) -> None:
    centre = make_centre(tmp_path)
    centre.asks()
    assert run(centre.plugin, "status").output == "nothing is stopped\n"
    run(centre.plugin, "stop", "--workspace", "ws")
    shown = run(centre.plugin, "status", "--workspace", "ws", "--agent", "alice").output
    assert "stopped: ws, since 2026-09-22 12:00:00Z: no reason given" in shown
    assert re.search(r"alice +1 +1 +1", shown)
    assert '"at once": 1' in run(centre.plugin, "status", "--workspace", "ws", "--json").output


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"prices": ("44=1",)}, "prices '44=1' is not a prefix and a price"),
        ({"prices": ("+44=-1",)}, "prices '.44=-1' is not a prefix and a price"),
        ({"prices": ("+44=1", "+44=2")}, "prices .44 has two prices"),
        ({"agent_spend_per_day": 1.0}, "prices is empty and default_price is 0"),
        ({"time_zone": "Berlin"}, "time_zone 'Berlin' is not a time zone such as"),
        ({"time_zone": "../UTC"}, "time_zone '../UTC' is not a time zone"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        RateLimit(**wrong)


price_texts = st.from_regex(r"\+[1-9][0-9]{0,5}=[0-9]{1,3}\.[0-9]", fullmatch=True)


@given(st.lists(price_texts, unique_by=lambda text: text.split("=")[0]))
def test_a_price_is_that_of_the_longest_prefix(texts: Sequence[str]) -> None:
    prices, table = Prices.of(texts, 7.0), dict(text.split("=") for text in texts)
    for number in ("+14155550101", "+442079460000", *(prefix + "55501" for prefix in table)):
        fitting = [prefix for prefix in table if number.startswith(prefix)]
        assert prices.price(number) == (float(table[max(fitting, key=len)]) if fitting else 7.0)


@settings(max_examples=25)
@given(st.lists(st.tuples(st.sampled_from(["ask", "end", "end-untold", "again"]), st.integers(0, 5)), max_size=40))
def test_there_are_never_more_calls_at_once_than_allowed(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    centre = make_centre(tmp_path_factory.mktemp("limits"), workspace_calls_at_once=3, agent_calls_at_once=2)
    for step, number in steps:
        centre.known.now += 10 * number
        running = centre.plugin.host.open_calls("ws")
        if step == "ask":
            mine = sum(call.agent == f"agent_{number % 2}" for call in running)
            asked = centre.asks(f"agent_{number % 2}")
            if isinstance(asked, Call):
                assert len(running) < 3
                assert mine < 2
        elif running and step != "again":
            centre.ends(running[number % len(running)], told=step == "end")
        elif centre.known.calls:
            one = centre.known.calls[number % len(centre.known.calls)]
            if one.over:
                centre.plugin.call_ended(one)


def test_the_second_call_of_an_agent_is_refused_and_the_third_is_not(make_stage: Any) -> None:
    stage = make_stage(plugins=[RateLimit(agent_calls_at_once=1)])
    first = stage.agent_dials(ANSWERS)
    stage.phone().answers()
    second = stage.agent_dials(ANSWERS)
    assert second.call.rule == "rate_limit:agent-at-once"
    assert second.heard == ["You have as many calls at once as you may. Please end one first."]
    stage.lasts(5)
    first.hangs_up()
    stage.lasts(5)
    third = stage.agent_dials(ANSWERS)
    assert third.call.status != "rejected"
    (verdict,) = third.rows("verdicts_of_call")
    assert "0 of 1 calls at once" in verdict["answer"]
    third.hangs_up()
    stage.ends()


def test_a_call_that_another_plugin_refuses_frees_its_place(make_stage: Any) -> None:
    from dialer_plugins.number_policy import NumberPolicy

    plugin = RateLimit(agent_calls_at_once=1, agent_calls_per_minute=1)
    stage = make_stage(plugins=[plugin, NumberPolicy()])
    assert stage.agent_dials("+442079460000").call.rule == "number_policy:country"
    agent = stage.agent_dials(ANSWERS)
    assert agent.call.status != "rejected"
    agent.hangs_up()
    stage.ends()


def test_stop_with_hang_up_ends_the_calls_in_progress(make_stage: Any) -> None:
    plugin = RateLimit()
    stage = make_stage(plugins=[plugin])
    agent = stage.agent_dials(ANSWERS)
    stage.phone().answers()
    done = run(plugin, "stop", "--workspace", agent.call.workspace, "--hang-up")
    assert "1 calls in progress are being ended" in done.output
    stage.ends()
    assert agent.call.ended_by == "plugin:rate_limit"
    assert stage.agent_dials(ANSWERS).call.rule == "rate_limit:stopped"
    stage.ends()


def test_the_readme_shows_every_setting_and_rule() -> None:
    folder = Path(__file__).parent.parent.parent / "plugins" / "rate_limit"
    readme, code = (folder / "README.md").read_text(), (folder / "limits.py").read_text()
    for name, (_, setting, _) in settings_of(RateLimit).items():
        assert f"| `{name}` |" in readme
        assert setting.meaning
    words = set(re.findall(r'"([a-z-]+)": "You', code))
    assert words == {"at-once", "per-minute", "minutes", "spend"}
    assert [word for word in words if f"`rate_limit:agent-{word}`" not in readme] == []
    assert "`rate_limit:stopped`" in readme
