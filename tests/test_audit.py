"""What is different between two states of the plugins, one thing at a time, and no secret in it."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialer import audit
from dialer.audit import HIDDEN, PluginChange, _shown, differences, seen
from dialer.calls import Call
from dialer.config import load
from dialer.discovery import Plugin
from dialer.hookspecs import hookimpl
from dialer.plugins import PluginSet
from dialer.settings import Settings
from dialer.store.sqlite import SqliteStore
from dialer.tables import Secret


@dataclass(frozen=True)
class Crm:
    url: str = ""
    token: Secret | None = None
    tokens: tuple[Secret, ...] = ()
    tries: int = 1

    @hookimpl
    def call_ended(self, call: Call) -> None: ...


CRM = PluginSet([Plugin("crm", "1", Crm())])
LISTED = '[plugins]\nenabled = ["crm"]\n[plugins.crm]\n'


def settings(tmp_path: Path, text: str, **environ: str) -> Settings:
    path = tmp_path / "instance" / "dialer.toml"
    path.parent.mkdir(exist_ok=True)
    path.write_text(text)
    return load(environ, cwd=tmp_path)


def state(tmp_path: Path, text: str, plugins: PluginSet = CRM, **environ: str) -> dict[str, Any]:
    return seen(settings(tmp_path, text, **environ), plugins, "salt")


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        ("", LISTED, [PluginChange("crm", "enabled", "", "")]),
        ("", LISTED + 'url = "a"\ntries = 2\n', [PluginChange("crm", "enabled", "", 'url = "a", tries = 2')]),
        (LISTED, "", [PluginChange("crm", "disabled", "", "")]),
        (LISTED, LISTED + "tries = 2\n", [PluginChange("crm", "setting tries", "default", "2")]),
        (LISTED + "tries = 2\n", LISTED, [PluginChange("crm", "setting tries", "2", "default")]),
        (
            LISTED + 'token = "a"\ntokens = ["x"]\n',
            LISTED + 'token = "b"\ntokens = ["y"]\n',
            [PluginChange("crm", "setting token", "***", "***"), PluginChange("crm", "setting tokens", "***", "***")],
        ),
        (
            LISTED + 'token = "a"\n',
            LISTED + 'token = { env = "T" }\n',
            [PluginChange("crm", "setting token", "***", '{"env": "T"}')],
        ),
        (
            '[plugins]\nenabled = ["a", "b", "c"]\n',
            '[plugins]\nenabled = ["c", "a", "d"]\n',
            [
                PluginChange("d", "enabled", "", ""),
                PluginChange("b", "disabled", "", ""),
                PluginChange("", "order", "a, b, c", "c, a, d"),
            ],
        ),
        (
            LISTED,
            LISTED + '[workspaces.acme.plugins]\ndisabled = ["crm"]\n[workspaces.acme.plugins.crm]\ntries = 3\n',
            [
                PluginChange("crm", "disabled", "", "", "acme"),
                PluginChange("crm", "setting tries", "default", "3", "acme"),
            ],
        ),
        (LISTED, LISTED + '[plugins.other]\nsecret = "x"\n', []),
        (LISTED, LISTED + "# a comment\n", []),
    ],
)
def test_each_difference_is_told(tmp_path: Path, before: str, after: str, changes: list[PluginChange]) -> None:
    assert list(differences(state(tmp_path, before), state(tmp_path, after))) == changes


def test_the_environment_and_who_is_set_aside_are_told(tmp_path: Path) -> None:
    old, new = state(tmp_path, LISTED), state(tmp_path, LISTED, DIALER_PLUGINS="")
    assert list(differences(old, new)) == [PluginChange("", "DIALER_PLUGINS", "not set", "none")]
    aside = state(tmp_path, LISTED, PluginSet([], aside={"crm": "no network"}))
    assert list(differences(old, aside)) == [PluginChange("crm", "set aside", "", "no network")]
    assert list(differences(aside, old)) == [PluginChange("crm", "back", "no network", "")]


def test_the_text_of_a_plugin_that_nobody_knows_could_be_a_secret(tmp_path: Path) -> None:
    text = LISTED + 'token = "hush"\ntries = 2\n'
    assert "hush" not in str(state(tmp_path, text, PluginSet([], aside={"crm": "x"})))
    assert "hush" not in str(state(tmp_path, text))


@given(st.text(max_size=300))
def test_no_secret_is_ever_in_what_is_kept(tmp_path_factory: Any, secret: str) -> None:
    given_settings = settings(tmp_path_factory.mktemp("a"), LISTED)
    table = {"crm": {"token": f"<{secret}>"}}
    kept = seen(given_settings.__class__(**{**vars(given_settings), "plugin_tables": table}), CRM, "salt")
    assert f"<{secret}>" not in str(kept)


def test_settings_that_are_not_the_files_any_more_are_not_noted(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "a.db", durable=False)
    old = settings(tmp_path, LISTED)
    settings(tmp_path, LISTED + "tries = 2\n")
    audit.note_change(store, old, CRM, 1.0)
    with store.read() as tx:
        assert tx.all("plugin_changes", plugin="", workspace="", limit=9) == []
    audit.note_change(store, load({}, cwd=tmp_path), CRM, 2.0)
    audit.note_change(store, load({}, cwd=tmp_path), CRM, 3.0)
    with store.read() as tx:
        (row,) = tx.all("plugin_changes", plugin="", workspace="", limit=9)
    assert (row["at"], row["plugin"], row["what"], row["via"]) == (2.0, "crm", "enabled", "file")
    store.close()


def test_a_store_that_does_not_answer_keeps_no_plugin_from_working(
    stage: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    from dialer.store import StoreError

    def broken(*_: Any) -> None:
        raise StoreError("locked")

    monkeypatch.setattr(audit, "note_change", broken)
    audit.note(stage.world.dialer, settings(tmp_path, LISTED), CRM)
    assert "a change of plugins is not on record: locked" in caplog.text


def test_a_table_of_settings_is_no_reference_to_a_secret() -> None:
    nobody = PluginSet.of(())
    shown = [_shown(nobody, "recording", "s3", value, "salt")[1] for value in ({"secret_key": "TOP"}, {"env": "KEY"})]
    assert shown == [HIDDEN, '{"env": "KEY"}']
