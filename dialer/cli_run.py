"""`dialer run`, and its parts alone: `dialer worker`, `dialer simulator`."""

from __future__ import annotations

import logging
import os
import shutil
import signal
import socket
import sys
import time
from collections.abc import Mapping
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

import click

from dialer import demo, logs
from dialer.config import keep_good, last_good_path, load, write_first
from dialer.errors import ConfigError, DialerError
from dialer.loopback import NotReachable, ask
from dialer.settings import Settings
from dialer.store import open_store
from dialer.supervisor import Child, Supervisor, listen, only_run

if TYPE_CHECKING:
    from dialer.simulator.server_config import SimulatorConfig

log = logging.getLogger("dialer.run")

PYTHON = (sys.executable, "-P", "-m")


@click.command()
@click.option("--workers", default=2, show_default=True, type=click.IntRange(1, 64), help="Web processes.")
@click.option("--threads", default=4, show_default=True, type=click.IntRange(1, 64), help="Threads of each.")
def run(workers: int, threads: int) -> None:
    """Run Dialer: the web server, the dispatcher and, while no Twilio account is configured, the simulator.

    What dies is started again; Ctrl-C stops all, a second one at once.
    """
    written = write_first()
    settings = load()
    logs.configure(settings.server.log, settings.server.log_level)
    require_plugins(settings)
    lock = only_run(settings.instance)
    server = listen(*demo.split_bind(settings.server.bind), "DIALER_BIND")
    simulated = not settings.accounts
    environ = dict(os.environ)
    if simulated:
        listen(*demo.simulator_bind(environ), "DIALER_SIMULATOR_BIND").close()
        environ |= demo.prepare_account(settings, environ)
        settings = load(environ)
    open_store(settings.store.url).close()
    environ["DIALER_LAST_GOOD"] = str(last_good_path(settings))
    keep_good(settings, environ)
    found = children(settings, server, workers, threads, simulated)
    if written:
        log.info("wrote %s: the settings to start from", written)
    supervisor = Supervisor(found, environ, keep=(server.fileno(), lock))
    supervise(supervisor, settings, server, simulated)


def require_plugins(settings: Settings) -> None:
    """Refuse to start with a plugin that cannot be used, unless it is set aside by now; raises ConfigError."""
    from dialer.starting import start

    start(settings)


def children(settings: Settings, server: socket.socket, workers: int, threads: int, simulated: bool) -> list[Child]:
    """The processes, in the order in which they are stopped: the network last, for what the others still ask of it."""
    size = ("--workers", str(workers), "--threads", str(threads))
    gunicorn = ("gunicorn", "-c", "python:dialer.gunicorn_config", "--bind", f"fd://{server.fileno()}", *size)
    found = [
        Child("the dispatcher", (*PYTHON, "dialer", "worker"), stop_seconds=20.0),
        Child("gunicorn", (*PYTHON, *gunicorn), stop_seconds=15.0),
    ]
    if simulated:
        config = ("--config", str(demo.account_path(settings)))
        found.append(Child("the simulator", (*PYTHON, "dialer", "simulator", *config), stop_seconds=5.0, silent=True))
    return found


def supervise(supervisor: Supervisor, settings: Settings, server: socket.socket, simulated: bool) -> None:
    """Keep all running until a signal says stop."""
    hung_up = () if signal.getsignal(signal.SIGHUP) == signal.SIG_IGN else (signal.SIGHUP,)  # ignored under nohup
    for number in (signal.SIGINT, signal.SIGTERM, *hung_up):
        signal.signal(number, supervisor.on_signal)
    try:
        supervisor.run(
            ready=lambda: is_ready(settings, simulated),
            announce=lambda: announce(settings, simulated),
        )
    finally:
        server.close()
        supervisor.stop()
    log.info("stopped")


def is_ready(settings: Settings, simulated: bool) -> bool:
    """Whether all that was started answers."""
    try:
        ask(f"{demo.base_url(*demo.split_bind(settings.server.bind))}/readyz", seconds=1.0)
        if simulated:
            ask(f"{settings.twilio.api_base}/_simulator/health", seconds=1.0)
    except DialerError:
        return False
    return True


def announce(settings: Settings, simulated: bool) -> None:
    """Say that all is up. The demo workspace is made only now, so that its keys are sure to be seen."""
    keys: dict[str, str] = {}
    if simulated:
        with closing(open_store(settings.store.url)) as store:
            keys = demo.make_workspace(store, time.time())
    click.echo(welcome(settings, keys, simulated))


def welcome(settings: Settings, keys: Mapping[str, str], simulated: bool) -> str:
    """Where to go, what is simulated and what is not, and what to try first."""
    local = demo.base_url(*demo.split_bind(settings.server.bind))
    lines = ["", f"Dialer is ready at {local} (REST API: {local}/v1/calls, health: {local}/readyz)", ""]
    lines += simulated_lines(settings) if simulated else real_lines(settings)
    if keys:
        lines += ["", f"API keys of the workspace {demo.WORKSPACE}, shown this once (dialer keys add makes others):"]
        lines += [f"  {agent}  {key}" for agent, key in keys.items()]
    lines += ["", "Stop with Ctrl-C.", ""]
    return "\n".join(lines)


def simulated_lines(settings: Settings) -> list[str]:
    base = settings.twilio.api_base
    phones = ask(f"{base}/_simulator/phones")["phones"]
    return [
        "*** SIMULATED: no Twilio account is configured. No real phone rings, and nothing costs money. ***",
        f"  simulated  the phone network with Twilio's API and webhooks ({base}/_simulator/), the people who answer,",
        "             and the agent's browser",
        f"  real       the web server, the dispatcher, plugins, webhook signatures, the store ({settings.store.url})",
        "  For real calls set TWILIO_ACCOUNT_SID, TWILIO_AUTH_TOKEN and the rest (dialer doctor says what is missing).",
        "",
        "Scripted numbers:",
        *(f"  {phone['number']}  {phone['story']}" for phone in phones),
        "",
        f"Try it in a second shell:  {own_command()} call +14155550101",
    ]


def real_lines(settings: Settings) -> list[str]:
    accounts = ", ".join(account.sid for account in settings.accounts)
    if settings.simulated:
        return [f"Twilio's API is taken from {settings.twilio.api_base}, on this machine: no real phone rings."]
    return [
        f"*** REAL CALLS over Twilio ({accounts}): phones ring, and calls cost money. ***",
        f"  Twilio must reach {settings.server.public_url}; the TwiML App of the browsers must be set to",
        *(f"  {name:<19} {url}" for name, url in demo.application_urls(settings.server.public_url).items()),
        "  dialer doctor checks all of that.",
        *demo_lines(settings),
    ]


def demo_lines(settings: Settings) -> list[str]:
    """A word on keys that were printed on a terminal while no call was real."""
    with closing(open_store(settings.store.url)) as store, store.read() as tx:
        row = tx.one("workspace", workspace=demo.WORKSPACE)
    if row is None or row["disabled_at"]:
        return []
    return [f"  The demo's keys work here too: dialer workspaces revoke {demo.WORKSPACE} ends that."]


def own_command() -> str:
    """How this program was called, as it can be called again in another shell of the same folder."""
    here = Path(sys.argv[0])
    return "dialer" if here.name != "dialer" or shutil.which("dialer") == str(here) else str(here)


@click.command()
def worker() -> None:
    """Run one dispatcher: it dials, hangs up and tells the plugins. One per database; `dialer run` starts its own."""
    from dialer.app import create_service
    from dialer.dispatcher import Dispatcher, only_one
    from dialer.metrics import share

    dialer = create_service()
    if not dialer.settings.accounts:
        raise ConfigError("there is no Twilio account: set TWILIO_ACCOUNT_SID and the rest, or use dialer run")
    lock = only_one(dialer.settings.instance / "dispatcher.lock")
    share(dialer.settings.instance)
    dispatcher = Dispatcher(dialer)
    for number in (signal.SIGINT, signal.SIGTERM):
        signal.signal(number, lambda *_: dispatcher.stopping.set())
    if not dispatcher.run():
        log.warning("a job did not come to an end and is left: it runs again after its lease")
        logging.shutdown()
        os._exit(0)  # its thread would hold the process
    os.close(lock)


@click.command()
@click.option("--config", type=click.Path(exists=True, dir_okay=False), help="All of the setup, as a JSON file.")
@click.option("--bind", help="host:port to listen on.  [default: DIALER_SIMULATOR_BIND or 127.0.0.1:8100]")
@click.option("--account", help="Account SID.  [default: a new one]")
@click.option("--auth-token", help="Its auth token.  [default: a new one]")
@click.option("--voice-url", help="Where your application answers calls with TwiML.")
@click.option("--status-callback", help="Where it is told how browsers' calls end.")
@click.option("--number", "numbers", multiple=True, help="A number of the account, such as +14155550199.")
def simulator(
    config: str | None, bind: str | None, account: str | None, auth_token: str | None, voice_url: str | None,
    status_callback: str | None, numbers: tuple[str, ...],
) -> None:  # fmt: skip
    """Run the simulated phone network alone: Twilio's REST API on this machine, for any application.

    Point the application's Twilio client at the address printed, with the account printed.
    """
    from dialer.simulator.server import AddressInUse, run_server
    from dialer.simulator.settings import ConfigError as BadSetup

    logs.configure("text", "info")
    given = (account, auth_token, voice_url, status_callback)
    if config and (any(given) or numbers):
        raise click.UsageError("--config says all of the setup: beside it only --bind may be given")
    try:
        setup = simulator_setup(config, bind, *given, numbers)
        for line in account_lines(setup):
            click.echo(line)
        run_server(setup)
    except AddressInUse as error:
        raise NotReachable(str(error)) from None
    except BadSetup as error:
        raise ConfigError(str(error)) from None


def simulator_setup(
    config: str | None, bind: str | None, account: str | None, auth_token: str | None, voice_url: str | None,
    status_callback: str | None, numbers: tuple[str, ...],
) -> SimulatorConfig:  # fmt: skip
    """The setup that the options describe; raises ConfigError, the simulator's own too."""
    from dialer.simulator.server_config import AccountConfig, SimulatorConfig
    from dialer.simulator.server_config import load as load_setup

    host, port = demo.simulator_bind({**os.environ, **({"DIALER_SIMULATOR_BIND": bind} if bind else {})})
    if config:
        setup = load_setup(config)
        return replace(setup, host=host, port=port) if bind else setup
    made = demo.new_account()
    urls = {"voice_url": voice_url or "", "status_callback": status_callback or ""}
    one = AccountConfig(
        sid=account or made["sid"],
        auth_token=auth_token or made["auth_token"],
        keys=made["keys"],
        applications=tuple({**application, **urls} for application in made["applications"]),
        numbers=tuple({"phone_number": number} for number in numbers),
    )
    return SimulatorConfig(host=host, port=port, accounts=(one,))


def account_lines(setup: SimulatorConfig) -> list[str]:
    """What an application must be given to use the simulator."""
    lines = []
    for account in setup.accounts:
        lines += [f"account sid      {account.sid}", f"auth token       {account.auth_token}"]
        lines += [f"API key, secret  {key}  {secret}" for key, secret in account.keys.items()]
        lines += [f"application sid  {application['sid']}" for application in account.applications]
        lines += [f"number           {number['phone_number']}" for number in account.numbers]
    return lines
