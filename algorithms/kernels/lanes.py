"""Straight-line vector code for numba: 16 columns of a matrix through a fast cosine transform, and transposed.

LLVM vectorises loops, but not a transform whose 64 intermediate rows should stay in registers; so the arithmetic of
`butterflies` is traced here into LLVM's portable vectors of 16 floats (one AVX-512 register, two of AVX, four of NEON).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from llvmlite import ir
from numba import types
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


def _column_transform(name: str, transform: Callable[[Sequence[Any]], list[Any]]) -> Any:
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
            function = builder.module.globals.get(name) or _define(builder.module, name, transform)
            source = _address(context, builder, signature.args[0], args[0], args[1])
            target = _address(context, builder, signature.args[3], args[3], args[4])
            builder.call(function, [source, args[2], target, args[5]])
            return context.get_dummy_value()

        return signature, emit

    return columns


def _define(module: Any, name: str, transform: Callable[[Sequence[Any]], list[Any]]) -> Any:
    """The function (source, source_stride, target, target_stride) within a module: once, however often it is called."""
    pointer, integer = ir.FloatType().as_pointer(), ir.IntType(64)
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [pointer, integer, pointer, integer]), name)
    function.linkage = "internal"
    function.attributes.add("noinline")
    builder = ir.IRBuilder(function.append_basic_block())
    source, source_stride, target, target_stride = function.args
    rows = _rows(builder, source, source_stride, POINTS)
    done = [lanes.value for lanes in transform([Lanes(builder, builder.load(row, align=4)) for row in rows])]
    targets = _rows(builder, target, target_stride, WIDTH)
    for block in range(0, POINTS, WIDTH):
        for row, value in zip(targets, _transposed(builder, done[block : block + WIDTH]), strict=True):
            builder.store(value, builder.gep(row, [ir.Constant(integer, block // WIDTH)]), align=4)
    builder.ret_void()
    return function


def _address(context: Any, builder: Any, array_type: Any, array: Any, start: Any) -> Any:
    return builder.gep(context.make_array(array_type)(context, builder, array).data, [start])


def _rows(builder: Any, first: Any, stride: Any, n: int) -> list[Any]:
    """Where `n` rows begin, `stride` floats apart, as pointers to vectors."""
    rows = [builder.gep(first, [builder.mul(stride, ir.Constant(stride.type, i))]) for i in range(n)]
    return [builder.bitcast(row, _VECTOR.as_pointer()) for row in rows]


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


forward_columns = _column_transform("gossamer_forward_columns", orthonormal_dct2)
inverse_columns = _column_transform("gossamer_inverse_columns", orthonormal_dct3)
