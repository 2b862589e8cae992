"""A seed is the whole run."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from .gossip import gossip
from .traces import traces


def test_equal_seeds_give_equal_traces_and_others_do_not() -> None:
    assert gossip(1) == gossip(1)
    assert gossip(1) != gossip(2)


def test_shuffled_runs_are_reproducible_too() -> None:
    # That shuffling changes an order at all is shown in test_loop; here nothing happens twice at one instant.
    assert gossip(1, shuffle_seed=5) == gossip(1, shuffle_seed=5)


@pytest.fixture(scope="module")
def told() -> dict[str, str]:
    """As this process finds them."""
    return traces(1)


@pytest.mark.parametrize("hash_seed", ["1", "4000"])
def test_trace_does_not_depend_on_the_process(told: dict[str, str], hash_seed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulator.traces", "1"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=55,
        check=True,
    )

    assert json.loads(done.stdout) == told


def test_every_kind_of_run_differs_with_its_seed(told: dict[str, str]) -> None:
    others = traces(3)

    assert set(others) == set(told)
    assert not {*others.values()} & {*told.values()}
