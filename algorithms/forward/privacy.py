"""Differential privacy of a device's scalars: a bound on their norm, then calibrated discrete Gaussian noise.

K scalars with known seeds are a linear sketch of a gradient, not a secret: without this (or a secure sum) no privacy
can be claimed. What is protected is a device's taking part in a round: its scalars change the sum by at most
`clip_norm`, and the sum carries noise of `noise_multiplier * clip_norm`. Under a secure sum every device adds its share
of that noise (Kairouz et al. 2021, arXiv:2102.06387); without one, a device adds all of it (`n_devices = 1`).
"""

from __future__ import annotations

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ..options import require
from .discrete_gaussian import DiscreteGaussian
from .sum_encoding import SumEncoding

U32 = npt.NDArray[np.uint32]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]

SHARE_STEPS_MIN = 4
"""A share of the noise has a standard deviation of at least so many steps of the encoding: then the sum of discrete
Gaussians differs from one of their total variance by less than 1e-60 (theorem 1 there)."""


@dataclass(frozen=True, kw_only=True)
class PrivacyOptions:
    """Options of differential privacy."""

    clip_norm: float
    """Largest L2 norm of a device's scalars; longer vectors are scaled down."""
    noise_multiplier: float
    """Standard deviation of the noise in the sum, in units of `clip_norm`."""
    n_devices: int = 1
    """Honest survivors that the noise is shared among: count on the threshold of the secure sum, not on the roster."""

    def __post_init__(self) -> None:
        require(1e-9 <= self.clip_norm <= 1e9, "clip_norm", "between 1e-9 and 1e9", self.clip_norm)
        require(
            1e-3 <= self.noise_multiplier <= 1e3, "noise_multiplier", "between .001 and 1000", self.noise_multiplier
        )
        require(1 <= self.n_devices <= 2**16, "n_devices", "between 1 and 65536", self.n_devices)

    @property
    def share(self) -> float:
        """Standard deviation of one device's noise."""
        return self.noise_multiplier * self.clip_norm / math.sqrt(self.n_devices)

    def encoding(self, n_devices: int) -> SumEncoding:
        """An encoding with room for clipped values and twelve standard deviations of noise.

        Args:
            n_devices: of the roster.
        """
        return SumEncoding(bound=self.clip_norm + 12 * self.share, n_devices=n_devices)


def clip_to_norm(values: F32 | F64, norm: float) -> F64:
    """Scale down to an L2 norm of at most `norm`, float64."""
    wide = values.astype(np.float64)
    length = float(np.linalg.norm(wide))
    return wide * (norm / length) if length > norm else wide


def privatise(values: F32, options: PrivacyOptions, encoding: SumEncoding, seed: bytes) -> U32:
    """Clip, encode and add this device's share of the noise: what a secure sum (or the gateway) may see.

    Args:
        values: float32 [K].
        seed: 32 fresh secret bytes.
    Returns: uint32 [K], residues mod 2^32 of `encoding`.
    Raises: BadOption if the encoding is too coarse for the noise or has no room for it.
    """
    steps = options.share * 2.0**encoding.fraction_bits
    require(steps >= SHARE_STEPS_MIN, "noise_multiplier", "at least 4 steps of the encoding", steps)
    room = encoding.bound >= options.clip_norm + 12 * options.share
    require(room, "bound", "clip_norm + 12 standard deviations of a device's noise", encoding.bound)
    # Truncation, unlike rounding, never lengthens the vector: the sensitivity stays that of the clipping.
    whole = np.trunc(np.ldexp(clip_to_norm(values, options.clip_norm), encoding.fraction_bits)).astype(np.int64)
    noise = DiscreteGaussian(seed).draw(len(whole), math.ceil(steps * steps))
    limit = int(encoding.bound * 2.0**encoding.fraction_bits)
    residues: U32 = np.clip(whole + noise, -limit, limit).astype(np.uint32)
    return residues


def epsilon_spent(options: PrivacyOptions, *, n_rounds: int, delta: float) -> float:
    """The epsilon of (epsilon, delta)-differential privacy after so many rounds, by Rényi accounting (dp-accounting).

    Counts every round in full: no amplification by sampling of devices is claimed. The discrete Gaussian's Rényi
    divergence is at most the continuous one's (arXiv:2004.00010, theorem 4).
    Raises: ImportError without `pip install gossamer[privacy]`.
    """
    import dp_accounting
    from dp_accounting import rdp

    accountant = rdp.RdpAccountant()
    round_event = dp_accounting.GaussianDpEvent(options.noise_multiplier)
    accountant.compose(dp_accounting.SelfComposedDpEvent(round_event, n_rounds))
    return float(accountant.get_epsilon(delta))
