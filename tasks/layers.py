"""A model as a chain of layers: where it may be cut."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from torch import Tensor, nn

from .errors import CannotCut

Run = Callable[[Sequence[nn.Module], Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Layer:
    """The least piece of a model: no cut goes through it."""

    name: str
    """For plans and messages."""
    uses: tuple[str, ...]
    """Paths of its modules within the whole model. Two layers that use the same module are tied."""
    run: Run
    """Maps those modules and the layer's input to its output; without state of its own."""

    def __call__(self, model: nn.Module, x: Tensor) -> Tensor:
        return self.run([model.get_submodule(path) for path in self.uses], x)


def layers_of_sequential(model: nn.Module) -> tuple[Layer, ...]:
    """One layer for each module of an `nn.Sequential`, those of nested ones included.

    Raises: CannotCut for any other model.
    """
    if not isinstance(model, nn.Sequential) or not len(model):
        raise CannotCut(
            f"a {type(model).__name__} has no known layers: let the task's `layers` name them, or use nn.Sequential"
        )
    return tuple(Layer(name=path, uses=(path,), run=_run_module) for path in _leaf_paths(model, ""))


def _leaf_paths(sequence: nn.Sequential, prefix: str) -> list[str]:
    paths: list[str] = []
    # Not named_children(): it leaves out a module that comes a second time.
    for name, module in sequence._modules.items():
        if type(module) is nn.Sequential and len(module):
            paths += _leaf_paths(module, f"{prefix}{name}.")
        else:
            paths.append(prefix + name)
    return paths


def _run_module(modules: Sequence[nn.Module], x: Tensor) -> Tensor:
    (module,) = modules
    out: Tensor = module(x)
    return out
