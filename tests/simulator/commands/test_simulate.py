"""What `gossamer simulate` prints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gossamer.protocol.errors import FolderInUse, UsageError
from gossamer.protocol.lock import held
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


@pytest.mark.parametrize(
    "order",
    [
        {"seeds": "0..1", "seed": 3},
        {"seeds": "0..1", "verify": True},
        {"jobs": 2},
        {"plays": 3},
        {"shrink": True, "seeds": "0..1"},
        {"settings": ("run.start_peers=9",)},
    ],
)
def test_options_that_mean_nothing_together_are_refused(tmp_path: Path, order: dict[str, Any]) -> None:
    (tmp_path / "short.toml").write_text(TOO_SHORT)

    with pytest.raises(UsageError):
        simulate(Order(scenario=tmp_path / "short.toml", **order), json_output=False)


def test_a_folder_in_use_is_not_shared(tmp_path: Path) -> None:
    (tmp_path / "short.toml").write_text(TOO_SHORT)

    with held(tmp_path), pytest.raises(FolderInUse):
        simulate(Order(scenario=tmp_path / "short.toml", out=tmp_path), json_output=False)


@pytest.mark.parametrize(("duration_s", "why"), [("4", "give it more"), ("0.001", "nobody made an update in 0.001 s")])
def test_a_run_that_did_not_end_says_why(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], duration_s: str, why: str
) -> None:
    (tmp_path / "short.toml").write_text(TOO_SHORT.replace("steps_min = 1000", ""))

    simulate(
        Order(scenario=tmp_path / "short.toml", settings=(f"duration_s={duration_s}",), verify=True), json_output=False
    )

    told = capsys.readouterr().out
    assert why in told
    assert "the same when it was played again" in told


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
