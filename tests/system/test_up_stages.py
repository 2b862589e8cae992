"""A pipeline of real processes: one of them killed, and the model put together at the end."""

from __future__ import annotations

from pathlib import Path

import pytest
import safetensors.numpy

from .swarms import gossamer, up

pytestmark = [pytest.mark.system, pytest.mark.timeout(240)]

DIGITS = ("--task", "digits", "--stages", "2")


def test_killed_replicas_cost_no_microbatch_and_the_model_is_exported_whole(tmp_path: Path) -> None:
    # Of stage 1 and of stage 0, so that each keeps a replica. The last peer only trains.
    kills = ("--kill", "2@15", "--kill", "3@30")
    summary = up(*DIGITS, "--peers", "6", "--only-train", "1", "--steps", "60", *kills, out=tmp_path / "run")
    exported = gossamer("export", str(tmp_path / "run"), str(tmp_path / "model.safetensors"))

    assert summary["steps"] == 60
    assert summary["stages"] == 2
    assert summary["replicas_per_stage"] == [2, 1]
    assert summary["microbatches_counted"] == summary["microbatches_expected"] == 360
    assert summary["only_train"] == 1
    assert all(len(digests) == 1 for digests in summary["state_digests_by_stage"].values())
    assert len(summary["state_digests_by_stage"]) == 2
    assert all(0 <= idle <= 1 for idle in summary["idle_fraction_per_peer"].values())
    assert summary["eval_loss"] < summary["eval_loss_start"]
    assert exported.returncode == 0, exported.stderr
    model = safetensors.numpy.load_file(tmp_path / "model.safetensors")
    shapes = {name: tensor.shape for name, tensor in model.items()}
    assert shapes == {"0.weight": (32, 64), "0.bias": (32,), "2.weight": (10, 32), "2.bias": (10,)}


def test_what_cannot_be_cut_or_exchanged_so_is_refused_before_anything_starts(tmp_path: Path) -> None:
    too_many = gossamer("up", *DIGITS, "--peers", "1", "--out", str(tmp_path / "a"))
    unfit = gossamer("up", *DIGITS, "--method", "sparseloco", "--out", str(tmp_path / "b"))

    too_few = gossamer("up", *DIGITS, "--peers", "3", "--only-train", "2", "--out", str(tmp_path / "d"))
    too_large = gossamer("up", *DIGITS, "--max-memory", "400MB", "--out", str(tmp_path / "c"))

    assert too_many.returncode == unfit.returncode == too_few.returncode == too_large.returncode == 2
    assert "have 4 peers or more" in too_few.stderr
    assert "fewer stages, or more peers" in too_many.stderr
    assert "use allreduce (mean), demo" in unfit.stderr
    assert not (tmp_path / "a").exists()
    assert not (tmp_path / "b").exists()
    assert "no cut fits" in too_large.stderr
    assert not (tmp_path / "c").exists()
