"""The perturbation stream: the same +1 and -1 on every machine and in every language, from a seed.

    key    = HKDF-SHA256(ikm = round seed, salt = "gossamer/perturb/v1", info = run id, L = 32)
    nonce  = u32 block counter 0 | u32 round | u32 slot | u32 k, little-endian
    stream = ChaCha20(key, nonce)                                                  (RFC 8439)
    bit j  = byte j >> 3, bit j & 7, least significant first;  0 -> +1, 1 -> -1

`slot` is the device's index in the round's roster (0 for all in shared mode), `k` counts the perturbations of a slot,
and j counts weights through the network's tensors in declared order, each in C order, without padding. A combination
of seed, round, slot and k is used once.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt
from cryptography.hazmat.primitives.ciphers import Cipher, algorithms
from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF

from .errors import BadCoordinate

I8 = npt.NDArray[np.int8]
U8 = npt.NDArray[np.uint8]
F32 = npt.NDArray[np.float32]

SALT: Final = b"gossamer/perturb/v1"
SEED_BYTES: Final = 32
RUN_ID_BYTES: Final = 32
ROUNDS_MAX: Final = 2**32
SLOTS_MAX: Final = 2**16
PERTURBATIONS_MAX: Final = 2**16
"""Perturbations of one slot in one round."""
N_WEIGHTS_MAX: Final = 2**31
BLOCK: Final = 2**15
"""Weights that are perturbed at a time: their signs stay in the first-level cache."""


_NONCE: Final = struct.Struct("<4I")


class PerturbationStream:
    """The stream of one round seed and run.

    Args:
        round_seed: 32 bytes, fresh for every round.
        run_id: 32 bytes.
    Raises: BadCoordinate for other lengths.
    """

    def __init__(self, round_seed: bytes, run_id: bytes) -> None:
        if len(round_seed) != SEED_BYTES or len(run_id) != RUN_ID_BYTES:
            raise BadCoordinate(f"a round seed and a run id have 32 bytes, not {len(round_seed)} and {len(run_id)}")
        self.key = HKDF(algorithm=SHA256(), length=32, salt=SALT, info=run_id).derive(round_seed)
        # One cipher whose nonce is reset: making a new one costs more than a small network's whole stream.
        self._cipher = Cipher(algorithms.ChaCha20(self.key, bytes(16)), mode=None).encryptor()

    def bits(self, *, round_index: int, slot: int, ks: range, n: int) -> U8:
        """Packed sign bits, uint8 [len(ks), ceil(n / 8)]; bits past n are part of the stream, not of the signs.

        Raises: BadCoordinate.
        """
        refuse_length(n)
        zeros = bytes((n + 7) // 8)
        rows = []
        for nonce in nonces(round_index=round_index, slot=slot, ks=ks):
            self._cipher.reset_nonce(nonce)
            rows.append(self._cipher.update(zeros))
        return np.frombuffer(b"".join(rows), np.uint8).reshape(len(ks), len(zeros))

    def signs(self, *, round_index: int, slot: int, ks: range, n: int) -> I8:
        """The signs of several perturbations, int8 [len(ks), n] of +1 and -1.

        Raises: BadCoordinate.
        """
        return unpack_signs(self.bits(round_index=round_index, slot=slot, ks=ks, n=n), n)

    def blocks(self, *, round_index: int, slot: int, k: int, n: int) -> Iterator[tuple[int, U8]]:
        """The packed sign bits of one perturbation, `BLOCK` weights at a time: (first weight, uint8 [...]).

        Do not begin another perturbation of this stream before the last block: they share the cipher.
        Raises: BadCoordinate.
        """
        refuse_length(n)
        for nonce in nonces(round_index=round_index, slot=slot, ks=range(k, k + 1)):
            self._cipher.reset_nonce(nonce)
        for start in range(0, n, BLOCK):
            n_bytes = (min(BLOCK, n - start) + 7) // 8
            yield start, np.frombuffer(self._cipher.update(bytes(n_bytes)), np.uint8)

    def at(self, *, round_index: int, slot: int, n: int) -> Directions:
        """The perturbations of one device in one round, for an engine to draw from."""
        return Directions(stream=self, round_index=round_index, slot=slot, n=n)


@dataclass(frozen=True, kw_only=True)
class Directions:
    """The perturbations of one (round, slot) for a network of n weights."""

    stream: PerturbationStream
    round_index: int
    slot: int
    n: int

    def signs(self, ks: range) -> I8:
        """Signs of the perturbations ks, int8 [len(ks), n]."""
        return self.stream.signs(round_index=self.round_index, slot=self.slot, ks=ks, n=self.n)

    def perturb(self, weights: F32, ks: range, step: float, out: F32) -> None:
        """out[i] = weights + step * z_k for the i-th k, in float32: one rounding of the product, one of the sum.

        Args:
            weights: float32 [n], unchanged.
            out: float32 [len(ks), n].
        """
        for rows, start, signs in self.tiles(ks):
            stop = start + signs.shape[1]
            _step_from(weights[start:stop], signs, step, out[rows.start : rows.stop, start:stop])

    def tiles(self, ks: range) -> Iterator[tuple[range, int, I8]]:
        """The signs in pieces that stay in the cache, k by k: positions in ks, first weight, int8 [positions, weights].

        Many perturbations of a small network at once, or a part of one of a large network: one perturbation at a time
        needs no second copy of the weights.
        """
        if self.n > BLOCK:
            for row, k in enumerate(ks):
                for start, packed in self.stream.blocks(round_index=self.round_index, slot=self.slot, k=k, n=self.n):
                    signs = unpack_signs(packed, min(BLOCK, self.n - start))
                    yield range(row, row + 1), start, signs[None]
            return
        together = max(1, BLOCK // max(1, self.n))
        for first in range(0, len(ks), together):
            chosen = ks[first : first + together]
            yield range(first, first + len(chosen)), 0, self.signs(chosen)


def _step_from(weights: F32, signs: I8, step: float, out: F32) -> None:
    # Two passes, to widen and to scale, take less time than one that does both.
    np.copyto(out, signs)
    np.multiply(out, np.float32(step), out=out)
    np.add(out, weights, out=out)


def refuse_length(n: int) -> None:
    """Raise BadCoordinate unless 0 <= n <= N_WEIGHTS_MAX."""
    if not 0 <= n <= N_WEIGHTS_MAX:
        raise BadCoordinate(f"{n} weights are outside 0..{N_WEIGHTS_MAX}")


def unpack_signs(packed: U8, n: int) -> I8:
    """Packed sign bits to signs: uint8 [..., ceil(n / 8)] -> int8 [..., n]."""
    ones = np.unpackbits(packed, axis=-1, count=n, bitorder="little").view(np.int8)
    np.add(ones, ones, out=ones)
    return np.subtract(np.int8(1), ones, out=ones)


def nonces(*, round_index: int, slot: int, ks: range) -> Iterator[bytes]:
    """ChaCha20's 16 bytes for the streams (round, slot, k), k in ks (ascending).

    Raises: BadCoordinate if one of them is out of bounds.
    """
    in_bounds = not ks or 0 <= ks[0] <= ks[-1] < PERTURBATIONS_MAX
    if not (0 <= round_index < ROUNDS_MAX and 0 <= slot < SLOTS_MAX and in_bounds):
        raise BadCoordinate(
            f"round {round_index}, slot {slot}, k in {ks} are outside [0, {ROUNDS_MAX}), [0, {SLOTS_MAX}), "
            f"[0, {PERTURBATIONS_MAX})"
        )
    return (_NONCE.pack(0, round_index, slot, k) for k in ks)
