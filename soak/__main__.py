"""The long runs, each by itself: `python -m soak crashes --times 20`. `make soak` runs them all."""

from __future__ import annotations

import click

from soak.chaos import kills, nemesis, steady
from soak.crashes import crashes
from soak.plugins import plugins
from soak.powercut import power
from soak.requests import requests


@click.group()
def soak() -> None:
    """Prove the promises of docs/reliability.md, at length."""


for command in (crashes, kills, nemesis, plugins, power, requests, steady):
    soak.add_command(command)

if __name__ == "__main__":
    soak()
