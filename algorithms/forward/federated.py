"""Server updates for devices that can backpropagate: FedAvg, FedProx, FedAdam, FedYogi, on flat float32 vectors.

FedAvg: McMahan et al. 2017 (arXiv:1602.05629). FedProx: Li et al. 2020 (arXiv:1812.06127), which only changes what
devices do (`proximal_gradient`). FedAdam and FedYogi: Reddi et al. 2021 (arXiv:2003.00295, algorithm 2), without bias
correction, as there.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ..options import require
from .errors import TooFewContributions

F32 = npt.NDArray[np.float32]

RULES: Final = ("fedavg", "fedprox", "fedadam", "fedyogi")
WEIGHT_ABS_MAX: Final = 2.0**60
BLOCK: Final = 1 << 16
"""Weights that are averaged at a time: what is summed stays in the cache, and no copy of a whole change is made."""


@dataclass(frozen=True, kw_only=True)
class FederatedOptions:
    """Options of federated averaging."""

    rule: str = "fedavg"
    """fedavg, fedprox, fedadam or fedyogi."""
    server_lr: float = 1.0
    """1 with fedavg is plain averaging; .01 to .1 for fedadam and fedyogi."""
    beta1: float = 0.9
    beta2: float = 0.99
    tau: float = 1e-3
    """Degree of adaptivity of fedadam and fedyogi: floor of the root of the second moment."""
    mu: float = 0.01
    """fedprox: pull towards the round's first weights; 0 is fedavg."""

    def __post_init__(self) -> None:
        require(self.rule in RULES, "rule", f"one of {', '.join(RULES)}", self.rule)
        require(0 <= self.server_lr <= 100, "server_lr", "between 0 and 100", self.server_lr)
        require(0 <= self.beta1 < 1, "beta1", "at least 0 and below 1", self.beta1)
        require(0 <= self.beta2 < 1, "beta2", "at least 0 and below 1", self.beta2)
        require(0 < self.tau <= 1, "tau", "above 0 and at most 1", self.tau)
        require(0 <= self.mu <= 100, "mu", "between 0 and 100", self.mu)

    @property
    def is_adaptive(self) -> bool:
        """Whether the server keeps moments of the changes."""
        return self.rule in ("fedadam", "fedyogi")


@dataclass(frozen=True, kw_only=True)
class LocalUpdate:
    """What one device learned in a round."""

    slot: int
    change: F32
    """float32 [n]: its weights after minus before."""
    n_samples: int
    """How much its change counts."""
    scale: float = 1.0
    """What its change is multiplied by, in float32."""


class FederatedServer:
    """The weights of a federated run, float32 [n], and what the rule remembers."""

    def __init__(self, weights: F32, options: FederatedOptions) -> None:
        self.weights: F32 = weights.astype(np.float32, copy=True)
        self._options = options
        n = len(weights) if options.is_adaptive else 0
        self._first = np.zeros(n, np.float32)
        self._second = np.full(n, options.tau**2, np.float32)

    def apply(self, updates: Sequence[LocalUpdate]) -> None:
        """One round. The order in which updates arrived does not matter: they are summed by slot.

        Raises: TooFewContributions without updates; ValueError for one that does not fit or is not finite.
        """
        self.descend(mean_change(updates, len(self.weights)), self._options.server_lr)

    def descend(self, change: F32, server_lr: float) -> None:
        """One step of the rule from a mean change, float32 [n]: separate ufuncs, so the bits are every machine's."""
        options = self._options
        if not options.is_adaptive:
            self.weights += np.float32(server_lr) * change
            return
        beta1, beta2 = np.float32(options.beta1), np.float32(options.beta2)
        self._first *= beta1
        self._first += (np.float32(1) - beta1) * change
        square = change * change
        if options.rule == "fedadam":
            self._second *= beta2
            self._second += (np.float32(1) - beta2) * square
        else:
            self._second -= (np.float32(1) - beta2) * square * np.sign(self._second - square)
        step = self._first / (np.sqrt(self._second) + np.float32(options.tau))
        self.weights += np.float32(server_lr) * step

    def state(self) -> dict[str, F32]:
        """For checkpoints: weights, and the moments of rules that have some. References, not copies."""
        moments = {"first": self._first, "second": self._second} if self._options.is_adaptive else {}
        return {"weights": self.weights, **moments}


def mean_change(updates: Sequence[LocalUpdate], n: int) -> F32:
    """Mean of the changes, weighted by samples, summed in slot order in float64; float32 [n].

    Raises: TooFewContributions, ValueError.
    """
    if not updates:
        raise TooFewContributions("no update: there is nothing to average")
    ordered = sorted(updates, key=lambda update: update.slot)
    for update in ordered:
        if update.change.shape != (n,) or update.n_samples < 1:
            raise ValueError(f"slot {update.slot}: a change {update.change.shape} over {update.n_samples} samples")
    mean, n_samples = np.empty(n, np.float32), sum(update.n_samples for update in ordered)
    for start in range(0, n, BLOCK):
        block = slice(start, start + BLOCK)
        total = np.zeros(len(mean[block]), np.float64)
        for update in ordered:
            change = update.change[block]
            if not is_bounded(change):
                raise ValueError(f"slot {update.slot}: a change that is not finite")
            scaled = change if update.scale == 1 else np.float32(update.scale) * change
            total += float(update.n_samples) * scaled
        mean[block] = total / n_samples
    return mean


def is_bounded(values: F32) -> bool:
    """Whether all are finite and at most 2^60 in size; no copy is made."""
    # NaN is the largest and the least of all for numpy, and fails the comparison.
    return len(values) == 0 or bool(values.max() <= WEIGHT_ABS_MAX and values.min() >= -WEIGHT_ABS_MAX)


def length_of(change: F32) -> float:
    """The L2 norm, in float64, of a float32 [n]; no copy of the whole is made."""
    squares = 0.0
    for start in range(0, len(change), BLOCK):
        block = change[start : start + BLOCK].astype(np.float64)
        squares += float(block @ block)
    return math.sqrt(squares)


def proximal_gradient(weights: F32, anchor: F32, mu: float) -> F32:
    """What fedprox adds to a device's gradient: mu * (w - w of the round's start)."""
    pull: F32 = np.float32(mu) * (weights - anchor)
    return pull
