"""Plugins that differ for a workspace: switched off there, or with settings of its own."""

import sys
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from types import ModuleType
from typing import Annotated, Any

import pytest

from dialer import Host
from dialer.calls import Call, changed
from dialer.config import check as check_settings
from dialer.config import load
from dialer.errors import ConfigError, PluginError
from dialer.hookspecs import Refusal, hookimpl
from dialer.plugins import FixedPlugins, Plugins, PluginSet, check
from dialer.settings import Settings
from dialer.tables import Setting

ACME = Call("call_1", "acme", "alice", "+14155550101", "+14155550199", "ws-1")
OTHER = changed(ACME, workspace="other")


@dataclass(frozen=True, eq=False)
class Judge:
    """Refuses all."""

    word: str
    times: Annotated[int, Setting("how often", numbers=(1, 9))] = 1
    host: Host = field(default_factory=Host)

    def __post_init__(self) -> None:
        if self.word == "bad":
            raise ValueError("word must not be bad")

    @hookimpl
    def validate_call(self, call: Call) -> Refusal:
        return Refusal(f"{self.word} " * self.times)

    @hookimpl
    def call_ended(self, call: Call) -> None:
        if self.word == "down":
            raise OSError("down")


class Plain:
    @hookimpl
    def name_conference(self, call: Call) -> str:
        return "plain"


Configure = Callable[..., Settings]
BASE = '[plugins]\nenabled = ["judge", "plain"]\n[plugins.judge]\nword = "no"\ntimes = 2\n'


@pytest.fixture
def configure(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Configure:
    """Settings from the text of a dialer.toml, with the plugins judge, plain and spare installed."""
    folder, module = tmp_path / "site" / "three-1.dist-info", ModuleType("three_plugins")
    folder.mkdir(parents=True)
    (folder / "METADATA").write_text("Metadata-Version: 2.1\nName: three\nVersion: 1\n")
    lines = []
    for name, plugin in {"judge": Judge, "plain": Plain, "spare": Plain}.items():
        setattr(module, name, plugin)
        lines.append(f"{name} = three_plugins:{name}\n")
    (folder / "entry_points.txt").write_text("[dialer.plugins]\n" + "".join(lines))
    monkeypatch.setitem(sys.modules, "three_plugins", module)
    monkeypatch.syspath_prepend(tmp_path / "site")

    def settings(text: str, **environ: str) -> Settings:
        path = tmp_path / "instance" / "dialer.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(BASE + text)
        return load(environ, cwd=tmp_path)

    return settings


def said(plugins: PluginSet, call: Call) -> str:
    answers, _ = plugins.gather("validate_call", call)
    return answers[0][1].reason.strip() if answers else ""


def test_a_workspace_may_switch_a_plugin_off(configure: Configure) -> None:
    plugins = PluginSet.build(configure('[workspaces.acme.plugins]\ndisabled = ["judge"]\n'))
    assert (said(plugins, ACME), said(plugins, OTHER)) == ("", "no no")
    assert plugins.ask("name_conference", ACME)[0] == "plain"
    assert (plugins.tells("call_ended", "acme"), plugins.tells("call_ended", "other")) == ([], ["judge"])
    assert plugins.in_workspace("acme").label == "plain 1"
    with pytest.raises(PluginError, match=r"plugin judge is not on \(on: plain\)"):
        plugins.tell("judge", "call_ended", ACME)
    plugins.tell("judge", "call_ended", OTHER)


def test_a_workspace_may_change_settings_and_keeps_the_others(configure: Configure) -> None:
    plugins = PluginSet.build(configure('[workspaces.acme.plugins.judge]\nword = "never"\n'))
    assert (said(plugins, ACME), said(plugins, OTHER)) == ("never never", "no no")


def test_deliveries_go_to_the_workspaces_own_instance(configure: Configure) -> None:
    plugins = PluginSet.build(configure('[workspaces.acme.plugins.judge]\nword = "down"\n'))
    with pytest.raises(PluginError, match="down"):
        plugins.tell("judge", "call_ended", ACME)
    plugins.tell("judge", "call_ended", OTHER)


@pytest.mark.parametrize(
    ("text", "fault"),
    [
        (
            '[workspaces.acme.plugins]\ndisabled = ["juge"]\n',
            "[workspaces.acme.plugins].disabled: juge: there is no such plugin; did you mean judge? (pl",
        ),
        ('[workspaces.acme.plugins]\ndisabled = "judge"\n', "[workspaces.acme.plugins].disabled: must be a list, each"),
        ('[workspaces.acme.plugins]\non = ["judge"]\n', "[workspaces.acme.plugins].on: there is no such setting"),
        (
            "[workspaces.acme.plugins.juge]\n",
            "[workspaces.acme.plugins.juge]: there is no such plugin; did you mean judge?",
        ),
        (
            "[workspaces.acme.plugins.judge]\ntimes = 10\n",
            "[workspaces.acme.plugins.judge].times: must be 1 to 9, not 10",
        ),
        (
            '[workspaces.acme.plugins.judge]\nword = "bad"\n',
            "[workspaces.acme.plugins.judge].word: must not be bad",
        ),
        (
            "[workspaces.acme.plugins.judge]\nwords = 1\n",
            "[workspaces.acme.plugins.judge].words: there is no such setting; did you mean word? (settings: ",
        ),
        ("[workspaces.acme.plugins.plain]\na = 1\n", "[workspaces.acme.plugins.plain].a: plain has no settings"),
        ("[workspaces.acme]\nplugins = 3\n", "[workspaces.acme.plugins]: must be a table"),
    ],
)
def test_each_fault_names_file_section_key_and_choices(
    configure: Configure, tmp_path: Path, text: str, fault: str
) -> None:
    try:
        found = check(configure(text))
    except ConfigError:
        found = check_settings({}, cwd=tmp_path)
    (line,) = found
    assert line.startswith(f"{tmp_path}/instance/dialer.toml: {fault}")


def test_a_plugin_that_is_off_may_be_named_so_that_it_can_be_switched_off_at_once(configure: Configure) -> None:
    assert check(configure('[workspaces.acme.plugins]\ndisabled = ["spare"]\n[workspaces.acme.plugins.spare]\n')) == []


def test_a_workspaces_change_works_at_once(configure: Configure) -> None:
    settings = configure('[workspaces.acme.plugins]\ndisabled = ["judge"]\n')
    plugins = Plugins(settings)
    assert said(plugins.current(), ACME) == ""
    settings.source.file.write_text(f'{BASE}[workspaces.acme.plugins.judge]\nword = "never"\n')
    assert said(plugins.current(), ACME) == "never never"


def test_without_plugins_workspaces_are_not_even_looked_at(configure: Configure) -> None:
    settings = configure('[workspaces.acme.plugins]\ndisabled = ["judge"]\n', DIALER_PLUGINS="")
    assert (PluginSet.build(settings).names, check(settings)) == ((), [])
    assert settings.plugins_in_file.enabled == ("judge", "plain")


def test_dialer_plugins_takes_the_place_of_the_list(configure: Configure) -> None:
    settings = configure("", DIALER_PLUGINS=" plain , judge,")
    assert PluginSet.build(settings).names == ("plain", "judge")
    with pytest.raises(ConfigError, match="plain is listed more than once"):
        configure("", DIALER_PLUGINS="plain,plain")


def test_a_plugins_instances_share_what_it_is_lent(configure: Configure) -> None:
    plugins = PluginSet.build(configure('[workspaces.acme.plugins.judge]\nword = "never"\n'))
    hosts: set[Any] = {one.instance("judge").host for one in (plugins, plugins.in_workspace("acme"))}  # type: ignore[attr-defined]
    assert len(hosts) == 1


def test_a_plugin_asks_for_itself_as_a_workspace_has_it(configure: Configure, make_stage: Any) -> None:
    plugins = PluginSet.build(configure('[workspaces.acme.plugins.judge]\nword = "never"\n'))
    world = make_stage().world
    world.dialer = world.dialer.__class__(world.dialer.settings, world.dialer.store, FixedPlugins(plugins))
    world.dialer.plugins.attach(world.dialer)
    host = plugins.instance("judge").host  # type: ignore[attr-defined]
    assert (host.plugin("acme").word, host.plugin("other").word) == ("never", "no")
