"""How kernels are compiled and kept.

numba keeps machine code beside the source, in `__pycache__`; where that cannot be written, in the user's cache folder,
or in `NUMBA_CACHE_DIR`. Its files are replaced atomically, and each of our kernels has exactly one signature, so
processes that start at once can only write the same thing twice. numba notices a change of the file that a kernel
stands in, but not of a file that it uses: so the sources of all kernels are part of the name that code is kept under.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final, TypeVar

import numba
from numba import types

Kernel = TypeVar("Kernel", bound=Callable[..., Any])
Vector = Any
"""A contiguous array with one dimension; the kernel's signature says of what."""
Number = Any
"""A scalar; the kernel's signature says of which type."""

SOURCES: Final = tuple(sorted(Path(__file__).parent.glob("*.py")))
_EDITION: Final = hashlib.sha256(b"".join(path.read_bytes() for path in SOURCES)).hexdigest()[:12]


def vector_in(scalar: types.Type) -> types.Array:
    """A contiguous array that is only read."""
    return types.Array(scalar, 1, "C", readonly=True)


def vector_out(scalar: types.Type) -> types.Array:
    """A contiguous array that is written."""
    return types.Array(scalar, 1, "C")


F32_IN: Final = vector_in(types.float32)
F32_OUT: Final = vector_out(types.float32)
F64_IN: Final = vector_in(types.float64)
F64_OUT: Final = vector_out(types.float64)
I8_IN: Final = vector_in(types.int8)
I8_OUT: Final = vector_out(types.int8)
I64_IN: Final = vector_in(types.int64)
I64_OUT: Final = vector_out(types.int64)
U8_IN: Final = vector_in(types.uint8)
U8_OUT: Final = vector_out(types.uint8)
U32_IN: Final = vector_in(types.uint32)
U32_OUT: Final = vector_out(types.uint32)
U64_IN: Final = vector_in(types.uint64)
INT: Final = types.int64
WORD: Final = types.uint32
FLOAT: Final = types.float64
FLOAT32: Final = types.float32
BOOL: Final = types.boolean
NOTHING: Final = types.void


def compiled(result: types.Type, *arguments: types.Type) -> Callable[[Kernel], Kernel]:
    """Compile a function for one signature, or load what was compiled before. The kernel runs without the GIL."""

    def decorate(function: Kernel) -> Kernel:
        function.__qualname__ = f"{function.__qualname__}_{_EDITION}"
        build: Any = numba.njit(result(*arguments), cache=True, nogil=True, error_model="numpy")
        kernel: Kernel = build(function)
        return kernel

    return decorate
