"""How many contributions to wait for: dynamic backup workers (Xu, Neglia, Sebastianelli 2020, arXiv:2004.14696).

A round that waits for the k fastest of n makes `progress(k)` and takes T(k). Waiting for more averages out more noise,
and takes longer; k is chosen to maximise progress per second.

    progress(k) = k / (k + B)       B = V / |g|^2, variance of one contribution over the squared mean of all
    T(k)        = mean over the rounds seen of the k-th arrival, and what a round takes after it

The paper's progress is the decrease of the loss that smoothness promises at a given learning rate, which needs an
estimate of the smoothness. Here, on purpose, it is the decrease at the best rate, as a fraction of what noise-free
gradients would give (McCandlish et al. 2018, arXiv:1812.06162): that needs B alone. With much noise (B large) it is
proportional to k, so what counts is contributions per second; without any, the fastest one suffices.

A round that did not wait for a peer only says that it takes longer than this. What it took when it was last seen in
time, or the longest that it was waited for in vain since, stands in.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Hashable, Mapping, Sequence
from typing import Final, Generic, TypeVar

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]
Key = TypeVar("Key", bound=Hashable)

WINDOW: Final = 32
DECAY: Final = 0.95


class NoiseScale:
    """Estimates B from squared norms, one's own contribution's and that of the mean (arXiv:1812.06162, appendix A)."""

    def __init__(self) -> None:
        self._variance = self._signal = self._weight = 0.0

    def observe(self, own: float, mean: float, n: int) -> None:
        """A round's squared L2 norms: of my contribution, and of the mean over n, mine among them."""
        if n < 2 or not (math.isfinite(own) and math.isfinite(mean)):
            return
        # E own = |g|^2 + V and E mean = |g|^2 + V / n. Single rounds may give negative values; their averages rarely.
        self._variance = DECAY * self._variance + (own - mean) * n / (n - 1)
        self._signal = DECAY * self._signal + (n * mean - own) / (n - 1)
        self._weight = DECAY * self._weight + 1.0

    @property
    def value(self) -> float:
        """B; infinite as long as the mean cannot be told from noise, and before anything was seen."""
        if self._weight == 0 or self._signal <= 0:
            return math.inf
        return max(0.0, self._variance) / self._signal


class Arrivals(Generic[Key]):
    """When contributions came in, in the rounds that this peer saw."""

    def __init__(self) -> None:
        self._rows: deque[dict[Key, tuple[float, bool]]] = deque(maxlen=WINDOW)

    def __len__(self) -> int:
        return len(self._rows)

    def record(self, members: Sequence[Key], arrived_s: Mapping[Key, float], waited_s: float) -> None:
        """A round's arrivals; who is missing had not arrived after `waited_s`."""
        row = {key: (arrived_s[key], True) if key in arrived_s else (waited_s, False) for key in members}
        self._rows.append(row)

    def times_s(self, members: Sequence[Key]) -> F64:
        """The mean time until k contributions of these members are in, for k = 1..n: float64 [n], ascending.

        Members that no round has seen yet are taken to be as fast as the median one.
        """
        known = {key: self._known(key) for key in members}
        table = np.array([[_entry(row.get(key), known[key]) for key in members] for row in self._rows])
        for row in table:
            row[np.isnan(row)] = np.nanmedian(row) if not np.isnan(row).all() else 0.0
        ordered: F64 = np.sort(table, axis=1).mean(axis=0)
        return ordered

    def _known(self, key: Key) -> float:
        """At least so long it takes: the last arrival, or the longest wait in vain since."""
        known = math.nan
        for row in self._rows:
            if key in row:
                time_s, in_time = row[key]
                known = time_s if in_time or math.isnan(known) else max(known, time_s)
        return known


def progress(k: int, noise: float) -> float:
    """Of an update made of k contributions, relative to others; `noise` is B."""
    return float(k) if math.isinf(noise) else k / (k + noise)


def best_k(times_s: Sequence[float] | F64, *, noise: float, overhead_s: float, k_min: int) -> int:
    """How many contributions to wait for; of equally good numbers the largest.

    Args:
        times_s: T(k) for k = 1..n, ascending.
        overhead_s: what a round takes after the last arrival that it waits for.
        k_min: 1 <= k_min <= n.
    """
    rates = [
        (progress(k, noise) / max(time_s + overhead_s, 1e-9), k) for k, time_s in enumerate(times_s, 1) if k >= k_min
    ]
    return max(rates)[1]


def _entry(entry: tuple[float, bool] | None, known: float) -> float:
    if entry is None:
        return known
    time_s, in_time = entry
    return time_s if in_time else max(time_s, known)
