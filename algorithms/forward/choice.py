"""Which engine is the fastest here: measured for a moment on this machine, with this network and batch."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from .batch import Batch
from .engine import Engine
from .network import Network
from .numpy_engine import NumpyEngine
from .onnx_session import is_available
from .stream import RUN_ID_BYTES, SEED_BYTES, PerturbationStream

MIB: Final = 2**20
PERTURBATIONS_PER_TRIAL: Final = 64


@dataclass(frozen=True, kw_only=True)
class Measurement:
    """How fast an engine evaluated perturbations, everything included."""

    engine: Engine
    evaluations_per_s: float


def available_engines(network: Network, *, memory_bytes: int) -> list[Engine]:
    """Every engine that can run here: numpy one at a time and within the budget, and onnxruntime, if it is installed,
    with weights as inputs and as constants of a graph that is rebuilt."""
    engines: list[Engine] = [NumpyEngine(network)]
    if memory_bytes > 0:
        engines.append(NumpyEngine(network, memory_bytes=memory_bytes))
    if is_available():
        from .onnx_engine import OnnxEngine
        from .onnx_rebuilt import RebuiltOnnxEngine

        engines += [OnnxEngine(network), RebuiltOnnxEngine(network)]
    return engines


def measure_engines(
    engines: Sequence[Engine], *, batch_size: int, n_trials: int, clock: Callable[[], float]
) -> list[Measurement]:
    """Evaluations per second of each engine (the best of `n_trials`), fastest first.

    Args:
        clock: seconds; the mathematics has no clock of its own.
    """
    found = []
    for engine in engines:
        durations = [_one_trial(engine, batch_size, clock) for _ in range(max(2, n_trials))]
        # The first trial warms caches up.
        rate = PERTURBATIONS_PER_TRIAL / max(min(durations[1:]), 1e-9)
        found.append(Measurement(engine=engine, evaluations_per_s=rate))
    return sorted(found, key=lambda measurement: -measurement.evaluations_per_s)


def _one_trial(engine: Engine, batch_size: int, clock: Callable[[], float]) -> float:
    network = engine.network
    stream = PerturbationStream(bytes(SEED_BYTES), bytes(RUN_ID_BYTES))
    weights = np.full(network.n_parameters, 0.01, np.float32)
    batch = Batch(
        inputs=np.full((batch_size, *network.input_shape), 0.5, np.float32), labels=np.zeros(batch_size, np.int64)
    )
    directions = stream.at(round_index=0, slot=0, n=len(weights))
    before = clock()
    engine.perturbed_losses(weights, batch, directions, ks=range(PERTURBATIONS_PER_TRIAL), step=1e-3)
    return clock() - before
