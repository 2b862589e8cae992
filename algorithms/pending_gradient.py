"""Gradients of a peer that wait to be contributed beside what devices measured: their sum over samples, in float64."""

from __future__ import annotations

from collections.abc import Mapping

import torch

from .clipping import refuse_unusable
from .errors import BadGradient
from .layout import Layout
from .method import F32


class PendingGradient:
    """Sum of sample gradients; `total`, float64 [dim + 1], holds the number of samples behind it, for checkpoints."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self.total = torch.zeros(layout.dim + 1, dtype=torch.float64)

    @property
    def n_samples(self) -> int:
        return int(self.total[-1])

    def add(self, gradients: Mapping[str, torch.Tensor | None], n_samples: int) -> None:
        """The mean over so many samples. Raises BadGradient, and changes nothing then."""
        fresh = self._layout.pack(gradients)
        refuse_unusable(fresh)
        self.total[:-1].add_(fresh, alpha=n_samples)
        self.total[-1] += n_samples

    def mean(self) -> F32:
        """Over all samples: float32 [dim]. Raises BadGradient if there are none."""
        if not self.n_samples:
            raise BadGradient("nothing to contribute: no device has answered and no gradient was computed")
        mean: F32 = (self.total[:-1] / self.n_samples).to(torch.float32).numpy()
        return mean

    def clear(self) -> None:
        self.total.zero_()
