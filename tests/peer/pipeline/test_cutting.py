"""Where a run's model is cut."""

from __future__ import annotations

import pytest

from gossamer.peer.pipeline.cutting import cut_of
from gossamer.peer.pipeline.models import stage_model
from gossamer.protocol.errors import InvalidManifest
from gossamer.protocol.manifest import Manifest, manifest_of
from gossamer.tasks import Staged, build_task, cut_by_cost

OPTIONS = {"d_model": 16, "n_layers": 3, "n_heads": 2, "context": 16}


def test_it_is_cut_where_its_manifest_says() -> None:
    assert cut_of(chars(), manifest([0, 1, 4])).starts == (0, 1, 4)
    assert stage_model(chars(), manifest([0, 1, 4]), bytes(32)).cut.starts == (0, 1, 4)


def test_it_is_cut_by_cost_where_that_says_nothing() -> None:
    by_cost = cut_by_cost(chars(), 3)

    assert by_cost.starts != (0, 1, 4)
    assert cut_of(chars(), manifest([])) == by_cost


def test_a_cut_that_the_model_does_not_have_is_refused_with_those_that_it_has() -> None:
    with pytest.raises(InvalidManifest, match="5 stages at most, which begin at layers 0 to 4"):
        cut_of(chars(), manifest([0, 1, 5]))
    with pytest.raises(InvalidManifest, match="5 stages at most"):
        cut_of(chars(), manifest([], n_stages=6))


def manifest(starts: list[int], n_stages: int = 3) -> Manifest:
    task = chars()
    return manifest_of(
        {
            "run": {"name": "cut", "seed": 0, "steps": 1, "created": "test"},
            "task": {"name": task.name, "fingerprint": task.fingerprint(), "options": OPTIONS},
            "method": {"name": "allreduce"},
            "schedule": {"lr": 0.1},
            "data": {"batch_size": 4},
            "pipeline": {"stages": n_stages, "starts": starts},
        }
    )


def chars() -> Staged:
    task = build_task("chars", OPTIONS)
    assert isinstance(task, Staged)
    return task
