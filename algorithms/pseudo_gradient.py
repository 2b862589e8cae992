"""A dense contribution that counts itself: the vector, and a one behind it, so that a sum knows its addends."""

from __future__ import annotations

import numpy as np
import torch

from .clipping import GRADIENT_ABS_MAX
from .errors import BadPayload


def encode_counted(vector: torch.Tensor) -> bytes:
    """float32 [dim + 1], little-endian."""
    return torch.cat([vector, torch.ones(1)]).numpy().astype("<f4", copy=False).tobytes()


def decode_mean(reduced: bytes) -> torch.Tensor:
    """The mean of what was summed up, float32 [dim]."""
    total = torch.from_numpy(np.frombuffer(reduced, "<f4").astype(np.float32))
    return total[:-1] / total[-1].clamp(min=1)


def check_counted(payload: bytes, dim: int) -> None:
    """Raises BadPayload unless it is one replica's vector of that length."""
    if len(payload) != counted_bytes(dim):
        raise BadPayload(f"payload of {len(payload)} bytes, expected {counted_bytes(dim)}")
    vector = np.frombuffer(payload, "<f4")
    # NaN makes the comparison false.
    if not float(np.abs(vector).max()) <= GRADIENT_ABS_MAX:
        raise BadPayload("payload holds NaN, infinity or values above 2^100")
    if vector[-1] != 1:
        raise BadPayload(f"payload counts {vector[-1]:g} replicas, expected 1")


def counted_bytes(dim: int) -> int:
    return 4 * (dim + 1)
