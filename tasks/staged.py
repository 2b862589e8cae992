"""Tasks whose model can be cut into the stages of a pipeline."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Collection, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, ClassVar

import torch
from torch import nn

from .layers import Layer, layers_of_sequential
from .task import Evaluation, Indices, Task

if TYPE_CHECKING:
    from .stages import Stage


@dataclass(frozen=True, kw_only=True)
class Derivatives:
    """What a backward pass through one stage gives."""

    input_gradient: torch.Tensor | None
    """None at the first stage."""
    gradients: Mapping[str, torch.Tensor]
    """Of all that the stage trains, by the parameter's name in the whole model."""
    loss: float | None
    """Mean over the samples; None but at the last stage."""


class Staged(Task):
    """A task whose loss is a function of the model's output, and whose model is a chain of layers.

    A task whose model is an `nn.Sequential` needs nothing more than `inputs`, `targets` and `output_loss`; any other
    says what its layers are. A large model should also be built in part and as a skeleton, or each peer needs the
    memory for all weights when it starts.
    """

    knows_derivatives: ClassVar[bool] = False
    """Whether `derivatives` is there. Layers of such a task draw no random numbers."""

    @abstractmethod
    def inputs(self, indices: Indices) -> torch.Tensor:
        """What the model is given for these training samples, [n, ...]."""

    @abstractmethod
    def targets(self, indices: Indices) -> torch.Tensor:
        """What the loss compares its output with, [n, ...]."""

    @abstractmethod
    def output_loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        """Mean loss over the samples, differentiable."""

    def codec(self, compression: Any) -> Any | None:
        """What turns the tensors between stages into bytes and back, a `peer.pipeline.activations.Codec`; None: the
        usual one."""
        return None

    def derivatives(self, stage: Stage, x: torch.Tensor, arrived: torch.Tensor) -> Derivatives:
        """What automatic differentiation would find for a stage, by a shorter way that this task knows.

        Args:
            arrived: the gradient of the stage's output, of the mean loss; at the last stage the targets.
        """
        raise NotImplementedError

    def loss(self, model: nn.Module, indices: Indices) -> torch.Tensor:
        return self.output_loss(model(self.inputs(indices)), self.targets(indices))

    @abstractmethod
    def held_out_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        """What the model is given for the held-out samples, [n, ...], and what its output is compared with."""

    def judge(self, outputs: torch.Tensor, targets: torch.Tensor) -> Evaluation:
        """How good these outputs are, without gradients: a mean over the samples."""
        return Evaluation(loss=float(self.output_loss(outputs, targets)))

    @torch.no_grad()
    def evaluate(self, model: nn.Module) -> Evaluation:
        inputs, targets = self.held_out_batch()
        return self.judge(model(inputs), targets)

    def layers(self, model: nn.Module) -> tuple[Layer, ...]:
        """The chain that the model is: each layer's output is the next one's input.

        Args:
            model: as `build_model` or `build_skeleton` made it.
        Raises: CannotCut.
        """
        return layers_of_sequential(model)

    def build_skeleton(self) -> nn.Module:
        """The model's structure; its weights may be missing (on the meta device)."""
        return self.build_model(0)

    def build_part(self, seed: int, paths: Collection[str]) -> nn.Module:
        """The model with the initial weights of the modules at these paths; the others' may be missing."""
        return self.build_model(seed)
