"""The samples that a device evaluates its perturbations on."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from .errors import BadNetwork
from .network import Network

F32 = npt.NDArray[np.float32]
I64 = npt.NDArray[np.int64]


@dataclass(frozen=True, kw_only=True)
class Batch:
    """Labelled samples."""

    inputs: F32
    """float32 [n, *network.input_shape]."""
    labels: I64
    """int64 [n], each in [0, n_classes)."""

    def __len__(self) -> int:
        return len(self.labels)


def refuse_misfit(network: Network, weights: F32, batch: Batch) -> None:
    """Raise BadNetwork unless weights and samples have the network's shapes and types and labels are its classes."""
    if weights.shape != (network.n_parameters,) or weights.dtype != np.float32:
        raise BadNetwork(f"{weights.dtype} weights {weights.shape}: expected float32 ({network.n_parameters},)")
    if batch.inputs.shape != (len(batch), *network.input_shape) or batch.inputs.dtype != np.float32:
        raise BadNetwork(
            f"{batch.inputs.dtype} inputs {batch.inputs.shape} for {len(batch)} labels: expected float32 samples of "
            f"{network.input_shape}"
        )
    if not len(batch) or batch.labels.dtype != np.int64:
        raise BadNetwork(f"expected at least one label of type int64, not {len(batch)} of {batch.labels.dtype}")
    if not 0 <= batch.labels.min() <= batch.labels.max() < network.n_classes:
        raise BadNetwork(f"labels must be in [0, {network.n_classes})")
