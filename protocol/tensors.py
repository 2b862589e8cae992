"""One tensor on the wire: a header that is checked before anything is allocated, and a payload.

Floats travel as fp32, fp16, bf16, or in 8 bits by blocks of 256: a block's scale is its largest magnitude / 127,
and each value the nearest multiple of the scale. With scale s the error is at most s / 2 (+ float32 rounding), where
INT8_FP32: s = absmax / 127;  INT8_FP16: s <= absmax / 127 * (1 + 2**-10) + 2**-24 (rounded up to a fp16).
Integers travel as they are. Everything is little-endian.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from .errors import BadTensor, ChecksumMismatch
from .tensors_pb2 import BF16, FP16, FP32, INT8_FP16, INT8_FP32, INT32, INT64, UINT8, TensorCodec, TensorHeader
from .wire import parse

Array = npt.NDArray[np.generic]
F32 = npt.NDArray[np.float32]
Buffer = bytes | memoryview

BLOCK = 256
MAX_NDIM = 8
MAX_ELEMENTS = 1 << 32
MAX_NAME_BYTES = 512
MAX_HEADER_BYTES = 1024

_PLAIN = {FP32: "<f4", FP16: "<f2", BF16: "<u2", INT64: "<i8", INT32: "<i4", UINT8: "|u1"}
_SCALE = {INT8_FP16: "<f2", INT8_FP32: "<f4"}
_ITEM_BYTES = {codec: np.dtype(kind).itemsize for codec, kind in (_PLAIN | _SCALE).items()}
"""Of an element; of a block's scale, where there are blocks."""
_FLOATS = (FP32, FP16, BF16, INT8_FP16, INT8_FP32)


def encode_tensor(
    array: Array, codec: TensorCodec, *, name: str = "", allow_nonfinite: bool = False
) -> tuple[TensorHeader, bytes]:
    """Header and payload of an array.

    Args:
        array: floating for the float codecs (brought to float32 first), exactly the codec's dtype for integers.
        allow_nonfinite: let NaN and infinities pass (FP32, FP16 and BF16 only).
    Raises: BadTensor if the codec cannot hold the values.
    """
    n_elements = _check_shape(name, array.shape)
    flat = np.ravel(array)
    if codec in _FLOATS:
        payload = _encode_floats(name, flat, codec, allow_nonfinite)
    elif codec in _PLAIN and flat.dtype == np.dtype(_PLAIN[codec]):
        payload = flat.astype(_PLAIN[codec], copy=False).tobytes()
    else:
        raise BadTensor(f"tensor {name!r} of {array.dtype} cannot be sent as codec {int(codec)}: choose another")
    assert len(payload) == payload_bytes(codec, n_elements)
    header = TensorHeader(
        name=name, codec=codec, shape=array.shape, payload_bytes=len(payload), sha256=hashlib.sha256(payload).digest()
    )
    return header, payload


def decode_tensor(header: TensorHeader, payload: Buffer, *, allow_nonfinite: bool = False) -> Array:
    """The array that was encoded: float32 for every float codec, otherwise the integers' own dtype; writable.

    Raises: BadTensor, ChecksumMismatch. Nothing larger than the payload justifies is allocated.
    """
    check_header(header)
    if len(payload) != header.payload_bytes:
        raise BadTensor(f"tensor {header.name!r}: {len(payload)} bytes came of {header.payload_bytes}: send it again")
    if hashlib.sha256(payload).digest() != header.sha256:
        raise ChecksumMismatch(f"tensor {header.name!r} is not the one that was announced: fetch it again")
    flat = _decode_flat(header.codec, payload, math.prod(header.shape))
    if flat.dtype == np.float32 and not allow_nonfinite and not np.isfinite(flat).all():
        raise BadTensor(f"tensor {header.name!r} holds NaN or infinities: its sender diverged or lies")
    return flat.reshape(tuple(header.shape))


def parse_header(data: bytes) -> TensorHeader:
    """Read a header that came from outside. Raises MessageTooLarge, InvalidMessage, BadTensor."""
    header = parse(TensorHeader, data, bytes_max=MAX_HEADER_BYTES, what="a tensor's header")
    check_header(header)
    return header


def check_header(header: TensorHeader) -> None:
    """As `check_layout`, and the hash must be there. Raises BadTensor."""
    check_layout(header)
    if len(header.sha256) != 32:
        raise BadTensor(f"tensor {header.name!r} comes with a hash of {len(header.sha256)} bytes: expected 32")


def check_layout(header: TensorHeader) -> None:
    """Refuse a header that no array has: codec, name, shape, or length. Raises BadTensor."""
    if header.codec not in _PLAIN and header.codec not in _SCALE:
        raise BadTensor(f"tensor {header.name[:80]!r} has unknown codec {int(header.codec)}: upgrade one of both sides")
    n_elements = _check_shape(header.name, header.shape)
    expected = payload_bytes(header.codec, n_elements)
    if header.payload_bytes != expected:
        raise BadTensor(f"tensor {header.name!r} announces {header.payload_bytes} bytes, its shape needs {expected}")


def encode_floats(values: F32, codec: TensorCodec) -> bytes:
    """The payload alone, without a header, of a float32 [n] in one of the float codecs.

    Raises: BadTensor for NaN, infinities, and what is too large for the codec.
    """
    return _encode_floats("", np.ravel(values), codec, allow_nonfinite=False)


def decode_floats(payload: Buffer, codec: TensorCodec, n_elements: int) -> F32:
    """The float32 [n_elements], fresh. Raises BadTensor for a wrong length, NaN and infinities."""
    if len(payload) != payload_bytes(codec, n_elements):
        expected = payload_bytes(codec, n_elements)
        raise BadTensor(f"{len(payload)} bytes came for {n_elements} values, expected {expected}: send it again")
    values = _decode_flat(codec, payload, n_elements).astype(np.float32, copy=False)
    if not np.isfinite(values).all():
        raise BadTensor("a vector holds NaN or infinities: its sender diverged or lies")
    return values


def payload_bytes(codec: TensorCodec, n_elements: int) -> int:
    """The exact length of a payload."""
    if codec in _SCALE:
        return n_elements + _n_blocks(n_elements) * _ITEM_BYTES[codec]
    return n_elements * _ITEM_BYTES[codec]


def _check_shape(name: str, shape: Sequence[int]) -> int:
    """The number of elements. Dimensions of 0 do not hide absurd ones beside them."""
    if len(name.encode()) > MAX_NAME_BYTES:
        raise BadTensor(f"a tensor's name has {len(name.encode())} bytes: {MAX_NAME_BYTES} are allowed")
    if len(shape) > MAX_NDIM:
        raise BadTensor(f"tensor {name!r} has {len(shape)} dimensions: {MAX_NDIM} are allowed")
    n_elements = bound = 1
    for dim in shape:
        n_elements *= dim
        bound *= dim or 1
    if bound > MAX_ELEMENTS:
        raise BadTensor(f"tensor {name!r} of shape {tuple(shape)} is too large: {MAX_ELEMENTS} elements are allowed")
    return n_elements


def _encode_floats(name: str, flat: Array, codec: TensorCodec, allow_nonfinite: bool) -> bytes:
    if not np.issubdtype(flat.dtype, np.floating):
        raise BadTensor(f"tensor {name!r} of {flat.dtype} is not of floats: choose an integer codec")
    with np.errstate(over="ignore"):
        values = flat.astype(np.float32, copy=False)
    if codec in _SCALE or not allow_nonfinite:
        _require_finite(name, values, codec)
    if codec == BF16:
        return _encode_bf16(name, values, allow_nonfinite)
    if codec in _SCALE:
        return _encode_blocks(name, values, codec)
    with np.errstate(over="ignore"):
        coded = values.astype(_PLAIN[codec], copy=False)
    if not allow_nonfinite:
        _require_finite(name, coded, codec)
    return coded.tobytes()


def _encode_bf16(name: str, values: F32, allow_nonfinite: bool) -> bytes:
    """The upper half of each float32, rounded to nearest even."""
    bits = values.view(np.uint32)
    rounded = ((bits + (np.uint32(0x7FFF) + ((bits >> 16) & 1))) >> 16).astype("<u2")
    if allow_nonfinite:
        # A NaN of high payload would round over into a zero, so it is cut instead, kept quiet.
        nan = np.isnan(values)
        rounded[nan] = (bits[nan] >> 16).astype("<u2") | np.uint16(0x40)
    elif ((rounded & 0x7F80) == 0x7F80).any():
        raise _overflow(name, BF16)
    return rounded.tobytes()


def _encode_blocks(name: str, values: F32, codec: TensorCodec) -> bytes:
    blocks = np.zeros((_n_blocks(values.size), BLOCK), np.float32)
    blocks.reshape(-1)[: values.size] = values
    exact = np.maximum(blocks.max(axis=1), -blocks.min(axis=1)) / np.float32(127) + np.float32(0)  # no -0
    scales = _rounded_up(exact, _SCALE[codec])
    _require_finite(name, scales, codec)
    divisors = scales.astype(np.float32)
    divisors[divisors == 0] = 1  # a block of zeros
    np.divide(blocks, divisors[:, None], out=blocks)
    np.rint(blocks, out=blocks)
    np.clip(blocks, -127, 127, out=blocks)  # the division may round past 127 where the scale is subnormal
    return scales.tobytes() + blocks.astype(np.int8).reshape(-1)[: values.size].tobytes()


def _rounded_up(scales: F32, dtype: str) -> npt.NDArray[np.floating]:
    with np.errstate(over="ignore", under="ignore"):
        rounded = scales.astype(dtype)
    low = rounded.astype(np.float32) < scales
    rounded[low] = np.nextafter(rounded[low], np.array(np.inf, rounded.dtype))
    return rounded


def _decode_flat(codec: TensorCodec, payload: Buffer, n_elements: int) -> Array:
    if codec in _SCALE:
        return _decode_blocks(codec, payload, n_elements)
    raw = np.frombuffer(payload, _PLAIN[codec], count=n_elements)
    if codec == BF16:
        return (raw.astype(np.uint32) << 16).view(np.float32)
    return raw.astype(np.float32) if codec in _FLOATS else raw.astype(raw.dtype.newbyteorder("="))


def _decode_blocks(codec: TensorCodec, payload: Buffer, n_elements: int) -> F32:
    n_blocks = _n_blocks(n_elements)
    scales = np.frombuffer(payload, _SCALE[codec], count=n_blocks)
    values = np.frombuffer(payload, np.int8, offset=scales.nbytes, count=n_elements).astype(np.float32)
    n_whole = n_elements // BLOCK * BLOCK
    with np.errstate(over="ignore", invalid="ignore"):  # a hostile scale: the caller looks for what is not finite
        whole = values[:n_whole].reshape(-1, BLOCK)
        np.multiply(whole, scales[: n_whole // BLOCK, None].astype(np.float32), out=whole)
        if n_whole < n_elements:
            values[n_whole:] *= np.float32(scales[-1])
    return values


def _n_blocks(n_elements: int) -> int:
    return -(-n_elements // BLOCK)


def _require_finite(name: str, values: npt.NDArray[np.floating], codec: TensorCodec) -> None:
    if not np.isfinite(values).all():
        raise _overflow(name, codec)


def _overflow(name: str, codec: TensorCodec) -> BadTensor:
    label = TensorCodec.Name(codec)
    return BadTensor(f"tensor {name!r} holds NaN, infinities or values too large for {label}: clip it or use FP32")
