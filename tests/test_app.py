"""The application as a whole: how it is made, what it answers to a load balancer, and both ways in for webhooks."""

from __future__ import annotations

import io
import logging
import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any
from urllib.parse import urlencode

import pytest
from flask import Flask
from werkzeug.test import run_wsgi_app

from dialer.app import create_app, create_service
from dialer.config import keep_good, load
from dialer.errors import ConfigError
from dialer.signature import signature_of
from dialer.simulator.world import PUBLIC_URL
from dialer.store import StoreError

AGENT = "CA" + "a" * 32
FORM = "application/x-www-form-urlencoded"


@pytest.fixture
def app(stage: Any) -> Flask:
    given = stage.world.dialer
    return create_app(given.settings, plugins=given.plugins, store=given.store, clock=given.clock)


def post(app: Flask, path: str, prefix: str = "", **fields: str) -> tuple[int, dict[str, str], bytes]:
    """One signed webhook, to the application as it is or mounted under a prefix."""
    account = app.extensions["dialer"].settings.accounts[0]
    form = {"AccountSid": account.sid, "CallSid": AGENT, **fields}
    body = urlencode(form).encode()
    environ = {
        "REQUEST_METHOD": "POST",
        "SCRIPT_NAME": prefix,
        "PATH_INFO": path,
        "QUERY_STRING": "",
        "RAW_URI": prefix + path,
        "SERVER_NAME": "x",
        "SERVER_PORT": "80",
        "wsgi.url_scheme": "http",
        "wsgi.input": io.BytesIO(body),
        "wsgi.errors": io.StringIO(),
        "CONTENT_TYPE": FORM,
        "CONTENT_LENGTH": str(len(body)),
        "HTTP_X_TWILIO_SIGNATURE": signature_of(
            PUBLIC_URL + prefix + path, list(form.items()), account.tokens[0].reveal()
        ),
    }
    content, status, headers = run_wsgi_app(app, environ)
    return int(status.split()[0]), dict(headers), b"".join(content)


def agent_calls(app: Flask, prefix: str = "") -> tuple[int, dict[str, str], bytes]:
    return post(app, "/v1/voice/twiml", prefix, Caller="client:ws_demo_agent_0", To="+14155550103")


def test_both_ways_in_give_the_same_answer(app: Flask) -> None:
    short, long = agent_calls(app), agent_calls(app, "/mounted")
    assert (short[0], short[2]) == (long[0], long[2])
    assert short[1]["Content-Type"] == long[1]["Content-Type"] == "text/xml; charset=utf-8"
    assert short[1]["Content-Length"] == long[1]["Content-Length"] == str(len(short[2]))


def test_an_answer_without_a_body_says_so(app: Flask) -> None:
    agent_calls(app)
    for prefix in ("", "/mounted"):
        status, _, body = post(app, "/v1/voice/status", prefix, CallStatus="in-progress")
        assert (status, body) == (204, b"")


@pytest.mark.parametrize("prefix", ["", "/mounted"])
def test_a_fault_of_ours_is_a_500_that_says_nothing_and_a_traceback_in_the_log(
    app: Flask, monkeypatch: pytest.MonkeyPatch, prefix: str
) -> None:
    log = io.StringIO()
    logging.getLogger("dialer").handlers[0].setStream(log)  # type: ignore[attr-defined]
    monkeypatch.setattr("dialer.voice.decide", lambda draft: 1 / 0)
    status, _, body = agent_calls(app, prefix)
    assert status == 500
    assert b"division" not in body
    assert log.getvalue().count("ZeroDivisionError: division by zero") == 1
    monkeypatch.undo()
    assert agent_calls(app, prefix)[0] == 200


def test_it_is_alive_and_ready(app: Flask) -> None:
    client = app.test_client()
    assert (client.get("/healthz").status_code, client.get("/healthz").get_json()) == (200, {"ok": True})
    assert client.get("/readyz").get_json() == {"ok": True, "config": "current", "dispatcher": "in time"}
    assert client.post("/healthz").status_code == 405


def test_without_its_store_it_is_alive_and_not_ready(app: Flask, monkeypatch: pytest.MonkeyPatch) -> None:
    def fails(self: object) -> None:
        raise StoreError("store world.db: disk I/O error")

    monkeypatch.setattr(type(app.extensions["dialer"].store), "read", fails)
    answer = app.test_client().get("/readyz")
    assert (answer.status_code, answer.get_json()) == (503, {"ok": False, "store": "does not answer"})
    assert app.test_client().get("/healthz").status_code == 200


def test_a_change_of_the_configuration_that_was_ignored_is_said(app: Flask) -> None:
    app.extensions["dialer"].plugins.problem = "dialer.toml: [plugins].enabled: secret details"
    assert app.test_client().get("/readyz").get_json() == {
        "ok": True,
        "config": "last change ignored",
        "dispatcher": "in time",
    }


def test_pages_beside_the_api_keep_flasks_own_errors(app: Flask) -> None:
    answer = app.test_client().get("/elsewhere")
    assert (answer.status_code, answer.content_type) == (404, "text/html; charset=utf-8")


def test_it_is_made_from_its_file_and_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dialer.toml").write_text('[plugins]\nenabled = ["number_policy"]\n')
    monkeypatch.setenv("DIALER_CONFIG", str(tmp_path / "dialer.toml"))
    monkeypatch.setenv("DIALER_INSTANCE", str(tmp_path / "data"))
    monkeypatch.delenv("DIALER_STORE", raising=False)
    app = create_app()
    dialer = app.extensions["dialer"]
    assert app.test_client().get("/readyz").status_code == 200
    assert list(dialer.plugins.current().names) == ["number_policy"]
    assert (tmp_path / "data" / "dialer.db").stat().st_mode & 0o777 == 0o600
    dialer.store.close()


def test_a_file_with_a_fault_makes_no_application(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "dialer.toml").write_text("[calls]\nring_seconds = 1\n")
    monkeypatch.setenv("DIALER_CONFIG", str(tmp_path / "dialer.toml"))
    with pytest.raises(ConfigError, match=r"dialer\.toml: \[calls\]\.ring_seconds: "):
        create_app()


def run(program: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", program], env=environ, capture_output=True, text=True, timeout=50)


def test_a_web_worker_does_not_load_what_only_jobs_and_plugins_need() -> None:
    loaded = run("import sys, dialer.app; print(*sys.modules)").stdout.split()
    assert "dialer.voice" in loaded
    assert {"twilio.rest", "aiohttp", "rich", "dialer.simulator"} & set(loaded) == set()


def test_a_plugins_import_of_dialer_loads_no_web_server() -> None:
    assert run("import sys, dialer; print('flask' in sys.modules, dialer.create_app.__name__)").stdout == (
        "False create_app\n"
    )


@pytest.mark.parametrize(("point", "passed"), [("b", "a"), ("b:2", "aba"), ("b:3", "ababa"), ("x", "abababa")])
def test_a_crash_point_kills_at_its_nth_passing_and_only_there(point: str, passed: str) -> None:
    program = "from dialer.crash import crash_point as c\nfor n in 'abababa': c(n); print(n, end='', flush=True)"
    ended = run(program, DIALER_CRASH_AT=point)
    assert ended.stdout == passed
    assert ended.returncode == (0 if point == "x" else -signal.SIGKILL)


def test_a_process_that_starts_while_the_file_is_broken_goes_on_with_what_was_last_in_use(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file, kept = tmp_path / "dialer.toml", tmp_path / "dialer.toml.last-good"
    file.write_text('[plugins]\nenabled = ["number_policy"]\n')
    file.chmod(0o600)
    monkeypatch.setenv("DIALER_INSTANCE", str(tmp_path))
    monkeypatch.setenv("DIALER_LAST_GOOD", str(kept))
    keep_good(load())
    os.utime(kept, (1, 1))
    for broken in ("[plugins", '[plugins]\nenabled = ["number_policy"]\n[plugins.number_policy]\ncountreis = ["US"]\n'):
        file.write_text(broken)
        used = create_service()
        assert used.plugins.current().names == ("number_policy",)
        assert used.plugins.problem
        used.store.close()
    monkeypatch.delenv("DIALER_LAST_GOOD")
    with pytest.raises(ConfigError, match="countreis"):
        create_service()


@pytest.mark.parametrize("left", ["empty", "gone"])
def test_a_file_that_was_lost_does_not_switch_the_checks_off(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, left: str
) -> None:
    file, kept = tmp_path / "dialer.toml", tmp_path / "dialer.toml.last-good"
    kept.write_text('[plugins]\nenabled = ["number_policy"]\n')
    if left == "empty":
        file.write_text("\n")
    monkeypatch.setenv("DIALER_INSTANCE", str(tmp_path))
    with pytest.raises(ConfigError, match=f"the file is {left}.*copy dialer.toml.last-good back"):
        create_service()
    kept.unlink()
    create_service().store.close()


def test_a_first_start_has_the_examples_plugins_on(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("DIALER_INSTANCE", str(tmp_path))
    used = create_service()
    assert used.plugins.current().names == ("number_policy",)
    used.store.close()
