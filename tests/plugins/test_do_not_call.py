"""do_not_call: listed numbers are refused, lists are filled whole or not at all, and each check leaves evidence."""

import csv
import io
import json
import resource
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from hypothesis import given, settings
from hypothesis import strategies as st

from dialer import Call, Host, Refusal, Remark
from dialer.hookspecs import answer_fault
from dialer.numbers import E164
from dialer.tables import settings_of
from dialer_plugins.do_not_call import DoNotCall, evidence, lists
from dialer_plugins.do_not_call.importing import import_file
from dialer_plugins.do_not_call.lists import Incoming
from dialer_plugins.do_not_call.moments import read_expiry
from dialer_plugins.do_not_call.reading import Bad, Defaults, UnknownLayout, read_number, read_rows

LISTED, FREE = "+14155550101", "+14155550103"
NOW = 1_790_000_000.0  # 2026-09-21 14:13:20 UTC
DAY = 86_400.0


class FixedHost(Host):
    """A host with a clock that a test turns, and two workspaces."""

    def __init__(self, folder: Path) -> None:
        super().__init__("do_not_call", folder=folder, clock=lambda: self.now)
        self.now = NOW
        self.noted: list[tuple[str, str, dict[str, str]]] = []

    def numbers(self, workspace: str) -> list[str]:
        return ["+14155550199"] if workspace in ("acme", "other") else []

    def add_event(self, call: Call, name: str, detail: Any, key: str = "") -> bool:
        if (call.id, key) in [event[:2] for event in self.noted]:
            return False
        self.noted.append((call.id, key, dict(detail)))
        return True


@pytest.fixture
def host(tmp_path: Path) -> FixedHost:
    return FixedHost(tmp_path / "plugin")


@pytest.fixture
def run(host: FixedHost) -> Callable[..., Any]:
    def invoke(*words: str, **options: Any) -> Any:
        return CliRunner().invoke(DoNotCall(host=host).register_commands(), words, **options)

    return invoke


def call_to(number: str, workspace: str = "acme", **values: Any) -> Call:
    return Call("call_1", workspace, "alice", number, "", "c", requested_at=NOW, **values)


def put(
    host: Host, *numbers: str, workspace: str = "acme", name: str = "internal", expires: float | None = None
) -> None:
    lists.merge(host, workspace, name, [[Incoming(number, "asked", expires) for number in numbers]], replace=False)


def rule(host: Host, number: str, workspace: str = "acme", **wish: Any) -> str:
    """The rule that refuses a number, empty when it may be called."""
    answer = DoNotCall(**wish, host=host).validate_call(call_to(number, workspace))
    assert answer_fault("validate_call", answer) == ""
    return answer.rule.removeprefix("do_not_call:") if isinstance(answer, Refusal) else ""


def numbers_on(host: Host, workspace: str = "acme", name: str = "internal") -> list[str]:
    return [entry.number for entry in lists.entries(host, workspace, name)]


# The check.


def test_a_listed_number_is_refused_with_the_lists_name(host: FixedHost) -> None:
    put(host, LISTED)
    answer = DoNotCall(reason="Not this one.", host=host).validate_call(call_to(LISTED))
    assert answer == Refusal("Not this one.", "do_not_call:internal")


def test_only_the_very_number_is_refused(host: FixedHost) -> None:
    put(host, LISTED)
    assert [rule(host, number) for number in (FREE, LISTED + "1", LISTED[:-1], LISTED[1:], "")] == [""] * 5


def test_a_list_is_its_workspaces_or_everybodys(host: FixedHost) -> None:
    put(host, LISTED)
    put(host, FREE, workspace=lists.EVERYBODY, name="national")
    assert (rule(host, LISTED), rule(host, LISTED, "other")) == ("internal", "")
    assert (rule(host, FREE), rule(host, FREE, "other")) == ("national", "national")


def test_an_entry_ends_at_its_expiry(host: FixedHost) -> None:
    put(host, LISTED, expires=NOW + DAY)
    host.now = NOW + DAY - 1
    assert rule(host, LISTED) == "internal"
    host.now = NOW + DAY
    assert rule(host, LISTED) == ""


def test_an_expired_entry_does_not_hide_one_that_holds(host: FixedHost) -> None:
    put(host, LISTED, expires=NOW - 1)
    put(host, LISTED, workspace=lists.EVERYBODY, name="national")
    assert rule(host, LISTED) == "national"


def test_what_was_searched_is_evidence_too(host: FixedHost) -> None:
    assert DoNotCall(host=host).validate_call(call_to(FREE)) == Remark(
        "not listed at 2026-09-21T14:13:20Z on: no list is there"
    )
    put(host, LISTED)
    put(host, LISTED, workspace=lists.EVERYBODY, name="national")
    host.now += DAY
    assert DoNotCall(host=host).validate_call(call_to(FREE)) == Remark(
        "not listed at 2026-09-22T14:13:20Z on: internal of 2026-09-21T14:13:20Z,"
        " national (of all) of 2026-09-21T14:13:20Z"
    )
    for number in range(30):
        put(host, LISTED, name=f"{number:02}{'x' * 58}")
    many = DoNotCall(host=host).validate_call(call_to(FREE))
    assert isinstance(many, Remark)
    assert many.text.endswith(" and 24 more")
    assert answer_fault("validate_call", many) == ""


def test_a_required_list_must_be_there_and_fresh(host: FixedHost) -> None:
    wish: dict[str, Any] = {"required": ("national",), "max_age_days": 31}
    assert rule(host, FREE, **wish) == "list-missing"
    put(host, LISTED, workspace=lists.EVERYBODY, name="national")
    assert (rule(host, FREE, **wish), rule(host, LISTED, **wish)) == ("", "national")
    host.now += 31 * DAY + 1
    assert rule(host, FREE, **wish) == "list-too-old"
    lists.add(host, lists.EVERYBODY, "national", Incoming("+14155550104", "", None))
    assert rule(host, FREE, **wish) == "list-too-old"  # one number more does not renew it
    assert rule(host, FREE, required=("national",)) == ""


def test_a_check_waits_for_no_import(host: FixedHost) -> None:
    put(host, LISTED)
    elsewhere = FixedHost(host.folder)
    with elsewhere.writing():
        assert (rule(host, LISTED), rule(host, FREE)) == ("internal", "")


def test_a_check_writes_nothing(host: FixedHost) -> None:
    put(host, LISTED)
    before = host.database().conn.total_changes
    rule(host, LISTED)
    assert host.database().conn.total_changes == before


# Hits.


def test_a_refused_call_counts_once_however_often_it_is_told(host: FixedHost) -> None:
    put(host, LISTED)
    plugin, call = DoNotCall(host=host), call_to(LISTED, status="rejected", rule="do_not_call:internal")
    for _ in range(3):
        plugin.call_started(call)
    (entry,) = lists.find(host, "acme", LISTED, NOW)
    assert (entry.hits, entry.last_hit_at) == (1, NOW)
    ((_, _, detail),) = host.noted
    assert detail["list"] == "internal"
    assert detail["added_at"] == detail["checked_at"] == "2026-09-21T14:13:20Z"


def test_calls_that_were_placed_and_other_workspaces_count_nothing(host: FixedHost) -> None:
    put(host, LISTED)
    plugin = DoNotCall(host=host)
    plugin.call_started(call_to(LISTED))
    plugin.call_started(call_to(LISTED, "other", status="rejected"))
    assert lists.find(host, "acme", LISTED, NOW)[0].hits == 0
    assert host.noted == []


def test_an_import_keeps_the_hits(host: FixedHost, tmp_path: Path) -> None:
    put(host, LISTED)
    DoNotCall(host=host).call_started(call_to(LISTED, status="rejected"))
    put(host, LISTED, FREE)
    assert lists.find(host, "acme", LISTED, NOW)[0].hits == 1


# Reading CSV.

US = Defaults("US", "", None, NOW)


def read(text: str, *columns: str, defaults: Defaults = US) -> list[Incoming | Bad]:
    return list(read_rows(io.StringIO(text, newline=""), columns, defaults))


def numbers(text: str, *columns: str) -> list[str]:
    return [row.number if isinstance(row, Incoming) else f"{row.line}: {row.why}" for row in read(text, *columns)]


@pytest.mark.parametrize(
    "text",
    [
        "+14155550101\n+14155550103\n",
        "Phone\n(415) 555-0101\n415.555.0103\n",
        "name,Phone Number,reason\nAnn,415-555-0101,asked\nBob,1 415 555 0103,\n",
        "name;telephone\r\nAnn;4155550101\r\nBob;+1 415 555 0103\r\n",
        "id\tmobile\n1\t4155550101\n2\t4155550103\n",
        '"Müller, Ann","4155550101"\n"Bob","4155550103"\n',
        "\n\nphone,x\n\n4155550101,\n ,\n4155550103,1\n",
        "Contact\n4155550101\n4155550103",
    ],
)
def test_heads_separators_and_spellings_are_recognised(text: str) -> None:
    assert numbers(text) == [LISTED, FREE]


def test_the_column_can_be_named_and_joined() -> None:
    two = "home phone,work phone\n4155550101,4155550103\n"
    assert (numbers(two, "work phone"), numbers(two, "1")) == ([FREE], [LISTED])
    assert numbers("415,5550101\n415,5550103\n", "1", "2") == [LISTED, FREE]  # as the registry of the FTC comes
    assert numbers("area,local\n415,5550101\n", "area", "local") == [LISTED]
    with pytest.raises(UnknownLayout, match=r"there is no column 'fax' \(columns: 'home phone', 'work phone'\)"):
        numbers(two, "fax")
    with pytest.raises(UnknownLayout, match="which column holds the numbers"):
        numbers("a,b\n1,2\n")
    with pytest.raises(UnknownLayout, match="which column holds the numbers"):
        numbers("4155550101,4155550103\n")


def test_reason_and_expiry_of_a_row_win_over_the_defaults() -> None:
    text = "phone,reason,expires\n4155550101,moved,2026-10-01\n4155550103,,\n"
    first, second = read(text, defaults=Defaults("US", "asked", NOW + 5, NOW))
    assert first == Incoming(LISTED, "moved", read_expiry("2026-10-01", NOW))
    assert second == Incoming(FREE, "asked", NOW + 5)


def test_bad_rows_name_their_line_and_what_is_wrong() -> None:
    text = "name,phone,expires\nA,4155550101,\nB,call me,\nC\nD,5550101,\nE,4155550103,soon\nF,4155550103,2020-01-01\n"
    assert numbers(text) == [
        LISTED,
        "3: 'call me' is not a phone number",
        "4: has 1 columns, and the number is in column 2",
        "5: '5550101' has no area code",
        "6: 'soon' is not a day such as 2027-01-31, or 90d",
        "7: '2020-01-01' is over already",
    ]
    row = read("phone\n4155550101\n", defaults=Defaults("", "", None, NOW))[0]
    assert row == Bad(2, "'4155550101' is not a phone number; a number without + needs --region")


def test_an_expiry_is_the_end_of_a_day_or_days_from_now() -> None:
    assert read_expiry("2026-09-21", NOW) == NOW - NOW % DAY + DAY
    assert read_expiry("90d", NOW) == NOW + 90 * DAY
    assert read_expiry(" ", NOW) is None
    for text in ("0d", "2026-09-20", "21.09.2027", "2026-13-01"):
        with pytest.raises(ValueError, match="is"):
            read_expiry(text, NOW)


@given(st.text(max_size=200))
def test_any_text_is_read_or_named_as_unreadable(text: str) -> None:
    try:
        rows = read(text)
    except (UnknownLayout, csv.Error) as error:
        assert str(error)
        return
    for row in rows:
        assert E164.fullmatch(row.number) if isinstance(row, Incoming) else row.why


@given(st.from_regex(r"[2-9][0-9]{9}", fullmatch=True), st.sampled_from(["{}", "+1{}", "1 {}", "({0:.3}) {0}"]))
def test_a_number_reads_as_an_agents_typing_does(digits: str, shape: str) -> None:
    from dialer.numbers import to_e164

    text = shape.format(digits)
    try:
        assert read_number(text, "US") == to_e164(text, "US")
    except ValueError:
        assert to_e164(text, "US") is None or len(digits) != 10 or shape.startswith("(")


# Importing.


def write(path: Path, text: str) -> str:
    path.write_text(text)
    return str(path)


def test_an_import_fills_a_list(host: FixedHost, run: Callable[..., Any], tmp_path: Path) -> None:
    file = write(tmp_path / "a.csv", "phone,reason\n4155550101,asked\n4155550103,\n4155550101,again\n")
    done = run("import", file, "--workspace", "acme", "--list", "vip", "--region", "US", "--expires", "90d")
    assert done.exit_code == 0, done.output
    assert "2 numbers added to list vip of acme, 0 taken off; it has 2 now" in done.output
    (entry,) = lists.find(host, "acme", LISTED, NOW)
    assert (entry.list, entry.reason, entry.expires_at, entry.added_at) == ("vip", "again", NOW + 90 * DAY, NOW)


def test_a_bad_row_keeps_the_whole_file_out(host: FixedHost, run: Callable[..., Any], tmp_path: Path) -> None:
    put(host, FREE)
    file = write(tmp_path / "a.csv", "phone\n4155550101\nnobody\n4155550104\nx\n")
    words = ("import", file, "--workspace", "acme", "--region", "US")
    done = run(*words)
    assert done.exit_code != 0
    assert "line 3: 'nobody' is not a phone number\nline 5: 'x'" in done.output
    assert "2 bad rows in a.csv, nothing was imported" in str(done.exception)
    assert numbers_on(host) == [FREE]
    done = run(*words, "--skip-bad", "--replace")
    assert done.exit_code == 0
    assert "line 3" in done.output
    assert numbers_on(host) == [LISTED, "+14155550104"]


def test_replace_takes_off_what_the_file_lacks(host: FixedHost, run: Callable[..., Any], tmp_path: Path) -> None:
    put(host, LISTED, "+14155550104")
    put(host, FREE, workspace="other")
    put(host, FREE, name="vip")
    file = write(tmp_path / "a.csv", f"{LISTED}\n{FREE}\n")
    done = run("import", file, "--workspace", "acme", "--replace")
    assert "1 numbers added to list internal of acme, 1 taken off; it has 2 now" in done.output
    assert numbers_on(host) == [LISTED, FREE]
    assert (numbers_on(host, "other"), numbers_on(host, name="vip")) == ([FREE], [FREE])


@pytest.mark.parametrize(
    ("content", "fault"),
    [
        (b"", "there is no number in it"),
        (b"phone\n", "there is no number in it"),
        (b"a,b\n1,2\n", "which column holds the numbers"),
        ("phone,name\n4155550101,Müller\n".encode("latin-1"), "cannot be read as utf-8-sig"),
        (b'phone\n"4155550101' + b"x" * 200_000, "is no CSV"),
    ],
)
def test_a_file_that_is_no_list_changes_nothing(
    host: FixedHost, run: Callable[..., Any], tmp_path: Path, content: bytes, fault: str
) -> None:
    put(host, FREE)
    (tmp_path / "a.csv").write_bytes(content)
    done = run("import", str(tmp_path / "a.csv"), "--workspace", "acme", "--region", "US", "--replace")
    assert fault in str(done.exception)
    assert numbers_on(host) == [FREE]


def test_another_encoding_can_be_given(host: FixedHost, run: Callable[..., Any], tmp_path: Path) -> None:
    (tmp_path / "a.csv").write_bytes("phone,name\n4155550101,Müller\n".encode("latin-1"))
    words = ("import", str(tmp_path / "a.csv"), "--workspace", "acme", "--region", "US")
    assert run(*words, "--encoding", "latin-1").exit_code == 0
    assert "give --encoding" in str(run(*words, "--encoding", "nonsense").exception)
    (tmp_path / "a.csv").write_bytes("phone\n4155550104\n".encode("utf-8-sig"))
    assert run(*words).exit_code == 0
    assert numbers_on(host) == [LISTED, "+14155550104"]


def test_an_import_that_dies_leaves_the_list_as_it_was(host: FixedHost) -> None:
    put(host, FREE)

    def batches() -> Any:
        yield [Incoming(LISTED, "", None)]
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        lists.merge(host, "acme", "internal", batches(), replace=True)
    assert numbers_on(host) == [FREE]
    put(host, LISTED)
    assert numbers_on(host) == [LISTED, FREE]


def test_checks_see_all_of_an_import_or_nothing(host: FixedHost) -> None:
    seen: list[tuple[bool, bool]] = []
    many = [f"+1415555{number:04}" for number in range(3000)]

    def look() -> None:
        mine = FixedHost(host.folder)
        for _ in range(200):
            last, first = (rule(mine, number) != "" for number in (many[-1], many[0]))
            seen.append((last, first))

    watcher = threading.Thread(target=look)
    watcher.start()
    put(host, *many)
    watcher.join()
    assert (True, False) not in seen
    assert rule(host, many[0]) and rule(host, many[-1])


def test_many_rows_need_little_memory(host: FixedHost, tmp_path: Path, record_property: Callable[..., None]) -> None:
    rows = 100_000
    with (tmp_path / "big.csv").open("w") as file:
        file.writelines(f"+1{2_000_000_000 + 7919 * row % 7_000_000_000}\n" for row in range(rows))
    before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    result = import_file(host, tmp_path / "big.csv", ("acme", "internal"), US)
    grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
    assert result.merged is not None
    assert (result.rows, result.merged.added, result.bad_rows) == (rows, rows, 0)
    assert grown < 200
    record_property("figure", f"do_not_call: {rows:,} rows imported in {grown:.0f} MB more")


# The other commands.


def test_add_check_remove(host: FixedHost, run: Callable[..., Any]) -> None:
    assert run("add", "415 555 0101", "--workspace", "acme", "--region", "US").output == (
        "+14155550101 added to list internal of acme\n"
    )
    assert "was already on" in run("add", LISTED, "--workspace", "acme", "--reason", "moved").output
    listed = run("check", LISTED, "--workspace", "acme")
    assert listed.exit_code == 1
    assert "is listed for acme" in listed.output
    free = run("check", LISTED, "--workspace", "other", "--json")
    assert (free.exit_code, json.loads(free.output)["may_be_called"]) == (0, True)
    assert run("remove", LISTED, "--workspace", "acme").exit_code == 0
    assert "is not on list internal of acme" in str(run("remove", LISTED, "--workspace", "acme").exception)
    assert rule(host, LISTED) == ""


def test_list_shows_each_list(host: FixedHost, run: Callable[..., Any]) -> None:
    assert run("list").output == "there are no lists; dialer do_not_call import makes one\n"
    put(host, LISTED, FREE)
    put(host, "+14155550104", expires=NOW - 1)
    put(host, LISTED, workspace=lists.EVERYBODY, name="national")
    put(host, LISTED, workspace="other")
    shown = json.loads(run("list", "--workspace", "acme", "--json").output)
    assert [(row["workspace"], row["name"], row["entries"], row["expired"]) for row in shown] == [
        ("*", "national", 1, 0),
        ("acme", "internal", 3, 1),
    ]
    assert "national" in run("list").output


def test_drop_deletes_one_list(host: FixedHost, run: Callable[..., Any]) -> None:
    put(host, LISTED, FREE)
    put(host, LISTED, workspace="other")
    assert run("drop", "--workspace", "acme", input="n\n").exit_code == 1
    assert "with 2 entries" in run("drop", "--workspace", "acme", "--yes").output
    assert (rule(host, LISTED), rule(host, LISTED, "other")) == ("", "internal")
    assert "there is no list" in str(run("drop", "--workspace", "acme", "--yes").exception)


def test_what_is_exported_can_be_imported(host: FixedHost, run: Callable[..., Any], tmp_path: Path) -> None:
    put(host, LISTED, expires=read_expiry("2027-01-31", NOW))
    put(host, FREE)
    assert run("export", "--workspace", "acme", "--output", str(tmp_path / "out.csv")).exit_code == 0
    assert (tmp_path / "out.csv").read_text().splitlines()[1] == (
        f"{LISTED},asked,2027-01-31,2026-09-21T14:13:20Z,0,"
    )
    assert run("import", str(tmp_path / "out.csv"), "--all", "--list", "copy").exit_code == 0
    copied = list(lists.entries(host, lists.EVERYBODY, "copy"))
    assert [(one.number, one.reason, one.expires_at) for one in copied] == [
        (one.number, one.reason, one.expires_at) for one in lists.entries(host, "acme", "internal")
    ]


@pytest.mark.parametrize(
    "words",
    [
        ("add", LISTED),
        ("add", LISTED, "--workspace", "acme", "--all"),
        ("add", "5550101", "--workspace", "acme", "--region", "US"),
        ("add", LISTED, "--workspace", "acme", "--region", "us"),
        ("add", LISTED, "--workspace", "acme", "--list", "a b"),
        ("add", LISTED, "--workspace", "acme", "--expires", "never"),
        ("check", "nobody", "--workspace", "acme"),
        ("evidence", "--workspace", "acme", "--since", "yesterday"),
    ],
)
def test_commands_that_are_used_wrongly_say_so(run: Callable[..., Any], words: tuple[str, ...]) -> None:
    done = run(*words)
    assert done.exit_code == 2
    assert "Error: " in done.output


def test_a_workspace_that_may_be_misspelt_is_pointed_out(run: Callable[..., Any]) -> None:
    assert "is it spelt right?" in run("add", LISTED, "--workspace", "acmee").output
    assert "spelt" not in run("add", LISTED, "--workspace", "acme").output


@pytest.mark.parametrize(
    ("wrong", "fault"),
    [
        ({"reason": " "}, "reason must be a sentence"),
        ({"reason": "x" * 501}, "reason must be a sentence"),
        ({"required": ("a b",)}, "required 'a b' is no name of a list"),
        ({"max_age_days": 31}, "max_age_days is about required lists"),
    ],
)
def test_wrong_settings_are_refused(wrong: dict[str, Any], fault: str) -> None:
    with pytest.raises(ValueError, match=fault):
        DoNotCall(**wrong)


@settings(max_examples=25)
@given(
    st.lists(
        st.tuples(
            st.sampled_from(["add", "remove", "later"]), st.sampled_from(["", "acme", "other"]), st.integers(0, 3)
        ),
        max_size=30,
    )
)
def test_what_is_refused_is_what_a_set_would_hold(
    tmp_path_factory: pytest.TempPathFactory, steps: list[tuple[str, str, int]]
) -> None:
    host, model = FixedHost(tmp_path_factory.mktemp("lists")), dict[tuple[str, str], float]()
    for step, workspace, number in steps:
        text = f"+1415555010{number}"
        if step == "add":
            put(host, text, workspace=workspace, expires=host.now + 10 + number)
            model[workspace, text] = host.now + 10 + number
        elif step == "remove":
            assert lists.remove(host, workspace, "internal", text) == (model.pop((workspace, text), None) is not None)
        else:
            host.now += 4
        for asking in ("acme", "other"):
            for last in range(4):
                one = f"+1415555010{last}"
                listed = any(model.get((whose, one), 0.0) > host.now for whose in ("", asking))
                assert (rule(host, one, asking) == "internal") == listed


# The story.


def test_a_listed_number_is_refused_aloud_and_counted(make_stage: Any) -> None:
    plugin = DoNotCall()
    stage = make_stage(plugins=[plugin])
    free = stage.agent_dials(FREE)
    put(plugin.host, LISTED, workspace=free.call.workspace)
    listed = stage.agent_dials(LISTED)
    assert listed.heard == ["That number is on a do-not-call list."]
    assert (listed.call.rule, listed.call.ended_by) == ("do_not_call:internal", "plugin:do_not_call")
    stage.lasts(2)
    assert lists.find(plugin.host, free.call.workspace, LISTED, plugin.host.clock())[0].hits == 1
    (event,) = [row for row in listed.rows("events_of_call", after=0) if row["name"] == "do_not_call.listed"]
    assert json.loads(event["payload"])["list"] == "internal"
    free.hangs_up()
    stage.ends()


def test_evidence_of_every_call_can_be_taken_out(make_stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    plugin = DoNotCall()
    stage = make_stage(plugins=[plugin], workspaces=("ws_demo", "ws_other"))
    put(plugin.host, LISTED, workspace="ws_demo")
    talkers = [stage.agent_dials(number) for number in (FREE, LISTED)]
    foreign = stage.agent_dials(FREE, next(one for one in stage.world.agents if one.workspace == "ws_other"))
    monkeypatch.setattr(evidence, "opened_store", lambda: KeptOpen(stage))
    done = CliRunner().invoke(
        plugin.register_commands(), ["evidence", "--workspace", "ws_demo", "--since", "2026-09-01"]
    )
    assert done.exit_code == 0, done.exception
    rows = list(csv.DictReader(io.StringIO(done.output)))
    assert [(row["call"], row["number"], row["result"], row["list"]) for row in rows] == [
        (talkers[0].call.id, FREE, "not listed", ""),
        (talkers[1].call.id, LISTED, "refused", "internal"),
    ]
    assert rows[0]["said"].startswith("not listed at 2026-09-21T14:13")
    only = CliRunner().invoke(
        plugin.register_commands(),
        ["evidence", "--workspace", "ws_demo", "--since", "2026-09-01", "--number", LISTED],
    )
    assert FREE not in only.output
    for talker in (talkers[0], foreign):
        talker.hangs_up()
    stage.ends()


class KeptOpen:
    """The store of a stage, which the stage closes."""

    def __init__(self, stage: Any) -> None:
        self.store = stage.world.dialer.store

    def __enter__(self) -> Any:
        return self.store

    def __exit__(self, *_: object) -> None:
        pass


def test_the_store_is_the_configured_one(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from dialer.errors import DialerError

    monkeypatch.setenv("DIALER_INSTANCE", str(tmp_path))
    with pytest.raises(DialerError, match="there is no store"), evidence.opened_store():
        pass


def test_the_readme_shows_every_setting_command_and_rule() -> None:
    readme = (Path(__file__).parent.parent.parent / "plugins" / "do_not_call" / "README.md").read_text()
    for name, (_, setting, _) in settings_of(DoNotCall).items():
        assert f"| `{name}` |" in readme
        assert setting.meaning
    commands = DoNotCall().register_commands().commands
    assert [name for name in commands if f"`{name}`" not in readme and f"do_not_call {name}" not in readme] == []
    assert [word for word in ("NAME", "list-missing", "list-too-old") if f"`do_not_call:{word}`" not in readme] == []
