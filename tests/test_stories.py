"""Whole calls, told as stories: the shipped application over the simulated network, in virtual time."""

from __future__ import annotations

from dataclasses import dataclass, field, replace
from itertools import pairwise
from typing import Any

import pytest

from dialer.calls import Call
from dialer.hookspecs import CallEvent, Refusal, Route, hookimpl
from dialer.settings import Calls
from dialer.simulator import AgentPlan
from dialer.simulator.world import CALLER_ID

NEVER, SLOW = "+14155550103", "+14155550108"


def test_a_call_is_answered_talked_and_hung_up_by_the_agent(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    stage.phone().answers()
    assert talker.call.status == "in-progress"
    stage.lasts(5)
    talker.hangs_up()
    stage.ends()
    assert (talker.call.status, talker.call.ended_by, len(stage.dialled())) == ("completed", "agent", 1)
    assert talker.call.settled


def test_the_customer_hangs_up_and_the_agent_is_not_left_in_the_conference(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    stage.phone().answers()
    stage.lasts(2)
    stage.phone().hangs_up()
    stage.ends()
    assert (talker.call.status, talker.call.ended_by) == ("completed", "customer")


def test_the_agent_is_in_the_conference_before_the_customer_is_dialled(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    stage.ends()
    names = talker.events()
    assert names.index("participant-join") < names.index("dial-sending") < names.index("dial-accepted")


@pytest.mark.parametrize(
    ("number", "status", "sentence"),
    [
        ("+14155550102", "busy", "The number is busy."),
        (NEVER, "no-answer", "Nobody answered."),
        ("+14155550104", "failed", "The number could not be reached."),
        ("+14155550107", "failed", "That is not a valid phone number."),
        ("+14155550111", "failed", "Calls to that country are not allowed."),
        ("+14155550114", "failed", "The number could not be reached."),
    ],
)
def test_an_agent_who_reaches_nobody_hears_why_and_is_let_go(
    stage: Any, number: str, status: str, sentence: str
) -> None:
    talker = stage.agent_dials(number)
    stage.ends()
    assert (talker.call.status, talker.heard) == (status, [sentence])


@pytest.mark.parametrize("number", ["+14155550105", "+14155550106", "+14155550109", "+14155550112"])
def test_whoever_answers_and_hangs_up_completes_the_call(stage: Any, number: str) -> None:
    talker = stage.agent_dials(number)
    stage.ends()
    assert (talker.call.status, talker.call.ended_by) == ("completed", "customer")


def test_a_carrier_that_never_reports_ringing_is_followed_all_the_same(stage: Any) -> None:
    talker = stage.agent_dials("+14155550113", plan=AgentPlan(hang_up_after_bridged=2))
    stage.ends()
    assert talker.call.status == "completed"
    assert "leg-ringing" not in talker.events()


def test_a_tab_closed_while_it_rings_stops_the_ringing(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    stage.lasts(3)
    talker.hangs_up()
    stage.ends()
    assert (talker.call.status, talker.call.ended_by) == ("canceled", "agent")


def test_a_customer_who_answers_as_the_agent_leaves_hears_an_apology(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    stage.lasts(3)
    stage.world.network.hang_up(talker.leg.sid)
    stage.world.network.pick_up(stage.phone().leg.sid)
    stage.ends()
    customer = stage.dialled()[0]
    assert stage.heard(customer) in (["Sorry, nobody is available to talk to you now. Goodbye."], [])
    assert not any(
        e.kind == "conference-enter" and e.call_sid == customer.sid for e in stage.world.network.log
    )


def test_an_agent_who_leaves_before_the_dial_has_nobody_dialled(make_stage: Any) -> None:
    stage = make_stage()
    leg = stage.world.dial(stage.world.agents[0], NEVER, AgentPlan(hang_up_after=0.01))
    stage.ends()
    assert stage.dialled() == []
    assert leg.end_time is not None


def test_a_repeated_request_gets_the_same_bytes_and_no_second_dial(make_stage: Any) -> None:
    stage = make_stage(faults={"webhook_repeated": 1.0})
    talker = stage.agent_dials(NEVER)
    stage.phone().answers()
    stage.lasts(3)
    talker.hangs_up()
    stage.ends()
    assert len(stage.dialled()) == 1
    assert talker.events().count("call-started") == 1


def test_dialling_when_requested_does_not_wait_for_the_agent(make_stage: Any) -> None:
    stage = make_stage(calls=Calls(dial_when="requested"))
    talker = stage.agent_dials(NEVER, plan=AgentPlan(hang_up_after=4))
    names = talker.events()
    assert names.index("dial-sending") < names.index("participant-join")
    stage.ends()


def test_lost_callbacks_are_made_good_by_asking(make_stage: Any) -> None:
    stage = make_stage(faults={"webhook_lost": 1.0})
    talker = stage.agent_dials("+14155550106")
    stage.world.settle()
    assert (talker.call.status, len(stage.dialled())) == ("completed", 1)
    assert {row["source"] for row in talker.rows("events_of_call", after=0)} >= {"reconcile"}


def test_a_dial_without_an_answer_is_found_by_its_callbacks_and_never_sent_again(make_stage: Any) -> None:
    stage = make_stage(faults={"rest_timeout_done": 1.0})
    talker = stage.agent_dials(NEVER)
    stage.phone().answers()
    assert (talker.call.status, talker.call.dial, len(stage.dialled())) == ("in-progress", "accepted", 1)
    talker.hangs_up()
    stage.world.settle()
    assert len(stage.dialled()) == 1


def test_a_dial_that_made_nothing_ends_as_not_placed(make_stage: Any) -> None:
    stage = make_stage(faults={"rest_500_undone": 1.0})
    talker = stage.agent_dials(NEVER)
    stage.world.network.faults = type(stage.world.network.faults)()
    stage.ends()
    assert (talker.call.status, talker.call.rule, stage.dialled()) == ("failed", "not-placed", [])
    assert talker.heard == ["The call was not placed. You may dial again."]


def test_a_busy_twilio_is_asked_again_because_it_made_nothing(make_stage: Any) -> None:
    stage = make_stage(faults={"rest_429": 1.0})
    talker = stage.agent_dials("+14155550106")
    assert stage.dialled() == []
    stage.world.network.faults = type(stage.world.network.faults)()
    stage.ends()
    assert (talker.call.status, len(stage.dialled())) == ("completed", 1)


def test_dials_are_paced_to_the_accounts_calls_per_second(make_stage: Any) -> None:
    stage = make_stage(pace=1.0, agents_each=3)
    for agent in stage.world.agents:
        stage.world.dial(agent, "+14155550106")
    stage.ends()
    starts = sorted(leg.date_created for leg in stage.dialled())
    assert len(starts) == 3
    assert all(later - earlier >= 1.0 for earlier, later in pairwise(starts))


@pytest.mark.parametrize("final", ["canceled", "completed", "no-answer"])
@pytest.mark.parametrize("ended", ["ok", "21220"])
def test_whatever_twilio_calls_the_end_of_a_ringing_leg_the_call_ends(make_stage: Any, final: str, ended: str) -> None:
    stage = make_stage(knobs={"completed_on_ringing_final": final, "completed_on_ended": ended})
    talker = stage.agent_dials(NEVER)
    stage.lasts(2)
    talker.hangs_up()
    stage.ends()
    assert talker.call.settled


@pytest.mark.parametrize("events", ["drop-invalid", "drop-all", "refuse"])
def test_our_event_names_are_valid_in_every_reading_of_them(make_stage: Any, events: str) -> None:
    stage = make_stage(knobs={"invalid_events": events})
    talker = stage.agent_dials("+14155550106")
    stage.ends()
    assert {"leg-initiated", "leg-ringing", "leg-completed"} <= set(talker.events())


@pytest.mark.parametrize("from_param", ["identity", "custom"])
def test_a_caller_id_wished_for_in_from_is_used_if_twilio_lets_it_through(make_stage: Any, from_param: str) -> None:
    stage = make_stage(knobs={"from_param": from_param})
    talker = stage.agent_dials("+14155550106", From="+14155550199")
    stage.ends()
    assert (talker.call.status, stage.dialled()[0].from_) == ("completed", "+14155550199")


def test_the_published_names_and_twilios_safe_ones_both_work(stage: Any) -> None:
    talker = stage.agent_dials("", toNumber="+1 (415) 555-0106", callerId="+14155550199")
    stage.ends()
    assert (talker.call.to, talker.call.status) == ("+14155550106", "completed")


def test_nothing_but_twiml_that_twilio_knows_is_sent(stage: Any) -> None:
    stage.agent_dials("+14155550106")
    stage.agent_dials("+14155550102")
    stage.ends()
    assert [e.detail for e in stage.world.network.log if e.kind == "alert"] == []


REFUSALS = [
    ({"To": "12345"}, "not-e164"),
    ({"To": "client:bob"}, "not-e164"),
    ({"To": ""}, "no-number"),
    ({"workspaceId": "ws_other"}, "foreign-workspace"),
    ({"callerId": "+14155550198"}, "caller-id-not-owned"),
    ({"callerId": "nonsense"}, "caller-id-not-owned"),
]


@pytest.mark.parametrize(("params", "rule"), REFUSALS)
def test_a_refused_call_is_explained_stored_and_not_dialled(stage: Any, params: dict[str, str], rule: str) -> None:
    talker = stage.agent_dials(params.pop("To", "+14155550101"), **params)
    stage.ends()
    assert (talker.call.status, talker.call.rule, stage.dialled()) == ("rejected", rule, [])
    assert talker.heard == [talker.call.reason]
    assert talker.call.ended_by == "system"


def test_an_unknown_agent_is_told_so_and_stored(stage: Any) -> None:
    stranger = type(stage.world.agents[0])("nobody_we_know", "ws_demo")
    talker = stage.agent_dials("+14155550101", agent=stranger)
    stage.world.settle()
    assert (talker.call.status, talker.call.rule, stage.dialled()) == ("rejected", "unknown-agent", [])
    assert talker.heard == ["You are not set up to make calls. Please ask your administrator."]


def test_a_disabled_agent_is_unknown(stage: Any) -> None:
    with stage.world.dialer.store.write() as tx:
        tx.run("disable_agent", identity=stage.world.agents[0].identity, now=1.0)
    assert stage.agent_dials("+14155550101").call.rule == "unknown-agent"


@dataclass(frozen=True, eq=False)
class Careful:
    """Refuses one number, routes another, and chooses names."""

    wishes: list[str] = field(default_factory=list)

    @hookimpl
    def validate_call(self, call: Call) -> Refusal | None:
        return Refusal("Not that one.", "forbidden") if call.to == "+14155550102" else None

    @hookimpl
    def route_call(self, call: Call) -> Route | None:
        return Route({"+14155550104": "+14155550106", "+14155550105": "+14155550102"}.get(call.to, call.to), 11)

    @hookimpl
    def name_conference(self, call: Call) -> str | None:
        return f"room-{call.id[-6:]}"

    @hookimpl
    def choose_caller_id(self, call: Call) -> str | None:
        self.wishes.append(call.from_)
        return None

    @hookimpl
    def dial_options(self, call: Call) -> dict[str, str]:
        return {"call_reason": "You asked us to call"}

    @hookimpl
    def conference_options(self, call: Call) -> dict[str, str]:
        return {"beep": "onEnter"}


def test_a_plugins_refusal_names_the_plugin_and_its_rule(make_stage: Any) -> None:
    stage = make_stage(plugins=(Careful(),))
    talker = stage.agent_dials("+14155550102")
    stage.ends()
    assert (talker.call.rule, talker.call.ended_by, talker.heard) == (
        "careful:forbidden",
        "plugin:careful",
        ["Not that one."],
    )
    assert [row["answer"] for row in talker.rows("verdicts_of_call")] == ["refused (careful:forbidden): Not that one."]


@pytest.mark.parametrize(("wish", "told"), [("+1 (415) 555-0199", CALLER_ID), ("+14155550100", ""), ("", "")])
def test_a_plugin_hears_which_of_its_numbers_the_agent_wishes_for(make_stage: Any, wish: str, told: str) -> None:
    careful = Careful()
    stage = make_stage(plugins=(careful,))
    stage.agent_dials("+14155550104", callerId=wish)
    stage.ends()
    assert careful.wishes == [told]


def test_plugins_route_name_and_add_options(make_stage: Any) -> None:
    stage = make_stage(plugins=(Careful(),))
    talker = stage.agent_dials("+14155550104")
    stage.ends()
    assert (talker.call.to, talker.call.ring_seconds, talker.call.conference[:5]) == ("+14155550106", 11, "room-")
    assert stage.dialled()[0].timeout == 11
    (answered,) = talker.rows("answer_of_leg", call_sid=talker.leg.sid, account_sid=stage.world.account_sid)
    assert 'beep="onEnter"' in answered["twiml"]


def test_a_number_that_a_plugin_routes_to_is_validated_too(make_stage: Any) -> None:
    stage = make_stage(plugins=(Careful(),))
    talker = stage.agent_dials("+14155550105")
    stage.ends()
    assert (talker.call.rule, stage.dialled()) == ("careful:forbidden", [])


class Rigid:
    """Names every call alike, gives options of the dial request, and cannot check one number."""

    @hookimpl
    def validate_call(self, call: Call) -> Refusal | None:
        if call.to == "+14155550102":
            raise RuntimeError("no idea")
        return None

    @hookimpl
    def name_conference(self, call: Call) -> str | None:
        return "the-room"

    @hookimpl
    def dial_options(self, call: Call) -> dict[str, str]:
        return {"timeout": "17", "time_limit": "99"}


def test_two_calls_that_a_plugin_names_alike_are_not_joined(make_stage: Any) -> None:
    stage = make_stage(plugins=(Rigid(),))
    first, second = (stage.agent_dials("+14155550106") for _ in range(2))
    stage.ends()
    assert first.call.conference == "the-room" != second.call.conference
    assert (first.call.status, second.call.status) == ("completed", "completed")


def test_time_outs_that_a_plugin_sets_are_the_calls_own(make_stage: Any) -> None:
    stage = make_stage(plugins=(Rigid(),))
    call = stage.agent_dials("+14155550106").call
    assert (call.ring_seconds, call.time_limit, call.options) == (17, 99, {})
    assert (stage.dialled()[0].timeout, stage.dialled()[0].time_limit) == (17, 99)


def test_a_check_that_raises_refuses_in_the_name_of_its_plugin(make_stage: Any) -> None:
    stage = make_stage(plugins=(Rigid(),))
    call = stage.agent_dials("+14155550102").call
    assert (call.status, call.rule, call.ended_by) == ("rejected", "plugin-error:rigid", "plugin:rigid")


class Diary:
    """Writes down what it is told; fails the first time."""

    def __init__(self) -> None:
        self.told: list[str] = []
        self.failed = False

    @hookimpl
    def call_started(self, call: Call) -> None:
        self.told.append("started")

    @hookimpl
    def call_status(self, call: Call, event: CallEvent) -> None:
        self.told.append(f"{event.role} {event.status}")

    @hookimpl
    def conference_event(self, call: Call, event: CallEvent) -> None:
        self.told.append(event.name)

    @hookimpl
    def call_ended(self, call: Call) -> None:
        if not self.failed:
            self.failed = True
            raise RuntimeError("the CRM is down")
        self.told.append(f"ended {call.status}")


def test_plugins_are_told_of_everything_and_again_when_they_fail(make_stage: Any) -> None:
    diary = Diary()
    stage = make_stage(plugins=(diary,))
    talker = stage.agent_dials("+14155550106")
    stage.ends()
    stage.lasts(10)
    assert diary.told[0] == "started"
    assert diary.told.count("ended completed") == 1
    assert {"customer ringing", "participant-join", "conference-end"} <= set(diary.told)
    deliveries = [job for job in talker.rows("jobs_of_call") if job["kind"] == "deliver"]
    assert {job["status"] for job in deliveries} == {"done"}
    assert [job["attempts"] for job in deliveries if job["hook"] == "call_ended"] == [2]


class Watched:
    """The plugins of a world, which are not to be looked for while the store is held."""

    def __init__(self, world: Any) -> None:
        self.world = world
        self.plugins = world.dialer.plugins.current()

    def current(self) -> Any:
        assert not self.world.dialer.store._turn.locked()
        return self.plugins


def test_plugins_are_never_built_while_the_store_is_held(stage: Any) -> None:
    object.__setattr__(stage.world.dialer, "plugins", Watched(stage.world))
    for number in ("+14155550106", "+14155550102", "+14155550107", "12345"):
        stage.agent_dials(number)
    stage.ends()
    assert stage.dialled()


def test_a_call_stays_with_the_account_it_began_on(stage: Any) -> None:
    talker = stage.agent_dials(NEVER)
    stage.phone().answers()
    world = stage.world
    moved = replace(world.dialer.settings.accounts[0], sid="AC" + "9" * 32, workspace="ws_demo")
    settings = replace(world.dialer.settings, accounts=(*world.dialer.settings.accounts, moved))
    object.__setattr__(world.dialer, "settings", settings)
    stage.lasts(150)
    assert talker.call.status == "in-progress"
    talker.hangs_up()
    stage.ends()
    assert (talker.call.status, talker.call.ended_by) == ("completed", "agent")


@pytest.mark.parametrize("leaves_after", [1.0, 2.0, 5.0])
def test_a_leg_that_twilio_does_not_show_yet_is_hung_up_when_it_does(make_stage: Any, leaves_after: float) -> None:
    stage = make_stage(knobs={"listing_delay": 3.0})
    stage.world.dial(stage.world.agents[0], NEVER, AgentPlan(hang_up_after=leaves_after))
    stage.ends()


def test_a_customer_left_alone_is_found_when_every_callback_of_it_is_lost(make_stage: Any) -> None:
    stage = make_stage()
    talker = stage.agent_dials(NEVER)
    stage.phone().answers()
    stage.lasts(20)
    stage.world.network.faults = replace(stage.world.network.faults, webhook_lost=1.0)
    talker.hangs_up()
    stage.lasts(1)
    stage.world.network.faults = replace(stage.world.network.faults, webhook_lost=0.0)
    stage.world.network.injected["webhook_lost"] += 1
    stage.ends()  # within the ten seconds that the invariant grants


@pytest.mark.parametrize("seed", range(5))
def test_dialling_when_requested_leaves_nobody_alone_either(make_stage: Any, seed: int) -> None:
    stage = make_stage(calls=Calls(dial_when="requested"), seed=seed, faults={"webhook_answer_lost": 0.3})
    for leaves_after in (0.01, 0.1, 0.5, 2.0, 8.0):
        stage.world.dial(stage.world.agents[0], "+14155550101", AgentPlan(leaves_after + 1, leaves_after))
        stage.lasts(3)
    stage.ends()


def test_a_join_whose_answer_is_lost_is_asked_again_within_seconds(make_stage: Any) -> None:
    stage = make_stage()
    talker = stage.agent_dials(NEVER)
    stage.world.network.faults = replace(stage.world.network.faults, webhook_answer_lost=1.0)
    stage.phone().answers()
    stage.lasts(1)
    stage.world.network.faults = replace(stage.world.network.faults, webhook_answer_lost=0.0)
    stage.lasts(6)
    assert any(e.kind == "conference-enter" for e in stage.world.network.log if e.call_sid == stage.dialled()[0].sid)
    talker.hangs_up()
    stage.world.settle()


def test_two_workspaces_do_not_see_each_others_numbers(make_stage: Any) -> None:
    stage = make_stage(workspaces=("ws_demo", "ws_other"))
    with stage.world.dialer.store.write() as tx:
        tx.run("remove_number", workspace="ws_other", number="+14155550199")
        tx.run("add_number", workspace="ws_other", number="+14155550198", created_at=1.0)
    other = next(agent for agent in stage.world.agents if agent.workspace == "ws_other")
    talker = stage.agent_dials("+14155550106", agent=other, callerId="+14155550199")
    stage.ends()
    assert talker.call.rule == "caller-id-not-owned"


def test_an_agent_who_left_while_all_was_down_has_nobody_dialled(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    world = stage.world
    with monkeypatch.context() as down:
        down.setattr("dialer.jobs.Worker.claim", lambda self, plugin, limit: [])
        talker = stage.agent_dials(NEVER)
        assert talker.call.status == "agent-joined"
        world.network.faults = replace(world.network.faults, webhook_lost=1.0)
        talker.hangs_up()
        stage.lasts(60)
    world.worker.wake()
    stage.ends()
    assert (stage.dialled(), talker.call.status) == ([], "canceled")
