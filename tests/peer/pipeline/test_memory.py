"""What a stage takes in memory, and what is said where it does not fit."""

from __future__ import annotations

import re

import pytest

from gossamer.peer.pipeline.memory import check_memory, held_max_within, needs, parse_bytes
from gossamer.peer.pipeline.models import stage_model
from gossamer.protocol.errors import InvalidManifest, UsageError
from gossamer.protocol.manifest import Manifest, manifest_of
from gossamer.tasks import Staged, build_task, cut_by_cost, estimate_costs

OPTIONS = {"d_model": 512, "n_layers": 8, "n_heads": 8, "context": 8}
CAP = 1_200_000_000
N_MICROBATCHES = 4


def manifest(n_stages: int) -> Manifest:
    return manifest_of(
        {
            "run": {"name": "memory", "seed": 1, "steps": 10, "created": "now"},
            "task": {"name": "chars", "fingerprint": "0" * 64, "options": OPTIONS},
            "method": {"name": "allreduce", "options": {}},
            "schedule": {"lr": 0.1},
            "data": {"batch_size": 2},
            "pipeline": {"stages": n_stages, "microbatches": N_MICROBATCHES},
        }
    )


def chars() -> Staged:
    task = build_task("chars", OPTIONS)
    assert isinstance(task, Staged)
    return task


@pytest.mark.parametrize(
    ("text", "n_bytes"), [("600MB", 600e6), ("1.5GB", 1.5e9), ("2GiB", 2 * 2**30), ("64kB", 64e3), ("1000", 1000)]
)
def test_sizes_are_read_as_people_write_them(text: str, n_bytes: float) -> None:
    assert parse_bytes(text) == n_bytes


@pytest.mark.parametrize("text", ["", "MB", "-5MB", "0", "5 pounds", "1e9", "1TB"])
def test_what_is_no_size_is_refused_with_an_example(text: str) -> None:
    with pytest.raises(UsageError, match="600MB"):
        parse_bytes(text)


def test_a_model_that_is_too_large_in_one_piece_is_refused_with_the_stages_that_would_fit() -> None:
    task = chars()

    with pytest.raises(UsageError, match=r"the model in one piece needs .* MB") as refused:
        check_memory(task, manifest(1), CAP)

    found = re.search(r"--stages (\d+) would fit", str(refused.value))
    assert found is not None
    check_memory(task, manifest(int(found[1])), CAP)
    with pytest.raises(UsageError):
        check_memory(task, manifest(int(found[1]) - 1), CAP)


def test_one_stage_may_fit_where_another_does_not() -> None:
    task = chars()
    by_stage = needs(estimate_costs(task), cut_by_cost(task, 3), N_MICROBATCHES).by_stage
    small, large = by_stage.index(min(by_stage)), by_stage.index(max(by_stage))
    between = int((min(by_stage) + max(by_stage)) / 2)
    assert min(by_stage) < between < max(by_stage)

    check_memory(task, manifest(3), between, small)
    with pytest.raises(UsageError, match=f"stage {large} of 3 needs"):
        check_memory(task, manifest(3), between)


def test_a_cut_of_ones_own_is_what_counts_and_the_refusal_says_whether_another_would_fit() -> None:
    task = chars()
    n_layers = len(estimate_costs(task))
    late = with_starts(2, [0, n_layers - 1])
    by_cost = needs(estimate_costs(task), cut_by_cost(task, 2), N_MICROBATCHES)

    check_memory(task, manifest(2), int(by_cost.largest))
    with pytest.raises(UsageError, match=r"stage 0 of 2 needs .*--stages 2 without pipeline\.starts would fit"):
        check_memory(task, late, int(by_cost.largest))
    with pytest.raises(InvalidManifest, match=f"begin at layers 0 to {n_layers - 1}"):
        check_memory(task, with_starts(2, [0, n_layers]), CAP)


def with_starts(n_stages: int, starts: list[int]) -> Manifest:
    tables = manifest(n_stages).model_dump()
    return manifest_of({**tables, "pipeline": {**tables["pipeline"], "starts": starts}})


def test_where_no_cut_fits_the_refusal_says_how_much_would() -> None:
    with pytest.raises(UsageError, match=r"no cut fits; .* MB would"):
        check_memory(chars(), manifest(1), 510_000_000)


def test_fewer_gradients_are_held_where_memory_is_short() -> None:
    n = 10_000_000

    assert held_max_within(4_000_000_000, n, 8) == 8
    assert held_max_within(int(500e6) + 86 * n + 2 * 4 * n, n, 8) == 3
    assert held_max_within(int(500e6) + 86 * n + 2 * 4 * n, n, 8, n_copies=2) == 1
    assert held_max_within(int(500e6) + 94 * n + 2 * 4 * n, n, 8, n_copies=2) == 3
    assert held_max_within(1, n, 8) == 1


@pytest.mark.parametrize(
    ("method", "mode", "n_copies"),
    [("allreduce", "synchronous", 0), ("local", "synchronous", 1), ("allreduce", "stash", 2)],
)
def test_copies_of_the_weights_leave_less_room_for_gradients(method: str, mode: str, n_copies: int) -> None:
    tables = manifest(3).model_dump()
    tables["method"] = {"name": method, "options": {}}
    model = stage_model(chars(), manifest_of({**tables, "pipeline": {**tables["pipeline"], "mode": mode}}), bytes(32))
    n = 10_000_000
    model.memory_max = int(500e6) + 86 * n + 3 * 4 * n

    assert model._held_max(n) == 4 - n_copies
