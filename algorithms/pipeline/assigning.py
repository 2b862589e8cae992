"""Cut a chain of layers and deal machines out to the stages, so that the slowest stage is as fast as can be.

As in PipeDream (Narayanan et al. 2019, arXiv:1806.03377, section 3.1) a dynamic programme goes over the layers; its
machines are alike, and ours are not. So we ask for a given rate r how few machines, taken in a fixed order, serve the
layers up to j in s stages of at least r each,

    f(s, j) = min over i < j of the least k with  sum of rate(p, i, j) over machines f(s-1, i) < p <= k  >=  r,

and bisect r. That is exact for the order, and alike machines have only one. For others several orders are tried, and
machines are then moved and exchanged between stages while that helps (the general problem is NP-hard).
"""

from __future__ import annotations

import itertools
import math
from collections.abc import Sequence
from typing import Final

import numpy as np

from ..partition import balanced_starts
from .workload import F64, RATE_MAX, Rates

PRECISION: Final = 1e-6
"""Of the rate, relative."""
RATE_MIN: Final = 1e-12
"""Samples/s that are none."""


def best_assignments(rates: Rates, n_stages: int) -> list[tuple[tuple[int, ...], list[list[int]]]]:
    """That of the best cut for the stages' rates, and that of the cut that shares out the work most evenly: with it
    stages have as many replicas, which have as little to exchange, as can be. None of either if a stage would be
    empty."""
    work = [float(rates.flops[i, i + 1]) for i in range(rates.n_layers)]
    even = (*balanced_starts(work, n_stages), rates.n_layers)
    only = np.zeros_like(rates.flops)
    only[even[:-1], even[1:]] = 1.0
    found = [best_assignment(rates, n_stages), best_assignment(rates.limited(only), n_stages)]
    return [one for one in found if one is not None]


def best_assignment(rates: Rates, n_stages: int) -> tuple[tuple[int, ...], list[list[int]]] | None:
    """Starts and the machines of each stage; None if some stage would be empty."""
    best: tuple[float, tuple[int, ...], list[list[int]]] | None = None
    for order in _orders(rates):
        found = _best_in_order(rates, order, n_stages)
        if found is None:
            continue
        starts, groups = found
        ends = (*starts[1:], rates.n_layers)
        tables = rates.rate[:, starts, ends]
        _improve(tables, groups)
        slowest = float(_sums(tables, groups).min())
        if best is None or slowest > best[0] * (1 + 1e-9):
            best = (slowest, starts, groups)
    return None if best is None else best[1:]


def _orders(rates: Rates) -> list[list[int]]:
    """Machines from strong to weak and back, as they do with the whole model and with its layers apart."""
    single = rates.rate[:, range(rates.n_layers), range(1, rates.n_layers + 1)]
    with np.errstate(invalid="ignore"):
        keys = [rates.by_resource[name][:, 0, rates.n_layers] for name in rates.by_resource] + [single.min(axis=1)]
    orders = []
    for key in keys:
        strong_first = [int(p) for p in np.argsort(-np.nan_to_num(key, posinf=RATE_MAX), kind="stable")]
        orders += [strong_first, strong_first[::-1]]
    return [list(order) for order in dict.fromkeys(map(tuple, orders))]


def _best_in_order(rates: Rates, order: Sequence[int], n_stages: int) -> tuple[tuple[int, ...], list[list[int]]] | None:
    sums = np.concatenate([np.zeros((1, rates.n_layers, rates.n_layers + 1)), np.cumsum(rates.rate[order], axis=0)])
    found = _reach(sums, 0.0, n_stages)
    if found is None:
        return None
    low, high = _slowest(sums, *found), float(rates.rate.sum(axis=0).max())
    while high > max(low * (1 + PRECISION), RATE_MIN):
        middle = math.sqrt(max(low, RATE_MIN)) * math.sqrt(high)
        better = _reach(sums, middle, n_stages)
        if better is None:
            high = middle
        else:
            low, found = max(middle, _slowest(sums, *better)), better
    starts, ends = found
    bounds = [0, *ends[:-1], len(order)]
    return starts, [sorted(order[a:b]) for a, b in itertools.pairwise(bounds)]


def _slowest(sums: F64, starts: Sequence[int], ends: Sequence[int]) -> float:
    """The least rate of these stages."""
    bounds = zip((0, *ends[:-1]), ends, starts, (*starts[1:], sums.shape[1]), strict=True)
    return min(float(sums[to, i, j] - sums[since, i, j]) for since, to, i, j in bounds)


def _reach(sums: F64, rate: float, n_stages: int) -> tuple[tuple[int, ...], tuple[int, ...]] | None:
    """Starts of stages that all do at least this rate (and more than 0), and how many machines are taken after each."""
    n_machines, n_layers = sums.shape[0] - 1, sums.shape[1]
    far = n_machines + 1
    fewest = np.full(n_layers + 1, far)
    fewest[0] = 0
    begins, taken = [], [fewest]
    for s in range(n_stages):
        row, begin = np.full(n_layers + 1, far), np.zeros(n_layers + 1, np.int64)
        for i in range(s, n_layers):
            if fewest[i] > n_machines:
                continue
            below = sums[:, i, i + 1 :]
            wanted = (max(rate, RATE_MIN) + below[fewest[i]]) * (1 - 1e-12)
            needed = np.maximum((below < wanted).sum(axis=0), fewest[i] + 1)
            fewer = needed < row[i + 1 :]
            row[i + 1 :][fewer] = needed[fewer]
            begin[i + 1 :][fewer] = i
        fewest = row
        begins.append(begin)
        taken.append(row)
    if fewest[n_layers] > n_machines:
        return None
    starts: list[int] = []
    ends: list[int] = []
    j = n_layers
    for s in reversed(range(n_stages)):
        ends.insert(0, int(taken[s + 1][j]))
        j = int(begins[s][j])
        starts.insert(0, j)
    return tuple(starts), tuple(ends)


def _improve(tables: F64, groups: list[list[int]]) -> None:
    """Move machines to the slowest stage, or exchange them with its own, while the slowest rate rises.

    Args:
        tables: samples/s [machine, stage].
    """
    for _ in range(4 * tables.shape[0]):
        rates = _sums(tables, groups)
        slowest = int(rates.argmin())
        best: tuple[float, int, int, int | None] | None = None
        for other in range(len(groups)):
            if other == slowest:
                continue
            for p in groups[other]:
                for q in (None, *groups[slowest]):
                    if q is None and len(groups[other]) == 1:
                        continue
                    a = rates[slowest] + tables[p, slowest] - (0.0 if q is None else tables[q, slowest])
                    b = rates[other] - tables[p, other] + (0.0 if q is None else tables[q, other])
                    if min(a, b) > max(rates[slowest], best[0] if best else 0.0) * (1 + 1e-9):
                        best = (float(min(a, b)), other, p, q)
        if best is None:
            return
        _, other, p, q = best
        groups[other].remove(p)
        groups[slowest].append(p)
        if q is not None:
            groups[slowest].remove(q)
            groups[other].append(q)


def _sums(tables: F64, groups: Sequence[Sequence[int]]) -> F64:
    return np.array([tables[list(group), s].sum() for s, group in enumerate(groups)])
