"""What a pipeline's stages would cost, and how fast each machine would do them."""

from __future__ import annotations

import itertools
from collections.abc import Mapping, Sequence
from copy import copy
from dataclasses import dataclass
from typing import Final

import numpy as np
import numpy.typing as npt

F64 = npt.NDArray[np.float64]

RATE_MAX: Final = 1e30
"""Samples/s of what costs nothing."""
MIDDLE_PASSES: Final = 4.0
"""Of a stage, in forward passes: one forward, one recomputed, and a backward pass for two."""
LAST_PASSES: Final = 3.0
"""The last stage does its forward pass once, together with the backward pass."""
BYTES_PER_PARAMETER: Final = 20.0
"""In memory: weights, their accumulated gradient, two moments, and one microbatch's gradient, in float32."""
OVERHEAD_BYTES: Final = 400e6
"""In memory: the daemon and its libraries, with one microbatch's activations."""


@dataclass(frozen=True, kw_only=True)
class LayerLoad:
    """One layer, for one sample."""

    name: str
    flops: float
    """Of a forward pass."""
    output_bytes: float
    """As they travel, one way."""
    parameters: Mapping[str, int]
    """Elements by name: layers of one stage share what they have in common."""


@dataclass(frozen=True, kw_only=True)
class Machine:
    """What a machine can do."""

    name: str
    flops_per_s: float
    """Sustained in training."""
    memory_bytes: float
    up_bytes_per_s: float
    down_bytes_per_s: float
    latency_s: float
    """One way, to the others."""
    serves: bool = True
    """A stage."""
    trains: bool = True
    """Passes microbatches."""
    kind: str = ""
    """What machines like this one are called together."""


@dataclass(frozen=True, kw_only=True)
class Workload:
    """What is trained on them."""

    layers: tuple[LayerLoad, ...]
    input_bytes: float
    """One sample, as it comes to the first stage; the targets are taken to be as large."""
    batch_samples: int
    """Of all trainers, in one step."""
    microbatch_samples: int
    bytes_per_parameter: float = BYTES_PER_PARAMETER
    """In memory."""
    overhead_bytes: float = OVERHEAD_BYTES
    """In memory, of each machine."""
    payload_bytes_per_parameter: float = 4.0
    """Of one replica's contribution."""
    gathers: bool = False
    """Whether each replica sends its payload to all others, or replicas reduce it part by part."""
    exchange_every_steps: int = 1

    def exchanged_bytes(self, n_parameters: float, n_replicas: int) -> float:
        """Sent, and received, by each of the replicas of a stage in one exchange."""
        payload = self.payload_bytes_per_parameter * n_parameters
        return payload * (n_replicas - 1) if self.gathers else 2 * payload * (n_replicas - 1) / n_replicas


class Rates:
    """Throughput and needs of all stages that are possible: layers i..j-1."""

    def __init__(self, workload: Workload, machines: Sequence[Machine]) -> None:
        n = self.n_layers = len(workload.layers)
        self.n_machines = len(machines)
        self.flops, self.up, self.down, self.parameters, self.memory = (np.zeros((n, n + 1)) for _ in range(5))
        for i, j in itertools.combinations(range(n + 1), 2):
            self._weigh(workload, i, j)
        flops_per_s, memory, up, down = (
            np.array([float(getattr(m, key)) for m in machines])[:, None, None]
            for key in ("flops_per_s", "memory_bytes", "up_bytes_per_s", "down_bytes_per_s")
        )
        with np.errstate(divide="ignore", invalid="ignore"):
            self.by_resource: Mapping[str, F64] = {
                "compute": flops_per_s / self.flops,
                "uplink": up / self.up,
                "downlink": down / self.down,
            }
        stacked = np.stack(list(self.by_resource.values()))
        rate: F64 = np.minimum(np.nan_to_num(stacked, nan=np.inf).min(axis=0), RATE_MAX)
        is_stage = np.triu(np.ones((n, n + 1), bool), k=1)
        serves = np.array([machine.serves for machine in machines])[:, None, None]
        self.rate: F64 = np.where(is_stage & serves & (memory >= self.memory), rate, 0.0)
        """[machine, i, j]; 0: does not fit, or does not serve."""

    def limited(self, to: F64) -> Rates:
        """Without what is 0 in `to`, which has the form of `rate`, or can be spread to it."""
        other = copy(self)
        other.rate = self.rate * to
        return other

    def _weigh(self, workload: Workload, i: int, j: int) -> None:
        layers, is_first, is_last = workload.layers, i == 0, j == len(workload.layers)
        x = workload.input_bytes if is_first else layers[i - 1].output_bytes
        y = workload.input_bytes if is_last else layers[j - 1].output_bytes
        passes = LAST_PASSES if is_last else MIDDLE_PASSES
        self.flops[i, j] = passes * sum(layer.flops for layer in layers[i:j])
        # In: the input for the forward and again for the backward pass, and the output's gradient (or the targets).
        self.down[i, j] = x + y if is_last else 2 * x + y
        self.up[i, j] = (0 if is_first else x) + (0 if is_last else y)
        needed = {name: size for layer in layers[i:j] for name, size in layer.parameters.items()}
        self.parameters[i, j] = sum(needed.values())
        self.memory[i, j] = self.parameters[i, j] * workload.bytes_per_parameter + workload.overhead_bytes
