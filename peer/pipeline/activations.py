"""Activations and their gradients on the wire: in 8 bits by blocks (default), half precision, or as they are."""

from __future__ import annotations

import enum
import math

import numpy as np
import torch
from torch import Tensor

from ...protocol.errors import BadTensor
from ...protocol.tensors import check_header, decode_tensor, encode_tensor, payload_bytes
from ...protocol.tensors_pb2 import FP16, FP32, INT8_FP32, INT64, TensorCodec, TensorHeader
from .microbatches import Boundary


class Compression(enum.Enum):
    """How floats between stages travel; integers always travel as they are."""

    INT8 = "int8"
    """Blocks of 256 with a scale each: 1.016 bytes an element; the error is at most absmax / 254 of its block."""
    FP16 = "fp16"
    NONE = "none"

    @property
    def codec(self) -> TensorCodec:
        return {Compression.INT8: INT8_FP32, Compression.FP16: FP16, Compression.NONE: FP32}[self]


def wire_bytes(boundary: Boundary, compression: Compression, n_samples: int) -> int:
    """The exact length of so many samples' payload."""
    codec = compression.codec if boundary.dtype.is_floating_point else INT64
    return payload_bytes(codec, n_samples * math.prod(boundary.shape))


def encode_activations(tensor: Tensor, compression: Compression) -> tuple[TensorHeader, bytes]:
    """Header and payload. Raises BadTensor for what the codec cannot hold: NaN, infinities, above fp16's range."""
    array = tensor.detach().contiguous().numpy()
    return encode_tensor(array, compression.codec if tensor.is_floating_point() else INT64)


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
    array = decode_tensor(header, payload)
    assert array.dtype in (np.float32, np.int64)
    return torch.from_numpy(array)
