"""Activations and their gradients on the wire: in 8 bits by blocks (default), half precision, or as they are.

A tensor is encoded once, by who made it, and hashed then; trainers hand its bytes on as they came (`Parcel`), and who
computes with it reads them. The hash travels along, so that a bit that flips in any memory on the way is found, a
trainer's included; that of lines is found by TLS already. It also names what a backward pass was given, which a peer
must not be able to forge: hence a cryptographic hash, and the fastest there is.
"""

from __future__ import annotations

import enum
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from blake3 import blake3
from torch import Tensor

from ...protocol.errors import BadTensor, ChecksumMismatch
from ...protocol.tensors import BLOCK, check_layout, payload_bytes
from ...protocol.tensors_pb2 import FP16, FP32, INT8_FP32, INT64, TensorCodec, TensorHeader
from .microbatches import Boundary

Buffer = bytes | memoryview
SCALE_BITS_MAX = int(np.float32(np.finfo(np.float32).max / 128).view(np.uint32))
"""Of scales as integers: no level is above 127, so no value is infinite. NaN, -0 and what is negative are above it."""
HASH_BYTES = 32


class Compression(enum.Enum):
    """How floats between stages travel; integers always travel as they are."""

    INT8 = "int8"
    """Blocks of 256 with a scale each: 1.016 bytes an element; the error is at most absmax / 254 of its block."""
    FP16 = "fp16"
    NONE = "none"

    @property
    def codec(self) -> TensorCodec:
        return _CODECS[self]


_CODECS = {Compression.INT8: INT8_FP32, Compression.FP16: FP16, Compression.NONE: FP32}


@dataclass(frozen=True)
class Parcel:
    """A tensor as it travels, checked."""

    header: TensorHeader
    payload: bytes

    @property
    def n_samples(self) -> int:
        return self.header.shape[0]

    @property
    def kind(self) -> Boundary:
        dtype = torch.int64 if self.header.codec == INT64 else torch.float32
        return Boundary(shape=tuple(self.header.shape[1:]), dtype=dtype)


class Codec:
    """Turns the tensors of a run's passes into bytes and back."""

    def __init__(self, compression: Compression) -> None:
        self.compression = compression

    def encode(self, tensor: Tensor) -> Parcel:
        """As `encode_activations`."""
        return encode_activations(tensor, self.compression)

    def receive(self, header: TensorHeader, payload: Buffer) -> Parcel:
        """What came from outside, to be handed on. `header` is one that `check_announced` has let pass.

        Raises: as `decode`, for the very same bytes.
        """
        check_payload(header, payload)
        clean = TensorHeader(codec=header.codec, shape=header.shape, payload_bytes=len(payload), blake3=header.blake3)
        return Parcel(clean, bytes(payload))

    def decode(self, header: TensorHeader, payload: Buffer) -> Tensor:
        """As `decode_checked`."""
        return decode_checked(header, payload)


def wire_bytes(boundary: Boundary, compression: Compression, n_samples: int) -> int:
    """The exact length of so many samples' payload."""
    codec = compression.codec if boundary.dtype.is_floating_point else INT64
    return payload_bytes(codec, n_samples * math.prod(boundary.shape))


def encode_activations(tensor: Tensor, compression: Compression) -> Parcel:
    """Raises BadTensor for what the codec cannot hold: NaN, infinities, above fp16's range, other integers."""
    values = tensor.detach()
    if tensor.is_floating_point():
        codec, payload = compression.codec, _ENCODERS[compression](values.to(torch.float32).contiguous())
    elif tensor.dtype == torch.int64:
        codec, payload = INT64, values.contiguous().numpy().astype("<i8", copy=False).tobytes()
    else:
        raise BadTensor(f"a tensor of {tensor.dtype} does not pass between stages: make it float32 or int64")
    header = TensorHeader(codec=codec, shape=tensor.shape, payload_bytes=len(payload), blake3=blake3(payload).digest())
    return Parcel(header, payload)


def check_announced(header: TensorHeader, boundary: Boundary, *, n_samples_max: int) -> int:
    """Refuse a header before its payload is awaited: another kind of tensor than passes here, or too many samples.

    Returns: the payload's length. Raises BadTensor.
    """
    check_layout(header)
    if len(header.blake3) != HASH_BYTES:
        raise BadTensor(f"a pass's tensor has a hash of {len(header.blake3)} bytes, expected {HASH_BYTES}: upgrade it")
    is_float = header.codec in (INT8_FP32, FP16, FP32)
    if is_float != boundary.dtype.is_floating_point or not (is_float or header.codec == INT64):
        raise BadTensor(
            f"a tensor in codec {int(header.codec)} came where {boundary.dtype} passes: cut and task differ"
        )
    if tuple(header.shape[1:]) != boundary.shape or not 1 <= header.shape[0] <= n_samples_max:
        raise BadTensor(
            f"a tensor of shape {tuple(header.shape)[:8]} came, expected 1 to {n_samples_max} samples of "
            f"{boundary.shape}: cut and task differ"
        )
    return header.payload_bytes


def check_payload(header: TensorHeader, payload: Buffer) -> None:
    """Refuse a payload that is not what was announced, or that no encoder makes. Raises BadTensor, ChecksumMismatch."""
    _check_hash(header, payload)
    if header.codec in _CHECKS:
        _CHECKS[header.codec](payload, math.prod(header.shape))


def decode_activations(header: TensorHeader, payload: Buffer, boundary: Boundary, *, n_samples_max: int) -> Tensor:
    """The tensor, of the boundary's kind. Raises BadTensor, ChecksumMismatch."""
    check_announced(header, boundary, n_samples_max=n_samples_max)
    return decode_checked(header, payload)


def decode_checked(header: TensorHeader, payload: Buffer) -> Tensor:
    """As `decode_activations`, of a header that `check_announced` has let pass."""
    _check_hash(header, payload)
    values = _DECODERS[header.codec](payload, math.prod(header.shape))
    return values.reshape(tuple(header.shape))


def _check_hash(header: TensorHeader, payload: Buffer) -> None:
    if len(payload) != header.payload_bytes or blake3(payload).digest() != header.blake3:
        raise ChecksumMismatch("a pass's tensor is not the one that was announced: fetch it again")


def _to_float32(values: Tensor) -> bytes:
    _require_finite(values, "fp32")
    return values.numpy().tobytes()


def _to_float16(values: Tensor) -> bytes:
    halves = values.to(torch.float16)
    _require_finite_halves(halves.numpy())
    return halves.numpy().tobytes()


def _to_int8(values: Tensor) -> bytes:
    """Scales, then levels: as `protocol.tensors` has it, bit by bit."""
    from ...algorithms.kernels.narrow import to_levels

    flat = values.numpy().reshape(-1)
    n_blocks = -(-flat.size // BLOCK)
    if flat.size < n_blocks * BLOCK:
        flat = np.concatenate([flat, np.zeros(n_blocks * BLOCK - flat.size, np.float32)])
    payload = np.empty(n_blocks * (4 + BLOCK), np.uint8)
    scales, levels = payload[: 4 * n_blocks].view(np.float32), payload[4 * n_blocks :].view(np.int8)
    if not to_levels(flat, BLOCK, scales, levels):
        raise _not_finite("int8")
    return payload[: 4 * n_blocks + values.numel()].tobytes()


def _from_int64(payload: Buffer, n: int) -> Tensor:
    return torch.from_numpy(np.frombuffer(payload, "<i8", count=n).astype(np.int64))


def _from_float32(payload: Buffer, n: int) -> Tensor:
    values = torch.from_numpy(np.frombuffer(payload, "<f4", count=n).astype(np.float32))
    _require_finite(values, "fp32")
    return values


def _check_float32(payload: Buffer, n: int) -> None:
    if not np.isfinite(np.frombuffer(payload, "<f4", count=n)).all():
        raise _not_finite("fp32")


def _from_float16(payload: Buffer, n: int) -> Tensor:
    halves = np.frombuffer(payload, "<f2", count=n).astype(np.float16)
    _require_finite_halves(halves)
    return torch.from_numpy(halves).to(torch.float32)


def _check_float16(payload: Buffer, n: int) -> None:
    _require_finite_halves(np.frombuffer(payload, "<f2", count=n))


def _from_int8(payload: Buffer, n: int) -> Tensor:
    from ...algorithms.kernels.narrow import from_levels

    scales, levels = _blocks(payload, n)
    values = np.empty(len(levels), np.float32)
    if not from_levels(levels, BLOCK, scales, values):
        raise _no_encoders()
    return torch.from_numpy(values[:n])


def _check_int8(payload: Buffer, n: int) -> None:
    from ...algorithms.kernels.narrow import are_sound_levels

    scales, levels = _blocks(payload, n)
    if not are_sound_levels(levels, BLOCK, scales):
        raise _no_encoders()


def _blocks(payload: Buffer, n: int) -> tuple[npt.NDArray[np.float32], npt.NDArray[np.int8]]:
    """Scales, which are sound, and the levels of whole blocks. Raises BadTensor."""
    n_blocks = -(-n // BLOCK)
    scales = np.frombuffer(payload, "<f4", count=n_blocks).astype(np.float32)
    levels = np.frombuffer(payload, np.int8, offset=scales.nbytes, count=n)
    if scales.view(np.uint32).max(initial=0) > SCALE_BITS_MAX:
        raise _no_encoders()
    if n < n_blocks * BLOCK:
        levels = np.concatenate([levels, np.zeros(n_blocks * BLOCK - n, np.int8)])
    return scales, levels


_ENCODERS: Mapping[Compression, Callable[[Tensor], bytes]] = {
    Compression.INT8: _to_int8,
    Compression.FP16: _to_float16,
    Compression.NONE: _to_float32,
}
_DECODERS: Mapping[TensorCodec, Callable[[Buffer, int], Tensor]] = {
    INT8_FP32: _from_int8,
    FP16: _from_float16,
    FP32: _from_float32,
    INT64: _from_int64,
}
_CHECKS: Mapping[TensorCodec, Callable[[Buffer, int], None]] = {
    INT8_FP32: _check_int8,
    FP16: _check_float16,
    FP32: _check_float32,
}


def _require_finite(values: Tensor, codec: str) -> None:
    """If their sum is finite all are; a sum may overflow, so then one looks."""
    if not math.isfinite(float(values.sum())) and not np.isfinite(values.numpy()).all():
        raise _not_finite(codec)


def _require_finite_halves(values: npt.NDArray[np.float16]) -> None:
    """By their exponents: numpy's own test of float16 takes twenty times as long."""
    exponents = values.view(np.uint16) & np.uint16(0x7C00)
    if (exponents == np.uint16(0x7C00)).any():
        raise _not_finite("fp16")


def _not_finite(codec: str) -> BadTensor:
    return BadTensor(
        f"a pass's tensor holds NaN, infinities or values too large for {codec}: its sender diverged or lies"
    )


def _no_encoders() -> BadTensor:
    return BadTensor("a pass's tensor has a scale or a level that no encoder makes: its sender diverged or lies")
