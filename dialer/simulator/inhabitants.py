"""What a world begins with: an account at the network, settings that name it, workspaces and their agents."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from dialer.settings import Account, Calls, Server, Settings
from dialer.simulator.network import Network
from dialer.store import Store
from dialer.tables import Secret, Source

PUBLIC_URL = "https://dialer.example"
CALLER_ID = "+14155550199"


@dataclass(slots=True)
class Agent:
    """Somebody at a browser, in a workspace of this world."""

    identity: str
    workspace: str


def make_settings(network: Network, folder: Path, calls: Calls, pace: float) -> Settings:
    """Settings of a Dialer with a new account of this network, its TwiML App and one number."""
    account = network.add_account()
    key_sid, secret = network.add_key(account.sid)
    application = network.add_application(
        account.sid,
        voice_url=f"{PUBLIC_URL}/v1/voice/twiml",
        voice_fallback_url=f"{PUBLIC_URL}/v1/voice/fallback",
        status_callback=f"{PUBLIC_URL}/v1/voice/status",
    )
    network.add_number(account.sid, CALLER_ID)
    return Settings(
        source=Source(folder / "dialer.toml"),
        instance=folder,
        server=Server(public_url=PUBLIC_URL, log_level="error"),
        calls=calls,
        accounts=(
            Account(
                sid=account.sid,
                tokens=(Secret(account.auth_token),),
                api_key=key_sid,
                api_secret=Secret(secret),
                app_sid=application.sid,
                calls_per_second=pace,
            ),
        ),
    )


def add_people(store: Store, workspaces: tuple[str, ...], agents_each: int, now: float) -> list[Agent]:
    """Workspaces with the number to call from, and so many agents each."""
    agents = []
    with store.write() as tx:
        for workspace in workspaces:
            tx.run("add_workspace", id=workspace, name=workspace, created_at=now)
            tx.run("add_number", workspace=workspace, number=CALLER_ID, created_at=now)
            for number in range(agents_each):
                agent = Agent(f"{workspace}_agent_{number}", workspace)
                values = {"identity": agent.identity, "workspace": workspace, "name": agent.identity}
                tx.run("add_agent", **values, role="agent", created_at=now)
                agents.append(agent)
    return agents
