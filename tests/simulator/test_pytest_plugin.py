"""The fixture that users test their own tasks and methods with."""

from __future__ import annotations

import pytest

from gossamer.simulator.pytest_plugin import Simulate, simulate
from gossamer.simulator.scenario import load_scenario

__all__ = ["simulate"]

SIZES = {"compute": "analytic", "steps": 3}


def test_each_seed_is_played_in_a_folder_of_its_own(simulate: Simulate) -> None:
    first, second = simulate({"name": "ours", "run": SIZES, "fleet": {"peers": 2}}, seeds=(4, 5))

    assert (first.summary["seed"], second.summary["seed"]) == (4, 5)
    assert first.trace_hash != second.trace_hash
    assert (simulate.folder / "seed-5" / "summary.json").exists()


def test_what_breaks_a_property_fails_the_test_and_says_how_to_replay_it(simulate: Simulate) -> None:
    tables = {"name": "ours", "run": SIZES, "fleet": {"peers": 2}, "expect": {"steps_min": 4}}

    with pytest.raises(
        pytest.fail.Exception, match=r"at least 4 were expected\nreplay: gossamer simulate .*seed-7\.toml"
    ):
        simulate(tables, seeds=(7,))

    assert load_scenario(simulate.folder / "seed-7.toml").seed == 7
