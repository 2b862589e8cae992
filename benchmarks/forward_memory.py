"""Peak memory of inference, of forward-only training and of backpropagation, each in a fresh process (Linux).

    python -m benchmarks.forward_memory          prints one JSON object: MiB above what the process held before

Network LeNet-B at 28 x 28, batch 32. The peak is the kernel's (VmHWM, reset through /proc/self/clear_refs), so the
allocators of numpy, onnxruntime and torch count alike. The network's weights are 0.1 MiB.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import numpy as np

from gossamer.algorithms.forward import (
    BaffleOptions,
    Batch,
    Engine,
    NumpyEngine,
    PerturbationStream,
    initial_weights,
    lenet_b,
    measure,
)

SIDES = (
    "numpy inference",
    "numpy training, K = 4",
    "numpy training, K = 200",
    "numpy training in 16 MiB, K = 200",
    "onnxruntime inference",
    "onnxruntime training, K = 4",
    "onnxruntime training, K = 200",
    "onnxruntime training, K = 1000",
    "torch inference",
    "torch backpropagation",
)


def peak_of(side: str) -> float:
    """MiB that one side needs, measured in this process."""
    work = _torch_work(side) if side.startswith("torch") else _our_work(side)
    before = _status_kib("VmRSS")
    Path("/proc/self/clear_refs").write_text("5")
    for _ in range(3):
        work()
    return round((_status_kib("VmHWM") - before) / 1024, 2)


def _our_work(side: str) -> Callable[[], object]:
    engine: Engine = NumpyEngine(lenet_b(), memory_bytes=16 << 20 if "16 MiB" in side else 0)
    if side.startswith("onnxruntime"):
        from gossamer.algorithms.forward.onnx_engine import OnnxEngine

        engine = OnnxEngine(lenet_b())
    weights, batch = _problem()
    if side.endswith("inference"):
        return lambda: engine.loss(weights, batch)
    options = BaffleOptions(K=int(side.split("= ")[1]))
    directions = PerturbationStream(bytes(32), bytes(32)).at(round_index=0, slot=0, n=len(weights))
    return lambda: measure(engine, weights, batch, directions, options)


def _torch_work(side: str) -> Callable[[], object]:
    import torch
    import torch.nn.functional as F

    from benchmarks.forward_in_torch import forward_passes, torch_network

    torch.set_num_threads(1)
    weights, batch = _problem()
    model = torch_network(lenet_b(), weights)
    inputs, labels = torch.from_numpy(batch.inputs), torch.from_numpy(batch.labels)
    # What the library sets up once is no part of a step.
    torch_network(lenet_b(), weights)(inputs[:1]).sum().backward()

    def backpropagate() -> None:
        model.zero_grad(set_to_none=True)
        F.cross_entropy(model(inputs), labels).backward()  # type: ignore[no-untyped-call]

    return backpropagate if side.endswith("backpropagation") else lambda: forward_passes(model, batch, 1)


def _problem() -> tuple[np.ndarray[tuple[int], np.dtype[np.float32]], Batch]:
    network, rng = lenet_b(), np.random.default_rng(0)
    inputs = rng.standard_normal((32, *network.input_shape), np.float32)
    weights = initial_weights(network, rng).reshape(network.n_parameters)
    return weights, Batch(inputs=inputs, labels=rng.integers(0, 10, 32))


def _status_kib(name: str) -> int:
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith(f"{name}:"))


def main() -> None:
    """Measure every side in a process of its own, or the one that is named."""
    if len(sys.argv) > 1:
        print(peak_of(sys.argv[1]))
        return
    environment = {**os.environ, "OMP_NUM_THREADS": "1", "OPENBLAS_NUM_THREADS": "1"}
    found: dict[str, float | str] = {}
    for side in SIDES:
        command = [sys.executable, "-m", "benchmarks.forward_memory", side]
        done = subprocess.run(command, capture_output=True, text=True, timeout=120, env=environment, check=False)
        found[side] = float(done.stdout) if done.returncode == 0 else done.stderr.splitlines()[-1]
    for library in ("numpy", "onnxruntime"):
        inference = found[f"{library} inference"]
        if isinstance(inference, float):
            found[f"{library} bound: 1.1 x inference + the weights"] = round(bound_mib(inference), 2)
    print(json.dumps(found, indent=2))


def bound_mib(inference_mib: float) -> float:
    """What training may take: 1.1 x inference and one copy of the weights."""
    return 1.1 * inference_mib + 4 * lenet_b().n_parameters / 2**20


if __name__ == "__main__":
    main()
