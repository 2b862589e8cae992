"""What `gossamer calibrate` measures can be used, and is of the right size."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.protocol.errors import UsageError
from gossamer.simulator import calibrating
from gossamer.simulator.commands.calibrate import Order, calibrate
from gossamer.simulator.costs import CostModel, load_costs
from gossamer.simulator.likeness import likeness_of


def test_measured_costs_are_written_for_scenarios_to_name(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(calibrating, "_ROUNDS", 24)
    monkeypatch.setattr(calibrating, "_CALLS", 80)

    costs = calibrate(Order(out=tmp_path / "costs.toml", task="digits", method="allreduce"), json_output=True)

    assert load_costs(tmp_path / "costs.toml") == costs
    assert '"handling"' in capsys.readouterr().out
    assert 1e6 < (costs.maths.flops_per_s or 0) < 1e13
    assert set(costs.maths.factor) == {"work", "encode", "apply", "evaluate", "reduce"}
    assert 1e-6 < costs.handling.message_s < 0.1
    assert isinstance(costs, CostModel)


def test_a_folder_without_a_run_is_no_likeness(tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="holds no run"):
        likeness_of(tmp_path)
