"""`dialer check`, and the workspaces, agents, numbers and keys of this installation."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path

import click

from dialer import auth, config
from dialer.errors import DialerError
from dialer.numbers import E164
from dialer.printing import json_option, moment, print_json, print_table
from dialer.settings import Settings
from dialer.store import Row, Store, open_store

ONLY_OF = click.option("--workspace", default="", help="Only of this workspace.")
OF = click.option("--workspace", required=True, help="The workspace it belongs to.")
ROLES = ("agent", "admin")


@contextmanager
def opened(settings: Settings, *, create: bool = False) -> Iterator[Store]:
    """The store, closed again; one that is not there is made only when asked for. Raises ConfigError or DialerError."""
    path = store_path(settings)
    if path and not create and not path.exists():
        raise DialerError(f"there is no store {path} yet (dialer run makes it; or set DIALER_INSTANCE, DIALER_STORE)")
    store = open_store(settings.store.url)
    try:
        yield store
    finally:
        store.close()


def store_path(settings: Settings) -> Path | None:
    """The file of an SQLite store."""
    scheme, _, path = settings.store.url.partition(":///")
    return Path(path) if scheme == "sqlite" else None


@click.command()
@json_option
@click.pass_context
def check(ctx: click.Context, as_json: bool) -> None:
    """Check dialer.toml, the plugins and the store: what was read, and one line for each fault with its fix.

    Exit code 3 when there is a fault. Asks nobody outside: dialer doctor does.
    """
    from dialer.survey import look_over

    read, faults = look_over()
    if as_json:
        print_json({**read, "faults": faults})
    else:
        warnings = read.pop("warnings", [])
        for name, value in read.items():
            click.echo(f"{name:<8} {', '.join(value) or 'none' if isinstance(value, list) else value}")
        for warning in warnings:
            click.echo(f"warning  {warning}")
        for fault in faults:
            click.echo(f"fault    {fault}", err=True)
        click.echo(f"{len(faults)} fault{'s' if len(faults) > 1 else ''}" if faults else "no faults")
    ctx.exit(3 if faults else 0)



@click.group()
def workspaces() -> None:
    """The tenants: each owns agents, numbers, keys and calls."""


@workspaces.command("add")
@click.argument("workspace")
@click.option("--name", default="", help="What people call it.")
def add_workspace(workspace: str, name: str) -> None:
    """Add WORKSPACE (letters, digits, underscores)."""
    with opened(config.load(), create=True) as store, store.write() as tx:
        auth.add_workspace(tx, workspace, name, time.time())
    click.echo(f"workspace {workspace} added")
    click.echo(
        f"next: dialer agents add IDENTITY --workspace {workspace}; dialer numbers add NUMBER --workspace {workspace}"
    )


@workspaces.command("list")
@json_option
def list_workspaces(as_json: bool) -> None:
    """List the workspaces."""
    print_rows("workspaces", ("id", "name", "created_at", "disabled_at"), as_json)


@workspaces.command("revoke")
@click.argument("workspace")
def revoke_workspace(workspace: str) -> None:
    """Disable WORKSPACE: its agents can neither get tokens nor call, and its keys are useless. Nothing is deleted."""
    change("disable_workspace", f"workspace {workspace}", "disabled", workspace=workspace, now=time.time())


@click.group()
def agents() -> None:
    """The people who call from a browser."""


@agents.command("add")
@click.argument("identity")
@OF
@click.option("--name", default="", help="What people call them.")
@click.option("--role", default=ROLES[0], show_default=True, type=click.Choice(ROLES))
def add_agent(identity: str, workspace: str, name: str, role: str) -> None:
    """Add the agent IDENTITY (letters, digits, underscores; unique over all workspaces)."""
    with opened(config.load()) as store, store.write() as tx:
        auth.add_agent(tx, workspace, identity, name, role, time.time())
    click.echo(f"agent {identity} added; next: dialer keys add --workspace {workspace} --agent {identity}")


@agents.command("list")
@ONLY_OF
@json_option
def list_agents(workspace: str, as_json: bool) -> None:
    """List the agents."""
    heads = ("identity", "workspace", "name", "role", "created_at", "disabled_at")
    print_rows("agents", heads, as_json, workspace=workspace)


@agents.command("revoke")
@click.argument("identity")
def revoke_agent(identity: str) -> None:
    """Disable the agent IDENTITY: no tokens, no calls, useless keys. Nothing is deleted."""
    change("disable_agent", f"agent {identity}", "disabled", identity=identity, now=time.time())


@click.group()
def numbers() -> None:
    """The numbers that a workspace may show to customers: owned by its Twilio account, or verified there."""


@numbers.command("add")
@click.argument("number")
@OF
def add_number(number: str, workspace: str) -> None:
    """Let a workspace call from NUMBER (E.164, such as +14155550199). Its first number is the default."""
    if not E164.fullmatch(number):
        raise click.BadParameter(f"{number!r} is not in E.164, such as +14155550199", param_hint="NUMBER")
    with opened(config.load()) as store, store.write() as tx:
        auth.require_workspace(tx, workspace)
        if not tx.run("add_number", workspace=workspace, number=number, created_at=time.time()):
            raise DialerError(f"{workspace} has {number} already")
    click.echo(f"number {number} added to {workspace}")


@numbers.command("list")
@ONLY_OF
@json_option
def list_numbers(workspace: str, as_json: bool) -> None:
    """List the numbers."""
    print_rows("all_numbers", ("workspace", "number", "created_at"), as_json, workspace=workspace)


@numbers.command("revoke")
@click.argument("number")
@OF
def revoke_number(number: str, workspace: str) -> None:
    """Take NUMBER from its workspace."""
    change("remove_number", f"number {number} of {workspace}", "removed", workspace=workspace, number=number)


@click.group()
def keys() -> None:
    """The keys of the REST API: of an agent, or of a whole workspace."""


@keys.command("add")
@click.option("--workspace", default="", help="The workspace it belongs to.  [default: the operator's, with metrics]")
@click.option("--agent", default="", help="Only for this agent.  [default: for any agent of the workspace]")
@click.option("--scope", "scopes", multiple=True,
              type=click.Choice((*auth.SCOPES, *auth.ADMIN_SCOPES, *auth.OPERATOR_SCOPES)),
              help="Only for this.  [default: all of a workspace's but admin]")  # fmt: skip
@click.option("--days", type=click.FloatRange(0, min_open=True), help="Good for so long.  [default: until revoked]")
@json_option
def add_key(workspace: str, agent: str, scopes: tuple[str, ...], days: float | None, as_json: bool) -> None:
    """Make a key and show it, for the only time."""
    if not workspace and (agent or not scopes):
        raise click.UsageError("name the --workspace (only a key with --scope metrics alone needs none)")
    ttl = None if days is None else days * 86_400
    with opened(config.load()) as store, store.write() as tx:
        key = auth.add_key(tx, workspace, agent, scopes or auth.SCOPES, now=time.time(), ttl=ttl)
    if as_json:
        print_json({"id": key.split("_")[1], "key": key})
    else:
        click.echo(key)
        click.echo("This is shown once: the store keeps only a hash of it.", err=True)


@keys.command("list")
@ONLY_OF
@click.option("--all", "everything", is_flag=True, help="The revoked and expired ones too.")
@json_option
def list_keys(workspace: str, everything: bool, as_json: bool) -> None:
    """List the keys, by their ids."""
    heads = ("id", "workspace", "agent", "scopes", "created_at", "expires_at", "revoked_at")
    now = time.time()

    def good(row: Row) -> bool:
        return not row["revoked_at"] and (row["expires_at"] is None or row["expires_at"] > now)

    print_rows("keys", heads, as_json, lambda row: everything or good(row), workspace=workspace)


@keys.command("revoke")
@click.argument("key_id")
def revoke_key(key_id: str) -> None:
    """Revoke the key with the id KEY_ID (the twelve digits after dk_; the whole key is good too)."""
    key_id = key_id.removeprefix("dk_").split("_")[0]
    change("revoke_key", f"key {key_id}", "revoked", key_id=key_id, now=time.time())


def print_rows(
    statement: str,
    heads: tuple[str, ...],
    as_json: bool,
    wanted: Callable[[Row], bool] = lambda row: True,
    **values: str,
) -> None:
    """Print the rows that a statement finds; times are columns whose name ends in _at."""
    with opened(config.load()) as store, store.read() as tx:
        rows = [{head: row[head] for head in heads} for row in tx.all(statement, **values) if wanted(row)]
    if as_json:
        print_json(rows)
        return
    shown = ([moment(row[head]) if head.endswith("_at") else row[head] for head in heads] for row in rows)
    print_table([head.removesuffix("_at") for head in heads], shown)


def change(statement: str, what: str, done: str, **values: object) -> None:
    """Run a statement that must touch one row; raises DialerError when it touched none."""
    with opened(config.load()) as store, store.write() as tx:
        touched = tx.run(statement, **values)
    if not touched:
        raise DialerError(f"there is no {what}, or it is {done} already")
    click.echo(f"{what} {done}")
