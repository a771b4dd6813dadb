"""What the documents say is what the code does: generated pages are fresh, code blocks run."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

ROOT = Path(__file__).parents[1]


def test_the_table_of_states_is_drawn_from_the_code() -> None:
    drawn = subprocess.run(
        [sys.executable, "docs/draw_states.py"], cwd=ROOT, capture_output=True, text=True, check=True, timeout=30
    ).stdout
    assert drawn == (ROOT / "docs/states.md").read_text()
