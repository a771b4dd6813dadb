"""voicemail: machines are noted, cut off or spoken to, people never, and nobody waits for the verdict."""

import json
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

from dialer import Call, CallEvent, Host
from dialer.hookspecs import answer_fault
from dialer.tables import Source, read, settings_of
from dialer_plugins.voicemail import LISTENING, MACHINES, STALE, Voicemail

ANSWERS, MACHINE = "+14155550101", "+14155550105"
NOW = 1_790_000_000.0
CALL = Call("call_1", "ws", "alice", MACHINE, "+14155550199", "ws-1", status="in-progress")


@dataclass
class FixedHost(Host):
    """A host without a Dialer that writes down what it is asked for."""

    now: float = NOW
    somebody: bool = True
    done: list[tuple[str, ...]] = field(default_factory=list)
    noted: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __post_init__(self) -> None:
        super().__init__("voicemail", clock=lambda: self.now)

    def hang_up(self, call: Call, reason: str) -> None:
        self.done.append(("hang_up", reason))

    def leave_message(self, call: Call, *, say: str = "", play: str = "") -> bool:
        self.done.append(("leave_message", say, play))
        return self.somebody

    def add_event(self, call: Call, name: str, detail: Any, key: str = "") -> bool:
        self.noted.append((name, dict(detail)))
        return True


def heard(answered_by: str, name: str = "machine-detection", at: float = NOW) -> CallEvent:
    return CallEvent(name, at, call_sid="CA1", role="customer", status=answered_by)


def tell(answered_by: str, host: FixedHost | None = None, call: Call = CALL, **wish: Any) -> FixedHost:
    host = host or FixedHost()
    Voicemail(**wish, host=host).call_status(call, heard(answered_by))
    return host


@pytest.mark.parametrize("action", ["mark", "hang_up", "leave_message"])
@pytest.mark.parametrize("answered_by", ["human", "unknown", "", "something-new"])
def test_people_and_doubtful_cases_are_left_alone(action: Any, answered_by: str) -> None:
    host = tell(answered_by, action=action, say="Hello.", fax="hang_up")
    assert (host.done, host.noted) == ([], [])


@pytest.mark.parametrize("answered_by", MACHINES)
def test_a_machine_is_noted_cut_off_or_spoken_to(answered_by: str) -> None:
    assert tell(answered_by).noted == [("machine", {"answered_by": answered_by, "done": "marked"})]
    assert tell(answered_by, action="hang_up").done == [("hang_up", "A machine answered.")]
    spoken = tell(answered_by, action="leave_message", say="Hello.").done
    assert spoken == ([("leave_message", "Hello.", "")] if answered_by in LISTENING else [])


def test_a_sound_can_be_the_message() -> None:
    host = tell("machine_end_beep", action="leave_message", play="https://x.example/a.mp3")
    assert host.done == [("leave_message", "", "https://x.example/a.mp3")]


@pytest.mark.parametrize(("fax", "done"), [("mark", []), ("hang_up", [("hang_up", "A fax machine answered.")])])
def test_a_fax_is_hung_up_where_that_is_wanted_and_never_spoken_to(fax: Any, done: list[Any]) -> None:
    host = tell("fax", fax=fax, action="leave_message", say="Hello.")
    assert (host.done, host.noted[0][0]) == (done, "fax")


def test_other_news_of_a_leg_is_nothing() -> None:
    host = FixedHost()
    Voicemail(action="hang_up", host=host).call_status(CALL, heard("machine_start", "leg-in-progress"))
    assert (host.done, host.noted) == ([], [])


def test_what_comes_too_late_is_only_noted() -> None:
    ended, late, gone = FixedHost(), FixedHost(now=NOW + STALE + 1), FixedHost(somebody=False)
    tell("machine_start", ended, replace(CALL, status="completed"), action="hang_up")
    tell("machine_start", late, action="hang_up")
    tell("machine_end_beep", gone, action="leave_message", say="Hello.")
    assert (ended.done, late.done) == ([], [])
    assert [host.noted[0][1]["done"].partition(":")[0] for host in (ended, late, gone)] == ["nothing"] * 3


@pytest.mark.parametrize(
    ("table", "fault"),
    [
        ({"action": "shout"}, 'action: must be "mark" or "hang_up" or "leave_message"'),
        ({"fax": "send"}, 'fax: must be "mark" or "hang_up"'),
        ({"seconds": 2}, "seconds: must be 3 to 59, not 2"),
    ],
)
def test_wrong_settings_are_refused_by_name(tmp_path: Path, table: dict[str, Any], fault: str) -> None:
    _, faults = read(Voicemail, table, Source(tmp_path / "dialer.toml"), "plugins.voicemail")
    assert len(faults) == 1
    assert fault in faults[0].replace("[plugins.voicemail].", "")


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"action": "leave_message"}, "give either say or play"),
        ({"action": "leave_message", "say": "a", "play": "https://x.example/a.mp3"}, "give either say or play"),
        ({"play": "http://x.example/a.mp3"}, "play must be the URL"),
        ({"say": "x" * 1001}, "say has 1001 characters"),
    ],
)
def test_settings_that_do_not_fit_together_are_refused(wrong: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        Voicemail(**wrong)


@pytest.mark.parametrize(
    ("action", "mode"), [("mark", "Enable"), ("hang_up", "Enable"), ("leave_message", "DetectMessageEnd")]
)
def test_the_greeting_is_heard_to_its_end_only_for_a_message(action: Any, mode: str) -> None:
    options = Voicemail(action=action, say="Hello.").dial_options(CALL)
    assert options == {"machine_detection": mode, "machine_detection_timeout": "30"}
    assert answer_fault("dial_options", options) == ""


# Stories


def machine_events(talker: Any) -> list[dict[str, str]]:
    rows = [row for row in talker.rows("events_of_call", after=0) if row["name"] == "voicemail.machine"]
    return [json.loads(row["payload"]) for row in rows]


def test_a_machine_hears_the_message_once_and_the_agent_is_let_go(make_stage: Any) -> None:
    plugin = Voicemail(action="leave_message", say="Please call us back.")
    stage = make_stage(plugins=(plugin,), faults={"webhook_repeated": 0.9})
    talker = stage.agent_dials(MACHINE)
    stage.lasts(40)
    stage.ends()
    (machine,) = stage.dialled()
    assert stage.heard(machine) == ["Please call us back."]
    assert machine_events(talker) == [{"answered_by": "machine_end_beep", "done": "message left"}]
    assert (talker.call.status, talker.events().count("message-left")) == ("completed", 1)


def test_the_bridge_does_not_wait_for_the_verdict(make_stage: Any) -> None:
    stage = make_stage(plugins=(Voicemail(),))
    talker = stage.agent_dials(MACHINE)
    stage.lasts(20)
    events = talker.events()
    joined = [place for place, name in enumerate(events) if name == "participant-join"]
    assert joined[-1] < events.index("machine-detection") < events.index("voicemail.machine")
    assert talker.leg.end_time is None
    talker.hangs_up()
    stage.ends()


def test_a_call_to_a_machine_is_ended_by_the_plugin(make_stage: Any) -> None:
    stage = make_stage(plugins=(Voicemail(action="hang_up"),))
    talker = stage.agent_dials(MACHINE)
    stage.lasts(20)
    stage.ends()
    assert (talker.call.status, talker.call.ended_by) == ("completed", "plugin:voicemail")
    assert machine_events(talker) == [{"answered_by": "machine_start", "done": "hung up"}]


def test_a_person_talks_on(make_stage: Any) -> None:
    stage = make_stage(plugins=(Voicemail(action="hang_up", fax="hang_up"),))
    talker = stage.agent_dials(ANSWERS)
    stage.lasts(20)
    assert (talker.call.status, talker.leg.end_time, machine_events(talker)) == ("in-progress", None, [])
    talker.hangs_up()
    stage.ends()


@pytest.mark.parametrize("seed", range(3))
def test_nobody_is_spoken_to_twice_or_left_alone_whatever_is_lost(make_stage: Any, seed: int) -> None:
    faults = dict.fromkeys(("webhook_lost", "webhook_late", "webhook_repeated", "webhook_reordered"), 0.1)
    stage = make_stage(plugins=(Voicemail(action="leave_message", say="Hello."),), faults=faults, seed=seed)
    talkers = [stage.agent_dials(MACHINE) for _ in range(8)]
    stage.lasts(60)
    for talker in talkers:
        if talker.leg.end_time is None:  # the verdict was lost: he listens to a machine
            talker.hangs_up()
    stage.ends()
    assert all(len(stage.heard(leg)) <= 1 for leg in stage.dialled())


def test_the_readme_shows_every_setting() -> None:
    readme = (Path(__file__).parent.parent.parent / "plugins" / "voicemail" / "README.md").read_text()
    for name, (_, setting, _) in settings_of(Voicemail).items():
        assert f"| `{name}` |" in readme
        assert setting.meaning
