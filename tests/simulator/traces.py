"""Trace hashes of small runs of every kind, for a seed: gossip alone, and the daemons with real and analytic compute.

python -m tests.simulator.traces SEED        prints them as JSON
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path

from gossamer.simulator.playing import play
from gossamer.simulator.scenario import load_scenario

from .gossip import gossip

LIBRARY = Path(__file__).parents[2] / "examples" / "scenarios"
SHORT = {
    "storm": ("run.steps=12", "expect.steps_min=12", "faults.0.after_step=2", "faults.0.for_s=5"),
    "stages": ("run.steps=4", "expect.steps_min=4", "fleet.peers=3", "expect.finished_min=1", "faults=[]"),
    "volunteers": ("run.steps=4", "expect.steps_min=4", "fleet.peers=6"),
}
"""Real torch arithmetic under faults, the same cut into stages, and sizes only."""


def traces(seed: int) -> dict[str, str]:
    """Run's name -> its trace hash."""
    found = {"gossip": gossip(seed)}
    for name, settings in SHORT.items():
        scenario = load_scenario(LIBRARY / f"{name}.toml", [*settings, f"seed={seed}"])
        with tempfile.TemporaryDirectory() as folder:
            played = play(scenario, Path(folder))
        assert played.violations == (), (name, played.violations)
        found[name] = played.trace_hash
    return found


if __name__ == "__main__":
    print(json.dumps(traces(int(sys.argv[1]))))
