"""Initial weights that follow from a seed alone, whatever other code does with torch's global generator."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Collection, Mapping, Sequence
from typing import Any

import torch
from torch import nn
from torch.overrides import TorchFunctionMode

Draw = Callable[[nn.Module, torch.Generator], None]


def build_initialised(
    build: Callable[[], nn.Module], seed: int, *, draw: Draw | None = None, keep: Collection[str] | None = None
) -> nn.Module:
    """Build a model, leaving the global generator as it was, then draw its weights from one of its own.

    Args:
        build: constructs the model from torch's modules; what it draws is overwritten.
        seed: 0 <= seed < 2^63.
        draw: sets every parameter of one module that owns some; default: `draw_fan_in`.
        keep: paths of the modules that are wanted, with all below them; None: all. The others are drawn one by one,
            so that the wanted ones get the values that they have in the whole model, then left on the meta device.
    """
    if keep is None:
        with torch.random.fork_rng(devices=[]):
            model = build()
    else:
        model = build_without_memory(build)
    generator = torch.Generator().manual_seed(seed)
    with torch.no_grad():
        for path, module in model.named_modules():
            if keep is not None:
                _move_empty(module, "cpu")
            if any(True for _ in module.parameters(recurse=False)) or any(True for _ in module.buffers(recurse=False)):
                (draw or draw_fan_in)(module, generator)
            if keep is not None and not _is_below(path, keep):
                _move_empty(module, "meta")
    return model


def build_without_memory(build: Callable[[], nn.Module]) -> nn.Module:
    """Build a model from torch's modules on the meta device, and draw nothing."""
    with torch.device("meta"), _WithoutDraws():
        return build()


def with_memory(module: nn.Module) -> nn.Module:
    """A copy of a module that lives on the meta device, with memory for its tensors and any values in it."""
    copied = copy.deepcopy(module)
    for part in copied.modules():
        _move_empty(part, "cpu")
    return copied


class _WithoutDraws(TorchFunctionMode):
    """Skips torch's own initial values: on the meta device they have no effect, but drawing them loads a compiler."""

    def __torch_function__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        if getattr(func, "__module__", None) == "torch.nn.init":
            return args[0] if args else (kwargs or {})["tensor"]
        return func(*args, **(kwargs or {}))


def _move_empty(module: nn.Module, device: str) -> None:
    """As `module.to_empty(recurse=False)`, which loads a compiler for tensors on the meta device."""

    def empty(tensor: torch.Tensor) -> torch.Tensor:
        return torch.empty(tensor.shape, dtype=tensor.dtype, device=device)

    module._apply(empty, recurse=False)  # type: ignore[no-untyped-call]


def _is_below(path: str, roots: Collection[str]) -> bool:
    return any(path == root or path.startswith(f"{root}.") for root in roots)


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
