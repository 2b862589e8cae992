"""Many named tensors as one flat float32 vector, in wire order."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

import torch


@dataclass(frozen=True, kw_only=True)
class Layout:
    """Where each named tensor stands in the flat vector."""

    names: tuple[str, ...]
    shapes: tuple[tuple[int, ...], ...]

    @classmethod
    def of(cls, parameters: Mapping[str, torch.Tensor]) -> Layout:
        return cls(names=tuple(parameters), shapes=tuple(tuple(p.shape) for p in parameters.values()))

    @property
    def dim(self) -> int:
        return sum(math.prod(shape) for shape in self.shapes)

    def pack(self, tensors: Mapping[str, torch.Tensor | None]) -> torch.Tensor:
        """A fresh float32 [dim] on the CPU; missing tensors and None are zeros.

        Raises: ValueError for a name that is not in the layout, or a tensor of another shape.
        """
        flat = torch.zeros(self.dim)
        for tensor, view in zip(self.in_order(tensors), self.views(flat), strict=True):
            if tensor is not None:
                view.copy_(tensor.detach())
        return flat

    def in_order(self, tensors: Mapping[str, torch.Tensor | None]) -> list[torch.Tensor | None]:
        """The tensors in wire order; None for those that are missing.

        Raises: ValueError for a name that is not in the layout, or a tensor of another shape.
        """
        for name in tensors:
            if name not in self.names:
                raise ValueError(f"no parameter is called {name!r}")
        found = [tensors.get(name) for name in self.names]
        for name, shape, tensor in zip(self.names, self.shapes, found, strict=True):
            if tensor is not None and tuple(tensor.shape) != shape:
                raise ValueError(f"gradient of {name!r} has shape {tuple(tensor.shape)}, not {shape}")
        return found

    def views(self, flat: torch.Tensor) -> Iterator[torch.Tensor]:
        """The flat vector's parts in the tensors' shapes, sharing its memory."""
        start = 0
        for shape in self.shapes:
            stop = start + math.prod(shape)
            yield flat[start:stop].view(shape)
            start = stop
