"""Time that passes for the jobs alone."""

from __future__ import annotations

from dialer.simulator.world import World


def play(world: World, seconds: float) -> None:
    """Let so much time pass, from job to job; nothing else happens in it."""
    end = world.network.now + seconds
    while True:
        world.worker.sweep()
        with world.dialer.store.read() as tx:
            row = tx.one("next_job")
        if row is None or row["run_at"] is None or row["run_at"] > end:
            break
        world.network.now = max(world.network.now, row["run_at"])
        for plugin in world.worker.due():
            for job in world.worker.claim(plugin, 100):
                world.worker.run(job)
    world.network.now = end
    world.worker.sweep()
