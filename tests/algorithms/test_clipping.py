"""Global-norm clipping."""

from __future__ import annotations

import math

import pytest
import torch

from gossamer.algorithms import BadGradient
from gossamer.algorithms.clipping import clip_by_global_norm, refuse_unusable


def test_a_long_gradient_is_scaled_to_the_bound_and_its_norm_returned() -> None:
    gradient = torch.tensor([3.0, 4.0])

    norm = clip_by_global_norm(gradient, 1.0)

    assert norm == 5.0
    assert gradient.tolist() == pytest.approx([0.6, 0.8])


@pytest.mark.parametrize("norm_max", [0.0, 5.0, 6.0])
def test_a_gradient_within_the_bound_or_without_one_is_untouched(norm_max: float) -> None:
    gradient = torch.tensor([3.0, 4.0])

    clip_by_global_norm(gradient, norm_max)

    assert gradient.tolist() == [3.0, 4.0]


@pytest.mark.parametrize("bad", [math.nan, math.inf, -math.inf])
def test_a_gradient_that_is_not_finite_is_refused_unchanged(bad: float) -> None:
    gradient = torch.tensor([3.0, bad])

    with pytest.raises(BadGradient):
        clip_by_global_norm(gradient, 1.0)
    with pytest.raises(BadGradient):
        refuse_unusable(gradient)

    assert gradient[0] == 3.0


def test_a_gradient_too_large_to_be_summed_is_refused() -> None:
    with pytest.raises(BadGradient):
        refuse_unusable(torch.tensor([0.0, -2e30]))


def test_an_empty_gradient_has_norm_zero() -> None:
    refuse_unusable(torch.empty(0))

    assert clip_by_global_norm(torch.empty(0), 1.0) == 0.0
