"""Random layers draw what follows from the run's seed, on whatever machine."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch

from gossamer.peer.lent_generator import lent_generator
from gossamer.simulator.playing import play
from gossamer.simulator.scenario import scenario_of

DROPOUT = """
import torch.nn.functional as F
from gossamer.tasks.digits import Digits

class Dropping(Digits):
    def output_loss(self, outputs, targets):
        return super().output_loss(F.dropout(outputs, 0.1), targets)
"""


def test_a_name_says_what_is_drawn_and_nothing_is_left_of_it() -> None:
    before = torch.get_rng_state()
    draws = []
    for name in ("a", "a", "b"):
        with lent_generator(name):
            draws.append(torch.rand(2).tolist())

    assert draws[0] == draws[1] != draws[2]
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize("method", ["allreduce", "local"])
def test_dropout_is_the_same_in_every_run_of_a_seed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str
) -> None:
    (tmp_path / "dropping.py").write_text(DROPOUT, encoding="utf-8")
    monkeypatch.syspath_prepend(str(tmp_path))
    run = {"task": "dropping:Dropping", "method": method, "steps": 8, "batch": 8, "evaluate_every": 4}
    scenario = scenario_of({"name": "dropping", "run": run, "fleet": {"peers": 3}})

    first = play(scenario, tmp_path / "first")
    torch.rand(7)  # something that the next run must not depend on
    second = play(scenario, tmp_path / "second")

    assert first.violations == second.violations == ()
    assert first.summary["trace_hash"] == second.summary["trace_hash"]
    assert len(first.summary["state_digests"]) == 1
