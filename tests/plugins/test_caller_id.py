"""caller_id: which number of the workspace a customer sees, that numbers take turns, and that a lock holds."""

import threading
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import phonenumbers
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from phonenumbers import geocoder

from dialer import Call, Host, Refusal, Remark
from dialer.hookspecs import answer_fault
from dialer.tables import settings_of
from dialer_plugins.caller_id import CallerId, pool
from dialer_plugins.caller_id.areas import DISTANCES, STATES, distance, place_of

SAN_FRANCISCO, LOS_ANGELES, SEATTLE, NEW_YORK = "+14155550199", "+12135550199", "+12065550199", "+12125550199"
LONDON = "+442079460999"
ALL = (SAN_FRANCISCO, LOS_ANGELES, SEATTLE, NEW_YORK, LONDON)
ANSWERS = "+14155550101"


@dataclass
class Known:
    """What Dialer would know."""

    numbers: dict[str, list[str]] = field(default_factory=lambda: {"ws": list(ALL)})
    calls: list[Call] = field(default_factory=list)
    now: float = 1_790_000_000.0


class FixedHost(Host):
    """A host with the numbers and calls that a test gives it."""

    def __init__(self, folder: Path, known: Known) -> None:
        super().__init__("caller_id", folder=folder, clock=lambda: known.now)
        self.known = known

    def numbers(self, workspace: str) -> list[str]:
        return self.known.numbers.get(workspace, [])

    def open_calls(self, workspace: str, *, agent: str = "") -> list[Call]:
        return [call for call in self.known.calls if call.workspace == workspace and not call.over]


@dataclass
class Centre:
    """A plugin, and the calls that it chooses numbers for."""

    plugin: CallerId
    known: Known
    count: int = 0

    def calls(self, to: str = ANSWERS, agent: str = "alice", workspace: str = "ws") -> Call | str:
        """The call with its number, or the rule that refuses it; `from_` is empty when nothing was chosen."""
        self.count += 1
        self.known.now += 1
        call = Call(f"call_{self.count}", workspace, agent, to, "", f"c{self.count}", requested_at=self.known.now)
        answer = self.plugin.validate_call(call)
        if isinstance(answer, Refusal):
            return answer.rule
        chosen = self.plugin.choose_caller_id(call)
        assert chosen is None or answer_fault("choose_caller_id", chosen) == ""
        call = replace(call, from_=chosen or "")
        self.plugin.call_started(call)
        self.known.calls.append(call)
        return call

    def shown(self, to: str = ANSWERS, agent: str = "alice", workspace: str = "ws") -> str:
        call = self.calls(to, agent, workspace)
        return call.from_ if isinstance(call, Call) else call

    def ends(self, call: Call | str, *, told: bool = True) -> Call:
        assert isinstance(call, Call)
        over = replace(call, status="completed", ended_at=self.known.now)
        self.known.calls = [over if one.id == over.id else one for one in self.known.calls]
        if told:
            self.plugin.call_ended(over)
        return over


def make_centre(tmp_path: Path, *, numbers: tuple[str, ...] = ALL, **wish: Any) -> Centre:
    known = Known({"ws": list(numbers)})
    return Centre(CallerId(**wish, host=FixedHost(tmp_path, known)), known)


@pytest.mark.parametrize(
    ("customer", "expected"),
    [
        ("+14155550101", SAN_FRANCISCO),  # the same area code
        ("+12135550101", LOS_ANGELES),
        ("+17185550101", NEW_YORK),  # Brooklyn: the same state
        ("+13055550101", NEW_YORK),  # Florida: the same time zone
        ("+15035550101", SAN_FRANCISCO),  # Oregon: three share its time zone, the first is the default
        ("+442071234567", LONDON),
        ("+441611234567", LONDON),  # Manchester: the same country
        ("+13035550101", SAN_FRANCISCO),  # Denver: only the country
        ("+33123456789", SAN_FRANCISCO),  # nothing is near
    ],
)
def test_the_nearest_number_is_shown(tmp_path: Path, customer: str, expected: str) -> None:
    assert make_centre(tmp_path).shown(customer) == expected


def test_numbers_of_one_distance_take_turns(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, local_presence=False)
    assert [centre.shown() for _ in range(10)] == [*ALL, *ALL]
    near = make_centre(tmp_path / "b", numbers=(NEW_YORK, SAN_FRANCISCO, "+14155550198"))
    assert [near.shown() for _ in range(4)] == [SAN_FRANCISCO, "+14155550198"] * 2


def test_the_pool_is_what_is_named_and_belongs_to_the_workspace(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, local_presence=False)
    named = Centre(CallerId(numbers=(NEW_YORK, "+16465550100"), host=centre.plugin.host), centre.known)
    assert [named.shown() for _ in range(2)] == [NEW_YORK, NEW_YORK]
    assert named.shown(workspace="other") == ""


def test_a_number_that_was_taken_from_the_workspace_is_not_shown_again(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, sticky_days=30)
    assert centre.shown() == SAN_FRANCISCO
    centre.known.numbers["ws"] = [NEW_YORK]
    assert centre.shown() == NEW_YORK


def test_workspaces_rotate_apart(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, local_presence=False, locked=True)
    centre.known.numbers["other"] = list(ALL)
    assert centre.shown() == ALL[0]
    assert centre.shown(workspace="other") == ALL[0]


def test_a_locked_number_is_one_agents_until_his_call_ends(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, numbers=(SAN_FRANCISCO, NEW_YORK), locked=True)
    first = centre.calls(agent="alice")
    assert centre.shown(agent="bob") == NEW_YORK
    assert centre.calls(agent="carol") == "caller_id:no-number"
    centre.ends(first)
    assert centre.shown(agent="carol") == SAN_FRANCISCO


def test_an_agent_may_have_two_calls_on_his_own_number(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, numbers=(SAN_FRANCISCO,), locked=True)
    assert [centre.shown(agent="alice") for _ in range(2)] == [SAN_FRANCISCO] * 2
    assert centre.shown(agent="bob") == "caller_id:no-number"


def test_without_a_lock_agents_share_a_number(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, numbers=(SAN_FRANCISCO,))
    assert [centre.shown(agent=agent) for agent in ("alice", "bob")] == [SAN_FRANCISCO] * 2


def test_a_call_keeps_its_number_when_it_is_asked_about_again(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, locked=True)
    call = centre.calls()
    assert isinstance(call, Call)
    routed = replace(call, to="+12125550101")
    assert isinstance(centre.plugin.validate_call(routed), Remark)
    assert centre.plugin.choose_caller_id(routed) == SAN_FRANCISCO


def test_the_lock_is_evidence(tmp_path: Path) -> None:
    plugin = make_centre(tmp_path, locked=True).plugin
    call = Call("call_1", "ws", "alice", ANSWERS, "", "c")
    assert plugin.validate_call(call) == Remark("+14155550199 is held for this call: the same area code")


def test_a_refused_call_holds_nothing(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, numbers=(SAN_FRANCISCO,), locked=True)
    call = Call("call_1", "ws", "alice", ANSWERS, "", "c")
    centre.plugin.validate_call(call)
    centre.plugin.call_started(replace(call, status="rejected"))
    assert centre.shown(agent="bob") == SAN_FRANCISCO


def test_a_number_that_another_plugin_chose_instead_is_not_held(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, numbers=(SAN_FRANCISCO,), locked=True)
    call = Call("call_1", "ws", "alice", ANSWERS, NEW_YORK, "c")
    centre.plugin.validate_call(call)
    centre.plugin.call_started(call)
    assert centre.shown(agent="bob") == SAN_FRANCISCO


def test_a_lock_whose_end_was_never_told_is_freed_when_the_number_is_wanted(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, numbers=(SAN_FRANCISCO,), locked=True)
    centre.ends(centre.calls(), told=False)
    assert centre.shown(agent="bob") == "caller_id:no-number"  # it may be on its way into the store
    centre.known.now += pool.GRACE
    assert centre.shown(agent="bob") == SAN_FRANCISCO


def test_a_lock_ends_by_time_too(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, numbers=(SAN_FRANCISCO,), locked=True)
    centre.calls()
    centre.known.now += 7200 + 30 + pool.GRACE
    assert centre.shown(agent="bob") == SAN_FRANCISCO


def test_repeated_and_reordered_events_change_nothing(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, numbers=(SAN_FRANCISCO, NEW_YORK), locked=True)
    over = centre.ends(centre.calls())
    held = centre.calls(agent="bob")
    assert isinstance(held, Call)
    for tell in (centre.plugin.call_ended, centre.plugin.call_started, centre.plugin.call_ended):
        tell(over)
    centre.plugin.call_ended(replace(over, id="call_unknown"))
    other = centre.shown(agent="carol")
    assert {held.from_, other} == {SAN_FRANCISCO, NEW_YORK}


def test_threads_of_two_workers_never_share_a_locked_number(tmp_path: Path) -> None:
    known = Known({"ws": list(ALL)})
    hosts, held = [FixedHost(tmp_path, known) for _ in range(2)], []

    def choose(number: int) -> None:
        plugin = CallerId(locked=True, host=hosts[number % 2])
        call = Call(f"call_{number}", "ws", f"agent_{number}", ANSWERS, "", f"c{number}")
        if not isinstance(plugin.validate_call(call), Refusal):
            held.append(plugin.choose_caller_id(call))

    threads = [threading.Thread(target=choose, args=(number,)) for number in range(12)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(map(str, held)) == sorted(ALL)


def test_a_customer_sees_his_number_again_for_as_long_as_wished(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, local_presence=False, sticky_days=2)
    first = centre.shown("+15005550001")
    assert centre.shown("+15005550002") != first
    assert centre.shown("+15005550001") == first
    centre.known.now += 2 * 86_400
    centre.shown("+15005550003")
    assert centre.shown("+15005550001") != first


def test_a_customers_number_that_is_locked_is_not_waited_for(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, numbers=(SAN_FRANCISCO, NEW_YORK), locked=True, sticky_days=2)
    centre.calls(agent="alice")
    assert centre.shown(agent="bob") == NEW_YORK


def test_a_number_rests_while_another_is_there(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, numbers=(SAN_FRANCISCO, NEW_YORK), cooldown_seconds=60)
    first = centre.calls()
    centre.known.now += 100
    second = centre.calls()
    assert isinstance(second, Call)
    assert second.from_ == NEW_YORK  # the near one is in use
    centre.ends(second)
    centre.ends(first)
    assert centre.shown() == SAN_FRANCISCO  # both rest: the near one


def test_rest_begins_with_the_end_of_the_call_and_ends(tmp_path: Path) -> None:
    centre = make_centre(tmp_path, numbers=(SAN_FRANCISCO, NEW_YORK), cooldown_seconds=60)
    first = centre.calls()
    centre.known.now += 100
    over = centre.ends(first)
    second = centre.calls()
    assert isinstance(second, Call)
    assert second.from_ == NEW_YORK
    centre.known.now += 61
    centre.plugin.call_ended(over)  # told again: it does not rest anew
    assert centre.shown() == SAN_FRANCISCO


@settings(max_examples=25)
@given(steps=st.lists(st.tuples(st.sampled_from(["call", "end", "untold", "again"]), st.integers(0, 7)), max_size=40))
def test_a_locked_number_is_never_two_agents(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, int]]
) -> None:
    centre = make_centre(tmp_path_factory.mktemp("pool"), numbers=ALL[:3], locked=True, sticky_days=1)
    for step, number in steps:
        centre.known.now += 7 * number
        running = centre.plugin.host.open_calls("ws")
        if step == "call":
            centre.calls(f"+1415555010{number}", f"agent_{number}")
        elif running and step != "again":
            centre.ends(running[number % len(running)], told=step == "end")
        elif centre.known.calls and (one := centre.known.calls[number % len(centre.known.calls)]).over:
            centre.plugin.call_ended(one)
        held = {(call.from_, call.agent) for call in centre.plugin.host.open_calls("ws")}
        assert len({shown for shown, _ in held}) == len(held)


@given(st.sampled_from(ALL), st.text(max_size=20) | st.from_regex(r"\+[1-9][0-9]{6,14}", fullmatch=True))
def test_every_pair_has_a_distance(number: str, customer: str) -> None:
    assert 0 <= distance(number, customer) < len(DISTANCES)
    assert distance(number, number) == 0


def test_the_table_of_states_agrees_with_the_geocoder() -> None:
    names = {"CA": "California", "NY": "New York", "TX": "Texas", "ON": "Ontario", "WA": "Washington"}
    asked = 0
    for area, state in STATES.items():
        number = phonenumbers.parse(f"+1{area}2000000")
        found = geocoder.description_for_valid_number(number, "en") if state in names else ""
        if found:
            asked += 1
            assert found.startswith(names[state]) or found.endswith(f", {state}"), (area, state, found)
    assert asked > 100
    assert place_of("+18095550101").state == ""  # the Dominican Republic has +1 too


@pytest.mark.parametrize("number", ["4155550199", "+1 415 555 0199", ""])
def test_a_number_that_is_not_e164_is_refused(number: str) -> None:
    with pytest.raises(ValueError, match=r"numbers '.*' is not a number in E\.164"):
        CallerId(numbers=(number,))


def own(stage: Any, *numbers: str) -> None:
    with stage.world.dialer.store.write() as tx:
        for number in numbers:
            for workspace in stage.world.workspaces:
                tx.run("add_number", workspace=workspace, number=number, created_at=0.0)
    for number in numbers:
        stage.world.network.add_number(stage.world.account_sid, number)


def test_the_customer_sees_the_number_of_his_own_town(make_stage: Any) -> None:
    stage = make_stage(plugins=[CallerId()])
    own(stage, NEW_YORK, SEATTLE)
    agent = stage.agent_dials("+12125550101")
    assert agent.call.from_ == NEW_YORK
    agent.hangs_up()
    stage.ends()


def test_two_agents_on_one_locked_number_never_meet(make_stage: Any) -> None:
    stage = make_stage(plugins=[CallerId(locked=True)])
    first_agent, second_agent = stage.world.agents
    first = stage.agent_dials(ANSWERS, first_agent)
    stage.phone().answers()
    second = stage.agent_dials(ANSWERS, second_agent)
    assert second.call.rule == "caller_id:no-number"
    assert second.heard == ["All numbers to call from are in use. Please try again in a moment."]
    first.hangs_up()
    stage.lasts(5)
    third = stage.agent_dials(ANSWERS, second_agent)
    assert third.call.from_ == "+14155550199"
    third.hangs_up()
    stage.ends()


def test_the_readme_shows_every_setting() -> None:
    readme = (Path(__file__).parent.parent.parent / "plugins" / "caller_id" / "README.md").read_text()
    for name, (_, setting, _) in settings_of(CallerId).items():
        assert f"| `{name}` |" in readme
        assert setting.meaning
    assert "`caller_id:no-number`" in readme
