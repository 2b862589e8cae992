"""Fixed point: a network that was trained on upright clothes adapts to pictures turned by 20 degrees, in integers only.

    export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
    python -m benchmarks.bench_fixedpoint [--network mlp|conv] [--sides NAME ...] [--rounds 3000] [--seed 0]

The task is `fashion-rotated`: ten devices with a tenth of the samples each, three votes a round. Beside them Adam by
backpropagation from the same start, after 300 steps and converged. The same through the daemons:

    gossamer up --task fashion-rotated --devices 10 --method fixedpoint --set method.eta=0.03 --rounds 3000

Devices run in this process, one after another, on the kernel that gateways use: the bits are those of all kernels.
"""

from __future__ import annotations

import argparse
import hashlib
import json
import sys
import time
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.forward_data import batch_of, load, parts, start_of
from benchmarks.forward_in_torch import train_by_adam
from gossamer.algorithms.forward import Network, NumpyEngine, PerturbationStream
from gossamer.algorithms.forward.fixedpoint import (
    FixedPointOptions,
    FloatKernel,
    IntegerBatch,
    IntegerEngine,
    IntegerReplica,
    VotePart,
    VoteReplay,
    calibrate,
    cast_votes,
    pixels_to_activations,
)
from gossamer.tasks.classification import Classification, Labelled

RUN_ID = hashlib.sha256(b"bench_fixedpoint").digest()
N_DEVICES = 10
DEGREES = 20.0
SIDES: dict[str, dict[str, Any]] = {
    "16 bits": {},
    "8 bits": {"weight_max": 127},
    "8 bits, eta .005": {"weight_max": 127, "eta": 0.005},
    "guided, 1 sign of 2": {"guidance": 1},
    "guided, 1 sign of 8": {"guidance": 3},
    "sharpness-aware": {"sharpness": 0.01},
    "kernel-wise": {"kernelwise": True},
    "last layer only": {"frozen": "all but the last"},
}


def adapt(network_name: str, sides: list[str], *, eta: float, n_rounds: int, seed: int) -> dict[str, Any]:
    """Accuracies in per cent of held-out turned pictures."""
    upright, task = (load("fashion-rotated", network=network_name, degrees=degrees) for degrees in (0.0, DEGREES))
    if upright is None or task is None:
        return {"skipped": "dataset-fashion-mnist is not installed"}
    network, start = start_of(task, seed)
    held_out, floats = batch_of(task.held_out), NumpyEngine(network)
    found: dict[str, Any] = {
        "weights": len(start),
        "upright, before": _percent(floats.accuracy(start, batch_of(upright.held_out))),
        "turned, before": _percent(floats.accuracy(start, held_out)),
    }
    for n_steps in (300, 3000):
        adam = train_by_adam(network, start, batch_of(task.train), n_steps=n_steps, lr=1e-3, seed=seed)
        found[f"Adam, {n_steps} steps"] = _percent(floats.accuracy(adam, held_out))
    for name in sides:
        options = _options(network, SIDES[name], eta, n_rounds)
        found[name] = _vote(task, network, start, options, seed)
        print(f"{name}: {found[name]}", file=sys.stderr, flush=True)
    return found


def _options(network: Network, changed: dict[str, Any], eta: float, n_rounds: int) -> FixedPointOptions:
    n_layers = len(network.parameters()) // 2
    frozen = tuple(range(n_layers - 1)) if "frozen" in changed else ()
    return FixedPointOptions(n_rounds=n_rounds, n_devices=N_DEVICES, **{"eta": eta, **changed, "frozen": frozen})


def _vote(
    task: Classification, network: Network, floats: npt.NDArray[np.float32], options: FixedPointOptions, seed: int
) -> dict[str, Any]:
    samples = batch_of(task.train).inputs[:: max(1, task.n_train // 1000)]
    plan, start = calibrate(network, floats, samples, options)
    engine, replica = IntegerEngine(plan, FloatKernel()), IntegerReplica(start, plan, RUN_ID)
    train, rng = _integers(task.train), np.random.default_rng(seed)
    before, shares = replica.digest(), parts(len(train), N_DEVICES, seed)
    began = time.perf_counter()
    for index in range(options.n_rounds):
        seed_bytes = rng.bytes(32)
        stream, votes = PerturbationStream(seed_bytes, RUN_ID), []
        for slot, share in enumerate(shares):
            chosen = rng.choice(share, 32, replace=False)
            batch = IntegerBatch(inputs=train.inputs[chosen], labels=train.labels[chosen])
            directions = stream.at(round_index=index, slot=slot, n=len(start))
            votes.append(cast_votes(engine, replica.weights, batch, directions, replica.momentum))
        slots = tuple(range(N_DEVICES))
        part = VotePart(round_seed=seed_bytes, round_index=index, n_slots=N_DEVICES, slots=slots, votes=np.array(votes))
        replica.apply(VoteReplay(step=index, parts=(part,)))
    right, n_samples = engine.accuracy(replica.weights, _integers(task.held_out))
    return {
        "turned, after": _percent(right / n_samples),
        "rounds": options.n_rounds,
        "forward passes of a device": plan.n_forwards * options.n_rounds,
        "unchanged": replica.digest() == before,
        "wall_s": round(time.perf_counter() - began, 1),
    }


def _integers(part: Labelled) -> IntegerBatch:
    return IntegerBatch(inputs=pixels_to_activations(part.inputs.numpy()), labels=part.labels.numpy())


def _percent(fraction: float) -> float:
    return round(100 * fraction, 2)


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--network", choices=("mlp", "conv"), default="mlp")
    parser.add_argument("--sides", nargs="+", choices=[*SIDES], default=[*SIDES][:3])
    parser.add_argument("--eta", type=float, default=0.03, help="but for the side that names its own")
    parser.add_argument("--rounds", type=int, default=3000)
    parser.add_argument("--seed", type=int, default=0)
    chosen = parser.parse_args()
    torch.set_num_threads(1)
    found = adapt(chosen.network, chosen.sides, eta=chosen.eta, n_rounds=chosen.rounds, seed=chosen.seed)
    print(json.dumps(found, indent=2))


if __name__ == "__main__":
    main()
