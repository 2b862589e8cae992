"""Count the arithmetic of a computation by looking at the operations that torch dispatches.

Like `torch.utils.flop_counter`, without loading a compiler and a computer algebra system for it.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

import torch
from torch import Tensor
from torch.utils._python_dispatch import TorchDispatchMode

_aten = torch.ops.aten


class OperationCounter(TorchDispatchMode):
    """Counts what runs inside the `with` block, also on the meta device: 2 for each product that a matrix product, a
    convolution or attention adds up; 1 for each element that any other operation writes; nothing for views."""

    def __init__(self) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.n_products = 0
        """Multiplications and additions of matrix products, convolutions and attention."""
        self.n_written = 0
        """Elements written by other operations."""

    @classmethod
    def _should_skip_dynamo(cls) -> bool:
        # True, the default, would load the compiler only to keep it out.
        return False

    def __enter__(self) -> OperationCounter:
        super().__enter__()  # type: ignore[no-untyped-call]
        return self

    @property
    def flops(self) -> float:
        return float(self.n_products + self.n_written)

    def __torch_dispatch__(
        self, func: Any, types: Sequence[type], args: tuple[Any, ...] = (), kwargs: Mapping[str, Any] | None = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        count = _PRODUCTS.get(func.overloadpacket)
        if count is not None:
            self.n_products += count(args, out)
        elif not func.is_view:
            self.n_written += sum(t.numel() for t in (out if isinstance(out, tuple | list) else [out]) if _is_tensor(t))
        return out


def _matrix(left: int) -> Callable[[tuple[Any, ...], Any], int]:
    """Products of (.., n, k) x (.., k, m), the left factor being this argument."""
    return lambda args, out: 2 * out.numel() * int(args[left].shape[-1])


def _convolution(args: tuple[Any, ...], out: Any) -> int:
    weight: Tensor = args[1]
    is_transposed = bool(args[6])
    per_element = weight[0].numel()
    return 2 * per_element * int((args[0] if is_transposed else out).numel())


def _convolution_backward(args: tuple[Any, ...], out: Any) -> int:
    gradient, _, weight = args[:3]
    wanted = sum(bool(flag) for flag in args[-1][:2])
    return 2 * int(weight[0].numel()) * int(gradient.numel()) * wanted


def _attention(args: tuple[Any, ...], out: Any) -> int:
    return _attended(args[0], args[1], args[2])


def _attention_backward(args: tuple[Any, ...], out: Any) -> int:
    # Four products of the forward pass's size and the scores once more.
    return 5 * _attended(args[1], args[2], args[3]) // 2


def _attended(q: Tensor, k: Tensor, v: Tensor) -> int:
    scores = math.prod(q.shape[:-1]) * int(k.shape[-2])
    return 2 * scores * (int(q.shape[-1]) + int(v.shape[-1]))


def _is_tensor(value: object) -> bool:
    return isinstance(value, Tensor)


_PRODUCTS: Final[Mapping[Any, Callable[[tuple[Any, ...], Any], int]]] = {
    _aten.mm: _matrix(0),
    _aten.addmm: _matrix(1),
    _aten.bmm: _matrix(0),
    _aten.baddbmm: _matrix(1),
    _aten.convolution: _convolution,
    _aten.convolution_backward: _convolution_backward,
    _aten._scaled_dot_product_flash_attention_for_cpu: _attention,
    _aten._scaled_dot_product_flash_attention_for_cpu_backward: _attention_backward,
    _aten._scaled_dot_product_flash_attention: _attention,
    _aten._scaled_dot_product_efficient_attention: _attention,
}
