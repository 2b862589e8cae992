"""Simulated runs leave nothing behind."""

from __future__ import annotations

import gc
import warnings
from pathlib import Path

import pytest

from gossamer.peer.replica import Replica
from gossamer.simulator import lives
from gossamer.simulator.playing import play
from gossamer.simulator.scenario import scenario_of

N_RUNS = 25
OBJECTS_PER_RUN_MAX = 10
"""A swarm has thousands; bounded memories of signatures and the like fill up at first."""


@pytest.mark.timeout(240)
def test_small_runs_leave_next_to_nothing_behind(tmp_path: Path) -> None:
    alive = []

    for seed in range(N_RUNS):
        run = {"steps": 1, "compute": "analytic"}
        played = play(scenario_of({"name": "small", "seed": seed, "run": run, "fleet": {"peers": 1}}), tmp_path)
        assert not played.violations
        if seed in (9, N_RUNS - 1):
            alive.append(len(gc.get_objects()))  # without a collection of our own

    assert alive[1] - alive[0] < OBJECTS_PER_RUN_MAX * (N_RUNS - 10)


def test_a_swarms_tensors_are_gone_when_it_has_been_played(tmp_path: Path) -> None:
    run = {"steps": 2, "task": "digits", "method": "demo"}

    play(scenario_of({"name": "small", "run": run, "fleet": {"peers": 3}}), tmp_path)

    with warnings.catch_warnings(action="ignore"):  # torch has properties that warn when they are looked at
        daemons = [one for one in gc.get_objects() if type(one).__name__ in {"Daemon", "Replica", "Simulation"}]
    assert not daemons


@pytest.mark.parametrize("disk", ["kept", "lost"])
def test_of_the_dead_no_replica_is_kept(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, disk: str) -> None:
    monkeypatch.setattr(lives, "UNCOLLECTED_MAX", 1)
    crash = {"kind": "crash", "at_s": 1, "every_s": 1, "peers": [2], "back_after_s": 0.5, "disk": disk}
    run = {"steps": 1000, "compute": "analytic", "batch": 1, "sizes": {"n_params": 1000, "payload_bytes": 1000}}
    alive: list[int] = []

    def look(now_s: float, step: int) -> None:
        if now_s > 9.2:
            alive.append(sum(type(one) is Replica for one in gc.get_objects()))

    tables = {"name": "mortal", "duration_s": 10, "run": run, "fleet": {"peers": 3, "flops_per_s": 1e5}}
    play(scenario_of({**tables, "faults": [crash]}), tmp_path, progress=look)

    assert max(alive) <= 3 + 2  # the last that died, and the one that has shown that task and method fit
