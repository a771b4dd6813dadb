"""`dialer plugins new` and `dialer plugins test`: for those who write plugins."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from dialer.printing import json_option, print_json


@click.command()
@click.argument("name")
@click.option("--path", default=".", show_default=True, type=click.Path(file_okay=False, path_type=Path),
              help="The folder to put the project's folder into.")  # fmt: skip
def new(name: str, path: Path) -> None:
    """Begin a project of your own for the plugin NAME: its code, a test, a README, ready to install."""
    from dialer.scaffold import begin, rule_broken

    if broken := rule_broken(name):
        raise click.BadParameter(broken, param_hint="NAME")
    project = begin(name, path)
    click.echo(f"{project} is there. Now:\n\n  cd {project}\n  python -m pip install -e '.[test]'")
    click.echo(f"  python -m pytest\n  dialer plugins test {name}")


@click.command()
@click.argument("plugin")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="A setting that has no default.")
@click.option("--calls", default=40, show_default=True, type=click.IntRange(1, 10_000), help="How many are played.")
@click.option("--seed", default=1, show_default=True, help="The same seed plays the same calls.")
@json_option
def test(plugin: str, settings: tuple[str, ...], calls: int, seed: int, as_json: bool) -> None:
    """Test PLUGIN (an installed one's name, its project's folder, or module:Class) for what every plugin must do.

    Exit code 0 when everything holds, 1 when anything does not.
    """
    from dialer.cli_plugins import read_setting
    from dialer.conformance import conformance
    from dialer.conformance_target import target_of

    target, checks = target_of(plugin), []
    for check in conformance(target, dict(map(read_setting, settings)), calls, seed):
        checks.append(check)
        if not as_json:
            click.echo(f"{'ok' if check.ok else 'failed':<7} {check.name}{f': {check.text}' if check.text else ''}")
            if check.fix:
                click.echo(f"        fix: {check.fix}")
    ok = all(check.ok for check in checks)
    if as_json:
        print_json({"plugin": target.name, "ok": ok, "checks": [asdict(check) for check in checks]})
    if not ok:
        raise SystemExit(1)
