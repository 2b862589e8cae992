"""The stages of a model: consecutive layers, each stage a module of its own with the whole model's parameters.

Where two stages use one parameter (embeddings that serve as the output layer, too), the first of them *owns* it and the
others *borrow* it: only the owner updates it. A borrower adds its gradient to the owner's and takes over the owner's
bits after each update. So every parameter of the model is owned by exactly one stage, whatever the cut, and the stages'
owned tensors together are the model's checkpoint.
"""

from __future__ import annotations

import itertools
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import torch
from torch import Tensor, nn

from .errors import CannotCut
from .layers import Layer
from .staged import Derivatives, Staged

Loss = Callable[[Tensor, Tensor], Tensor]


@dataclass(frozen=True, kw_only=True)
class Cut:
    """Where a chain of layers is cut: stage k has the layers starts[k] up to starts[k + 1]."""

    starts: tuple[int, ...]
    """The first layer of each stage, ascending from 0."""
    n_layers: int

    def __post_init__(self) -> None:
        ends = (*self.starts[1:], self.n_layers)
        if self.starts[:1] != (0,) or any(start >= end for start, end in zip(self.starts, ends, strict=True)):
            raise CannotCut(
                f"a model of {self.n_layers} layers cannot be cut at {self.starts}: every stage needs a layer"
            )

    @property
    def n_stages(self) -> int:
        return len(self.starts)

    def layers_of(self, stage: int) -> range:
        """Indices of a stage's layers."""
        return range(self.starts[stage], (*self.starts[1:], self.n_layers)[stage])

    def stage_of(self, layer: int) -> int:
        """The stage that has a layer."""
        return sum(start <= layer for start in self.starts) - 1


@dataclass(eq=False)
class _Placement:
    """Which layers use which parameter."""

    users: dict[str, list[int]] = field(default_factory=dict)
    """By the parameter's name in the whole model, in the model's order; ascending."""
    names: dict[int, str] = field(default_factory=dict)
    """The parameter's name by its identity."""


class Stage(nn.Module):
    """Maps the output of the stage before to the input of the stage after; the last one also knows the loss.

    Attributes:
        owned: parameters that this stage updates, by their names in the whole model, in the model's order.
        borrowed: parameters that another stage updates; `lenders` says which.
        buffers_held: what is neither learnt nor constant, by its name in the whole model.
        loss: maps the last stage's output and the targets to the mean loss; None for the others.
        derive: the task's own derivatives, as `Staged.derivatives`; None: automatic differentiation finds them.
    """

    owned: Mapping[str, nn.Parameter]
    borrowed: Mapping[str, nn.Parameter]
    lenders: Mapping[str, int]
    buffers_held: Mapping[str, Tensor]
    derive: Callable[[Stage, Tensor, Tensor], Derivatives] | None = None

    def __init__(self, model: nn.Module, layers: Sequence[Layer], cut: Cut, index: int, loss: Loss) -> None:
        super().__init__()
        placement = _place(model, layers)
        mine = cut.layers_of(index)
        self.index = index
        self.n_stages = cut.n_stages
        self.loss = loss if index == cut.n_stages - 1 else None
        self.layers = tuple(layers[i] for i in mine)
        self.body = nn.Module()
        for path in dict.fromkeys(path for layer in self.layers for path in layer.uses):
            _attach(self.body, path, model.get_submodule(path))
        held = {placement.names[id(parameter)]: parameter for parameter in self.body.parameters()}
        lenders = {name: cut.stage_of(placement.users[name][0]) for name in placement.users if name in held}
        self.owned = {name: held[name] for name, lender in lenders.items() if lender == index}
        self.lenders = {name: lender for name, lender in lenders.items() if lender != index}
        self.borrowed = {name: held[name] for name in self.lenders}
        self.buffers_held = dict(self.body.named_buffers())

    @property
    def is_first(self) -> bool:
        return self.index == 0

    @property
    def is_last(self) -> bool:
        return self.loss is not None

    @property
    def trained(self) -> dict[str, nn.Parameter]:
        """Owned, then borrowed parameters: all that a backward pass gives gradients for."""
        return {**self.owned, **self.borrowed}

    def forward(self, x: Tensor) -> Tensor:
        for layer in self.layers:
            x = layer(self.body, x)
        return x


class NoStage(Stage):
    """What a peer has that serves no stage: no layers, no weights, and an index that nothing can be sent to."""

    def __init__(self, n_stages: int) -> None:
        nn.Module.__init__(self)
        self.index, self.n_stages, self.loss, self.layers, self.body = -1, n_stages, None, (), nn.Module()
        self.owned, self.lenders, self.borrowed, self.buffers_held = {}, {}, {}, {}


def build_stage(task: Staged, seed: int, cut: Cut, index: int) -> Stage:
    """A stage with the initial weights that the whole model has for this seed, bit for bit.

    Raises: CannotCut if the cut is not one of this task's model.
    """
    layers = task.layers(task.build_skeleton())
    if cut.n_layers != len(layers) or not 0 <= index < cut.n_stages:
        raise CannotCut(
            f"stage {index} of a cut of {cut.n_layers} layers at {cut.starts} does not fit task {task.name!r}, whose "
            f"model has {len(layers)}: plan again"
        )
    paths = {path for i in cut.layers_of(index) for path in layers[i].uses}
    stage = Stage(task.build_part(seed, paths), layers, cut, index, task.output_loss)
    stage.derive = task.derivatives if task.knows_derivatives else None
    return stage


def owned_names(task: Staged, cut: Cut) -> tuple[tuple[str, ...], ...]:
    """The names of the parameters that each stage owns: how a checkpoint is put together or taken apart."""
    model = task.build_skeleton()
    placement = _place(model, task.layers(model))
    names: list[list[str]] = [[] for _ in cut.starts]
    for name, users in placement.users.items():
        names[cut.stage_of(users[0])].append(name)
    return tuple(tuple(part) for part in names)


def loans(task: Staged, cut: Cut) -> tuple[Mapping[str, int], ...]:
    """What each stage borrows: the parameter's name in the whole model -> its owner's stage; in model order."""
    model = task.build_skeleton()
    placement = _place(model, task.layers(model))
    found: list[dict[str, int]] = [{} for _ in cut.starts]
    for name, users in placement.users.items():
        owner = cut.stage_of(users[0])
        for stage in {cut.stage_of(layer): None for layer in users}:
            if stage != owner:
                found[stage][name] = owner
    return tuple(found)


def assemble(parts: Sequence[Mapping[str, Tensor]], names: Sequence[str]) -> dict[str, Tensor]:
    """The whole model's tensors, in this order, from what its stages own.

    Raises: CannotCut if a tensor is missing or comes twice.
    """
    found = list(itertools.chain.from_iterable(parts))
    if sorted(found) != sorted(names):
        raise CannotCut(
            f"the stages' tensors are not the model's: {len(found)} came, {len(set(names) - set(found))} of "
            f"{len(names)} are missing; take all stages of one cut"
        )
    whole = {name: tensor for part in parts for name, tensor in part.items()}
    return {name: whole[name] for name in names}


def _place(model: nn.Module, layers: Sequence[Layer]) -> _Placement:
    placement = _Placement()
    for name, parameter in model.named_parameters():
        placement.names[id(parameter)] = name
        placement.users[name] = []
    for i, layer in enumerate(layers):
        for path in layer.uses:
            for parameter in model.get_submodule(path).parameters():
                users = placement.users[placement.names[id(parameter)]]
                if i not in users:
                    users.append(i)
    unused = [name for name, users in placement.users.items() if not users]
    if unused:
        raise CannotCut(f"no layer uses the parameter {unused[0]!r}: let the task's `layers` name its module")
    return placement


@torch.no_grad()
def _attach(body: nn.Module, path: str, module: nn.Module) -> None:
    """Put a module where it is in the whole model, so that its tensors keep their names."""
    *parents, name = path.split(".")
    for parent in parents:
        if parent not in body._modules:
            body.add_module(parent, nn.Module())
        body = body.get_submodule(parent)
    body.add_module(name, module)
