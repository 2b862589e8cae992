"""One scenario under many seeds, in processes side by side."""

from __future__ import annotations

import multiprocessing
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TypeVar

from ..protocol.errors import GossamerError
from .playing import play
from .scenario import Scenario

Item = TypeVar("Item")
Outcome = TypeVar("Outcome")


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


def side_by_side(
    function: Callable[[Item], Outcome], items: Iterable[Item], *, jobs: int
) -> Iterator[tuple[Item, Outcome]]:
    """Each item with its result as it comes, from so many processes. What waits when this is left is never done.

    Raises: what the function raises; GossamerError if a process dies.
    """
    context = multiprocessing.get_context("spawn")  # threads of numerical libraries do not survive a fork
    with ProcessPoolExecutor(jobs, mp_context=context) as pool:
        items_of: dict[Future[Outcome], Item] = {pool.submit(function, item): item for item in items}
        waiting = set(items_of)
        try:
            while waiting:
                done, waiting = wait(waiting, return_when=FIRST_COMPLETED)
                yield from ((item, future.result()) for future, item in items_of.items() if future in done)
        except BrokenProcessPool:
            raise GossamerError(
                f"one of {jobs} processes side by side was killed: if that was for want of memory, take fewer jobs"
            ) from None
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
