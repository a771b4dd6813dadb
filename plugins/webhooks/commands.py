"""`dialer webhooks`: try an endpoint, see how all of them fare, begin anew with one, make a secret."""

from __future__ import annotations

import base64
import os
import time
from typing import TYPE_CHECKING

import click

from dialer import DialerError
from dialer.printing import json_option, moment, print_json, print_table
from dialer_plugins.webhooks import receipts
from dialer_plugins.webhooks.messages import of_test
from dialer_plugins.webhooks.posting import NotSent, post

if TYPE_CHECKING:
    from dialer_plugins.webhooks import Webhooks

_WORKSPACE = click.option("--workspace", default="", help="With the settings of this workspace.")


def group(plugin: Webhooks) -> click.Group:
    return click.Group(
        "webhooks",
        commands=[test, list_, enable, secret],
        help="The endpoints that are told of calls: try them, see how they fare, begin anew with one.",
        context_settings={"obj": plugin},
    )


@click.command()
@click.argument("url")
@_WORKSPACE
@click.pass_obj
def test(plugin: Webhooks, url: str, workspace: str) -> None:
    """Post a message of the type dialer.test to the endpoint with this URL, once; exit code 1 if it is not taken."""
    own = _of(plugin, workspace)
    endpoint = next((one for one in own.endpoints if one.url == url), None)
    if endpoint is None:
        known = ", ".join(one.url for one in own.endpoints) or "none"
        raise DialerError(f"[plugins.webhooks] has no endpoint with this url (endpoints: {known})")
    now, began = own.host.clock(), time.perf_counter()
    message = of_test(now)
    try:
        answer = post(url, message.body.encode(), message.headers(endpoint.secrets, now), own.networks)
    except NotSent as error:
        raise DialerError(f"not sent: {error}") from None
    took = (time.perf_counter() - began) * 1000
    click.echo(f"answered {answer.status} in {took:.0f} ms")
    if text := " ".join(answer.text[:500].split()):
        click.echo(f"  {''.join(char if char.isprintable() else '?' for char in text)}")
    if not 200 <= answer.status < 300:
        raise DialerError("that is not taken for received: 200 to 299 are")


@click.command("list")
@_WORKSPACE
@json_option
@click.pass_obj
def list_(plugin: Webhooks, workspace: str, as_json: bool) -> None:
    """List the endpoints of the settings, and how each fares for each workspace that had an event for it."""
    own = _of(plugin, workspace)
    rows = []
    for endpoint in own.endpoints:
        seen = [one for one in receipts.receivers(own.host) if one.url == endpoint.url]
        for one in [one for one in seen if workspace in ("", one.workspace)] or [receipts.Receiver("", endpoint.url)]:
            rows.append(
                {
                    "url": endpoint.url,
                    "events": ", ".join(endpoint.events) or "all",
                    "workspace": one.workspace or ", ".join(endpoint.workspaces) or "all",
                    "state": _state(one, own.host.clock()),
                    "received": moment(one.received_at),
                    "failures": one.failures,
                    "missed": one.missed,
                    "reason": one.reason,
                }
            )
    if as_json:
        print_json(rows)
    elif rows:
        print_table(list(rows[0]), [list(row.values()) for row in rows])
    else:
        click.echo("there are no endpoints; write [[plugins.webhooks.endpoints]] with url and secret into dialer.toml")


@click.command()
@click.argument("url")
@_WORKSPACE
@click.pass_obj
def enable(plugin: Webhooks, url: str, workspace: str) -> None:
    """Begin anew with an endpoint that answered 410, or that rests after failures."""
    changed = receipts.forgive(plugin.host, workspace, url)
    if not changed:
        raise DialerError("no endpoint with this url is off or rests (dialer webhooks list)")
    click.echo("it is told of events again; what it missed while it was off stays missed")


@click.command()
def secret() -> None:
    """Make a signing secret, for the settings and for the receiver."""
    click.echo(f"whsec_{base64.b64encode(os.urandom(32)).decode()}")


def _of(plugin: Webhooks, workspace: str) -> Webhooks:
    own: Webhooks = plugin.host.plugin(workspace) if workspace else plugin
    return own


def _state(one: receipts.Receiver, now: float) -> str:
    if one.gone_at is not None:
        return f"off since {moment(one.gone_at)}: dialer webhooks enable"
    return f"rests until {moment(one.rests_until)}" if one.rests_until > now else "on"
