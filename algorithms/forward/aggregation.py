"""The gateway's part of BAFFLE: contributions in, a replay out.

Every difference is cut to a multiple of the round's median, so that a liar is no louder than a few honest devices; then
each device's gradient is scaled down as a whole where its largest element exceeds a bound; then the mean is taken. All
of that ends up in the scalars: replicas only multiply and add.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .baffle import BaffleOptions
from .errors import TooFewContributions
from .replay import Part, Replay
from .stream import PerturbationStream

F32 = npt.NDArray[np.float32]
F64 = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class RoundKey:
    """What fixes the perturbations of a round."""

    round_index: int
    round_seed: bytes
    n_slots: int
    """Devices in its roster."""


@dataclass(frozen=True, kw_only=True)
class Contribution:
    """One device's differences, decoded and checked."""

    key: RoundKey
    """The round in which it was measured: an earlier one for a straggler."""
    slot: int
    """The device's index in that round's roster."""
    differences: F32
    """float32 [K]."""


def aggregate(
    contributions: Sequence[Contribution],
    options: BaffleOptions,
    *,
    step: int,
    learning_rate: float,
    run_id: bytes,
    n: int,
) -> Replay:
    """One update from the contributions of distinct (round, slot), in any order.

    Args:
        step: updates before this one.
        n: number of weights.
    Raises: TooFewContributions if there is none.
    """
    if not contributions:
        raise TooFewContributions("no contribution: there is nothing to learn from")
    ordered = sorted(contributions, key=lambda contribution: (contribution.key.round_index, contribution.slot))
    derivatives = np.array([contribution.differences for contribution in ordered], np.float64) / options.span
    derivatives = clip_to_median(derivatives, options.clip_median)
    keys = {contribution.key.round_index: contribution.key for contribution in ordered}
    parts = []
    for round_index in sorted(keys):
        rows = [row for row, contribution in enumerate(ordered) if contribution.key.round_index == round_index]
        slots = tuple(ordered[row].slot for row in rows)
        share = len(rows) / len(ordered)
        parts.append(_part(keys[round_index], slots, derivatives[rows], share, options, run_id, n))
    return Replay(step=step, learning_rate=float(np.float32(learning_rate)), parts=tuple(parts))


def aggregate_shared(
    mean_differences: F64,
    key: RoundKey,
    options: BaffleOptions,
    *,
    step: int,
    learning_rate: float,
    run_id: bytes,
    n: int,
) -> Replay:
    """One update from the mean of all devices' differences, as a secure sum leaves it (shared perturbations).

    Args:
        mean_differences: float64 [K].
    No median is known here: every device bounds its own differences when it encodes them.
    """
    part = _shared_part(mean_differences / options.span, key, options, run_id, n)
    return Replay(step=step, learning_rate=float(np.float32(learning_rate)), parts=(part,))


def clip_to_median(derivatives: F64, factor: float) -> F64:
    """Cut to +- factor times the median of all absolute values; 0 leaves them.

    As long as more than half of all values are honest, so is the median: no liar exceeds `factor` honest sizes.
    """
    if factor == 0:
        return derivatives
    bound = factor * float(np.median(np.abs(derivatives)))
    return np.clip(derivatives, -bound, bound)


def _part(
    key: RoundKey,
    slots: tuple[int, ...],
    derivatives: F64,
    share: float,
    options: BaffleOptions,
    run_id: bytes,
    n: int,
) -> Part:
    """The contributions of one round, as `share` of the whole mean."""
    if options.perturbations == "shared":
        return _shared_part(share * derivatives.mean(axis=0), key, options, run_id, n)
    stream = PerturbationStream(key.round_seed, run_id)
    scalars = np.empty(derivatives.shape, np.float32)
    for row, (slot, values) in enumerate(zip(slots, derivatives, strict=True)):
        scale = _inf_norm_scale(stream, key.round_index, slot, values, options.clip_inf_norm, n)
        scalars[row] = scale * share / len(slots) / values.size * values
    return Part(
        round_seed=key.round_seed, round_index=key.round_index, n_slots=key.n_slots, slots=slots, scalars=scalars
    )


def _shared_part(derivatives: F64, key: RoundKey, options: BaffleOptions, run_id: bytes, n: int) -> Part:
    stream = PerturbationStream(key.round_seed, run_id)
    scale = _inf_norm_scale(stream, key.round_index, 0, derivatives, options.clip_inf_norm, n)
    scalars = (scale / derivatives.size * derivatives).astype(np.float32)[None]
    return Part(round_seed=key.round_seed, round_index=key.round_index, n_slots=1, slots=(0,), scalars=scalars)


def _inf_norm_scale(
    stream: PerturbationStream, round_index: int, slot: int, derivatives: F64, bound: float, n: int
) -> float:
    """At most 1: what brings the largest element of this slot's gradient to the bound."""
    if bound == 0:
        return 1.0
    # A matrix product in any order will do: only its result travels.
    weights = (derivatives / derivatives.size).astype(np.float32)
    gradient = np.zeros(n, np.float32)
    at_once = max(1, 2**22 // max(1, n))
    for start in range(0, len(weights), at_once):
        ks = range(start, min(start + at_once, len(weights)))
        signs = stream.signs(round_index=round_index, slot=slot, ks=ks, n=n)
        gradient += weights[ks.start : ks.stop] @ signs.astype(np.float32)
    largest = float(np.abs(gradient).max(initial=0.0))
    return min(1.0, bound / largest) if largest > 0 else 1.0
