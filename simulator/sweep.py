"""One scenario under many seeds."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import partial
from pathlib import Path

from .playing import play
from .scenario import Scenario
from .side_by_side import side_by_side


@dataclass(frozen=True, kw_only=True)
class Verdict:
    """How one seed went."""

    seed: int
    shuffled: bool
    violations: tuple[str, ...]
    trace_hash: str
    steps: int
    cpu_s: float


def sweep(scenario: Scenario, seeds: Sequence[int], *, jobs: int) -> Iterator[Verdict]:
    """Verdicts as they come; with one job in the order of the seeds. Keeps no files."""
    if jobs == 1:
        yield from (judge(scenario, seed) for seed in seeds)
        return
    yield from (verdict for _, verdict in side_by_side(partial(judge, scenario), seeds, jobs=jobs))


def judge(scenario: Scenario, seed: int) -> Verdict:
    """Play one seed in a folder that is thrown away. Every other seed permutes what is ready at one instant, or all do
    if the scenario says so."""
    shuffled = scenario.shuffle or seed % 2 == 1
    with tempfile.TemporaryDirectory(prefix="gossamer-simulate-") as folder:
        played = play(scenario.model_copy(update={"seed": seed, "shuffle": shuffled}), Path(folder))
    return Verdict(
        seed=seed,
        shuffled=shuffled,
        violations=played.violations,
        trace_hash=played.trace_hash,
        steps=int(played.summary["steps"]),
        cpu_s=float(played.summary["cpu_s"]),
    )
