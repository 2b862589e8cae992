"""Dynamic-tree codes: the nearest of 129 magnitudes, found by the leading bits of a float."""

from __future__ import annotations

import numpy as np

from .compiled import BOOL, F32_IN, F32_OUT, FLOAT32, INT, NOTHING, U8_IN, U8_OUT, Number, Vector, compiled

CHUNK = 1024


@compiled(NOTHING, F32_IN, FLOAT32, U8_IN, F32_IN, U8_IN, F32_OUT, U8_OUT)
def _encode_chunk(
    values: Vector, scale: Number, table: Vector, midpoints: Vector, signed: Vector, scratch: Vector, codes: Vector
) -> None:
    n = len(values)
    for i in range(n):
        scratch[i] = values[i] / scale
    bits = scratch.view(np.uint32)
    for i in range(n):
        code = np.int64(table[(bits[i] & np.uint32(0x7FFFFFFF)) >> np.uint32(16)])
        code += np.int64(abs(scratch[i]) > midpoints[code])
        codes[i] = signed[(bits[i] >> np.uint32(31)) * np.uint32(129) + code]


@compiled(NOTHING, F32_IN, INT, F32_IN, U8_IN, F32_IN, U8_IN, U8_OUT)
def encode(
    values: Vector, block: Number, scales: Vector, table: Vector, midpoints: Vector, signed: Vector, codes: Vector
) -> None:
    """The code of each value / the scale of its block.

    Args:
        scales: float32 [n_blocks]: each block's largest magnitude.
        table: by the upper 16 bits of a float in [0, 1], the magnitude that the smallest such float rounds to.
        midpoints: float32 [129]: what lies between a magnitude and the next. Floats of equal upper 16 bits have
            at most one among them.
        signed: uint8 [2 * 129]: the code of each magnitude, and of each negative one.
    """
    scratch = np.empty(CHUNK, np.float32)
    for b in range(len(scales)):
        scale = scales[b] if scales[b] > 0 else np.float32(1)
        stop = min((b + 1) * block, len(values))
        for start in range(b * block, stop, CHUNK):
            end = min(start + CHUNK, stop)
            _encode_chunk(values[start:end], scale, table, midpoints, signed, scratch, codes[start:end])


@compiled(BOOL, U8_IN, INT, F32_IN, F32_IN, F32_OUT)
def decode(codes: Vector, block: Number, scales: Vector, book: Vector, values: Vector) -> Number:
    """The values; False if a block whose scale is 0 holds anything but zeros."""
    sound = True
    for b in range(len(scales)):
        scale = scales[b]
        for i in range(b * block, min((b + 1) * block, len(codes))):
            values[i] = book[codes[i]] * scale
            sound &= scale > 0 or codes[i] == 0
    return sound
