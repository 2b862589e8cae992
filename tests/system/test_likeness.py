"""A run of real daemons, and the same run in the simulated world."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.simulator.playing import play
from gossamer.simulator.scenario import load_scenario

from .swarms import up

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]


def test_the_simulated_run_ends_with_the_real_runs_model_and_sends_as_many_bytes(tmp_path: Path) -> None:
    real = up("--task", "digits", "--peers", "2", "--steps", "12", "--strict", out=tmp_path / "real")
    scenario = tmp_path / "scenario.toml"
    scenario.write_text('name = "alike"\n[run]\nlike = "real"\n[fleet]\npeers = 2\n')

    simulated = play(load_scenario(scenario), tmp_path / "simulated")

    assert simulated.violations == ()
    assert simulated.summary["run_id"] == real["run_id"]
    assert simulated.summary["state_digests"] == sorted(set(real["state_digests"].values()))
    offers = [summary["bytes_sent_by_purpose"]["round/offer"] for summary in (real, simulated.summary)]
    assert offers[0] == offers[1]
