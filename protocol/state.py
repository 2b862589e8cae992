"""A set of named arrays as one canonical byte string: equal state, equal bytes, equal hash.

    magic (8) | number of tensors (u32)
    for each tensor, by name: name length (u16) | name | dtype (u8) | number of dimensions (u8) | dimensions (u64 each)
    zeros up to a multiple of 64; then each tensor's elements in C order, followed by zeros up to a multiple of 64

All little-endian. A receiver knows the names, dtypes and shapes from its own model, so it compares the head instead
of interpreting it: nothing in the bytes decides what is allocated.
"""

from __future__ import annotations

import hashlib
import math
import struct
from collections.abc import Iterator, Mapping

import numpy as np
import numpy.typing as npt

from .errors import BadTensor

Array = npt.NDArray[np.generic]
Spec = tuple[npt.DTypeLike, tuple[int, ...]]
"""dtype and shape of one array."""

_MAGIC = b"gossst1\n"
_ALIGN = 64
_CODES = {
    np.dtype(name): code
    for code, name in enumerate(
        ["float32", "float64", "float16", "int64", "int32", "int16", "int8", "uint8", "uint16", "bool"], start=1
    )
}


def encode_state(arrays: Mapping[str, Array]) -> bytes:
    """The bytes of these arrays; one copy of the data, in the order of their names.

    Raises: BadTensor for a dtype or name that the layout does not have.
    """
    return b"".join(_pieces(arrays))


def state_digest(arrays: Mapping[str, Array]) -> bytes:
    """The SHA-256 of `encode_state(arrays)`, without a copy of them. Raises BadTensor."""
    digest = hashlib.sha256()
    for piece in _pieces(arrays):
        digest.update(piece)
    return digest.digest()


def _pieces(arrays: Mapping[str, Array]) -> Iterator[bytes | memoryview]:
    yield _head({name: (array.dtype, array.shape) for name, array in arrays.items()})
    for name in sorted(arrays):
        array = arrays[name]
        yield _raw(array)
        yield bytes(_padding(array.nbytes))


def state_bytes(expect: Mapping[str, Spec]) -> int:
    """The exact length of an encoded state."""
    lengths = [_n_bytes(spec) for spec in expect.values()]
    return len(_head(expect)) + sum(length + _padding(length) for length in lengths)


def decode_state(
    data: bytes | memoryview, expect: Mapping[str, Spec], *, allow_nonfinite: bool = False
) -> dict[str, Array]:
    """The arrays, writable copies, in the order of `expect`.

    Args:
        expect: every array that must be there, and no other: name -> (dtype, shape).
    Raises: BadTensor if `data` is not exactly what `encode_state` gives for such arrays, or a float is not finite.
    """
    _check_head(data, expect)
    offset = len(_head(expect))
    arrays: dict[str, Array] = {}
    for name in sorted(expect):
        dtype, shape = np.dtype(expect[name][0]), expect[name][1]
        array = np.frombuffer(data, dtype.newbyteorder("<"), count=math.prod(shape), offset=offset)
        offset += array.nbytes
        n_zeros = _padding(array.nbytes)
        _check_values(name, array, bytes(data[offset : offset + n_zeros]), allow_nonfinite)
        offset += n_zeros
        arrays[name] = array.astype(dtype).reshape(shape)
    return {name: arrays[name] for name in expect}


def _head(expect: Mapping[str, Spec]) -> bytes:
    head = _MAGIC + struct.pack("<I", len(expect)) + b"".join(entry for _, entry in _entries(expect))
    return head + bytes(_padding(len(head)))


def _entries(expect: Mapping[str, Spec]) -> Iterator[tuple[str, bytes]]:
    for name in sorted(expect):
        dtype, shape = np.dtype(expect[name][0]).newbyteorder("="), expect[name][1]
        text = name.encode()
        if dtype not in _CODES or not 0 < len(text) < 1 << 16 or len(shape) > 255:
            raise BadTensor(f"tensor {name[:80]!r} of {dtype} has no place in a state: convert or rename it")
        yield name, struct.pack(f"<H{len(text)}sBB{len(shape)}Q", len(text), text, _CODES[dtype], len(shape), *shape)


def _check_head(data: bytes | memoryview, expect: Mapping[str, Spec]) -> None:
    head = _head(expect)
    if bytes(data[: len(head)]) != head:
        raise BadTensor(f"a state does not fit this model: {_first_difference(bytes(data[: len(head)]), expect)}")
    length = state_bytes(expect)
    if len(data) != length:
        raise BadTensor(f"a state has {len(data)} bytes, this model needs {length}: fetch it again")


def _first_difference(head: bytes, expect: Mapping[str, Spec]) -> str:
    offset = len(_MAGIC)
    if head[:offset] != _MAGIC:
        return "it is no state, or of another version; use the same version of gossamer on both sides"
    (n_tensors,) = struct.unpack("<I", head[offset : offset + 4].ljust(4, b"\0"))
    offset += 4
    for name, entry in _entries(expect):
        if head[offset : offset + len(entry)] != entry:
            return f"expected {name!r} as {np.dtype(expect[name][0])} {expect[name][1]}; compare task and method"
        offset += len(entry)
    return f"it holds {n_tensors} tensors, expected {len(expect)}; compare task and method"


def _check_values(name: str, array: Array, padding: bytes, allow_nonfinite: bool) -> None:
    if padding.strip(b"\0"):
        raise BadTensor(f"tensor {name!r} of a state is followed by bytes that are not zero: fetch it again")
    if array.dtype.kind == "b" and (array.view(np.uint8) > 1).any():
        raise BadTensor(f"tensor {name!r} of a state has booleans other than 0 and 1: fetch it again")
    if array.dtype.kind == "f" and not allow_nonfinite and not np.isfinite(array).all():
        raise BadTensor(f"tensor {name!r} of a state holds NaN or infinities: fetch it from another peer")


def _raw(array: Array) -> memoryview:
    ordered = np.ascontiguousarray(array, dtype=array.dtype.newbyteorder("<"))
    return ordered.reshape(-1).view(np.uint8).data


def _n_bytes(spec: Spec) -> int:
    return np.dtype(spec[0]).itemsize * math.prod(spec[1])


def _padding(n_bytes: int) -> int:
    return -n_bytes % _ALIGN
