"""Norms and distances of long vectors, in float64 and chunk by chunk."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..method import F32
from .ordered import chunks

F64 = npt.NDArray[np.float64]


def norms_from(vectors: Sequence[F32], origin: F32 | None = None) -> F64:
    """The L2 distance of each vector from `origin` (None: from zero), float64 [n]."""
    squares = np.zeros(len(vectors))
    for part in chunks(len(vectors[0])):
        for i, vector in enumerate(vectors):
            moved = vector[part].astype(np.float64)
            if origin is not None:
                moved -= origin[part]
            squares[i] += np.dot(moved, moved)
    root: F64 = np.sqrt(squares)
    return root


def squared_distances(vectors: Sequence[F32]) -> F64:
    """Between every two, float64 [n, n], symmetric to the bit.

    From differences and not from inner products: of close vectors those leave rounding errors only.
    """
    n = len(vectors)
    squares = np.zeros((n, n))
    for part in chunks(len(vectors[0])):
        rows = [vector[part].astype(np.float64) for vector in vectors]
        for i in range(n):
            for j in range(i + 1, n):
                gap = rows[i] - rows[j]
                squares[i, j] += np.dot(gap, gap)
    return squares + squares.T
