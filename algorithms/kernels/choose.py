"""The k largest magnitudes of every tile, or all of them.

Magnitudes are compared as the integers that their bits are, which order like the floats themselves. A lower bound for
the k-th largest sifts out candidates first: cut the tile into at least 2k groups; at least k elements are no smaller
than the k-th largest of the groups' maxima.
"""

from __future__ import annotations

import numpy as np

from .compiled import BOOL, I64_IN, I64_OUT, INT, U32_IN, U32_OUT, Number, Vector, compiled

CHUNK = 16
MAGNITUDE = np.uint32(0x7FFFFFFF)


@compiled(INT, U32_OUT, INT, INT)
def _kth_largest(values: Vector, n: Number, k: Number) -> Number:
    """By quickselect; reorders the first `n` values."""
    low, high, wanted = 0, n - 1, k - 1
    while low < high:
        pivot = values[(low + high) // 2]
        i, j = low, high
        while i <= j:
            while values[i] > pivot:
                i += 1
            while values[j] < pivot:
                j -= 1
            if i <= j:
                values[i], values[j] = values[j], values[i]
                i += 1
                j -= 1
        if wanted <= j:
            high = j
        elif wanted >= i:
            low = i
        else:
            break
    return np.int64(values[wanted])


@compiled(INT, U32_IN, INT, U32_OUT, U32_OUT)
def _lower_bound(magnitudes: Vector, k: Number, maxima: Vector, tops: Vector) -> Number:
    """No more than the k-th largest magnitude, and at least 1. Fills `maxima` with each chunk's largest."""
    n_chunks = len(maxima)
    for chunk in range(n_chunks):
        largest = np.uint32(0)
        part = magnitudes[chunk * CHUNK : (chunk + 1) * CHUNK]
        for i in range(len(part)):
            magnitude = np.uint32(part[i] & MAGNITUDE)
            largest = magnitude if magnitude > largest else largest
        maxima[chunk] = largest
    merged = n_chunks // (2 * k)
    if merged == 0:
        return np.int64(1)
    n_groups = 0
    for chunk in range(0, n_chunks, merged):
        largest = np.uint32(0)
        for i in range(chunk, min(chunk + merged, n_chunks)):
            largest = maxima[i] if maxima[i] > largest else largest
        tops[n_groups] = largest
        n_groups += 1
    return max(np.int64(1), _kth_largest(tops, n_groups, k))


@compiled(INT, U32_IN, INT, U32_IN, I64_OUT, U32_OUT)
def _sift(bits: Vector, bound: Number, maxima: Vector, places: Vector, magnitudes: Vector) -> Number:
    """Where the magnitudes of at least `bound` stand in a tile, and these. Returns: how many."""
    n: Number = 0
    limit = np.uint32(bound)
    for chunk in range(len(maxima)):
        if maxima[chunk] >= limit:
            for place in range(chunk * CHUNK, min((chunk + 1) * CHUNK, len(bits))):
                magnitude = np.uint32(bits[place] & MAGNITUDE)
                places[n] = place
                magnitudes[n] = magnitude
                n += magnitude >= limit
    return n


@compiled(INT, INT, INT, I64_IN, U32_IN, U32_OUT, INT, I64_OUT)
def _keep_largest(
    k: Number, start: Number, places: Vector, magnitudes: Vector, order: Vector, n_candidates: Number, positions: Vector
) -> Number:
    """The k largest candidates of a tile, the lowest index among equals. Returns: how many."""
    threshold, n_equal = np.int64(0), n_candidates
    if n_candidates > k:
        for i in range(n_candidates):
            order[i] = magnitudes[i]
        threshold = _kth_largest(order, n_candidates, k)
        n_equal = k
        for i in range(n_candidates):
            n_equal -= magnitudes[i] > threshold
    n = 0
    for i in range(n_candidates):
        magnitude = np.int64(magnitudes[i])
        if magnitude > threshold or (magnitude == threshold and n_equal > 0):
            positions[n] = start + places[i]
            n += 1
            n_equal -= magnitude == threshold
    return n


@compiled(INT, U32_IN, I64_IN, I64_IN, I64_IN, BOOL, I64_OUT, I64_OUT)
def choose(
    bits: Vector, starts: Vector, areas: Vector, quotas: Vector, skips_zeros: Number, counts: Vector, positions: Vector
) -> Number:
    """Choose the `quotas[t]` largest of each tile that are not 0; of tiles whose quota is their area, all.

    Args:
        bits: float32 [dim] seen as uint32.
        starts, areas, quotas: int64 [n_tiles] each, 1 <= quota <= area.
        skips_zeros: leave zeros out of the latter tiles as well.
        counts: int64 [n_tiles], is filled: how many of each tile.
        positions: int64, at least the sum of the quotas; is filled in ascending order.
    Returns: how many positions there are.
    """
    area_max = 0
    for tile in range(len(areas)):
        area_max = max(area_max, areas[tile])
    # One more than there are: `_sift` writes before it knows whether to keep.
    places, magnitudes = np.empty(area_max + 1, np.int64), np.empty(area_max + 1, np.uint32)
    order, all_maxima = np.empty(area_max, np.uint32), np.empty(area_max // CHUNK + 1, np.uint32)
    n = 0
    for tile in range(len(starts)):
        start, area, k = starts[tile], areas[tile], quotas[tile]
        before = n
        if k == area:
            for position in range(start, start + area):
                if not (skips_zeros and (bits[position] & MAGNITUDE) == 0):
                    positions[n] = position
                    n += 1
        else:
            part = bits[start : start + area]
            maxima = all_maxima[: (area + CHUNK - 1) // CHUNK]
            n_candidates = _sift(part, _lower_bound(part, k, maxima, order), maxima, places, magnitudes)
            n += _keep_largest(k, start, places, magnitudes, order, n_candidates, positions[n:])
        counts[tile] = n - before
    return n
