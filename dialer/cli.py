"""The command line: which commands there are, and how their errors are shown.

Exit codes: 0 done; 1 done with an outcome that is a failure; 2 used wrongly; 3 configuration; 4 not reachable.
A command's module is imported when that command runs, so that a quick one stays quick.
"""

from __future__ import annotations

import importlib
from typing import Any

import click

from dialer.errors import ConfigError, DialerError
from dialer.loopback import NotReachable

#: Command: the module and the object in it, and its line in the overview.
COMMANDS = {
    "run": ("dialer.cli_run", "run", "Run it all; without a Twilio account, over a simulated network."),
    "call": ("dialer.cli_calls", "call", "Place a call over the simulator and watch it happen."),
    "calls": ("dialer.cli_calls", "calls", "List the newest calls."),
    "show": ("dialer.cli_calls", "show", "Show all that is known of one call, and why it went as it did."),
    "check": ("dialer.cli_admin", "check", "Check the configuration, the plugins and the store."),
    "doctor": ("dialer.doctor", "doctor", "Ask Twilio whether everything is set up for calls."),
    "workspaces": ("dialer.cli_admin", "workspaces", "Add, list and disable workspaces."),
    "agents": ("dialer.cli_admin", "agents", "Add, list and disable agents."),
    "numbers": ("dialer.cli_admin", "numbers", "Add, list and remove the numbers a workspace calls from."),
    "keys": ("dialer.cli_admin", "keys", "Add, list and revoke the keys of the REST API."),
    "plugins": ("dialer.cli_plugins", "plugins", "List plugins, switch them on and off, and see who did."),
    "deliveries": ("dialer.cli_deliveries", "deliveries", "List what plugins are told, and tell it again."),
    "simulate": ("dialer.simulation", "simulate", "Play many calls in virtual time and check what must hold."),
    "simulator": ("dialer.cli_run", "simulator", "Run the simulated network alone, for any application."),
    "worker": ("dialer.cli_run", "worker", "Run the dispatcher alone: dialling, hanging up, deliveries."),
}


class Failure(click.ClickException):
    """An error of ours on the command line: one line on standard error, and its exit code."""

    def __init__(self, error: DialerError) -> None:
        super().__init__(str(error))
        self.error = error

    @property
    def exit_code(self) -> int:  # type: ignore[override]
        if isinstance(self.error, ConfigError):
            return 3
        return 4 if isinstance(self.error, NotReachable) else 1

    def show(self, file: Any = None) -> None:
        click.echo(f"dialer: {self.message}", file=file, err=True)


class Commands(click.Group):
    """The group of all commands, each loaded on first use."""

    listed = COMMANDS

    def list_commands(self, ctx: click.Context) -> list[str]:
        return [*self.listed, *(name for name, _ in self._plugin_commands())]

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in COMMANDS:
            from dialer.plugin_commands import find

            try:
                return find(cmd_name)
            except DialerError:
                if ctx.resilient_parsing:  # a shell completes a line: no place for a sentence
                    return None
                raise
        module, name, _ = COMMANDS[cmd_name]
        found: click.Command = getattr(importlib.import_module(module), name)
        return found

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:
        with formatter.section("Commands"):
            formatter.write_dl([(name, line) for name, (_, _, line) in self.listed.items()])
        if brought := self._plugin_commands():
            with formatter.section("Commands of plugins"):
                formatter.write_dl(brought)

    def _plugin_commands(self) -> list[tuple[str, str]]:
        from dialer.plugin_commands import overview

        return list(overview(COMMANDS))

    def invoke(self, ctx: click.Context) -> Any:
        try:
            return super().invoke(ctx)
        except DialerError as error:
            raise Failure(error) from error


@click.group(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="dialer", prog_name="dialer", message="%(prog)s %(version)s")
def cli() -> None:
    """Dialer: a browser and a phone in one call, over Twilio."""


def main() -> None:
    """The entry point of the `dialer` command."""
    cli(prog_name="dialer")
