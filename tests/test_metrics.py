"""/metrics: the names that are documented, figures that are right, and nobody else's business."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from prometheus_client.parser import text_string_to_metric_families
from sqlite_utils import Database
from sqlite_utils.utils import sqlite3

from dialer import metrics
from dialer.app import create_app
from dialer.auth import SCOPES, add_key
from dialer.calls import Call
from dialer.cli import cli
from dialer.errors import DialerError
from dialer.hookspecs import hookimpl
from dialer.records import add_job
from dialer.repairs import SENTENCES
from dialer.simulator import AgentPlan, Faults
from dialer.store import StoreError
from dialer.store.migrations import migrations
from dialer.store.sqlite import SqliteStore
from dialer.store.statements import STATEMENTS

ROOT = Path(__file__).parents[1]
DOCUMENT = (ROOT / "docs/metrics.md").read_text()
NEVER = "+14155550103"

Sample = tuple[str, tuple[tuple[str, str], ...]]


def parsed(text: str) -> dict[Sample, float]:
    return {
        (sample.name, tuple(sorted(sample.labels.items()))): sample.value
        for family in text_string_to_metric_families(text)
        for sample in family.samples
    }


def client(stage: Any) -> Any:
    given = stage.world.dialer
    return create_app(given.settings, plugins=given.plugins, store=given.store, clock=given.clock).test_client()


def scraped(stage: Any) -> dict[Sample, float]:
    answer = client(stage).get("/metrics")
    assert (answer.status_code, answer.content_type) == (200, metrics.CONTENT_TYPE)
    return parsed(answer.text)


def of(found: dict[Sample, float], name: str) -> dict[tuple[str, ...], float]:
    return {tuple(value for _, value in labels): count for (one, labels), count in found.items() if one == name}


class Grumbling:
    """A plugin that fails whenever it is told how a call ended."""

    @hookimpl
    def call_started(self, call: Call) -> None:
        return None

    @hookimpl
    def call_ended(self, call: Call) -> None:
        raise RuntimeError("no")


@pytest.fixture
def busy_stage(make_stage: Any) -> Any:
    """A talk that ended, a refused call, one that rings, and a repair."""
    stage = make_stage(plugins=(Grumbling(),))
    stage.agent_dials("+14155550101", plan=AgentPlan(hang_up_after_bridged=3))
    stage.agent_dials("12345")
    stage.lasts(20)
    talker = stage.agent_dials(NEVER)
    stage.world.network.faults = Faults(webhook_lost=1.0)
    stage.phone().answers()
    stage.lasts(10)
    assert talker.call.leg("customer").joined
    stage.world.network.faults = Faults()
    stage.agent_dials(NEVER, stage.world.agents[1])
    return stage


def test_every_figure_is_documented_with_its_type_and_labels_and_no_other(busy_stage: Any) -> None:
    rows = re.findall(r"^\| `(dialer_\w+)` \| (\w+) \| (.*?) \|", DOCUMENT, re.MULTILINE)
    documented = {name: (kind, tuple(re.findall(r"`(\w+)`", labels))) for name, kind, labels in rows}
    metrics.count_refusal("no signature")
    found = {}
    for family in text_string_to_metric_families(client(busy_stage).get("/metrics").text):
        if family.name.endswith("_created"):
            continue
        name = family.name + ("_total" if family.type == "counter" else "")
        labels = {label for sample in family.samples for label in sample.labels} - {"le"}
        order = documented.get(name, ("", ()))[1]
        found[name] = (family.type, tuple(sorted(labels, key=lambda one: order.index(one) if one in order else 9)))
    # There are none of these now, and so no labels.
    empty = ("dialer_jobs_dead", "dialer_jobs_waiting", "dialer_dials_open", "dialer_plugins_resting")
    assert {**found, **{name: documented[name] for name in empty}} == documented


def test_the_kinds_of_repairs_are_documented() -> None:
    table = DOCUMENT.partition("## Kinds of repairs")[2]
    assert re.findall(r"^\| `([\w-]+)` \|", table, re.MULTILINE) == list(SENTENCES)


def test_what_the_store_holds_is_told_as_it_is(busy_stage: Any) -> None:
    found = scraped(busy_stage)
    assert of(found, "dialer_calls_open") == {("in-progress",): 1, ("ringing",): 1}
    assert of(found, "dialer_calls_ended_total") == {("completed",): 1, ("rejected",): 1}
    assert of(found, "dialer_dials_total") == {("accepted",): 3, ("canceled",): 1}
    assert of(found, "dialer_repairs_total") == {("missed-join",): 1}
    assert of(found, "dialer_clock_steps_total") == {(): 0}
    with busy_stage.world.dialer.store.read() as tx:
        assert of(found, "dialer_events_total") == {(): tx.one("count_events")["count"]}


def test_jobs_are_told_by_plugin(stage: Any) -> None:
    world, call = stage.world, stage.agent_dials("12345").call
    world.settle()
    now = world.network.now
    with world.dialer.store.write() as tx:
        for number, (plugin, run_at) in enumerate((("", now - 7), ("crm", now - 90), ("crm", now + 5))):
            add_job(tx, call, "deliver", f"k{number}", now, run_at=run_at, plugin=plugin)
        add_job(tx, call, "deliver", "dead", now, run_at=now - 100, plugin="mail")
        job = tx.all("due_jobs", now=now, lease=now, plugin="mail", limit=1)[0]
        tx.run("finish_job", job_id=job["id"], status="dead", result="given up", now=now)
        add_job(tx, call, "deliver", "off", now, run_at=now - 1, plugin="sms")
        job = tx.all("due_jobs", now=now, lease=now, plugin="sms", limit=1)[0]
        tx.run("hold_job", job_id=job["id"], status="waiting", run_at=now + 60, result="off")
        breaker = {"failures": 5, "since": now, "opened": 1, "reason": "down"}
        tx.run("save_breaker", plugin="crm", workspace="ws_demo", open_until=now + 30, **breaker)
        tx.run("save_breaker", plugin="crm", workspace="ws_other", open_until=0.0, **breaker)
    found = scraped(stage)
    assert of(found, "dialer_jobs_pending") == {("dialer",): 1, ("crm",): 2}
    assert of(found, "dialer_jobs_due") == {("dialer",): 1, ("crm",): 1}
    assert of(found, "dialer_jobs_oldest_due_seconds") == {("dialer",): 7, ("crm",): 90}
    assert of(found, "dialer_jobs_dead") == {("mail",): 1}
    assert of(found, "dialer_jobs_waiting") == {("sms",): 1}
    assert of(found, "dialer_plugins_resting") == {("crm",): 1}


def test_a_dial_that_is_under_way_is_told(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    from dialer.dialling import Outcome

    monkeypatch.setattr("dialer.dialling.send", lambda *_: Outcome("unknown", rule="no-answer"))
    stage.agent_dials(NEVER)
    assert of(scraped(stage), "dialer_dials_open") == {("unknown",): 1}
    stage.lasts(60)
    found = scraped(stage)
    assert of(found, "dialer_dials_open") == {}
    assert of(found, "dialer_dials_total") == {("absent",): 1}


def grown(before: dict[Sample, float], after: dict[Sample, float], name: str) -> dict[tuple[str, ...], float]:
    old, new = of(before, name), of(after, name)
    return {labels: count - old.get(labels, 0) for labels, count in new.items() if count != old.get(labels, 0)}


def test_each_process_counts_its_webhooks_by_path_and_status(stage: Any) -> None:
    before = scraped(stage)
    web = client(stage)
    assert web.post("/v1/voice/status", data={"AccountSid": stage.world.account_sid}).status_code == 403
    assert web.post("/v1/voice/status", data={"AccountSid": "AC0"}).status_code == 403
    assert web.post("/v1/voice/status", data=b"a=%ff", content_type="application/x-www-form-urlencoded").status_code
    stage.agent_dials("12345")
    after = scraped(stage)
    assert grown(before, after, "dialer_webhooks_total")["/v1/voice/status", "403"] == 3
    assert grown(before, after, "dialer_webhooks_total")["/v1/voice/twiml", "200"] == 1
    assert grown(before, after, "dialer_webhook_seconds_count")["/v1/voice/twiml",] == 1
    assert grown(before, after, "dialer_signatures_refused_total") == {
        ("no signature",): 1, ("unknown account",): 1, ("not a form",): 1,
    }  # fmt: skip


def test_a_webhook_that_fails_is_counted_as_500(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    before = scraped(stage)

    def fails(*_: Any) -> None:
        raise RuntimeError("a fault of ours")

    monkeypatch.setattr("dialer.webhook.receive", fails)
    assert client(stage).post("/v1/voice/status").status_code == 500
    monkeypatch.undo()
    assert grown(before, scraped(stage), "dialer_webhooks_total") == {("/v1/voice/status", "500"): 1}


def test_nobody_invents_labels() -> None:
    metrics.count_refusal("no signature\x00 of mine")
    assert b"of mine" not in metrics.generate(metrics.figures().registry)
    assert b'reason="other"' in metrics.generate(metrics.figures().registry)


def test_every_reason_of_a_refused_signature_is_a_label() -> None:
    source = (ROOT / "dialer/signature.py").read_text()
    reasons = set(re.findall(r'(?:ValueError\(|Verdict\(False, )"([^"]+)"', source))
    assert reasons
    assert reasons <= metrics.REFUSALS


def test_hooks_are_timed_and_their_failures_counted(make_stage: Any) -> None:
    stage = make_stage(plugins=(Grumbling(),))
    before = scraped(stage)
    stage.agent_dials("12345")
    stage.lasts(1)
    after = scraped(stage)
    assert grown(before, after, "dialer_hook_seconds_count") == {
        ("call_started", "grumbling"): 1, ("call_ended", "grumbling"): 1,
    }  # fmt: skip
    assert grown(before, after, "dialer_hook_errors_total") == {("call_ended", "grumbling"): 1}


# Who may read it


@pytest.mark.parametrize(
    "asked",
    [
        {"environ_base": {"REMOTE_ADDR": "203.0.113.7"}},
        {"headers": {"X-Forwarded-For": "203.0.113.7"}},
        {"headers": {"Forwarded": "for=203.0.113.7"}},
        {"headers": {"Host": "calls.example.com"}},
    ],
)
def test_from_elsewhere_it_takes_a_key(stage: Any, asked: dict[str, Any]) -> None:
    web = client(stage)
    assert web.get("/metrics", **asked).status_code == 401
    with stage.world.dialer.store.write() as tx:
        operators = add_key(tx, "", "", ("metrics",), now=stage.world.network.now)
        tenants = add_key(tx, "ws_demo", "", SCOPES, now=stage.world.network.now)
    for key, status in ((operators, 200), (tenants, 401)):
        headers = {**asked.get("headers", {}), "Authorization": f"Bearer {key}"}
        assert web.get("/metrics", **{**asked, "headers": headers}).status_code == status


def test_a_key_of_the_operators_opens_nothing_else_and_can_be_revoked(stage: Any) -> None:
    web, now = client(stage), stage.world.network.now
    with stage.world.dialer.store.write() as tx:
        key = add_key(tx, "", "", ("metrics",), now=now)
    headers = {"Authorization": f"Bearer {key}", "X-Forwarded-For": "203.0.113.7"}
    assert web.get("/v1/calls", headers=headers).status_code == 401
    assert web.get("/metrics", headers=headers).status_code == 200
    with stage.world.dialer.store.write() as tx:
        tx.run("revoke_key", key_id=key.split("_")[1], now=now)
    assert web.get("/metrics", headers=headers).status_code == 401


def test_scopes_of_tenants_and_of_the_operator_do_not_mix(stage: Any) -> None:
    with stage.world.dialer.store.write() as tx:
        with pytest.raises(DialerError, match="scope 'metrics' is not known"):
            add_key(tx, "ws_demo", "", ("metrics",), now=0.0)
        with pytest.raises(DialerError, match="scope 'token' needs a workspace"):
            add_key(tx, "", "", ("metrics", "token"), now=0.0)


def test_a_store_that_does_not_answer_is_said(stage: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(dialer: Any) -> Iterator[Any]:
        raise StoreError("store world.db: database is locked")

    monkeypatch.setattr(metrics, "from_store", fails)
    assert client(stage).get("/metrics").status_code == 503


# Several processes

COUNTS = """
import sys
from pathlib import Path
from dialer import metrics
metrics.share(Path(sys.argv[1]))
metrics.count_webhook("/v1/voice/status", 204, 0.002)
metrics.count_hook("crm", "call_ended", 0.5, failed=True)
sys.stdout.write("counted\\n")
sys.stdout.flush()
if sys.stdin.readline():
    sys.stdout.write(metrics.generate(metrics.all_processes()).decode())
"""


def process(folder: Path) -> subprocess.Popen[str]:
    environ = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    started = subprocess.Popen(
        [sys.executable, "-c", COUNTS, str(folder)],
        stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=environ,
    )  # fmt: skip
    assert started.stdout
    assert started.stdout.readline() == "counted\n"
    return started


def total(started: subprocess.Popen[str]) -> float:
    told = started.communicate("tell\n", timeout=30)[0]
    return parsed(told)["dialer_webhooks_total", (("path", "/v1/voice/status"), ("status", "204"))]


def test_the_processes_of_one_installation_count_together_and_the_dead_count_on(tmp_path: Path) -> None:
    first, second = process(tmp_path), process(tmp_path)
    first.kill()
    first.communicate(timeout=30)
    assert total(process(tmp_path)) == 3
    assert total(second) == 3


def test_when_all_have_ended_it_begins_anew(tmp_path: Path) -> None:
    process(tmp_path).communicate(timeout=30)
    assert total(process(tmp_path)) == 1


def test_a_folder_that_cannot_be_made_leaves_each_to_count_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("PROMETHEUS_MULTIPROC_DIR", raising=False)
    (tmp_path / "metrics").write_text("")
    metrics.share(tmp_path)
    assert "PROMETHEUS_MULTIPROC_DIR" not in os.environ


LOSES = """
import logging, os, shutil, sys
from pathlib import Path
from dialer import metrics
logging.basicConfig(stream=sys.stdout, format="%(message)s")
folder = Path(sys.argv[1]) / "metrics"
metrics.share(folder.parent)
{breaks}
for _ in range(2):
    metrics.count_webhook("/v1/voice/status", 204, 0.002)
    metrics.count_refusal("no signature")
    metrics.count_hook("crm", "call_ended", 0.5, failed=True)
for path in sorted(folder.glob("*.db")):
    print(path.name.partition("_")[0], path.stat().st_blocks * 512 >= metrics._RESERVED)
print("shared" if "PROMETHEUS_MULTIPROC_DIR" in os.environ else "alone")
"""
GARBAGE = "(folder / f'counter_{os.getpid()}.db').write_bytes(bytes([255, 255, 255, 127]))"
FULL = """
def full(*_): raise OSError(28, "No space left on device")
os.posix_fallocate = full
"""


@pytest.mark.parametrize(
    ("breaks", "told"),
    [
        ("", ["counter True", "histogram True", "shared"]),
        ("shutil.rmtree(folder)", ["this process counts alone: .*No such file.*", "alone"]),
        (GARBAGE, ["this process loses figures: .*", "counter True", "histogram True", "shared"]),
        (FULL, ["this process counts alone: .*No space left on device", "counter .*", "alone"]),
        ("import prometheus_client; shutil.rmtree(folder)",
         ["this process counts alone: .*", "this process loses figures: .*", "alone"]),
    ],
)  # fmt: skip
def test_what_cannot_be_counted_breaks_nothing_and_is_told_once(tmp_path: Path, breaks: str, told: list[str]) -> None:
    environ = {name: value for name, value in os.environ.items() if name != "PROMETHEUS_MULTIPROC_DIR"}
    command = [sys.executable, "-c", LOSES.replace("{breaks}", breaks), str(tmp_path)]
    ran = subprocess.run(command, env=environ, capture_output=True, text=True, check=False, timeout=60)
    lines = ran.stdout.splitlines()
    assert ran.returncode == 0, ran.stderr
    assert len(lines) == len(told), lines
    assert all(re.fullmatch(one, line) for one, line in zip(told, lines, strict=True)), lines


#: What a scrape may read: the counters, and the indexes of what is open.
SMALL = (
    r"SCAN counters|SEARCH calls USING INDEX calls_by_deadline|SEARCH events|USE TEMP"
    r"|(SCAN|SEARCH) jobs USING (COVERING )?INDEX jobs_(due|dead|waiting)|SCAN breakers"
)


def test_a_scrape_reads_no_whole_table(tmp_path: Path) -> None:
    store = SqliteStore(tmp_path / "dialer.db")
    names = [name for name in STATEMENTS if name.startswith("count_") and name not in ("count_use", "count_look")]
    read = []
    for name in ["counts", *names]:
        sql = STATEMENTS[name]
        plan = store.database().execute(f"EXPLAIN QUERY PLAN {sql}", dict.fromkeys(re.findall(r":(\w+)", sql)))
        read += [(name, row["detail"]) for row in plan if not re.match(SMALL, row["detail"])]
    store.close()
    assert read == []


def test_the_counters_of_an_older_store_begin_with_what_it_holds(tmp_path: Path) -> None:
    path = tmp_path / "dialer.db"
    old = Database(sqlite3.connect(path))
    migrations.apply(old, stop_before="m002_counters")
    fixed = dict.fromkeys(old["calls"].columns_dict, "") | {"requested_at": 0.0, "ring_seconds": 1}
    for number, status in enumerate(("busy", "busy", "completed", "ringing")):
        call = {"id": f"call_{number}", "conference": f"c{number}", "status": status, "ended_rank": 0, "time_limit": 1}
        old.table("calls").insert(fixed | call)
        intent = {"id": f"di_{number}", "call_id": call["id"], "workspace": "", "account_sid": "", "created_at": 0.0}
        old.table("dial_intents").insert(intent | {"state": "accepted" if number < 3 else "sending"})
    old.close()
    store = SqliteStore(path)
    with store.read() as tx:
        counts = {(row["name"], row["label"]): row["count"] for row in tx.all("counts")}
    store.close()
    assert counts == {("calls_ended", "busy"): 2, ("calls_ended", "completed"): 1, ("dials", "accepted"): 3}


def test_the_command_line_makes_an_operators_key_and_no_key_without_an_owner(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("DIALER_INSTANCE", str(tmp_path))
    SqliteStore(tmp_path / "dialer.db").close()
    made = CliRunner().invoke(cli, ["keys", "add", "--scope", "metrics"])
    assert made.exit_code == 0
    assert made.stdout.startswith("dk_")
    for arguments in ([], ["--agent", "ann", "--scope", "metrics"], ["--scope", "token"]):
        refused = CliRunner().invoke(cli, ["keys", "add", *arguments])
        assert refused.exit_code != 0
    listed = CliRunner().invoke(cli, ["keys", "list", "--json"])
    assert [row["scopes"] for row in json.loads(listed.stdout)] == ["metrics"]
