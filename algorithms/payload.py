"""DeMo's payload: the k largest coefficients of every tile, checked to the last bit when it is read.

    header    version u8, value bits u8, exponent i16, n_tensors u32, n_indexed u32, n_values u32
    counts    u16 for each indexed tile: how many of its coefficients follow
    indices   12 bits each, ascending within a tile
    mask      1 bit values only: a bit for each coefficient of the dense tiles, set where it is not zero
    values    see `quantize`: the indexed coefficients, then the dense ones

Everything is little-endian and in the order of the tiled vector. A tile of area A may send min(A, ceil(k * A / size^2))
coefficients. Where indices would not save bytes all tiles of that shape are *dense*: sent whole, without indices.
"""

from __future__ import annotations

import math
import struct
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

from .bits import bytes_of_12_bit, bytes_of_bits, pack_12_bit, pack_bits, unpack_12_bit, unpack_bits
from .errors import BadPayload
from .method import F32
from .quantize import bytes_of_values, decode_values, encode_values
from .selection import largest
from .tiles import Group, Tiling

I64 = npt.NDArray[np.int64]

VERSION: Final = 1
HEADER: Final = struct.Struct("<BBhIII")


@dataclass(frozen=True, kw_only=True)
class Coefficients:
    """What one payload says: a sparse tiled vector in which each position stands once. All arrays are [n]."""

    positions: I64
    """Indices into the tiled vector."""
    values: F32
    tensors: I64
    """The tensor that each belongs to."""


class PayloadFormat:
    """Encodes and decodes tiled vectors for one model and one set of options."""

    def __init__(self, tiling: Tiling, *, size: int, k: int, value_bits: int) -> None:
        self._value_bits = value_bits
        self._n_tensors = len(tiling.matrices)
        self._groups = [(group, tile_quota(group.area, size, k)) for group in tiling.groups]
        per_tile = np.array([group.n_tiles for group in tiling.groups], np.int64)
        self._area = np.repeat(np.array([group.area for group in tiling.groups], np.int64), per_tile)
        self._quota = np.repeat(np.array([quota for _, quota in self._groups], np.int64), per_tile)
        dense = [is_dense(group.area, quota, value_bits) for group, quota in self._groups]
        self._is_dense = np.repeat(np.array(dense, np.bool_), per_tile)
        self._start = np.cumsum(self._area) - self._area
        self._tensor = tiling.tensor_of_tile()
        self._indexed_tiles = np.flatnonzero(~self._is_dense)
        self._dense_positions, self._dense_tile = self._all_of(np.flatnonzero(self._is_dense))

    def bytes_max(self) -> int:
        """Length of a payload in which every tile sends as many coefficients as it may."""
        n_indexed = int(self._quota[self._indexed_tiles].sum())
        return self._length(n_indexed, n_indexed + len(self._dense_tile))

    def encode(self, tiled: F32) -> bytes:
        """The payload for a tiled vector of finite values; equal vectors give equal bytes."""
        tile, index = self._select(tiled)
        counts = np.bincount(tile, minlength=len(self._area))[self._indexed_tiles].astype("<u2")
        positions, tiles, mask = self._start[tile] + index, tile, b""
        dense_positions, dense_tile = self._dense_positions, self._dense_tile
        if self._value_bits == 1:
            present = tiled[dense_positions] != 0
            mask, dense_positions, dense_tile = pack_bits(present), dense_positions[present], dense_tile[present]
        positions = np.concatenate([positions, dense_positions])
        tiles = np.concatenate([tiles, dense_tile])
        exponent, values = encode_values(tiled[positions], tiles, len(self._area), self._value_bits)
        header = HEADER.pack(VERSION, self._value_bits, exponent, self._n_tensors, len(tile), len(positions))
        return header + counts.tobytes() + pack_12_bit(index) + mask + values

    def decode(self, payload: bytes) -> Coefficients:
        """What the payload says; zeros are left out.

        Raises: BadPayload with the reason unless `encode` could have written it.
        """
        exponent, n_indexed, n_values = self._read_header(payload)
        at_counts = HEADER.size
        at_indices = at_counts + 2 * len(self._indexed_tiles)
        at_mask = at_indices + bytes_of_12_bit(n_indexed)
        at_values = at_mask + self._mask_bytes()
        tile = self._read_counts(payload[at_counts:at_indices], n_indexed)
        index = self._read_indices(payload[at_indices:at_mask], tile)
        dense_positions, dense_tile = self._read_mask(payload[at_mask:at_values], n_values - n_indexed)
        positions = np.concatenate([self._start[tile] + index, dense_positions])
        tiles = np.concatenate([tile, dense_tile])
        values = decode_values(payload[at_values:], tiles, len(self._area), self._value_bits, exponent)
        sent = values != 0
        return Coefficients(positions=positions[sent], values=values[sent], tensors=self._tensor[tiles[sent]])

    def _select(self, tiled: F32) -> tuple[I64, I64]:
        """(tile, index within it) of the indexed coefficients, in the order of the tiled vector."""
        tiles, indices, first = [np.empty(0, np.int64)], [np.empty(0, np.int64)], 0
        for group, quota in self._groups:
            if not is_dense(group.area, quota, self._value_bits):
                tile, index = largest(_flat_tiles(group, tiled), quota)
                tiles.append(first + tile)
                indices.append(index)
            first += group.n_tiles
        return np.concatenate(tiles), np.concatenate(indices)

    def _read_header(self, payload: bytes) -> tuple[int, int, int]:
        if len(payload) < HEADER.size:
            raise BadPayload(f"payload of {len(payload)} bytes is shorter than its header of {HEADER.size}")
        version, value_bits, exponent, n_tensors, n_indexed, n_values = HEADER.unpack_from(payload)
        ours = (VERSION, self._value_bits, self._n_tensors)
        if (version, value_bits, n_tensors) != ours:
            theirs = (version, value_bits, n_tensors)
            raise BadPayload(f"payload has (version, value bits, tensors) = {theirs}, expected {ours}")
        n_dense = n_values - n_indexed
        n_dense_max = len(self._dense_tile)
        # With 1 bit the mask leaves zeros out.
        n_dense_min = 0 if self._value_bits == 1 else n_dense_max
        if not n_dense_min <= n_dense <= n_dense_max:
            raise BadPayload(f"payload has {n_dense} dense values, expected {n_dense_max}")
        expected = self._length(n_indexed, n_values)
        if len(payload) != expected:
            raise BadPayload(f"payload of {len(payload)} bytes, expected {expected} for {n_values} values")
        return exponent, n_indexed, n_values

    def _read_counts(self, counts_bytes: bytes, n_indexed: int) -> I64:
        """The tile of each indexed coefficient."""
        counts = np.frombuffer(counts_bytes, "<u2").astype(np.int64)
        if (counts > self._quota[self._indexed_tiles]).any():
            raise BadPayload("a tile sends more coefficients than it may")
        if counts.sum() != n_indexed:
            raise BadPayload(f"the tiles' counts add up to {counts.sum()}, expected {n_indexed}")
        return np.repeat(self._indexed_tiles, counts)

    def _read_indices(self, packed: bytes, tile: I64) -> I64:
        try:
            index = unpack_12_bit(packed, len(tile))
        except ValueError as error:
            raise BadPayload(str(error)) from error
        if (index >= self._area[tile]).any():
            raise BadPayload("an index is outside its tile")
        if (np.diff(self._start[tile] + index) <= 0).any():
            raise BadPayload("the indices of a tile are not strictly ascending")
        return index

    def _read_mask(self, packed: bytes, n_dense: int) -> tuple[I64, I64]:
        """(position, tile) of the dense coefficients that are sent."""
        if self._value_bits != 1:
            return self._dense_positions, self._dense_tile
        try:
            present = unpack_bits(packed, len(self._dense_tile))
        except ValueError as error:
            raise BadPayload(str(error)) from error
        if int(present.sum()) != n_dense:
            raise BadPayload(f"the mask has {int(present.sum())} bits set, expected {n_dense}")
        return self._dense_positions[present], self._dense_tile[present]

    def _length(self, n_indexed: int, n_values: int) -> int:
        before = HEADER.size + 2 * len(self._indexed_tiles) + bytes_of_12_bit(n_indexed) + self._mask_bytes()
        return before + bytes_of_values(n_values, len(self._area), self._value_bits)

    def _mask_bytes(self) -> int:
        return bytes_of_bits(len(self._dense_tile)) if self._value_bits == 1 else 0

    def _all_of(self, tiles: I64) -> tuple[I64, I64]:
        """(position, tile) of every coefficient of some tiles."""
        of_tile = np.repeat(tiles, self._area[tiles])
        firsts = np.cumsum(self._area[tiles]) - self._area[tiles]
        within = np.arange(len(of_tile)) - np.repeat(firsts, self._area[tiles])
        return self._start[of_tile] + within, of_tile


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


def _flat_tiles(group: Group, tiled: F32) -> F32:
    return group.tiles(tiled).reshape(group.n_tiles, group.area)
