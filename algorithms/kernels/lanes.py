"""Straight-line vector code for numba: 16 columns of a matrix through a fast cosine transform, and transposed.

LLVM vectorises loops, but not a transform whose 64 intermediate rows should stay in registers; so the arithmetic of
`butterflies` is traced here into LLVM's portable vectors of 16 floats (one AVX-512 register, two of AVX, four of NEON).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from .butterflies import orthonormal_dct2, orthonormal_dct3

WIDTH: Final = 16
"""Columns at a time."""
POINTS: Final = 64

_VECTOR = ir.VectorType(ir.FloatType(), WIDTH)
_INDICES = ir.VectorType(ir.IntType(32), WIDTH)


class Lanes:
    """Sixteen floats in the making: arithmetic on them emits instructions."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value

    def __add__(self, other: Lanes) -> Lanes:
        return Lanes(self.builder, self.builder.fadd(self.value, other.value))

    def __sub__(self, other: Lanes) -> Lanes:
        return Lanes(self.builder, self.builder.fsub(self.value, other.value))

    def __mul__(self, factor: float) -> Lanes:
        return Lanes(self.builder, self.builder.fmul(self.value, ir.Constant(_VECTOR, [factor] * WIDTH)))


def _column_transform(transform: Callable[[Sequence[Any]], list[Any]]) -> Any:
    """An intrinsic (source, source_start, source_stride, target, target_start, target_stride).

    It reads 64 rows of 16 floats, `source_stride` apart, transforms the columns, and writes the result transposed, as
    16 rows of 64 floats that are `target_stride` apart. The arrays are flat; nothing is checked.
    """

    @intrinsic
    def columns(  # type: ignore[no-untyped-def]
        typing_context, source, source_start, source_stride, target, target_start, target_stride
    ):
        signature = types.void(source, types.intp, types.intp, target, types.intp, types.intp)

        def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
            rows = _addresses(context, builder, signature.args[0], args[0:3], POINTS)
            loaded = [Lanes(builder, builder.load(row, align=4)) for row in rows]
            done = [lanes.value for lanes in transform(loaded)]
            targets = _addresses(context, builder, signature.args[3], args[3:6], WIDTH)
            for block in range(0, POINTS, WIDTH):
                transposed = _transposed(builder, done[block : block + WIDTH])
                for row, value in zip(targets, transposed, strict=True):
                    at = builder.gep(row, [ir.Constant(ir.IntType(64), block // WIDTH)])
                    builder.store(value, at, align=4)
            return context.get_dummy_value()

        return signature, emit

    return columns


def _addresses(context: Any, builder: Any, array_type: Any, args: Any, n: int) -> list[Any]:
    """Where `n` rows begin, as pointers to vectors; `args` are a flat array, the first row's index, and the stride."""
    array, start, stride = args
    data = context.make_array(array_type)(context, builder, array).data
    first = builder.gep(data, [start])
    rows = [builder.gep(first, [builder.mul(stride, ir.Constant(stride.type, i))]) for i in range(n)]
    return [builder.bitcast(row, cgutils.ir.PointerType(_VECTOR)) for row in rows]


def _transposed(builder: Any, rows: list[Any]) -> list[Any]:
    """The 16 x 16 matrix transposed: four times, each row is interleaved with the one half of the matrix below."""
    low = [i // 2 + (WIDTH if i % 2 else 0) for i in range(WIDTH)]
    high = [index + WIDTH // 2 for index in low]
    for _ in range(4):
        pairs = [(rows[i], rows[i + WIDTH // 2]) for i in range(WIDTH // 2)]
        rows = [_shuffled(builder, a, b, mask) for a, b in pairs for mask in (low, high)]
    return rows


def _shuffled(builder: Any, a: Any, b: Any, indices: list[int]) -> Any:
    return builder.shuffle_vector(a, b, ir.Constant(_INDICES, indices))


forward_columns = _column_transform(orthonormal_dct2)
inverse_columns = _column_transform(orthonormal_dct3)
