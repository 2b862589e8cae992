"""Cut a chain of layers into consecutive stages, by dynamic programming."""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence


def balanced_starts(costs: Sequence[float], n_stages: int) -> tuple[int, ...]:
    """The first layer of each stage such that the largest sum of costs in one stage is least.

    Args:
        costs: of the layers, each at least 0.
        n_stages: 1 <= n_stages <= len(costs); every stage gets a layer.
    Of equally good cuts the one whose stages begin earliest.
    Raises: ValueError for a number of stages that has no cut.
    """
    n = len(costs)
    if not 1 <= n_stages <= n:
        raise ValueError(f"cannot cut {n} layers into {n_stages} stages: every stage needs a layer")
    before = [0.0, *itertools.accumulate(costs)]
    # best[i]: the largest stage of the layers up to i, cut into as many stages as have been dealt out;
    # first[k][i]: where the last of them begins.
    best = [math.inf if i == 0 else before[i] for i in range(n + 1)]
    first = [[0] * (n + 1)]
    for k in range(1, n_stages):
        row, begins = [math.inf] * (n + 1), [0] * (n + 1)
        for i in range(k + 1, n + 1):
            row[i], begins[i] = min((max(best[j], before[i] - before[j]), j) for j in range(k, i))
        best = row
        first.append(begins)
    starts: list[int] = []
    end = n
    for begins in reversed(first):
        end = begins[end]
        starts.insert(0, end)
    return tuple(starts)
