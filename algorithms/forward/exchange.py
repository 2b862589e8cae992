"""Contributions to one model from those that backpropagate and those that cannot, and what becomes of them.

    u8 kind = 1 | a replay                                 a gateway's devices: scalars, whatever the model's size
    u8 kind = 2 | u32 samples | f32 [n] mean gradient      a peer that backpropagates

The update is the weighted mean of the contributions' gradients, in roster order. A gradient's weight is the number of
samples behind it; a forward gradient from K_eff directions in n dimensions counts for K_eff / (K_eff + n) of them,
since its directions add n / K_eff times the gradient's own square to its variance.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from ..errors import BadPayload
from .baffle import BaffleOptions
from .replay import PARTS_MAX, Replay
from .replica import gradient_of

F32 = npt.NDArray[np.float32]

FORWARD: Final = 1
DENSE: Final = 2
DEVICES_MAX: Final = 4096
"""Contributions of devices in one payload."""
SAMPLES_MAX: Final = 2**24
GRADIENT_ABS_MAX: Final = 2.0**100
_DENSE_HEAD: Final = struct.Struct("<BI")


@dataclass(frozen=True, kw_only=True)
class Dense:
    """A gradient by backpropagation."""

    samples: int
    gradient: F32
    """float32 [n], mean over the samples."""


def encode_forward(replay: Replay) -> bytes:
    """The payload of a gateway; of the replay's head, the parts count."""
    return bytes([FORWARD]) + replay.to_bytes()


def encode_dense(dense: Dense) -> bytes:
    """The payload of a peer that backpropagates."""
    return _DENSE_HEAD.pack(DENSE, dense.samples) + dense.gradient.astype("<f4").tobytes()


def decode(payload: bytes, options: BaffleOptions, n: int) -> Replay | Dense:
    """Read a payload from outside.

    Args:
        n: weights of the model.
    Raises: BadPayload for anything that no honest replica sends.
    """
    kind = payload[0] if payload else 0
    if kind == FORWARD:
        replay = Replay.from_bytes(payload[1:], K=options.K)
        if n_contributions(replay) > DEVICES_MAX:
            raise BadPayload(f"a payload with {n_contributions(replay)} contributions: at most {DEVICES_MAX} fit")
        return replay
    if kind != DENSE:
        raise BadPayload(f"a payload of kind {kind}: expected {FORWARD} (scalars) or {DENSE} (a gradient)")
    if len(payload) != _DENSE_HEAD.size + 4 * n:
        raise BadPayload(f"a gradient payload of {len(payload)} bytes, expected {_DENSE_HEAD.size + 4 * n}")
    _, samples = _DENSE_HEAD.unpack_from(payload)
    gradient = np.frombuffer(payload, "<f4", offset=_DENSE_HEAD.size).astype(np.float32)
    # NaN makes the comparison false.
    if not 1 <= samples <= SAMPLES_MAX or not float(np.abs(gradient).max(initial=0)) <= GRADIENT_ABS_MAX:
        raise BadPayload(f"a gradient payload of {samples} samples, or with NaN, infinity or values above 2^100")
    return Dense(samples=samples, gradient=gradient)


def combined_gradient(payloads: Sequence[bytes], options: BaffleOptions, run_id: bytes, n: int) -> F32:
    """The gradient of an update, float32 [n], bit for bit the same wherever it is computed.

    Args:
        payloads: at least one, in roster order; all pass `decode`.
        run_id: 32 bytes, for the perturbation stream.
    Raises: BadPayload.
    """
    decoded = [decode(payload, options, n) for payload in payloads]
    weights = [weight_of(one, options, n) for one in decoded]
    total = sum(weights)
    gradient = np.zeros(n, np.float32)
    for one, weight in zip(decoded, weights, strict=True):
        own = one.gradient if isinstance(one, Dense) else gradient_of(one, run_id, n)
        gradient += np.float32(weight / total) * own
    return gradient


def weight_of(contribution: Replay | Dense, options: BaffleOptions, n: int) -> float:
    """What a contribution counts for, in samples."""
    if isinstance(contribution, Dense):
        return float(contribution.samples)
    n_devices = n_contributions(contribution)
    directions = options.K * (n_devices if options.perturbations == "distinct" else 1)
    return n_devices * options.batch_size * directions / (directions + n)


def n_contributions(replay: Replay) -> int:
    """Devices behind a replay, of all its rounds."""
    return sum(len(part.slots) for part in replay.parts)


def payload_bytes_max(options: BaffleOptions, n: int) -> int:
    """No honest payload is longer."""
    scalars = 4 * options.K * DEVICES_MAX + PARTS_MAX * (64 + 2**13)
    return 64 + max(4 * n, scalars)


def contributions_in(payloads: Sequence[bytes], options: BaffleOptions, n: int) -> frozenset[tuple[bytes, int]]:
    """The device contributions that are part of some payloads, each named by its round's seed and its slot."""
    replays = [one for one in (decode(payload, options, n) for payload in payloads) if isinstance(one, Replay)]
    return frozenset((part.round_seed, slot) for replay in replays for part in replay.parts for slot in part.slots)


def shares_of(payloads: Sequence[bytes], options: BaffleOptions, n: int) -> dict[str, float]:
    """How much of an update's gradient comes from devices and from peers; sums to 1."""
    weights = {"devices": 0.0, "peers": 0.0}
    for payload in payloads:
        one = decode(payload, options, n)
        weights["peers" if isinstance(one, Dense) else "devices"] += weight_of(one, options, n)
    total = sum(weights.values())
    return {kind: weight / total for kind, weight in weights.items()}
