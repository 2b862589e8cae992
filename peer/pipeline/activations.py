"""Activations and their gradients on the wire: in 8 bits by blocks (default), half precision, or as they are."""

from __future__ import annotations

import enum
import hashlib
import math
from collections.abc import Callable, Mapping

import numpy as np
import torch
from torch import Tensor

from ...protocol.errors import BadTensor, ChecksumMismatch
from ...protocol.tensors import BLOCK, check_header, decode_tensor, encode_tensor, payload_bytes
from ...protocol.tensors_pb2 import FP16, FP32, INT8_FP32, INT64, TensorCodec, TensorHeader
from .microbatches import Boundary

SCALE_MAX = float(np.finfo(np.float32).max) / 128


class Compression(enum.Enum):
    """How floats between stages travel; integers always travel as they are."""

    INT8 = "int8"
    """Blocks of 256 with a scale each: 1.016 bytes an element; the error is at most absmax / 254 of its block."""
    FP16 = "fp16"
    NONE = "none"

    @property
    def codec(self) -> TensorCodec:
        return {Compression.INT8: INT8_FP32, Compression.FP16: FP16, Compression.NONE: FP32}[self]


class Codec:
    """Turns the tensors of a run's passes into bytes and back."""

    def __init__(self, compression: Compression) -> None:
        self.compression = compression

    def encode(self, tensor: Tensor) -> tuple[TensorHeader, bytes]:
        """As `encode_activations`."""
        return encode_activations(tensor, self.compression)

    def decode(self, header: TensorHeader, payload: bytes | memoryview) -> Tensor:
        """As `decode_checked`."""
        return decode_checked(header, payload)


def wire_bytes(boundary: Boundary, compression: Compression, n_samples: int) -> int:
    """The exact length of so many samples' payload."""
    codec = compression.codec if boundary.dtype.is_floating_point else INT64
    return payload_bytes(codec, n_samples * math.prod(boundary.shape))


def encode_activations(tensor: Tensor, compression: Compression) -> tuple[TensorHeader, bytes]:
    """Header and payload. Raises BadTensor for what the codec cannot hold: NaN, infinities, above fp16's range."""
    if not tensor.is_floating_point():
        return encode_tensor(tensor.detach().contiguous().numpy(), INT64)
    values = tensor.detach().to(torch.float32).contiguous()
    payload = _ENCODERS[compression](values)
    header = TensorHeader(
        codec=compression.codec,
        shape=tensor.shape,
        payload_bytes=len(payload),
        sha256=hashlib.sha256(payload).digest(),
    )
    return header, payload


def check_announced(header: TensorHeader, boundary: Boundary, *, n_samples_max: int) -> int:
    """Refuse a header before its payload is awaited: another kind of tensor than passes here, or too many samples.

    Returns: the payload's length. Raises BadTensor.
    """
    check_header(header)
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


def decode_activations(
    header: TensorHeader, payload: bytes | memoryview, boundary: Boundary, *, n_samples_max: int
) -> Tensor:
    """The tensor, of the boundary's kind. Raises BadTensor, ChecksumMismatch."""
    check_announced(header, boundary, n_samples_max=n_samples_max)
    return decode_checked(header, payload)


def decode_checked(header: TensorHeader, payload: bytes | memoryview) -> Tensor:
    """As `decode_activations`, of a header that `check_announced` has let pass."""
    if header.codec not in _DECODERS:
        return torch.from_numpy(decode_tensor(header, payload))
    if len(payload) != header.payload_bytes or hashlib.sha256(payload).digest() != header.sha256:
        raise ChecksumMismatch("a pass's tensor is not the one that was announced: fetch it again")
    values = _DECODERS[header.codec](payload, math.prod(header.shape))
    return values.reshape(tuple(header.shape))


def _to_float32(values: Tensor) -> bytes:
    _require_finite(values, "fp32")
    return values.numpy().tobytes()


def _to_float16(values: Tensor) -> bytes:
    halves = values.to(torch.float16)
    _require_finite_halves(halves)
    return halves.numpy().tobytes()


def _to_int8(values: Tensor) -> bytes:
    """Scales, then levels: as `protocol.tensors` has it, bit by bit."""
    from ...algorithms.kernels.narrow import to_levels

    flat = values.numpy().reshape(-1)
    n_blocks = -(-flat.size // BLOCK)
    if flat.size < n_blocks * BLOCK:
        flat = np.concatenate([flat, np.zeros(n_blocks * BLOCK - flat.size, np.float32)])
    scales, levels = np.empty(n_blocks, np.float32), np.empty(n_blocks * BLOCK, np.int8)
    if not to_levels(flat, BLOCK, scales, levels):
        raise _not_finite("int8")
    return scales.astype("<f4", copy=False).tobytes() + levels[: values.numel()].tobytes()


def _from_float32(payload: bytes | memoryview, n: int) -> Tensor:
    values = torch.from_numpy(np.frombuffer(payload, "<f4", count=n).astype(np.float32))
    _require_finite(values, "fp32")
    return values


def _from_float16(payload: bytes | memoryview, n: int) -> Tensor:
    halves = torch.from_numpy(np.frombuffer(payload, "<f2", count=n).astype(np.float16))
    _require_finite_halves(halves)
    return halves.to(torch.float32)


def _from_int8(payload: bytes | memoryview, n: int) -> Tensor:
    from ...algorithms.kernels.narrow import from_levels

    n_blocks = -(-n // BLOCK)
    scales = np.frombuffer(payload, "<f4", count=n_blocks).astype(np.float32)
    levels = np.frombuffer(payload, np.int8, offset=scales.nbytes, count=n)
    if n < n_blocks * BLOCK:
        levels = np.concatenate([levels, np.zeros(n_blocks * BLOCK - n, np.int8)])
    values = np.empty(n_blocks * BLOCK, np.float32)
    # NaN makes the comparison false. No level is above 127, so no value is infinite.
    is_sound = bool((scales <= SCALE_MAX).all()) and not bool(np.signbit(scales).any())
    if not is_sound or not from_levels(levels, BLOCK, scales, values):
        raise BadTensor("a pass's tensor has a scale or a level that no encoder makes: its sender diverged or lies")
    return torch.from_numpy(values[:n])


_ENCODERS: Mapping[Compression, Callable[[Tensor], bytes]] = {
    Compression.INT8: _to_int8,
    Compression.FP16: _to_float16,
    Compression.NONE: _to_float32,
}
_DECODERS: Mapping[TensorCodec, Callable[[bytes | memoryview, int], Tensor]] = {
    INT8_FP32: _from_int8,
    FP16: _from_float16,
    FP32: _from_float32,
}


def _require_finite(values: Tensor, codec: str) -> None:
    if not np.isfinite(values.numpy()).all():
        raise _not_finite(codec)


def _require_finite_halves(values: Tensor) -> None:
    """By their exponents: numpy's own test of float16 takes twenty times as long."""
    exponents = values.numpy().view(np.uint16) & np.uint16(0x7C00)
    if (exponents == np.uint16(0x7C00)).any():
        raise _not_finite("fp16")


def _not_finite(codec: str) -> BadTensor:
    return BadTensor(
        f"a pass's tensor holds NaN, infinities or values too large for {codec}: its sender diverged or lies"
    )
