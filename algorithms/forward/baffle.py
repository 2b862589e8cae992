"""BAFFLE: training from loss differences alone (Feng et al. 2023, arXiv:2301.12195). Options, and the device's part.

    forward:  d_k = L(w + sigma z_k) - L(w)                 K + 1 forward passes
    central:  d_k = L(w + sigma z_k) - L(w - sigma z_k)     2 K
    gradient of one device: 1/K sum_k d_k / sigma * z_k     (central: d_k / (2 sigma))

The device uploads the K differences; whoever knows the round's seed regenerates z_k and sums (`aggregate`, `replica`).
At equal cost forward wins by about sqrt(2) where the loss has no noise of its own.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ..options import require
from .batch import Batch
from .engine import Engine
from .scalars import VALUE_KINDS
from .stream import PERTURBATIONS_MAX, Directions

F32 = npt.NDArray[np.float32]

DIFFERENCES: Final = ("forward", "central")
PERTURBATIONS: Final = ("distinct", "shared")


@dataclass(frozen=True, kw_only=True)
class BaffleOptions:
    """Options of BAFFLE. Learning rate and its schedule are the run's."""

    K: int = 100
    """Perturbations of one device in one round."""
    sigma: float = 3e-4
    """Length of a step. Slopes of a trained `digits` are off by 15 % at 3e-3, 3.5 % at 1e-3, 1 % at 3e-4 (curvature),
    and by .2 % at 3e-5, still, in float32."""
    difference: str = "forward"
    """forward or central."""
    perturbations: str = "distinct"
    """distinct: every device has its own, n devices count n * K. shared: all have the same, as secure sums need."""
    value: str = "fp32"
    """How a difference travels: fp32, int8 or sign."""
    batch_size: int = 32
    clip_median: float = 3.0
    """A difference beyond this many medians of the round's |d| is cut to that. 0: no bound."""
    clip_inf_norm: float = 0.3
    """A device's gradient with a larger element is scaled down as a whole. 0: no bound."""
    beta1: float = 0.9
    beta2: float = 0.99
    """Of the server's Adam."""
    weight_decay: float = 3e-3
    """Added to the gradient, as in L2 regularisation."""
    ema: float = 0.995
    """Largest decay of the averaged weights that are evaluated; smaller at first. 0: the weights themselves."""
    ema_every: int = 1
    """Rounds between two steps of the average, e.g. those of an epoch."""
    secure: bool = False
    """The gateway learns the sum of the devices' differences and nothing of any single device's. Needs shared."""
    secure_devices: int = 3
    """A device reveals nothing of a sum over a roster of fewer."""
    secure_fraction: float = 0.67
    """Share of the roster without which nothing is revealed; always more than half."""
    secure_bound: float = 20.0
    """A secure sum's differences are cut at this slope: the only clipping of single devices there can be."""
    dp_clip: float = 0.0
    """Differential privacy: a device's K slopes are scaled down to this L2 norm. 0: no differential privacy."""
    dp_noise: float = 0.0
    """Standard deviation of the noise in what the gateway sees, in units of `dp_clip`."""
    dp_delta: float = 1e-5
    """The delta at which the privacy that was spent is told."""

    def __post_init__(self) -> None:
        require(1 <= self.K <= PERTURBATIONS_MAX, "K", f"between 1 and {PERTURBATIONS_MAX}", self.K)
        require(1e-8 <= self.sigma <= 1, "sigma", "between 1e-8 and 1", self.sigma)
        require(self.difference in DIFFERENCES, "difference", f"one of {', '.join(DIFFERENCES)}", self.difference)
        known = self.perturbations in PERTURBATIONS
        require(known, "perturbations", f"one of {', '.join(PERTURBATIONS)}", self.perturbations)
        require(self.value in VALUE_KINDS, "value", f"one of {', '.join(VALUE_KINDS)}", self.value)
        require(1 <= self.batch_size <= 2**20, "batch_size", "between 1 and 2^20", self.batch_size)
        require(0 <= self.clip_median <= 1e6, "clip_median", "between 0 and 1e6", self.clip_median)
        require(0 <= self.clip_inf_norm <= 1e6, "clip_inf_norm", "between 0 and 1e6", self.clip_inf_norm)
        require(0 <= self.beta1 < 1, "beta1", "at least 0 and below 1", self.beta1)
        require(0 <= self.beta2 < 1, "beta2", "at least 0 and below 1", self.beta2)
        require(0 <= self.weight_decay <= 1, "weight_decay", "between 0 and 1", self.weight_decay)
        require(0 <= self.ema < 1, "ema", "at least 0 and below 1", self.ema)
        require(1 <= self.ema_every <= 2**20, "ema_every", "between 1 and 2^20", self.ema_every)
        self._check_privacy()

    def _check_privacy(self) -> None:
        shared = self.perturbations == "shared"
        require(shared or not self.secure, "perturbations", "shared in a secure sum", self.perturbations)
        require(2 <= self.secure_devices <= 512, "secure_devices", "between 2 and 512", self.secure_devices)
        require(0.5 <= self.secure_fraction <= 1, "secure_fraction", "between .5 and 1", self.secure_fraction)
        require(1e-3 <= self.secure_bound <= 1e6, "secure_bound", "between .001 and 1e6", self.secure_bound)
        require(self.dp_clip == 0 or 1e-3 <= self.dp_clip <= 1e6, "dp_clip", "0 or between .001 and 1e6", self.dp_clip)
        both = (self.dp_clip > 0) == (self.dp_noise > 0)
        require(both, "dp_noise", "above 0 with dp_clip, and only then", self.dp_noise)
        require(self.dp_noise == 0 or 0.01 <= self.dp_noise <= 1000, "dp_noise", "between .01 and 1000", self.dp_noise)
        require(0 < self.dp_delta < 1, "dp_delta", "between 0 and 1", self.dp_delta)
        plain = not (self.secure or self.dp_clip)
        require(plain or self.value == "fp32", "value", "fp32 in secure sums and with privacy", self.value)

    @property
    def in_residues(self) -> bool:
        """Whether differences travel as integers mod 2^32."""
        return self.secure or self.dp_clip > 0

    @property
    def n_forwards(self) -> int:
        """Forward passes of one device in one round."""
        return self.K + 1 if self.difference == "forward" else 2 * self.K

    @property
    def span(self) -> float:
        """Distance between the two losses of a difference: sigma, or 2 sigma."""
        return self.sigma if self.difference == "forward" else 2 * self.sigma

    def slot(self, index: int) -> int:
        """The stream's slot of the device at `index` of the roster."""
        return index if self.perturbations == "distinct" else 0


@dataclass(frozen=True, kw_only=True)
class Measured:
    """What a device has after its forward passes."""

    differences: F32
    """float32 [K]."""
    loss: float
    """At the weights themselves; central: the mean of all losses. For logs: the server doesn't need it."""


def measure(engine: Engine, weights: F32, batch: Batch, directions: Directions, options: BaffleOptions) -> Measured:
    """A device's work in one round: exactly `options.n_forwards` forward passes; weights are unchanged.

    Raises: BadNetwork.
    """
    ks = range(options.K)
    above = engine.perturbed_losses(weights, batch, directions, ks=ks, step=options.sigma)
    if options.difference == "forward":
        loss = engine.loss(weights, batch)
        return Measured(differences=(above - loss).astype(np.float32), loss=loss)
    below = engine.perturbed_losses(weights, batch, directions, ks=ks, step=-options.sigma)
    return Measured(differences=(above - below).astype(np.float32), loss=float(np.mean(above + below) / 2))
