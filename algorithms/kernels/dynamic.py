"""Dynamic-tree codes: the nearest of 129 magnitudes, found by the leading bits of a float."""

from __future__ import annotations

import numpy as np

from .compiled import BOOL, F32_IN, F32_OUT, INT, NOTHING, U8_IN, U8_OUT, Number, Vector, compiled


@compiled(NOTHING, F32_IN, INT, F32_IN, U8_IN, F32_IN, U8_OUT)
def encode(values: Vector, block: Number, scales: Vector, table: Vector, midpoints: Vector, codes: Vector) -> None:
    """The code of each value / the scale of its block.

    Args:
        scales: float32 [n_blocks]: each block's largest magnitude.
        table: by the upper 16 bits of a float in [0, 1], the magnitude that the smallest such float rounds to.
        midpoints: float32 [129]: what lies between a magnitude and the next. Floats of equal upper 16 bits have
            at most one among them.
    """
    scratch = np.empty(1, np.float32)
    seen = scratch.view(np.uint32)
    for b in range(len(scales)):
        scale = scales[b] if scales[b] > 0 else np.float32(1)
        for i in range(b * block, min((b + 1) * block, len(values))):
            magnitude = abs(values[i]) / scale
            scratch[0] = magnitude
            code = np.int64(table[seen[0] >> np.uint32(16)])
            code += np.int64(magnitude > midpoints[code])
            if values[i] < 0 and code > 0:
                code = min(code, 127) + 128
            codes[i] = np.uint8(code)


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
