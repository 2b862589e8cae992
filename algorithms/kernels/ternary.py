"""Ternary codes: made at random, packed four or five to a byte, and summed without being unpacked first."""

from __future__ import annotations

import numpy as np

from .compiled import (
    BOOL,
    F32_IN,
    F32_OUT,
    FLOAT32,
    INT,
    NOTHING,
    U8_IN,
    U8_OUT,
    U64_IN,
    WORD,
    Number,
    Vector,
    compiled,
)
from .ternary_lanes import STEP, pack_five, pack_fours, store_eight, ternary_codes

CHUNK = 1280
"""Elements at a time: whole steps, whole bytes of fours and of fives, and it stays in the first cache."""


@compiled(NOTHING, U8_IN, INT, BOOL, U8_OUT)
def _pack(codes: Vector, n: Number, base3: Number, packed: Vector) -> None:
    """The first `n` codes; behind them up to 8 are read, and must be 0 as far as they share a byte."""
    if base3:
        for i in range((n + 4) // 5):
            pack_five(codes, 5 * i, packed, i)
        return
    whole = n // STEP
    for i in range(whole):
        pack_fours(codes, STEP * i, packed, STEP // 4 * i)
    for i in range(whole * STEP // 4, (n + 3) // 4):
        low = codes[4 * i] | codes[4 * i + 1] << 2
        packed[i] = np.uint8(low | codes[4 * i + 2] << 4 | codes[4 * i + 3] << 6)


@compiled(NOTHING, F32_IN, WORD, WORD, WORD, FLOAT32, FLOAT32, BOOL, U8_OUT)
def encode(
    values: Vector,
    seed: Number,
    step: Number,
    stream: Number,
    limit: Number,
    factor: Number,
    base3: Number,
    packed: Vector,
) -> None:
    """Round values at random to -1, 0 and 1, and pack them.

    Args:
        seed, step, stream: what the random bits are a function of, besides an element's place.
        limit: magnitudes above it count as it.
        factor: 2^23 / (the magnitude that is always kept).
        packed: uint8 [ceil(n / 4)], or [ceil(n / 5)] if `base3`; least significant first.
    """
    n = len(values)
    per_byte = 5 if base3 else 4
    codes = np.zeros(CHUNK + 8, np.uint8)
    rest = np.zeros(STEP, np.float32)
    for chunk in range(0, n, CHUNK):
        stop = min(chunk + CHUNK, n)
        whole = chunk + (stop - chunk) // STEP * STEP
        for start in range(chunk, whole, STEP):
            counter = np.uint32(start // 2)
            ternary_codes(values, start, seed, step, counter, stream, limit, factor, codes, start - chunk)
        if whole < stop:
            for i in range(STEP):
                rest[i] = values[whole + i] if whole + i < stop else np.float32(0)
            counter = np.uint32(whole // 2)
            ternary_codes(rest, 0, seed, step, counter, stream, limit, factor, codes, whole - chunk)
        for i in range(stop - chunk, stop - chunk + 8):
            codes[i] = np.uint8(0)
        _pack(codes, stop - chunk, base3, packed[chunk // per_byte :])


@compiled(NOTHING, U8_IN, U64_IN, INT, U8_OUT)
def _unpack(packed: Vector, table: Vector, per_byte: Number, trits: Vector) -> None:
    """`per_byte` signed bytes for each packed one; 8 are written for the last."""
    for i in range(len(packed)):
        store_eight(trits, per_byte * i, table[packed[i]])


@compiled(NOTHING, U8_IN, INT, FLOAT32, U64_IN, INT, F32_OUT)
def add(packed: Vector, n_rows: Number, scale: Number, table: Vector, per_byte: Number, total: Vector) -> None:
    """total += scale * (the sum of the rows' ternary numbers, which are added as integers).

    Args:
        packed: uint8 [n_rows * n_bytes].
        table: uint64 [256]: the signed bytes that each packed one stands for.
        total: float32 [n].
    """
    n = len(total)
    n_bytes = (n + per_byte - 1) // per_byte
    sums = np.empty(CHUNK, np.int32)
    unpacked = np.empty(CHUNK + 8, np.uint8)
    trits = unpacked.view(np.int8)
    for chunk in range(0, n, CHUNK):
        stop = min(chunk + CHUNK, n)
        for i in range(CHUNK):
            sums[i] = 0
        first, last = chunk // per_byte, (stop + per_byte - 1) // per_byte
        for row in range(n_rows):
            _unpack(packed[row * n_bytes + first : row * n_bytes + last], table, per_byte, unpacked)
            for i in range(CHUNK):
                sums[i] += np.int32(trits[i])
        out = total[chunk:stop]
        for i in range(len(out)):
            out[i] += scale * np.float32(sums[i])
