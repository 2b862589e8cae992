"""The tasks' samples and first weights in numpy, for the benchmarks of forward-only training."""

from __future__ import annotations

from typing import Any, cast

import numpy as np
import numpy.typing as npt

from gossamer.algorithms.forward import Batch, Network
from gossamer.peer.gateway.describe import describe
from gossamer.tasks import MissingData, build_task
from gossamer.tasks.classification import Classification, Labelled

F32 = npt.NDArray[np.float32]


def load(name: str, **options: Any) -> Classification | None:
    """A task; None, where its data are not installed."""
    try:
        return cast(Classification, build_task(name, options))
    except MissingData:
        return None


def batch_of(part: Labelled) -> Batch:
    """Float32 samples."""
    inputs = part.inputs.numpy()
    if inputs.dtype == np.uint8:
        inputs = inputs.astype(np.float32) / np.float32(255)
    return Batch(inputs=inputs, labels=part.labels.numpy())


def start_of(task: Classification, seed: int) -> tuple[Network, F32]:
    """The network, and its weights before training, float32 [n_parameters]."""
    model = task.build_model(seed)
    weights = np.concatenate([parameter.detach().numpy().ravel() for parameter in model.parameters()])
    return describe(task, model), weights


def parts(n_samples: int, n_parts: int, seed: int) -> list[npt.NDArray[np.int64]]:
    """Indices of equal parts of shuffled samples."""
    return np.array_split(np.random.default_rng(seed).permutation(n_samples), n_parts)
