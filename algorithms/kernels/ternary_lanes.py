"""Straight-line vector code for numba: 32 floats to ternary codes, with random bits made on the way."""

from __future__ import annotations

from typing import Any, Final

from llvmlite import ir
from numba import types
from numba.extending import intrinsic as numba_intrinsic

from .threefry import threefry

intrinsic: Any = numba_intrinsic
"""As numba types it, an intrinsic would be called with the typing context too."""

WIDTH: Final = 16
STEP: Final = 2 * WIDTH
"""Elements at a time: a counter makes two words."""

_WORD = ir.IntType(32)
_WORDS = ir.VectorType(_WORD, WIDTH)
_FLOATS = ir.VectorType(ir.FloatType(), WIDTH)
_BYTES = ir.VectorType(ir.IntType(8), WIDTH)


class Words:
    """Sixteen 32-bit words in the making: arithmetic on them emits instructions."""

    def __init__(self, builder: Any, value: Any) -> None:
        self.builder = builder
        self.value = value

    @classmethod
    def spread(cls, builder: Any, scalar: Any) -> Words:
        return cls(builder, _spread(builder, scalar, _WORDS))

    def constant(self, value: int) -> Words:
        return Words(self.builder, ir.Constant(_WORDS, [value] * WIDTH))

    def __add__(self, other: Words) -> Words:
        return Words(self.builder, self.builder.add(self.value, other.value))

    def __xor__(self, other: Words) -> Words:
        return Words(self.builder, self.builder.xor(self.value, other.value))

    def rotated(self, distance: int) -> Words:
        up = self.builder.shl(self.value, self.constant(distance).value)
        down = self.builder.lshr(self.value, self.constant(32 - distance).value)
        return Words(self.builder, self.builder.or_(up, down))


@intrinsic
def ternary_codes(  # type: ignore[no-untyped-def]
    typing_context, values, start, seed, step, counter, stream, limit, factor, codes, target
):
    """Codes of values[start : start + 32] into codes[target : target + 32]: 0, or 1 for +1, or 2 for -1.

    Element i is kept if r + 1/2 < min(|value|, limit) * factor, r being 23 random bits: those of word i // 16 of
    the key (seed, step) and the counter (counter + i % 16, stream). Nothing is checked.
    """
    word = types.uint32
    signature = types.void(values, types.intp, word, word, word, word, types.float32, types.float32, codes, types.intp)

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        seed, step, counter, stream = (Words.spread(builder, scalar) for scalar in args[2:6])
        lanes = Words(builder, ir.Constant(_WORDS, list(range(WIDTH))))
        words = threefry((seed, step), (counter + lanes, stream))
        limit, factor = (_spread(builder, scalar, _FLOATS) for scalar in args[6:8])
        source = _pointer(context, builder, signature, args, 0, _WORDS)
        target = _pointer(context, builder, signature, args, 8, _BYTES)
        for half, random in enumerate(words):
            at = ir.Constant(ir.IntType(64), half)
            bits = builder.load(builder.gep(source, [at]), align=4)
            code = _code(builder, bits, random.value, limit, factor)
            builder.store(builder.trunc(code, _BYTES), builder.gep(target, [at]), align=1)
        return context.get_dummy_value()

    return signature, emit


@intrinsic
def pack_fours(typing_context, codes, at, packed, to):  # type: ignore[no-untyped-def]
    """32 codes from `at` on become 8 bytes."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        eight = ir.VectorType(_WORD, 8)
        words = builder.load(_pointer(context, builder, signature, args, 0, eight), align=1)
        packed = words
        for distance in (6, 12, 18):
            packed = builder.or_(packed, builder.lshr(words, ir.Constant(eight, [distance] * 8)))
        target = _pointer(context, builder, signature, args, 2, ir.VectorType(ir.IntType(8), 8))
        builder.store(builder.trunc(packed, ir.VectorType(ir.IntType(8), 8)), target, align=1)
        return context.get_dummy_value()

    return types.void(codes, types.intp, packed, types.intp), emit


@intrinsic
def pack_five(typing_context, codes, at, packed, to):  # type: ignore[no-untyped-def]
    """5 codes from `at` on become one byte, least significant first; 8 are read.

    The fifth byte of the product of these and 81 + 27 * 2^8 + 9 * 2^16 + 3 * 2^24 + 2^32 is
    c0 + 3 c1 + 9 c2 + 27 c3 + 81 c4, and no byte before it reaches 256, so nothing is carried into it.
    """

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        word = ir.IntType(64)
        five = builder.load(_pointer(context, builder, signature, args, 0, word), align=1)
        factor = sum(3 ** (4 - i) << 8 * i for i in range(5))
        byte = builder.lshr(builder.mul(five, ir.Constant(word, factor)), ir.Constant(word, 32))
        target = _pointer(context, builder, signature, args, 2, ir.IntType(8))
        builder.store(builder.trunc(byte, ir.IntType(8)), target, align=1)
        return context.get_dummy_value()

    return types.void(codes, types.intp, packed, types.intp), emit


@intrinsic
def store_eight(typing_context, target, at, word):  # type: ignore[no-untyped-def]
    """A word of 64 bits to the 8 bytes from `at` on."""

    def emit(context: Any, builder: Any, signature: Any, args: Any) -> Any:
        builder.store(args[2], _pointer(context, builder, signature, args, 0, ir.IntType(64)), align=1)
        return context.get_dummy_value()

    return types.void(target, types.intp, types.uint64), emit


def _pointer(context: Any, builder: Any, signature: Any, args: Any, first: int, pointee: Any) -> Any:
    """To the element of array args[first] that args[first + 1] says."""
    data = context.make_array(signature.args[first])(context, builder, args[first]).data
    return builder.bitcast(builder.gep(data, [args[first + 1]]), pointee.as_pointer())


def _code(builder: Any, bits: Any, random: Any, limit: Any, factor: Any) -> Any:
    magnitude = builder.bitcast(builder.and_(bits, ir.Constant(_WORDS, [0x7FFFFFFF] * WIDTH)), _FLOATS)
    clipped = builder.select(builder.fcmp_ordered("<", magnitude, limit), magnitude, limit)
    uniform = builder.sitofp(builder.lshr(random, ir.Constant(_WORDS, [9] * WIDTH)), _FLOATS)
    uniform = builder.fadd(uniform, ir.Constant(_FLOATS, [0.5] * WIDTH))
    kept = builder.fcmp_ordered("<", uniform, builder.fmul(clipped, factor))
    negative = builder.lshr(bits, ir.Constant(_WORDS, [31] * WIDTH))
    code = builder.add(negative, ir.Constant(_WORDS, [1] * WIDTH))
    return builder.select(kept, code, ir.Constant(_WORDS, [0] * WIDTH))


def _spread(builder: Any, scalar: Any, vector_type: Any) -> Any:
    """A scalar in every lane."""
    first = builder.insert_element(ir.Constant(vector_type, ir.Undefined), scalar, ir.Constant(_WORD, 0))
    zeros = ir.Constant(_WORDS, [0] * WIDTH)
    return builder.shuffle_vector(first, ir.Constant(vector_type, ir.Undefined), zeros)
