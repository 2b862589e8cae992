"""How fast robust rules are, beside what numpy and torch offer for the same, in one run on one thread.

    python -m benchmarks.bench_aggregates [--dim 4000000] [--peers 5 16]

The least of three processor times: what else the machine does hardly counts. Peak memory is what a rule allocates
besides its input and its result, per element of one vector.
"""

from __future__ import annotations

import argparse
import time
import tracemalloc
from collections.abc import Callable
from functools import partial
from typing import Any

import numpy as np
import torch
from rich.console import Console
from rich.table import Table

from gossamer.algorithms.method import F32
from gossamer.algorithms.robust import build_rule

Vectors = list[F32]
NAIVE: dict[str, dict[str, Callable[[Vectors], Any]]] = {
    "trimmed": {
        "numpy sort, mean": lambda v: np.sort(np.stack(v), axis=0)[1:-1].mean(axis=0),
        "torch sort, mean": lambda v: torch.from_numpy(np.stack(v)).sort(dim=0).values[1:-1].mean(dim=0),
    },
    "median": {
        "numpy median": lambda v: np.median(np.stack(v), axis=0),
        "torch median": lambda v: torch.from_numpy(np.stack(v)).median(dim=0),
    },
    "multikrum": {"torch cdist, mean": lambda v: _krum_with_cdist(torch.from_numpy(np.stack(v)))},
    "clip": {"numpy norms, mean": lambda v: _clip_with_numpy(np.stack(v))},
}


def _krum_with_cdist(stacked: torch.Tensor) -> torch.Tensor:
    distances = torch.cdist(stacked, stacked).square()
    n = len(stacked)
    scores = distances.sort(dim=1).values[:, 1 : n - 2].sum(dim=1)
    return stacked[scores.argsort()[: n - 1]].mean(dim=0)


def _clip_with_numpy(stacked: F32) -> F32:
    norms = np.linalg.norm(stacked, axis=1)
    mean: F32 = (stacked * np.minimum(1, np.median(norms) / norms)[:, None]).mean(axis=0)
    return mean


def measure(work: Callable[[], Any], dim: int) -> tuple[float, float]:
    """(seconds of processor time, peak bytes per element)."""
    tracemalloc.start()
    work()
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    seconds = []
    for _ in range(3):
        begun = time.process_time()
        work()
        seconds.append(time.process_time() - begun)
    return min(seconds), max(0.0, peak / dim - 4)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--dim", type=int, default=4_000_000)
    parser.add_argument("--peers", type=int, nargs="+", default=[5, 16])
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    table = Table(title=f"{arguments.dim:,} float32 a vector, one thread")
    for heading in ("peers", "rule", "by", "ms", "GB/s of input", "bytes/element more"):
        table.add_column(heading, justify="left" if heading in ("rule", "by") else "right")
    for n in arguments.peers:
        generator = np.random.Generator(np.random.Philox(key=n))
        vectors = [generator.standard_normal(arguments.dim, dtype=np.float32) for _ in range(n)]
        for name in ("trimmed", "median", "krum", "multikrum", "clip", "centered"):
            rule = build_rule(name, n_liars=1)
            reference = np.zeros(arguments.dim if rule.keeps_reference else 0, np.float32)
            ways: dict[str, Callable[[Vectors], Any]] = {
                "ours": partial(rule.aggregate, reference=reference),
                **NAIVE.get(name, {}),
            }
            for by, way in ways.items():
                seconds, peak = measure(partial(way, vectors), arguments.dim)
                speed = 4e-9 * n * arguments.dim / seconds
                table.add_row(str(n), name, by, f"{1e3 * seconds:.0f}", f"{speed:.2f}", f"{peak:.1f}")
    Console(width=110).print(table)


if __name__ == "__main__":
    main()
