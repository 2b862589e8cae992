"""Initial weights that follow from a seed alone, whatever other code does with torch's global generator."""

from __future__ import annotations

import math
from collections.abc import Callable

import torch
from torch import nn

Draw = Callable[[nn.Module, torch.Generator], None]


def build_initialised(build: Callable[[], nn.Module], seed: int, *, draw: Draw | None = None) -> nn.Module:
    """Build a model, leaving the global generator as it was, then draw its weights from one of its own.

    Args:
        build: constructs the model from torch's modules; what it draws is overwritten.
        seed: 0 <= seed < 2^63.
        draw: sets every parameter of one module that owns some; default: `draw_fan_in`.
    """
    with torch.random.fork_rng(devices=[]):  # the meta device would load sympy and torch's compiler, 80 MB and seconds
        model = build()
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for module in model.modules():
            if any(True for _ in module.parameters(recurse=False)) or any(True for _ in module.buffers(recurse=False)):
                (draw or draw_fan_in)(module, generator)
    return model


def draw_fan_in(module: nn.Module, generator: torch.Generator) -> None:
    """Normal weights of variance 2 / fan-in (He et al. 2015, arXiv:1502.01852), zero biases; norms at identity.

    Raises: TypeError for a module that it does not know: its values would be whatever the memory held.
    """
    if isinstance(module, nn.Linear | nn.Conv1d | nn.Conv2d):
        module.weight.normal_(0.0, math.sqrt(2.0 / module.weight[0].numel()), generator=generator)
        if module.bias is not None:
            module.bias.zero_()
    elif isinstance(module, nn.LayerNorm | nn.GroupNorm | nn.BatchNorm1d | nn.BatchNorm2d):
        module.reset_parameters()
    else:
        raise TypeError(f"no rule for the initial weights of {type(module).__name__}: pass `draw` to build_initialised")
