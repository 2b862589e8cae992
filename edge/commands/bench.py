"""`gossamer edge bench`: how fast this device evaluates perturbed networks, and what that takes."""

from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from ...algorithms.forward import Batch, Network, NumpyEngine, PerturbationStream, lenet_b, mlp
from ...protocol.errors import UsageError
from ..sensors import peak_rss_bytes

_BUDGETS_BYTES = (0, 1 << 20, 8 << 20, 32 << 20)


def bench(name: str, *, batch: int, seconds: float, json_output: bool) -> None:
    """Raises UsageError for a network or batch that cannot be."""
    if not 1 <= batch <= 1 << 16 or not 0 < seconds <= 600:
        raise UsageError("--batch is 1 to 65536 and --seconds up to 600")
    network = _network(name)
    rows = [_measure(network, budget, batch, seconds) for budget in _BUDGETS_BYTES]
    if json_output:
        print(json.dumps({"network": name, "parameters": network.n_parameters, "batch": batch, "engines": rows}))
        return
    print(f"{name}, {network.n_parameters:,} parameters, batches of {batch}, one thread")
    for row in rows:
        print(
            f"  {row['engine']:<16}{row['forwards_per_s']:10,.0f} forward passes a second, "
            f"peak {row['peak_rss_mb']:.0f} MB"
        )


def _measure(network: Network, budget: int, n_samples: int, seconds: float) -> dict[str, Any]:
    engine = NumpyEngine(network, memory_bytes=budget)
    rng = np.random.default_rng(1)
    weights = rng.standard_normal(network.n_parameters, np.float32) * np.float32(0.1)
    inputs = rng.standard_normal((n_samples, *network.input_shape), np.float32)
    batch = Batch(inputs=inputs, labels=rng.integers(0, network.n_classes, n_samples))
    directions = PerturbationStream(bytes(32), bytes(32)).at(round_index=0, slot=0, n=network.n_parameters)
    ks = range(max(1, min(64, engine.evaluations_at_once(n_samples))))
    engine.perturbed_losses(weights, batch, directions, ks=ks, step=1e-3)  # warm caches
    began_s, n_forwards = time.perf_counter(), 0
    while (took_s := time.perf_counter() - began_s) < seconds:
        engine.perturbed_losses(weights, batch, directions, ks=ks, step=1e-3)
        n_forwards += len(ks)
    return {
        "engine": engine.name,
        "forwards_per_s": n_forwards / took_s,
        "peak_rss_mb": peak_rss_bytes() / 2**20,
    }


def _network(name: str) -> Network:
    if name == "lenet":
        return lenet_b()
    try:
        return mlp(*(int(width) for width in name.split("-")))
    except ValueError as error:
        raise UsageError(f"--network {name!r}: write lenet, or widths such as 64-32-10 ({error})") from None
