"""How the differences of a run with secure sums or differential privacy travel: as integers mod 2^32.

Everything follows from the run's options and the size of the round's roster, so that no gateway can ask for less noise
or a lower threshold than the run's owner signed.
"""

from __future__ import annotations

import math

import numpy as np
import numpy.typing as npt

from ..errors import BadPayload
from .baffle import BaffleOptions
from .privacy import PrivacyOptions, privatise
from .sum_encoding import SumEncoding

U32 = npt.NDArray[np.uint32]
F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


def threshold(options: BaffleOptions, n: int) -> int:
    """Devices of a roster of n without whose shares nothing is revealed: more than half, and the run's fraction."""
    return min(n, max(n // 2 + 1, math.ceil(options.secure_fraction * n)))


def privacy(options: BaffleOptions, n: int) -> PrivacyOptions | None:
    """What a device adds; None without differential privacy."""
    if options.dp_clip == 0:
        return None
    sharers = threshold(options, n) if options.secure else 1
    return PrivacyOptions(
        clip_norm=options.dp_clip * options.span, noise_multiplier=options.dp_noise, n_devices=sharers
    )


def encoding(options: BaffleOptions, n: int) -> SumEncoding:
    """Of a sum over a roster of n; a device that uploads by itself is a roster of 1."""
    noisy = privacy(options, n)
    if noisy is not None:
        return noisy.encoding(n)
    return SumEncoding(bound=options.secure_bound * options.span, n_devices=n)


def encode(differences: F32, options: BaffleOptions, n: int, seed: bytes) -> U32:
    """A device's residues, uint32 [K], clipped and with its share of the noise.

    Args:
        seed: 32 fresh secret bytes.
    Raises: BadCoordinate, BadOption.
    """
    noisy = privacy(options, n)
    if noisy is None:
        return encoding(options, n).encode(differences)
    return privatise(differences, noisy, encoding(options, n), seed)


def decode_mean(total: U32, options: BaffleOptions, *, n_roster: int, n: int) -> F32:
    """The mean of n devices' differences, float32 [K], from the sum of their residues."""
    mean: F64 = encoding(options, n_roster).decode(total) / n
    return mean.astype(np.float32)


def to_bytes(residues: U32) -> bytes:
    """4 K bytes, little-endian."""
    return residues.astype("<u4").tobytes()


def from_bytes(payload: bytes, K: int) -> U32:
    """uint32 [K]. Raises BadPayload."""
    if len(payload) != 4 * K:
        raise BadPayload(f"{len(payload)} bytes cannot hold {K} residues: expected {4 * K}")
    return np.frombuffer(payload, "<u4").astype(np.uint32)
