"""Means whose bits do not depend on who comes first: the values of each coordinate are put in order, then added.

Vectors are worked through in chunks that stay in the cache. A chunk's rows are sorted against each other by Batcher's
odd-even merge network (1968): a fixed list of (minimum, maximum) pairs, each of which is two vectorised operations
over whole rows, and so several times faster than sorting a column at a time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import Final

import numpy as np

from ..method import F32

CHUNK: Final = 8192
"""Elements of a chunk; 32 rows of it are 1 MB."""

Rows = list[F32]


def trimmed_mean(vectors: Sequence[F32], n_trim: int) -> F32:
    """The mean of each coordinate without its `n_trim` largest and smallest values, float32 [dim].

    Never outside the range of the values that are kept, whatever rounding does.

    Args:
        vectors: float32 [n][dim], finite; 2 * n_trim < n.
    """

    def rows(part: slice) -> Rows:
        # Adding 0 turns -0 into 0: the two compare as equal, so the network could leave them in either order.
        return [vector[part] + np.float32(0) for vector in vectors]

    return mean_of_rows(rows, len(vectors[0]), n_trim)


def mean_of_rows(rows_of: Callable[[slice], Rows], dim: int, n_trim: int = 0) -> F32:
    """As `trimmed_mean`, of rows that are made chunk by chunk; they are overwritten."""
    result = np.empty(dim, np.float32)
    for part in chunks(dim):
        rows = rows_of(part)
        sort_rows(rows)
        kept = rows[n_trim : len(rows) - n_trim]
        result[part] = _mean_within(kept)
    return result


def chunks(dim: int) -> Iterator[slice]:
    """Slices that tile [0, dim)."""
    for start in range(0, dim, CHUNK):
        yield slice(start, min(start + CHUNK, dim))


def sort_rows(rows: Rows) -> None:
    """Sort every column of equally long rows, in place: rows[0] gets the least values."""
    spare = np.empty_like(rows[0])
    for low, high in network(len(rows)):
        np.minimum(rows[low], rows[high], out=spare)
        np.maximum(rows[low], rows[high], out=rows[high])
        rows[low], spare = spare, rows[low]


@lru_cache(maxsize=64)
def network(n: int) -> tuple[tuple[int, int], ...]:
    """Batcher's comparators for n values: after all of them, in order, the values ascend.

    >>> network(3)
    ((0, 1), (0, 2), (1, 2))
    """
    pairs = []
    width = 1
    while width < n:
        gap = width
        while gap >= 1:
            for start in range(gap % width, n - gap, 2 * gap):
                for i in range(start, start + min(gap, n - start - gap)):
                    if i // (2 * width) == (i + gap) // (2 * width):
                        pairs.append((i, i + gap))
            gap //= 2
        width *= 2
    return tuple(pairs)


def _mean_within(ascending: Rows) -> F32:
    total = ascending[0].copy()
    for row in ascending[1:]:
        total += row
    total /= np.float32(len(ascending))
    return np.clip(total, ascending[0], ascending[-1], out=total)
