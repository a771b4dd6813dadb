"""Settings: what the file and the environment give, and every fault in one line that says what to do."""

import dataclasses
import json
import logging
import re
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Annotated, Any, Literal

import pytest
from hypothesis import given
from hypothesis import strategies as st

from dialer.config import SECTIONS, check, load, mark, reload, write_first
from dialer.errors import ConfigError
from dialer.reference import configuration
from dialer.settings import PluginList, Settings, Workspace, WorkspacePlugins, WorkspaceTwilio
from dialer.tables import Secret, Setting, Source, kind, read, settings_of

ROOT = Path(__file__).parent.parent
SID, OTHER_SID = "AC" + "0" * 32, "AC" + "1" * 32
REAL = f"""
[server]
public_url = "https://calls.example.com"
[twilio]
account_sid = "{SID}"
auth_token = "token"
"""

Write = Callable[[str], Path]


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write dialer.toml for its owner only, and return the folder to start in."""

    def write_file(text: str) -> Path:
        path = tmp_path / "instance" / "dialer.toml"
        path.parent.mkdir(exist_ok=True)
        path.write_text(text)
        path.chmod(0o600)
        return tmp_path

    return write_file


def test_without_a_file_everything_has_its_default(tmp_path: Path) -> None:
    settings = load({}, cwd=tmp_path)
    assert (settings.calls.ring_seconds, settings.calls.dial_when, settings.calls.language) == (
        30,
        "agent-joined",
        "en-US",
    )
    assert settings.server.bind == "127.0.0.1:8000"
    assert settings.store.url == f"sqlite:///{tmp_path}/instance/dialer.db"
    assert settings.source.file == tmp_path / "instance" / "dialer.toml"
    assert (settings.accounts, settings.plugins.enabled, settings.simulated) == ((), (), False)
    assert not (tmp_path / "instance").exists()


def test_the_environment_wins_over_the_file(write: Write) -> None:
    cwd = write('server.bind = "127.0.0.1:1"\nstore.url = "sqlite:///a.db"\nplugins.enabled = ["a"]\n')
    environ = {
        "DIALER_BIND": "0.0.0.0:9000",
        "DIALER_STORE": "sqlite:///b.db",
        "DIALER_PUBLIC_URL": "https://calls.example.com/dialer/",
        "DIALER_PLUGINS": "b, c",
        "TWILIO_ACCOUNT_SID": SID,
        "TWILIO_AUTH_TOKEN": "token",
        "TWILIO_API_KEY": "SK" + "0" * 32,
        "TWILIO_API_SECRET": "secret",
        "TWILIO_APP_SID": "AP" + "0" * 32,
        "TWILIO_API_BASE": "http://127.0.0.1:8100/",
    }
    settings = load(environ, cwd=cwd)
    account = settings.account(SID)
    assert (settings.server.bind, settings.store.url) == ("0.0.0.0:9000", "sqlite:///b.db")
    assert settings.server.public_url == "https://calls.example.com/dialer"
    assert settings.plugins.enabled == ("b", "c")
    assert settings.twilio.api_base == "http://127.0.0.1:8100"
    assert account is not None
    assert account.reveal_tokens() == ("token",)
    assert account.api_secret == Secret("secret")
    assert (account.api_key, account.app_sid) == ("SK" + "0" * 32, "AP" + "0" * 32)


def test_an_empty_variable_is_none(write: Write) -> None:
    cwd = write('[server]\nbind = "127.0.0.1:1"\n')
    assert load({"DIALER_BIND": "", "TWILIO_AUTH_TOKEN": ""}, cwd=cwd).server.bind == "127.0.0.1:1"


def test_empty_dialer_plugins_turns_all_off(write: Write) -> None:
    cwd = write('[plugins]\nenabled = ["a"]\n')
    assert load({}, cwd=cwd).plugins.enabled == ("a",)
    assert load({"DIALER_PLUGINS": ""}, cwd=cwd).plugins.enabled == ()


def test_dialer_config_and_dialer_instance_name_the_places(tmp_path: Path) -> None:
    (tmp_path / "other.toml").write_text("[calls]\nring_seconds = 9\n")
    settings = load({"DIALER_CONFIG": "other.toml", "DIALER_INSTANCE": "data"}, cwd=tmp_path)
    assert settings.calls.ring_seconds == 9
    assert settings.store.url == f"sqlite:///{tmp_path}/data/dialer.db"


def test_the_first_run_writes_the_example_for_this_user_only_and_never_again(tmp_path: Path) -> None:
    path = write_first({}, cwd=tmp_path)
    assert path == tmp_path / "instance" / "dialer.toml"
    assert path.stat().st_mode & 0o777 == 0o600
    assert load({}, cwd=tmp_path).plugins.enabled == ("number_policy",)
    path.write_text("[plugins]\nenabled = []\n")
    assert write_first({}, cwd=tmp_path) is None
    assert load({}, cwd=tmp_path).plugins.enabled == ()


def test_no_first_file_is_written_where_a_file_is_named(tmp_path: Path) -> None:
    assert write_first({"DIALER_CONFIG": "own.toml"}, cwd=tmp_path) is None
    assert list(tmp_path.iterdir()) == []


def test_a_named_file_that_is_not_there_is_a_fault(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"typo\.toml: is not there; correct DIALER_CONFIG"):
        load({"DIALER_CONFIG": "typo.toml"}, cwd=tmp_path)


def test_settings_cannot_be_changed(tmp_path: Path) -> None:
    settings = load({}, cwd=tmp_path)
    with pytest.raises(dataclasses.FrozenInstanceError):
        settings.calls.ring_seconds = 5  # type: ignore[misc]
    with pytest.raises(TypeError):
        settings.workspaces["a"] = Workspace()  # type: ignore[index]


@pytest.mark.parametrize(
    ("text", "where", "fault"),
    [
        (
            "[call]\n",
            "[call]",
            "there is no such section; did you mean calls? (sections: calls, plugins, server,",
        ),
        ("calls = 1\n", "[calls]", "must be a table, written [calls]"),
        (
            "[calls]\nring_second = 9\n",
            "[calls].ring_second",
            "there is no such setting; did you mean ring_seconds?",
        ),
        ("[calls]\nring_seconds = 4\n", "[calls].ring_seconds", "must be 5 to 600, not 4"),
        ("[calls]\nring_seconds = 601\n", "[calls].ring_seconds", "must be 5 to 600, not 601"),
        ("[calls]\nring_seconds = true\n", "[calls].ring_seconds", "must be a whole number, not true"),
        ('[calls]\nring_seconds = "9"\n', "[calls].ring_seconds", 'must be a whole number, not "9"'),
        ("[calls]\nlanguage = 1\n", "[calls].language", "must be a text in quotes, not 1"),
        (
            '[calls]\nlanguage = "English"\n',
            "[calls].language",
            'must be a language such as en-US, not "English"',
        ),
        (
            '[calls]\ndial_when = "now"\n',
            "[calls].dial_when",
            'must be "agent-joined" or "requested", not "now"',
        ),
        (
            '[calls]\ndial_via = "participant"\n',
            "[calls].dial_via",
            '"participant" is planned and not there yet; use "call"',
        ),
        (
            '[calls]\ndial_via = "number"\n',
            "[calls].dial_via",
            '"number" is planned and not there yet; use "call"',
        ),
        ('[calls]\ndial_via = "sip"\n', "[calls].dial_via", 'must be "call", not "sip"'),
        (
            '[calls]\ndefault_region = "usa"\n',
            "[calls].default_region",
            'must be an ISO country such as US or GB, not "usa"',
        ),
        (
            '[calls]\nwait_url = "music.mp3"\n',
            "[calls].wait_url",
            "must be a URL such as https://calls.example.com",
        ),
        ('[server]\nlog = "xml"\n', "[server].log", 'must be "text" or "json", not "xml"'),
        (
            '[server]\nbind = "8000"\n',
            "[server].bind",
            'must be host:port such as 127.0.0.1:8000, not "8000"',
        ),
        (
            '[server]\nbind = "a:65536"\n',
            "[server].bind",
            'must be host:port such as 127.0.0.1:8000, not "a:65536"',
        ),
        ('[server]\npublic_url = "https://a:0"\n', "[server].public_url", "must be a URL such as https://"),
        (
            '[server]\npublic_url = "calls.example.com"\n',
            "[server].public_url",
            "must be a URL such as https://",
        ),
        (
            '[server]\npublic_url = "https://a_b.example.com"\n',
            "[server].public_url",
            "must be a URL whose host name has no _",
        ),
        (
            '[server]\npublic_url = "https://a.example/?b=1"\n',
            "[server].public_url",
            "must be a URL without a query",
        ),
        (
            '[store]\nurl = "mysql://a"\n',
            "[store].url",
            "must be sqlite:///path or postgresql://user@host/database",
        ),
        ("[twilio]\ncalls_per_second = nan\n", "[twilio].calls_per_second", "must be a number, not nan"),
        ("[twilio]\ncalls_per_second = 0\n", "[twilio].calls_per_second", "must be 0.1 to 1000, not 0.0"),
        ('[twilio]\napi_base = "http://api.example.com"\n', "[twilio].api_base", "must start with https://"),
        (
            REAL.replace("auth_token", "# auth_token"),
            "[twilio].auth_token",
            "missing; set it or TWILIO_AUTH_TOKEN",
        ),
        ('[twilio]\nauth_token = "a"\n', "[twilio].account_sid", "missing; set it or TWILIO_ACCOUNT_SID"),
        (
            f'[twilio]\naccount_sid = "{SID}0"\nauth_token = "a"\n',
            "[twilio].account_sid",
            "must be AC and 32 hex digits",
        ),
        (REAL + f'api_key = "SK{SID[2:]}"\n', "[twilio].api_secret", "missing; set it or TWILIO_API_SECRET"),
        (REAL + 'api_secret = "a"\n', "[twilio].api_key", "missing; set it or TWILIO_API_KEY"),
        (
            REAL.replace("calls.example.com", "localhost"),
            "[server].public_url",
            "https://localhost is this machine's own",
        ),
        (
            REAL.replace("public_url", "# public_url"),
            "[server].public_url",
            "missing; set it or DIALER_PUBLIC_URL",
        ),
        ("[plugins]\nenable = []\n", "[plugins].enable", "there is no such setting; did you mean enabled?"),
        ('[plugins]\nenabled = "a"\n', "[plugins].enabled", 'must be a list, each a text in quotes, not "a"'),
        ('[plugins]\nenabled = ["a", "b", "a"]\n', "[plugins].enabled", "a is listed more than once"),
        ("[plugins.enabled]\na = true\n", "[plugins].enabled", "must be a list, each a text in quotes"),
        (
            '[workspaces."a b"]\n',
            "[workspaces.a b]",
            "a workspace's name is up to 64 letters, digits, _ and -",
        ),
        ("[workspaces]\na = 1\n", "[workspaces.a]", "must be a table, written [workspaces.a]"),
        (
            "[workspaces.a]\ndefault_region = 1\n",
            "[workspaces.a].default_region",
            "must be a text in quotes, not 1",
        ),
        (
            "[workspaces.a.twilio]\n",
            "[workspaces.a.twilio].account_sid",
            "missing; set it, the AC... of the account",
        ),
        (
            REAL + f'[workspaces.a.twilio]\naccount_sid = "{SID}"\nauth_token = "a"\n',
            "[workspaces.a.twilio].account_sid",
            "this is also the account of [twilio]",
        ),
    ],
)
def test_each_fault_is_one_line_with_file_and_key(write: Write, text: str, where: str, fault: str) -> None:
    cwd = write(text)
    (line,) = check({}, cwd=cwd)
    assert line.startswith(f"{cwd}/instance/dialer.toml: {where}: {fault}")
    assert "\n" not in line
    with pytest.raises(ConfigError, match=re.escape(fault)):
        load({}, cwd=cwd)


def test_a_fault_of_the_environment_names_the_variable(tmp_path: Path) -> None:
    environ = {"DIALER_BIND": "8000", "TWILIO_ACCOUNT_SID": "AC1"}
    assert check(environ, cwd=tmp_path) == [
        'DIALER_BIND: must be host:port such as 127.0.0.1:8000, not "8000"',
        "TWILIO_ACCOUNT_SID: must be AC and 32 hex digits, not these 3 characters",
    ]


def test_all_faults_are_collected_and_load_counts_them(write: Write) -> None:
    cwd = write('[server]\nlog = "xml"\nbind = "x"\n[calls]\nring_seconds = 1\n')
    assert len(check({}, cwd=cwd)) == 3
    with pytest.raises(ConfigError, match=r"\(and 2 more: run dialer check\)$"):
        load({}, cwd=cwd)


def test_a_faulty_url_is_not_called_missing_too(write: Write) -> None:
    (line,) = check({}, cwd=write(REAL.replace("https://", "https//")))
    assert "[server].public_url: must be a URL" in line


def test_what_is_not_toml_is_reported_with_its_line(write: Write) -> None:
    (line,) = check({}, cwd=write("[calls]\nring_seconds = \n"))
    assert "dialer.toml: is not TOML" in line
    assert "line 2" in line


def test_what_is_not_text_and_what_is_no_file_is_reported(write: Write) -> None:
    cwd = write("")
    path = cwd / "instance" / "dialer.toml"
    path.write_bytes(b"\xff\xfe")
    assert check({}, cwd=cwd) == [f"{path}: is not UTF-8 text"]
    path.unlink()
    path.mkdir()
    assert check({}, cwd=cwd) == [f"{path}: cannot be read: Is a directory"]


def test_names_from_the_file_cannot_break_the_line(write: Write) -> None:
    for line in check({}, cwd=write('[calls]\n"a\\nb\\u001b[31m" = 1\n["x\\ny"]\n')):
        assert line.isprintable()


# secrets


def test_a_secret_shows_itself_only_when_asked() -> None:
    secret = Secret("hush")
    record = logging.LogRecord("a", 20, "f", 1, "%s %r", (secret, secret), None)
    shown = [str(secret), repr(secret), f"{secret}", f"{secret!r:>20}", f"{[secret]}", record.getMessage()]
    assert not any("hush" in text for text in shown)
    with pytest.raises(TypeError):
        json.dumps(secret)
    assert secret.reveal() == "hush"
    assert {secret, Secret("hush")} == {Secret("hush")} != {Secret("other")}


def test_settings_show_no_secret(write: Write) -> None:
    environ = {"DIALER_STORE": "postgresql://user:hush@db/dialer", "TWILIO_API_SECRET": "hush"}
    text = REAL.replace('"token"', '"hush"') + f'previous_auth_token = "hush"\napi_key = "SK{SID[2:]}"\n'
    cwd = write(text)
    settings = load(environ, cwd=cwd)
    assert settings.accounts[0].reveal_tokens() == ("hush", "hush")
    assert "hush" not in repr(settings) + str(settings) + repr(settings.accounts)


def test_no_fault_repeats_what_may_be_a_secret(write: Write) -> None:
    environ = {"DIALER_STORE": "mysql://user:hush@db", "DIALER_PUBLIC_URL": "https://user:hush@a.example"}
    faults = check(environ, cwd=write('[twilio]\naccount_sid = "hush"\nauth_token = { hush = "hush" }\n'))
    assert len(faults) == 4
    assert "hush" not in "".join(faults).replace("'hush' is not a place", "")


def test_secrets_come_from_the_environment_or_private_files(write: Write) -> None:
    cwd = write(REAL.replace('"token"', '{ env = "NAME" }') + 'previous_auth_token = { file = "old" }\n')
    old = cwd / "instance" / "old"
    old.write_text("old token\n")
    old.chmod(0o600)
    assert load({"NAME": "new"}, cwd=cwd).accounts[0].reveal_tokens() == ("new", "old token")


def test_a_secret_that_others_may_read_is_refused(write: Write) -> None:
    cwd = write(REAL.replace('"token"', '{ file = "token" }'))
    path = cwd / "instance" / "token"
    path.write_text("token")
    path.chmod(0o640)
    (line,) = check({}, cwd=cwd)
    assert line.endswith(f"[twilio].auth_token: others may read this file; run: chmod 600 {path}")
    cwd = write(REAL)
    path = cwd / "instance" / "dialer.toml"
    path.chmod(0o644)
    (line,) = check({}, cwd=cwd)
    assert f"[twilio].auth_token: others may read it here; run: chmod 600 {path}" in line


@pytest.mark.parametrize(
    ("secret", "fault"),
    [
        ('{ env = "NAME" }', "the environment has no NAME; set it, or change this line"),
        ('{ file = "none" }', "none cannot be read: No such file or directory"),
        ('{ file = "empty" }', "empty is empty"),
        ('{ file = "binary" }', "binary cannot be read: it is not UTF-8"),
        ('{ vault = "a" }', "'vault' is not a place for a value; use env or file"),
        ('{ env = "A", file = "b" }', 'must be { env = "NAME" } or { file = "path" }'),
        ("{ env = 1 }", 'must be { env = "NAME" } or { file = "path" }'),
        ("1", 'must be a text in quotes, { env = "NAME" } or { file = "path" }'),
        ('""', 'must be a text in quotes, { env = "NAME" } or { file = "path" }'),
    ],
)
def test_a_secret_that_is_not_there_is_reported(write: Write, secret: str, fault: str) -> None:
    cwd = write(REAL.replace('"token"', secret))
    for name, content in (("empty", b"\n"), ("binary", b"\xff")):
        (cwd / "instance" / name).write_bytes(content)
        (cwd / "instance" / name).chmod(0o600)
    (line,) = check({}, cwd=cwd)
    assert line.endswith(fault)


# accounts and workspaces


def test_a_workspace_calls_through_its_own_account_or_the_default_one(write: Write) -> None:
    own = f'[workspaces.b.twilio]\naccount_sid = "{OTHER_SID}"\nauth_token = "b"\ncalls_per_second = 5\n'
    settings = load({}, cwd=write(REAL + "[workspaces.a]\n" + own))
    assert [account.workspace for account in settings.accounts] == [None, "b"]
    assert settings.account_of("a") == settings.account_of("unknown") == settings.account(SID)
    assert settings.account_of("b") == settings.account(OTHER_SID)
    assert [account.calls_per_second for account in settings.accounts] == [1.0, 5.0]
    assert settings.account("AC" + "2" * 32) is None


def test_the_environment_is_not_for_the_accounts_of_workspaces(write: Write) -> None:
    cwd = write(f'[workspaces.b.twilio]\naccount_sid = "{OTHER_SID}"\nauth_token = "b"\n')
    environ = {"TWILIO_ACCOUNT_SID": SID, "TWILIO_AUTH_TOKEN": "a", "DIALER_PUBLIC_URL": "https://a.example"}
    assert load(environ, cwd=cwd).account_of("b").sid == OTHER_SID


def test_a_workspace_without_an_account_is_told_apart(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match='"ws" has no Twilio account; set '):
        load({}, cwd=tmp_path).account_of("ws")


def test_the_region_of_a_workspace_is_its_own_or_the_common_one(write: Write) -> None:
    text = '[calls]\ndefault_region = "US"\n[workspaces.gb]\ndefault_region = "GB"\n[workspaces.a]\n'
    settings = load({}, cwd=write(text))
    assert [settings.default_region(name) for name in ("gb", "a", "unknown", "")] == ["GB", "US", "US", "US"]


@pytest.mark.parametrize(
    ("base", "simulated"),
    [
        ("http://127.0.0.1:8100", True),
        ("http://localhost:8100", True),
        ("http://[::1]:8100", True),
        ("https://127.0.0.2", True),
        ("https://api.twilio.com", False),
        ("https://127.0.0.1.example.com", False),
    ],
)
def test_a_simulator_is_a_rest_api_on_this_machine(tmp_path: Path, base: str, simulated: bool) -> None:
    assert load({"TWILIO_API_BASE": base}, cwd=tmp_path).simulated is simulated


@pytest.mark.parametrize(
    ("bind", "url"),
    [
        ("127.0.0.1:8000", "http://127.0.0.1:8000"),
        ("0.0.0.0:80", "http://127.0.0.1:80"),
        ("[::]:1", "http://[::1]:1"),
    ],
)
def test_a_simulator_reaches_us_where_we_listen(write: Write, bind: str, url: str) -> None:
    cwd = write(REAL.replace("public_url", "# public_url"))
    environ = {"TWILIO_API_BASE": "http://127.0.0.1:8100", "DIALER_BIND": bind}
    assert load(environ, cwd=cwd).server.public_url == url


# reading again


def test_a_mark_differs_when_the_file_does(write: Write) -> None:
    cwd = write("[calls]\nring_seconds = 9\n")
    settings = load({}, cwd=cwd)
    path = settings.source.file
    assert settings.source.mark == mark(path) is not None
    write("[calls]\nring_seconds = 10\n")
    assert mark(path) != settings.source.mark
    assert reload(settings).calls.ring_seconds == 10
    path.unlink()
    assert mark(path) is None


# the tables that plugins share


@dataclasses.dataclass(frozen=True)
class Example:
    """Every type that a setting can have."""

    text: str
    secret: Secret | None = None
    number: int = 1
    ratio: float = 1.0
    switch: bool = False
    names: tuple[str, ...] = ()
    numbers: tuple[int, ...] = ()
    level: Literal["low", "high"] = "low"
    limit: int | None = None
    port: Annotated[int, Setting("a port", numbers=(1, 65535))] = 1


VALUES: dict[str, st.SearchStrategy[Any]] = {
    "text": st.text(min_size=1),
    "secret": st.text(min_size=1).map(Secret),
    "number": st.integers(),
    "ratio": st.floats(allow_nan=False, allow_infinity=False),
    "switch": st.booleans(),
    "names": st.lists(st.text()).map(tuple),
    "numbers": st.lists(st.integers()).map(tuple),
    "level": st.sampled_from(["low", "high"]),
    "limit": st.integers(),
    "port": st.integers(1, 65535),
}


def as_toml(value: Any) -> Any:
    """What tomllib would give for a value."""
    if isinstance(value, Secret):
        return value.reveal()
    return list(value) if isinstance(value, tuple) else value


@given(
    st.fixed_dictionaries({"text": VALUES["text"]}, optional={k: v for k, v in VALUES.items() if k != "text"})
)
def test_every_good_table_becomes_its_dataclass(values: dict[str, Any]) -> None:
    table = {name: as_toml(value) for name, value in values.items()}
    assert read(Example, table, Source(Path("a.toml")), "a") == (values, [])


_ANYTHING = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text() | st.datetimes(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(VALUES)) | st.text(), _ANYTHING))
def test_any_table_gives_checked_values_or_faults_of_one_line(table: dict[str, Any]) -> None:
    values, faults = read(Example, table, Source(Path("a.toml")), "a")
    assert all(fault.startswith("a.toml: [a]") and fault.isprintable() for fault in faults)
    if not faults:
        assert set(values) == set(table)
        assert all(isinstance(hash(value), int) for value in values.values())


@given(st.binary() | st.text().map(str.encode))
def test_any_file_gives_settings_or_faults(tmp_path_factory: pytest.TempPathFactory, content: bytes) -> None:
    cwd = tmp_path_factory.getbasetemp()
    (cwd / "any.toml").write_bytes(content)
    environ = {"DIALER_CONFIG": "any.toml"}
    faults = check(environ, cwd=cwd)
    assert all(fault.isprintable() for fault in faults)
    if not faults:
        assert isinstance(load(environ, cwd=cwd), Settings)


def test_what_a_fault_repeats_is_shortened() -> None:
    source = Source(Path("a.toml"))
    for table in (
        {"text": "a", "ratio": 10**400},
        {"text": "a", "level": "x" * 1000},
        {"text": ["x"] * 1000},
    ):
        (fault,) = read(Example, table, source, "a")[1]
        assert len(fault) < 140


def test_a_choice_is_of_its_own_type() -> None:
    @dataclasses.dataclass(frozen=True)
    class Choice:
        number: Literal[1, 2] = 1

    source = Source(Path("a.toml"))
    assert read(Choice, {"number": 1}, source, "a") == ({"number": 1}, [])
    assert read(Choice, {"number": True}, source, "a")[1] == ["a.toml: [a].number: must be 1 or 2, not true"]


def test_a_missing_setting_says_what_it_must_be() -> None:
    (fault,) = read(Example, {}, Source(Path("a.toml")), "a")[1]
    assert fault == "a.toml: [a].text: missing; it must be a text in quotes"


def test_a_type_that_no_setting_can_have_is_refused() -> None:
    with pytest.raises(TypeError, match="no setting can have"):
        kind(dict[str, str])
    with pytest.raises(TypeError, match="no setting can have"):
        kind(int | str)


# what is written about them


def test_the_configuration_page_is_fresh() -> None:
    assert (ROOT / "docs" / "configuration.md").read_text() == configuration()


def test_every_setting_says_what_it_means() -> None:
    for cls in (*SECTIONS.values(), PluginList, Workspace, WorkspacePlugins, WorkspaceTwilio):
        assert all(setting.meaning for _, setting, _ in settings_of(cls).values())


def test_the_example_shows_every_setting_and_is_right_as_it_is(tmp_path: Path) -> None:
    text = (ROOT / "instance" / "dialer.example.toml").read_text()
    settings = load({"DIALER_CONFIG": str(ROOT / "instance" / "dialer.example.toml")}, cwd=tmp_path)
    assert settings.plugins.enabled == ("number_policy",)
    full = tomllib.loads(re.sub(r"^# (?=\[|\w+ = )", "", text, flags=re.MULTILINE))
    own = full["workspaces"]["ws_demo"].pop("twilio")
    plugins = full["workspaces"]["ws_demo"].pop("plugins")
    assert plugins.pop("number_policy") == {"countries": ["GB"]}
    sections = {name: full[name] for name in SECTIONS} | {"plugins of one": plugins}
    sections |= {"own": own, "workspace": full["workspaces"]["ws_demo"]}
    classes = {**SECTIONS, "own": WorkspaceTwilio, "workspace": Workspace, "plugins of one": WorkspacePlugins}
    assert {name: set(table) for name, table in sections.items()} == {
        name: set(settings_of(cls)) for name, cls in classes.items()
    }


def test_the_example_shows_the_defaults(write: Write) -> None:
    text = (ROOT / "instance" / "dialer.example.toml").read_text()
    shown = re.sub(r"^# (?=\w+ = )", "", text, flags=re.MULTILINE)
    tables = tomllib.loads(shown)
    for name, cls in SECTIONS.items():
        defaults = {field.name: field.default for field in dataclasses.fields(cls)}
        for key, value in tables[name].items():
            example = re.search(rf"^# {key} = .*(# example|xxxx|file = |env = )", text, re.MULTILINE)
            assert example or value == defaults[key], f"[{name}].{key}"
