"""What nobody outside Twilio knows for certain is a knob of the simulator: the promises hold in every position."""

from __future__ import annotations

from random import Random
from typing import Any

import pytest

from dialer.simulator import AgentPlan
from dialer.simulator.phones import PHONES

POSITIONS: list[dict[str, Any]] = [
    *({"early_agent_final": final} for final in ("completed", "busy", "no-answer", "failed", "canceled")),
    *({"invalid_events": reading} for reading in ("drop-invalid", "drop-all", "refuse")),
    *({"completed_on_ringing_final": final} for final in ("canceled", "completed", "no-answer")),
    {"completed_on_ended": "ok"},
    {"from_param": "custom"},
    {"outgoing_params_win": False},
    {"duplicate_callbacks": 0.5},
    {"trim_conference_name": False},
    {"bad_attribute": "fail"},
    {"retry_count": 0},
    {"retry_count": 5, "retry_policy": "all"},
    {"lost_browser_seconds": 5.0},
    {"conference_end_cancels_ringing": True},
    {"unanswered_ends_conference": True},
    {"listing_delay": 2.0},
    {"creation_delay": 3.0},
    {"webhook_delay": 0.5},
]


@pytest.mark.parametrize("knobs", POSITIONS, ids=str)
def test_the_promises_hold_in_every_position(make_stage: Any, knobs: dict[str, Any]) -> None:
    stage, random = make_stage(knobs=knobs, seed=3), Random(5)
    for _ in range(40):
        leaves = random.uniform(0, 12) if random.random() < 0.4 else None
        plan = AgentPlan(hang_up_after_bridged=random.uniform(0.2, 10), hang_up_after=leaves)
        leg = stage.world.dial(random.choice(stage.world.agents), random.choice(sorted(PHONES)), plan)
        stage.lasts(random.expovariate(1))
        if leg.end_time is None and random.random() < 0.1:
            stage.world.network.lose(leg.sid)
    stage.ends()
    assert len(stage.dialled()) > 10
