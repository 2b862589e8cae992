"""What `gossamer simulate` prints."""

from __future__ import annotations

from pathlib import Path

import pytest

from gossamer.simulator.commands.simulate import Order, Violated, simulate

pytestmark = pytest.mark.scenario

TOO_SHORT = """
name = "too-short"
duration_s = 1
[run]
compute = "analytic"
steps = 1000
[fleet]
peers = 2
[expect]
steps_min = 1000
"""


def test_a_scenario_that_shuffles_does_so_under_every_seed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = tmp_path / "shuffled.toml"
    path.write_text(
        TOO_SHORT.replace("[expect]\nsteps_min = 1000", "").replace("duration_s", "shuffle = true\nduration_s")
    )

    many = simulate(Order(scenario=path, seeds="0..1"), json_output=False)
    assert [simulate(Order(scenario=path, seed=seed), json_output=False)["trace_hash"] for seed in (0, 1)] == [
        many["trace_hashes"][str(seed)] for seed in (0, 1)
    ]


def test_commands_that_replay_stand_on_one_line_however_long(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = tmp_path / f"{'a-long-name-' * 12}.toml"
    path.write_text(TOO_SHORT)

    with pytest.raises(Violated):
        simulate(Order(scenario=path, seeds="0..1", settings=("run.batch=3",)), json_output=False)

    told = capsys.readouterr().err.splitlines()
    command = f"  replay: gossamer simulate {path} --seed"
    assert told[1::2] == [f"{command} 0 --set run.batch=3", f"{command} 1 --set run.batch=3 --shuffle"]
    assert [line.partition(":")[0] for line in told[::2]] == ["seed 0", "seed 1"]
