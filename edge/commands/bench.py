"""`gossamer edge bench`: how fast this device evaluates perturbed networks, what that takes, and what to use for it."""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np

from ...algorithms.forward import Batch, Engine, Network, PerturbationStream, lenet_b, mlp
from ...algorithms.forward.network import Conv, Linear
from ...algorithms.forward.onnx_session import is_available
from ...protocol.errors import UsageError
from ..engines import NUMPY, ONNX, Choice, Engines, candidates
from ..folder import DeviceFolder
from ..sensors import peak_rss_bytes

Rows = list[tuple[Choice, dict[str, Any]]]

AT_ONCE = 32
"""Perturbations between two looks at the clock."""
ALIKE = 0.95
"""Engines that are at least so quick as the quickest: the one that takes the least memory is used."""


def bench(folder: Path, name: str | None, *, batch: int, seconds: float, keep: bool, json_output: bool) -> None:
    """Measure every engine that is installed here.

    Args:
        name: lenet, or widths of an MLP; None: the network of this device's run, or lenet.
        keep: let the daemon use the quickest from its next start on.
    Raises: UsageError for a network or batch that cannot be.
    """
    if not 1 <= batch <= 1 << 16 or not 0 < seconds <= 600:
        raise UsageError("--batch is 1 to 65536 and --seconds up to 600")
    name, network = _network(folder, name)
    rows, kernels = _measure_all(network, batch, seconds)
    chosen = _quickest(rows, kernels)
    if keep:
        DeviceFolder(folder).keep_choice(chosen)
    if json_output:
        told: dict[str, Any] = {"network": name, "parameters": network.n_parameters, "batch": batch}
        told |= {"engines": [row for _, row in rows], "kernels": kernels}
        print(json.dumps({**told, "quickest": {"floats": chosen.floats, "integers": chosen.integers}}))
        return
    _tell(name, network, batch, [row for _, row in rows], kernels)
    if keep:
        print(f"the daemon will use {chosen.floats} for floats and {chosen.integers} for integers", file=sys.stderr)


def quickest_for(network: Network, *, batch: int, seconds: float) -> Choice:
    """What to evaluate a network with on this device. Args: seconds: for each engine."""
    return _quickest(*_measure_all(network, batch, seconds))


def _measure_all(network: Network, batch: int, seconds: float) -> tuple[Rows, list[dict[str, Any]]]:
    rows = [_measured(choice, network, batch, seconds) for choice in candidates(onnx=False)]
    kernels = [_kernel(NUMPY, network, batch, seconds)]
    if is_available():  # this imports it, which takes memory
        rows += [_measured(choice, network, batch, seconds) for choice in candidates(onnx=True)]
        kernels.append(_kernel(ONNX, network, batch, seconds))
    return rows, kernels


def _quickest(rows: Rows, kernels: list[dict[str, Any]]) -> Choice:
    best = max(row["forwards_per_s"] for _, row in rows)
    floats = next(choice for choice, row in rows if row["forwards_per_s"] >= ALIKE * best)
    return replace(floats, integers=max(kernels, key=lambda row: row["products_per_s"])["integers"])


def _tell(name: str, network: Network, batch: int, rows: list[dict[str, Any]], kernels: list[dict[str, Any]]) -> None:
    print(f"{name}, {network.n_parameters:,} parameters, batches of {batch}, one thread")
    for row in rows:
        print(
            f"  {row['engine']:<28}{row['forwards_per_s']:10,.0f} forward passes a second, "
            f"peak {row['peak_rss_mb']:.0f} MB"
        )
    for row in kernels:
        print(f"  {row['kernel']:<28}{row['products_per_s']:10,.0f} integer products of the largest layer a second")


def _measured(choice: Choice, network: Network, n_samples: int, seconds: float) -> tuple[Choice, dict[str, Any]]:
    engine: Engine = Engines(choice).engine(network)
    rng = np.random.default_rng(1)
    weights = rng.standard_normal(network.n_parameters, np.float32) * np.float32(0.1)
    inputs = rng.standard_normal((n_samples, *network.input_shape), np.float32)
    batch = Batch(inputs=inputs, labels=rng.integers(0, network.n_classes, n_samples))
    directions = PerturbationStream(bytes(32), bytes(32)).at(round_index=0, slot=0, n=network.n_parameters)
    rate = _rate(lambda: engine.perturbed_losses(weights, batch, directions, ks=range(AT_ONCE), step=1e-3), seconds)
    row = {
        "engine": engine.name,
        "choice": choice.floats,
        "forwards_per_s": AT_ONCE * rate,
        "peak_rss_mb": peak_rss_bytes() / 2**20,
    }
    return choice, row


def _kernel(integers: str, network: Network, n_samples: int, seconds: float) -> dict[str, Any]:
    kernel = Engines(Choice(integers=integers)).kernel()
    layer = max((one for one in network.layers if isinstance(one, Linear | Conv)), key=_fan_in)
    rng = np.random.default_rng(1)
    activations = rng.integers(0, 128, (n_samples, _fan_in(layer) + 1)).astype(np.uint8)
    halves = rng.integers(-127, 128, (_fan_in(layer) + 1, 2 * layer.n_out)).astype(np.int8)
    rate = _rate(lambda: kernel.multiply(activations, halves), seconds)
    return {"kernel": kernel.name, "integers": integers, "products_per_s": rate}


def _fan_in(layer: Linear | Conv) -> int:
    return layer.n_in * (layer.kernel**2 if isinstance(layer, Conv) else 1)


def _rate(work: Callable[[], object], seconds: float) -> float:
    """Calls a second, after one that warms caches up."""
    work()
    began_s, n = time.perf_counter(), 0
    while (took_s := time.perf_counter() - began_s) < seconds or not n:
        work()
        n += 1
    return n / max(took_s, 1e-9)


def _network(folder: Path, name: str | None) -> tuple[str, Network]:
    if name is None:
        own = DeviceFolder(folder).network() if folder.is_dir() else None
        return ("this device's run", own) if own is not None else ("lenet", lenet_b())
    if name == "lenet":
        return name, lenet_b()
    try:
        return name, mlp(*(int(width) for width in name.split("-")))
    except ValueError as error:
        raise UsageError(f"--network {name!r}: write lenet, or widths such as 64-32-10 ({error})") from None
