"""Initial weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn

from gossamer.tasks import build_initialised


class Model(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.convolution = nn.Conv2d(3, 50, 3)
        self.batch_norm = nn.BatchNorm2d(50)
        self.linear = nn.Linear(400, 300)
        self.layer_norm = nn.LayerNorm(300)


def test_weights_have_the_stated_spread_and_the_rest_is_neutral() -> None:
    model = build_initialised(Model, 0)

    state = model.state_dict()
    assert state["convolution.weight"].std().item() == pytest.approx(math.sqrt(2 / 27), rel=0.1)
    assert state["linear.weight"].std().item() == pytest.approx(math.sqrt(2 / 400), rel=0.02)
    assert torch.count_nonzero(state["linear.bias"]) == 0
    assert state["layer_norm.weight"].eq(1).all()
    assert state["batch_norm.running_var"].eq(1).all()
    assert state["batch_norm.num_batches_tracked"].eq(0)


def test_the_global_generator_is_left_alone() -> None:
    before = torch.get_rng_state()

    build_initialised(Model, 0)

    assert torch.equal(torch.get_rng_state(), before)


def test_a_module_without_a_rule_is_refused_rather_than_left_to_chance() -> None:
    with pytest.raises(TypeError, match="Bilinear"):
        build_initialised(lambda: nn.Bilinear(2, 2, 2), 0)
