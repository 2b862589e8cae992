"""Which samples a peer uses in a round: a function of numbers that all members know, not of timing.

A round uses one *global batch*. It follows from the seed, the round and its total size alone; each member takes the
slice of its slot. So four members with b samples each see together exactly what one member with 4 * b would see.

Only the raw bits of the Philox generator are used, since numpy promises them to be the same in all its versions.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from .task import Indices

U64 = npt.NDArray[np.uint64]
WORD_MAX = 2**64


def shard(*, seed: int, round_index: int, n_members: int, slot: int, batch_size: int, n_train: int) -> Indices:
    """The sample indices of one member in one round, int64 [batch_size].

    Args:
        seed, round_index: 0 <= both < 2^64.
        slot: 0 <= slot < n_members, the member's place in the round's roster.
        n_train: indices are 0 <= index < n_train < 2^31.
    No sample repeats within a round before all have been used.
    Raises: ValueError for a number out of bounds.
    """
    if not 0 <= slot < n_members:
        raise ValueError(f"slot {slot} is outside a roster of {n_members}")
    batches = round_batches(
        seed=seed, round_index=round_index, n_members=n_members, batch_size=batch_size, n_steps=1, n_train=n_train
    )
    own: Indices = batches[0, slot]
    return own


def round_batches(
    *, seed: int, round_index: int, n_members: int, batch_size: int, n_steps: int, n_train: int
) -> Indices:
    """The samples of all members in all local steps of a round, int64 [n_steps, n_members, batch_size].

    Args and errors: as `shard`. No sample repeats within a round before all have been used.
    """
    _refuse_out_of_bounds(seed, round_index, n_members, batch_size, n_steps, n_train)
    size = n_steps * n_members * batch_size
    batch = global_batch(seed=seed, round_index=round_index, size=size, n_train=n_train)
    return batch.reshape(n_steps, n_members, batch_size)


def global_batch(*, seed: int, round_index: int, size: int, n_train: int) -> Indices:
    """All sample indices of a round, int64 [size]."""
    bits = np.random.Philox(key=np.array([seed, round_index], np.uint64))
    parts = [_permutation(bits, n_train) for _ in range(size // n_train)]
    return np.concatenate([*parts, _distinct(bits, size % n_train, n_train)])


def _permutation(bits: np.random.Philox, n: int) -> Indices:
    return np.argsort(bits.random_raw(n), kind="stable").astype(np.int64)


def _distinct(bits: np.random.Philox, size: int, n: int) -> Indices:
    """`size` different indices below `n`, in random order."""
    if size > n // 4:
        return _permutation(bits, n)[:size]
    drawn = np.empty(0, np.int64)
    while len(drawn) < size:
        drawn = _first_occurrences(np.concatenate([drawn, _below(bits.random_raw(size), n)]))
    return drawn[:size]


def _below(words: U64, n: int) -> Indices:
    """Map 64-bit words to [0, n); the bias is at most n / 2^32."""
    return ((words >> np.uint64(32)) * np.uint64(n) >> np.uint64(32)).astype(np.int64)


def _first_occurrences(values: Indices) -> Indices:
    _, first = np.unique(values, return_index=True)
    return values[np.sort(first)]


def _refuse_out_of_bounds(
    seed: int, round_index: int, n_members: int, batch_size: int, n_steps: int, n_train: int
) -> None:
    if not (0 <= seed < WORD_MAX and 0 <= round_index < WORD_MAX):
        raise ValueError(f"seed {seed} and round {round_index} must be at least 0 and below 2^64")
    if min(n_members, batch_size, n_steps) < 1 or not 1 <= n_train < 2**31:
        raise ValueError(
            f"cannot draw {n_steps} x {n_members} x {batch_size} of {n_train} samples: all must be at least 1"
        )
