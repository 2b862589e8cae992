"""What tasks that sort images into classes have in common."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Iterable
from dataclasses import dataclass

import torch
import torch.nn.functional as F

from .staged import Staged
from .task import Evaluation, Indices


@dataclass(frozen=True, kw_only=True)
class Labelled:
    """Samples and the class of each."""

    inputs: torch.Tensor
    """float32 [n, ...], or uint8 [n, ...], a quarter of that in memory: 0 to 255 stand for 0 to 1."""
    labels: torch.Tensor
    """int64 [n]."""

    def bytes_for_fingerprint(self) -> Iterable[memoryview]:
        return tuple(part.numpy().data.cast("B") for part in (self.inputs, self.labels))


class Classification(Staged):
    """Cross-entropy on labelled samples; evaluation adds the accuracy."""

    @property
    @abstractmethod
    def train(self) -> Labelled: ...

    @property
    @abstractmethod
    def held_out(self) -> Labelled: ...

    @property
    def n_train(self) -> int:
        return len(self.train.labels)

    def inputs(self, indices: Indices) -> torch.Tensor:
        return _as_float(self.train.inputs[torch.from_numpy(indices)])

    def targets(self, indices: Indices) -> torch.Tensor:
        return self.train.labels[torch.from_numpy(indices)]

    def output_loss(self, outputs: torch.Tensor, targets: torch.Tensor) -> torch.Tensor:
        return F.cross_entropy(outputs, targets)

    def held_out_batch(self) -> tuple[torch.Tensor, torch.Tensor]:
        return _as_float(self.held_out.inputs), self.held_out.labels

    def judge(self, outputs: torch.Tensor, targets: torch.Tensor) -> Evaluation:
        right = outputs.argmax(1) == targets
        return Evaluation(loss=float(self.output_loss(outputs, targets)), accuracy=float(right.float().mean()))


def _as_float(inputs: torch.Tensor) -> torch.Tensor:
    return inputs if inputs.is_floating_point() else inputs.float().div_(255)
