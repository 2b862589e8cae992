"""A test of one's own task in the simulated world: pytest examples/test_spirals_in_a_storm.py"""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.simulator.playing import play
from gossamer.simulator.scenario import scenario_of


def test_spirals_are_learnt_although_machines_crash(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.syspath_prepend(str(Path(__file__).parent))
    tables = {
        "name": "spirals",
        "seed": 3,
        "run": {"task": "spirals:Spirals", "method": "demo", "steps": 40, "batch": 16, "evaluate_every": 20},
        "fleet": {"peers": 4, "flops_per_s": 1e6},
        "faults": [
            {"kind": "crash", "after_step": 10, "back_after_s": 5},
            {"kind": "partition", "after_step": 20, "for_s": 10},
        ],
        "expect": {"steps_min": 40},
    }

    played = play(scenario_of(tables), tmp_path)

    assert played.violations == ()
    assert played.summary["eval_loss"] < played.summary["eval_loss_start"]
    assert len(played.summary["state_digests"]) == 1
