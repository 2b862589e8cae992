"""A backward pass in two parts: first what the stage before waits for, then the gradients of the weights.

Zero-bubble pipelines (Qi et al. 2023, arXiv:2401.10241) and 2BP (Rae et al. 2024, arXiv:2405.18047) fill the bubble
with the second part. Both parts together multiply exactly as often as one whole backward pass: during the first we note
the gradient that arrives at each operation which has weights on one side and the input on the other, and the second
starts from there.

Where one weight serves two operations on the way from input to output, what starts from one of them would also reach
the other; such graphs are not split, and the first part does all the work.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass

import torch
from torch import Tensor
from torch.autograd.graph import GradientEdge, Node

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
        gradients = dict(pair for node, arrived in noted for pair in graph.weights_below(node, arrived))
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
    but has parameters below it.
    """

    def __init__(self, root: Node, x: Tensor, parameters: Mapping[str, Tensor]) -> None:
        self._parameters = parameters
        on_path = {torch.autograd.graph.get_gradient_edge(x).node}
        below = {torch.autograd.graph.get_gradient_edge(p).node: {name} for name, p in parameters.items()}
        self._branches: dict[Node, set[str]] = {}
        for node, children in _leaves_first(root).items():
            names = {name for child in children if child not in on_path for name in below.get(child, ())}
            if any(child in on_path for child in children):
                on_path.add(node)
                if names:
                    self._branches[node] = names
            elif names:
                below[node] = names
        all_names = [name for names in self._branches.values() for name in names]
        self.can_split = root in on_path and len(all_names) == len(set(all_names))

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
        names = sorted(self._branches[node])
        found = torch.autograd.grad(
            outputs, [self._parameters[name] for name in names], given, retain_graph=True, allow_unused=True
        )
        return ((name, gradient) for name, gradient in zip(names, found, strict=True) if gradient is not None)


def _leaves_first(root: Node) -> dict[Node, list[Node]]:
    """All nodes below a root with their children, each after those below it. Not recursive: graphs are deep."""
    found: dict[Node, list[Node]] = {}
    seen, stack = {root}, [(root, _children(root))]
    ways = [iter(stack[0][1])]
    while stack:
        for child in ways[-1]:
            if child not in seen:
                seen.add(child)
                children = _children(child)
                stack.append((child, children))
                ways.append(iter(children))
                break
        else:
            node, children = stack.pop()
            ways.pop()
            found[node] = children
    return found


def _children(node: Node) -> list[Node]:
    return [child for child, _ in node.next_functions if child is not None]
