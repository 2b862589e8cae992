"""A sparse payload: the k largest coefficients of every tile, checked to the last bit when it is read.

    header    version u8, value bits u8, exponent i16, n_tensors u32, n_indexed u32, n_values u32
    counts    u16 for each indexed tile: how many of its coefficients follow
    indices   12 bits each, ascending within a tile
    mask      1 bit values only: a bit for each coefficient of the dense tiles, set where it is not zero
    values    see `quantize`

Everything is little-endian and in the order of the tiled vector. A tile of area A may send min(A, ceil(k * A / size^2))
coefficients. Where indices would not save bytes all tiles of that shape are *dense*: sent whole, without indices.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Final

import numpy as np

from .bits import bytes_of_12_bit, check_12_bit, pack_12_bit, unpack_12_bit
from .errors import BadPayload
from .method import F32
from .quantize import bytes_of_values, check_values, decode_values, encode_values
from .selection import largest
from .single_bits import Bool, bytes_of_bits, pack_bits, unpack_bits
from .tiles import I64, Tiling

VERSION: Final = 2
HEADER: Final = struct.Struct("<BBhIII")


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """What one payload says: a sparse tiled vector in which each position stands once. All arrays are [n]."""

    positions: I64
    """Indices into the tiled vector, ascending."""
    values: F32
    tensors: I64
    """The tensor that each belongs to."""


@dataclass(frozen=True, kw_only=True)
class Parts:
    """What stands where in a payload whose counts, indices and mask are right."""

    counts: I64
    """Of each tile's coefficients, int64 [n_tiles]."""
    indices: bytes
    present: Bool | None
    """Which coefficients of the dense tiles are not zero; None for all of them."""
    exponent: int
    values: bytes


class PayloadFormat:
    """Encodes and decodes tiled vectors for one model and one set of options."""

    def __init__(self, tiling: Tiling, *, size: int, k: int, value_bits: int) -> None:
        self._tiling = tiling
        self._value_bits = value_bits
        self._n_tensors = len(tiling.matrices)
        by_area = {int(area): tile_quota(int(area), size, k) for area in np.unique(tiling.areas)}
        dense_areas = [area for area, quota in by_area.items() if is_dense(area, quota, value_bits)]
        quotas = [by_area[area] if area not in dense_areas else area for area in tiling.areas.tolist()]
        self._quotas: I64 = np.array(quotas, np.int64)
        self._is_dense = np.isin(tiling.areas, dense_areas)
        self._n_dense = int(tiling.areas[self._is_dense].sum())

    def bytes_max(self) -> int:
        """Length of a payload in which every tile sends as many coefficients as it may."""
        n_indexed = int(self._quotas[~self._is_dense].sum())
        return self._length(n_indexed, n_indexed + self._n_dense)

    def encode(self, tiled: F32) -> bytes:
        """The payload for a tiled vector of finite values; equal vectors give equal bytes."""
        counts, positions = largest(tiled, self._tiling, self._quotas, skips_zeros=self._value_bits == 1)
        indices, counts_indexed = self._indices(counts, positions), counts[~self._is_dense].astype("<u2")
        exponent, values = encode_values(tiled[positions], self._grouped(counts), self._value_bits)
        header = HEADER.pack(VERSION, self._value_bits, exponent, self._n_tensors, len(indices), len(positions))
        return header + counts_indexed.tobytes() + pack_12_bit(indices) + self._mask(tiled) + values

    def check(self, payload: bytes) -> None:
        """Raise BadPayload with the reason unless `encode` could have written the payload.

        Without positions, and of 8 bits without values: half of the time of `decode` (`benchmarks/bench_kernels.py`).
        """
        parts = self._read(payload)
        check_values(parts.values, self._grouped(parts.counts), self._value_bits, parts.exponent)

    def decode(self, payload: bytes) -> Coefficients:
        """What the payload says; zeros are left out. Raises BadPayload as `check` does."""
        parts = self._read(payload)
        positions = self._positions(parts)
        values = decode_values(parts.values, self._grouped(parts.counts), self._value_bits, parts.exponent)
        tensors = np.repeat(self._tiling.tensors, parts.counts)
        sent = values != 0
        if not sent.all():
            positions, values, tensors = positions[sent], values[sent], tensors[sent]
        return Coefficients(positions=positions, values=values, tensors=tensors)

    # -- writing -------------------------------------------------------------------------------------------------

    def _grouped(self, counts: I64) -> I64:
        """How many values share a scale, or levels: those of a tile, or for 2 bits of a tensor."""
        if self._value_bits != 2:
            return counts
        return np.bincount(self._tiling.tensors, weights=counts, minlength=self._n_tensors).astype(np.int64)

    def _indices(self, counts: I64, positions: I64) -> I64:
        """Of the indexed coefficients within their tiles."""
        indices: I64 = positions - np.repeat(self._tiling.starts, counts)
        return indices[np.repeat(~self._is_dense, counts)] if self._n_dense else indices

    def _mask(self, tiled: F32) -> bytes:
        if self._value_bits != 1:
            return b""
        return pack_bits(tiled[self._dense_positions()] != 0)

    def _dense_positions(self) -> I64:
        """Of every coefficient of the dense tiles, ascending."""
        areas, starts = self._tiling.areas[self._is_dense], self._tiling.starts[self._is_dense]
        return np.arange(self._n_dense) + np.repeat(starts - np.cumsum(areas) + areas, areas)

    # -- reading -------------------------------------------------------------------------------------------------

    def _read(self, payload: bytes) -> Parts:
        exponent, n_indexed, n_values = self._read_header(payload)
        at_counts = HEADER.size
        at_indices = at_counts + 2 * int(np.count_nonzero(~self._is_dense))
        at_mask = at_indices + bytes_of_12_bit(n_indexed)
        at_values = at_mask + self._mask_bytes()
        counts = self._read_counts(payload[at_counts:at_indices], n_indexed)
        indices, present = payload[at_indices:at_mask], None
        try:
            check_12_bit(indices, counts[~self._is_dense], self._tiling.areas[~self._is_dense])
            if self._value_bits == 1:
                present = unpack_bits(payload[at_mask:at_values], self._n_dense)
        except ValueError as error:
            raise BadPayload(str(error)) from error
        if present is not None:
            self._count_present(present, counts, n_values - n_indexed)
        return Parts(counts=counts, indices=indices, present=present, exponent=exponent, values=payload[at_values:])

    def _read_header(self, payload: bytes) -> tuple[int, int, int]:
        if len(payload) < HEADER.size:
            raise BadPayload(f"payload of {len(payload)} bytes is shorter than its header of {HEADER.size}")
        version, value_bits, exponent, n_tensors, n_indexed, n_values = HEADER.unpack_from(payload)
        ours = (VERSION, self._value_bits, self._n_tensors)
        if (version, value_bits, n_tensors) != ours:
            theirs = (version, value_bits, n_tensors)
            raise BadPayload(f"payload has (version, value bits, tensors) = {theirs}, expected {ours}")
        n_dense = n_values - n_indexed
        # With 1 bit the mask leaves zeros out.
        n_dense_min = 0 if self._value_bits == 1 else self._n_dense
        if not n_dense_min <= n_dense <= self._n_dense:
            raise BadPayload(f"payload has {n_dense} dense values, expected {self._n_dense}")
        expected = self._length(n_indexed, n_values)
        if len(payload) != expected:
            raise BadPayload(f"payload of {len(payload)} bytes, expected {expected} for {n_values} values")
        return exponent, n_indexed, n_values

    def _read_counts(self, counts_bytes: bytes, n_indexed: int) -> I64:
        """How many coefficients of each tile there are; of dense tiles all of them."""
        counts = self._quotas.copy()
        indexed = np.frombuffer(counts_bytes, "<u2").astype(np.int64)
        if (indexed > counts[~self._is_dense]).any():
            raise BadPayload("a tile sends more coefficients than it may")
        if indexed.sum() != n_indexed:
            raise BadPayload(f"the tiles' counts add up to {indexed.sum()}, expected {n_indexed}")
        counts[~self._is_dense] = indexed
        return counts

    def _count_present(self, present: Bool, counts: I64, n_dense: int) -> None:
        """`counts` of dense tiles become what the mask leaves of them."""
        if int(present.sum()) != n_dense:
            raise BadPayload(f"the mask has {int(present.sum())} bits set, expected {n_dense}")
        ends = np.cumsum(self._tiling.areas[self._is_dense])
        counts[self._is_dense] = np.diff(np.append(0, np.cumsum(present))[np.append(0, ends)])

    def _positions(self, parts: Parts) -> I64:
        """Of all coefficients, ascending."""
        counts = parts.counts[~self._is_dense]
        indexed: I64 = unpack_12_bit(parts.indices, int(counts.sum()))
        indexed += np.repeat(self._tiling.starts[~self._is_dense], counts)
        if self._n_dense == 0:
            return indexed
        dense = self._dense_positions()
        of_dense = np.repeat(self._is_dense, parts.counts)
        positions = np.empty(len(of_dense), np.int64)
        positions[of_dense], positions[~of_dense] = dense if parts.present is None else dense[parts.present], indexed
        return positions

    def _length(self, n_indexed: int, n_values: int) -> int:
        n_groups = self._n_tensors if self._value_bits == 2 else self._tiling.n_tiles
        before = HEADER.size + 2 * int(np.count_nonzero(~self._is_dense)) + bytes_of_12_bit(n_indexed)
        return before + self._mask_bytes() + bytes_of_values(n_values, n_groups, self._value_bits)

    def _mask_bytes(self) -> int:
        return bytes_of_bits(self._n_dense) if self._value_bits == 1 else 0


def tile_quota(area: int, size: int, k: int) -> int:
    """How many coefficients a tile may send.

    >>> tile_quota(4096, 64, 32), tile_quota(64, 64, 32), tile_quota(1, 64, 32)
    (32, 1, 1)
    """
    return min(area, max(1, math.ceil(k * area / size**2)))


def is_dense(area: int, quota: int, value_bits: int) -> bool:
    """Whether indices and a count take at least as many bytes as sending every coefficient of a tile."""
    indexed = 2 + math.ceil(quota * (12 + value_bits) / 8)
    # With 1 bit the mask says which are zero, and the values come on top.
    dense = 2 * bytes_of_bits(area) if value_bits == 1 else math.ceil(area * value_bits / 8)
    return indexed >= dense
