"""Bounds on gradients: finite at all, and not longer than a norm."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Final

import torch

from .errors import BadGradient

GRADIENT_ABS_MAX: Final = 2.0**100
"""1.3e30: far above any useful gradient, far enough below float32's 3.4e38 that a group's sum stays finite."""
NORM_BLOCK: Final = 1 << 16
"""Elements that are squared and summed up at once, in float64."""


def refuse_unusable(gradient: torch.Tensor) -> None:
    """Raise BadGradient unless every element is finite and within `GRADIENT_ABS_MAX`."""
    if gradient.numel() == 0:
        return
    low, high = torch.aminmax(gradient)
    # NaN fails both comparisons, so the test is written to be true only for good values.
    if not (low.item() >= -GRADIENT_ABS_MAX and high.item() <= GRADIENT_ABS_MAX):
        raise BadGradient("the gradient holds NaN, infinity or values above 2^100: lower the learning rate or clip")


def global_norm(tensors: Sequence[torch.Tensor | None]) -> float:
    """The L2 norm of all tensors together; None counts as zeros.

    Raises: BadGradient for NaN, infinity, or a norm above `GRADIENT_ABS_MAX`.
    """
    from .kernels.norms import square_sum

    squares = 0.0
    for tensor in tensors:
        if tensor is not None:
            squares += square_sum(tensor.detach().to("cpu", torch.float32).contiguous().view(-1).numpy())
    norm = math.sqrt(squares) if squares >= 0 else math.nan
    # NaN makes the comparison false.
    if not norm <= GRADIENT_ABS_MAX:
        raise BadGradient("the gradient holds NaN, infinity or values above 2^100: lower the learning rate or clip")
    return norm


def clip_by_global_norm(gradient: torch.Tensor, norm_max: float) -> float:
    """Scale the flat gradient in place so that its L2 norm is at most `norm_max`; 0 means no bound.

    Returns: the norm before.
    Raises: BadGradient if the norm is not finite; the gradient is unchanged then.
    """
    # By blocks, since `vector_norm(dtype=float64)` takes ten times as long.
    norm = math.sqrt(math.fsum(float(block.double().square_().sum()) for block in torch.split(gradient, NORM_BLOCK)))
    if not math.isfinite(norm):
        raise BadGradient("the gradient's norm is not finite: lower the learning rate")
    if 0 < norm_max < norm:
        gradient.mul_(norm_max / norm)
    return norm
