"""One scenario under many seeds, in processes side by side."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

from .playing import play
from .scenario import Scenario


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
    context = multiprocessing.get_context("spawn")  # threads of numerical libraries do not survive a fork
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        waiting: set[Future[Verdict]] = {pool.submit(judge, scenario, seed) for seed in seeds}
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from sorted((future.result() for future in done), key=lambda verdict: verdict.seed)
        finally:
            for future in waiting:
                future.cancel()


def judge(scenario: Scenario, seed: int) -> Verdict:
    """Play one seed in a folder that is thrown away. Every other seed permutes what is ready at one instant."""
    with tempfile.TemporaryDirectory(prefix="gossamer-simulate-") as folder:
        played = play(scenario.model_copy(update={"seed": seed, "shuffle": seed % 2 == 1}), Path(folder))
    return Verdict(
        seed=seed,
        shuffled=seed % 2 == 1,
        violations=played.violations,
        trace_hash=played.trace_hash,
        steps=int(played.summary["steps"]),
        cpu_s=float(played.summary["cpu_s"]),
    )
