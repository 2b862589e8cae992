"""A backward pass in two parts: first what the stage before waits for, then the gradients of the weights.

Zero-bubble pipelines (Qi et al. 2023, arXiv:2401.10241) and 2BP (Rae et al. 2024, arXiv:2405.18047) fill the bubble
with the second part. Both parts together multiply exactly as often as one whole backward pass: during the first we note
the gradient that arrives at each operation which has weights on one side and the input on the other, and the second
starts from there.

Where one weight serves two operations on the way from input to output, starting from both would count their overlap
twice; such graphs are not split, and the first part does all the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

Edge = tuple[Node, int]
Gradients = dict[str, Tensor]


@dataclass(frozen=True, kw_only=True)
class Split:
    """The first part's result, and how to get the second's."""

    input_gradient: Tensor
    weight_gradients: Callable[[], Gradients]
    """The gradient of every parameter that had an influence, by name. Call it once; it holds the graph until then."""


def split_backward(
    output: Tensor, output_gradient: Tensor | None, x: Tensor, parameters: Mapping[str, Tensor]
) -> Split:
    """Differentiate with respect to the input now and the weights later.

    Args:
        output: computed from `x` and `parameters`.
        output_gradient: None for a scalar loss.
        x: requires a gradient.
        parameters: by name.
    """
    assert output.grad_fn is not None
    assert x.requires_grad
    graph = _Graph(output.grad_fn, x, parameters)
    if not graph.can_split:
        return _whole(output, output_gradient, x, parameters)
    with graph.noting() as noted:
        (input_gradient,) = torch.autograd.grad(output, [x], output_gradient, retain_graph=True)

    def weight_gradients() -> Gradients:
        gradients: Gradients = {}
        for node, arrived in noted:
            for name, gradient in graph.weights_below(node, arrived):
                gradients[name] = gradients[name] + gradient if name in gradients else gradient
        return {name: gradients[name] for name in parameters if name in gradients}

    return Split(input_gradient=input_gradient, weight_gradients=weight_gradients)


def whole_backward(
    output: Tensor, output_gradient: Tensor | None, x: Tensor | None, parameters: Mapping[str, Tensor]
) -> tuple[Tensor | None, Gradients]:
    """Both gradients at once: of the input (None: nobody wants it) and of the parameters that had an influence."""
    wanted = [*parameters.values(), *([] if x is None else [x])]
    if not wanted:
        return None, {}
    found = torch.autograd.grad(output, wanted, output_gradient, allow_unused=True)
    gradients = {name: gradient for name, gradient in zip(parameters, found, strict=False) if gradient is not None}
    return (None if x is None else found[-1]), gradients


def _whole(output: Tensor, output_gradient: Tensor | None, x: Tensor, parameters: Mapping[str, Tensor]) -> Split:
    input_gradient, gradients = whole_backward(output, output_gradient, x, parameters)
    assert input_gradient is not None
    return Split(input_gradient=input_gradient, weight_gradients=lambda: gradients)


class _Graph:
    """The autograd graph between an output and its leaves.

    A node is *on the path* if the input is below it. A *branch* is an edge from a node on the path to one that is not,
    but has a parameter below it.
    """

    def __init__(self, root: Node, x: Tensor, parameters: Mapping[str, Tensor]) -> None:
        self._leaves = {torch.autograd.graph.get_gradient_edge(p).node: name for name, p in parameters.items()}
        self._parameters = parameters
        x_leaf = torch.autograd.graph.get_gradient_edge(x).node
        order = _leaves_first(root)
        on_path = {x_leaf}
        has_weights = set(self._leaves)
        for node in order:
            below = _children(node)
            if any(child in on_path for child, _ in below):
                on_path.add(node)
            if any(child in has_weights for child, _ in below):
                has_weights.add(node)
        self._branches: dict[Node, list[Edge]] = {}
        for node in order:
            branches = [(c, i) for c, i in _children(node) if c not in on_path and c in has_weights]
            if node in on_path and branches:
                self._branches[node] = branches
        starts = [child for branches in self._branches.values() for child, _ in branches]
        self.can_split = root in on_path and len(starts) == len(set(starts))

    @contextmanager
    def noting(self) -> Iterator[list[tuple[Node, Sequence[Tensor | None]]]]:
        """Note the gradients that arrive at the nodes with branches while the block runs."""
        noted: list[tuple[Node, Sequence[Tensor | None]]] = []

        def hook_of(node: Node) -> Callable[[tuple[Tensor, ...]], None]:
            return lambda arrived: noted.append((node, arrived))

        handles = [node.register_prehook(hook_of(node)) for node in self._branches]
        try:
            yield noted
        finally:
            for handle in handles:
                handle.remove()

    def weights_below(self, node: Node, arrived: Sequence[Tensor | None]) -> Iterator[tuple[str, Tensor]]:
        """The gradients of the parameters below a node's branches, given what arrived at it."""
        outputs = [GradientEdge(node, i) for i, gradient in enumerate(arrived) if gradient is not None]
        given = [gradient for gradient in arrived if gradient is not None]
        branches = [GradientEdge(child, i) for child, i in self._branches[node]]
        for branch, gradient in zip(branches, _grad(outputs, branches, given), strict=True):
            if gradient is None:
                continue
            if branch.node in self._leaves:
                yield self._leaves[branch.node], gradient
            else:
                found = _grad([branch], list(self._parameters.values()), [gradient])
                yield from ((name, g) for name, g in zip(self._parameters, found, strict=True) if g is not None)


def _grad(
    outputs: Sequence[GradientEdge], inputs: Sequence[GradientEdge] | Sequence[Tensor], given: Sequence[Tensor]
) -> tuple[Tensor | None, ...]:
    return torch.autograd.grad(outputs, inputs, given, retain_graph=True, allow_unused=True)


def _children(node: Node) -> list[Edge]:
    return [(child, i) for child, i in node.next_functions if child is not None]


def _leaves_first(root: Node) -> list[Node]:
    """All nodes below a root, each after those below it. Not recursive: graphs are deep."""
    order: list[Node] = []
    seen = {root}
    stack = [(root, iter(_children(root)))]
    while stack:
        node, children = stack[-1]
        child = next((c for c, _ in children if c not in seen), None)
        if child is None:
            order.append(node)
            stack.pop()
        else:
            seen.add(child)
            stack.append((child, iter(_children(child))))
    return order
