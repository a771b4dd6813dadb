"""One Dialer and its simulated account in a folder: addresses, settings, store; nothing of it runs by itself."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from functools import cached_property
from pathlib import Path
from typing import Any

from dialer import demo
from dialer.auth import add_agent, add_workspace
from dialer.store import Store, open_store
from soak.processes import free_port

ROOT = Path(__file__).resolve().parent.parent
#: Calls a second for the account and at the network, and entries the network keeps: more than any test makes.
PACE, KEPT = 1000.0, 10_000_000
AGENTS = tuple(f"agent_{number}" for number in range(8))


@dataclass
class Installation:
    """What a Stack runs.

    `webhook_port` and `rest_port`: what Dialer and the network are told of each other, where a proxy stands between.
    `plugins`: names, separated by commas; `recorder` is there too, and writes what it is told to `told`.
    `toml`: more settings, `account`: those of the simulated account.
    """

    folder: Path
    workers: int = 2
    threads: int = 4
    plugins: str = ""
    webhook_port: int = 0
    rest_port: int = 0
    toml: str = ""
    knobs: Mapping[str, Any] = field(default_factory=dict)
    faults: Mapping[str, Any] = field(default_factory=dict)
    account: Mapping[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self.web_port, self.simulator_port = free_port(), free_port()
        self.folder.mkdir(parents=True, exist_ok=True)

    @property
    def public_port(self) -> int:
        """Where webhooks are sent to."""
        return self.webhook_port or self.web_port

    @property
    def api_port(self) -> int:
        """Where Dialer's REST requests are sent to."""
        return self.rest_port or self.simulator_port

    @cached_property
    def _store(self) -> Store:
        return open_store(f"sqlite:///{self.database}")

    def store(self) -> Store:
        """Dialer's store, to be read."""
        return self._store

    @property
    def database(self) -> Path:
        return self.folder / "dialer.db"

    def close_store(self) -> None:
        """Close the store, if it was opened."""
        if "_store" in self.__dict__:
            self._store.close()

    @cached_property
    def setup(self) -> dict[str, Any]:
        """The simulated account."""
        made = demo.new_account() | {"cps": PACE} | dict(self.account)
        made["applications"][0] |= demo.application_urls(f"http://127.0.0.1:{self.public_port}")
        return made

    @cached_property
    def environ(self) -> dict[str, str]:
        """The variables of all three."""
        kept = {name: value for name, value in os.environ.items() if not name.startswith(("DIALER_", "TWILIO_"))}
        key, secret = next(iter(self.setup["keys"].items()))
        return kept | {
            "PYTHONPATH": os.pathsep.join((str(self.folder / "site"), str(ROOT))),
            "DIALER_INSTANCE": str(self.folder),
            "DIALER_BIND": f"127.0.0.1:{self.web_port}",
            "DIALER_PUBLIC_URL": f"http://127.0.0.1:{self.public_port}",
            "TWILIO_ACCOUNT_SID": self.setup["sid"],
            "TWILIO_AUTH_TOKEN": self.setup["auth_token"],
            "TWILIO_API_KEY": key,
            "TWILIO_API_SECRET": secret,
            "TWILIO_APP_SID": self.setup["applications"][0]["sid"],
            "TWILIO_API_BASE": f"http://127.0.0.1:{self.api_port}",
        }

    def write_settings(self) -> None:
        """Write what all three read, and make the workspace and its agents."""
        names = [name.strip() for name in self.plugins.split(",") if name.strip()]
        toml = f"[twilio]\ncalls_per_second = {PACE}\n[plugins]\nenabled = {json.dumps(names)}\n{self.toml}"
        (self.folder / "dialer.toml").write_text(toml)
        install_recorder(self.folder / "site")
        network = {
            "port": self.simulator_port,
            "accounts": [self.setup],
            "keep_seconds": KEPT,
            "keep_requests": KEPT,
            "knobs": {"max_log": KEPT, **self.knobs},
            "faults": dict(self.faults),
        }
        (self.folder / "simulator.json").write_text(json.dumps(network))
        now = time.time()
        with self.store().write() as tx:
            add_workspace(tx, demo.WORKSPACE, "Soak", now)
            tx.run("add_number", workspace=demo.WORKSPACE, number=demo.NUMBER, created_at=now)
            for identity in AGENTS:
                add_agent(tx, demo.WORKSPACE, identity, identity, "agent", now)


def install_recorder(site: Path) -> None:
    """Make the plugin `recorder` one of those installed, for whoever has this folder on his path."""
    about = site / "soak_recorder-1.dist-info"
    about.mkdir(parents=True, exist_ok=True)
    (about / "METADATA").write_text("Metadata-Version: 2.1\nName: soak-recorder\nVersion: 1\n")
    (about / "entry_points.txt").write_text("[dialer.plugins]\nrecorder = soak.recorder:Recorder\n")
