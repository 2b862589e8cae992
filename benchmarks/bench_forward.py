"""Forward-only training: evaluations per second beside torch, and what is learnt, in one run on one thread.

    export OMP_NUM_THREADS=1 OPENBLAS_NUM_THREADS=1
    python -m benchmarks.bench_forward [speed] [digits] [liars] [fashion] [cosine]

speed    losses at perturbed weights per second: torch (forward passes alone; whole evaluations) and every engine here
digits   BAFFLE, MLP 64-32-10, 10 devices, --K 100 distinct perturbations, 300 rounds
liars    the same with two devices of ten that send plus and minus a million, with and without clipping
fashion  BAFFLE, MLP 196-32-10 on Fashion-MNIST at 14 x 14, K = 100, --rounds 2000, beside Adam with as many steps
cosine   LeNet-B at 28 x 28: the estimate's cosine with the gradient beside the law sqrt(K / (K + n)), and with
         directions that perturb one layer each, at as many forward passes

(`bench_fixedpoint` has training in integers.)

Devices run in this process, one after another; messages go through the wire's codecs.
"""

from __future__ import annotations

import argparse
import hashlib
import itertools
import json
import math
import statistics
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from benchmarks.forward_data import batch_of, load, parts, start_of
from benchmarks.forward_in_torch import evaluations, exact_gradient, forward_passes, torch_network, train_by_adam
from gossamer.algorithms.baffle import Baffle
from gossamer.algorithms.forward import (
    BaffleOptions,
    Batch,
    Contribution,
    Network,
    NumpyEngine,
    PerturbationStream,
    Replay,
    Replica,
    RoundKey,
    aggregate,
    available_engines,
    decode_scalars,
    encode_scalars,
    initial_weights,
    lenet_b,
    measure,
    mlp,
)
from gossamer.algorithms.schedule import Schedule
from gossamer.tasks.classification import Classification
from gossamer.tasks.fashion import Fashion

F32 = npt.NDArray[np.float32]
RUN_ID = hashlib.sha256(b"bench_forward").digest()
N_DEVICES = 10
N_TRIALS = 15


def speed() -> dict[str, Any]:
    """Evaluations per second of CPU time (batch 32, the best of several trials, all sides in turn).

    The ratios are those of single trials, lowest, median and highest: what a neighbour of this machine slows down slows
    both sides of a trial.
    """
    networks = {"LeNet-B 28x28": lenet_b(), "MLP 64-32-10": mlp(64, 32, 10), "MLP 196-32-10": mlp(196, 32, 10)}
    return {name: _speed_of(network, n=20 if "LeNet" in name else 400) for name, network in networks.items()}


def _speed_of(network: Network, n: int) -> dict[str, Any]:
    rng = np.random.default_rng(0)
    weights = initial_weights(network, rng)
    inputs = rng.standard_normal((32, *network.input_shape), np.float32)
    batch = Batch(inputs=inputs, labels=rng.integers(0, network.n_classes, 32))
    directions = PerturbationStream(bytes(32), RUN_ID).at(round_index=0, slot=0, n=len(weights))
    model = torch_network(network, weights)
    sides: dict[str, Callable[[], object]] = {
        "torch, forward passes alone": lambda: forward_passes(model, batch, n),
        "torch, whole evaluations": lambda: evaluations(model, batch, n),
    }
    for engine in available_engines(network, memory_bytes=4 << 20):
        sides[engine.name] = lambda engine=engine: engine.perturbed_losses(  # type: ignore[misc]
            weights, batch, directions, ks=range(n), step=1e-3
        )
    spent: dict[str, list[float]] = {name: [] for name in sides}
    for _ in range(N_TRIALS):
        for name, side in sides.items():
            # CPU time: all sides have one thread, and other programs on the machine do not count.
            start = time.process_time()
            side()
            spent[name].append(time.process_time() - start)
    fastest = min((name for name in sides if not name.startswith("torch")), key=lambda name: min(spent[name]))
    return {
        **{name: round(n / min(durations)) for name, durations in spent.items()},
        f"{fastest} / torch forward passes": _ratios(spent["torch, forward passes alone"], spent[fastest]),
        f"{fastest} / torch evaluations": _ratios(spent["torch, whole evaluations"], spent[fastest]),
    }


def _ratios(theirs: Sequence[float], ours: Sequence[float]) -> list[float]:
    """Lowest, median and highest of the trials."""
    ratios = sorted(a / b for a, b in zip(theirs, ours, strict=True))
    return [round(ratios[0], 2), round(statistics.median(ratios), 2), round(ratios[-1], 2)]


def cosine_law(n_trials: int = 16) -> dict[str, Any]:
    """Mean cosines of estimates with the gradient, LeNet-B, one batch of 32 random samples; layer-wise beside it."""
    network, rng = lenet_b(), np.random.default_rng(0)
    weights = initial_weights(network, rng)
    inputs = rng.standard_normal((32, *network.input_shape), np.float32)
    batch = Batch(inputs=inputs, labels=rng.integers(0, network.n_classes, 32))
    exact, engine, n = exact_gradient(network, weights, batch), NumpyEngine(network, memory_bytes=4 << 20), len(weights)
    cuts = [parameter.start for parameter in network.parameters()[::2]] + [n]
    layers = [slice(start, stop) for start, stop in itertools.pairwise(cuts)]
    found: dict[str, Any] = {"n": n}
    for n_directions in (100, 400):
        whole, by_layer = [], []
        for trial in range(n_trials):
            stream = PerturbationStream(rng.bytes(32), RUN_ID)
            whole.append(
                _cosine(_estimate(engine, stream, weights, batch, [slice(0, n)], [n_directions], trial), exact)
            )
            # As many as noise asks for that is in proportion to sqrt(size) * norm, here without the norms.
            sizes = np.sqrt([part.stop - part.start for part in layers])
            shares = np.maximum(1, (n_directions * sizes / sizes.sum()).astype(int)).tolist()
            by_layer.append(_cosine(_estimate(engine, stream, weights, batch, layers, shares, trial), exact))
        law = math.sqrt(n_directions / (n_directions + n))
        found[f"K = {n_directions}"] = {
            "law": round(law, 4),
            "cosine": round(float(np.mean(whole)), 4),
            "layer by layer": round(float(np.mean(by_layer)), 4),
        }
    return found


def _estimate(
    engine: NumpyEngine,
    stream: PerturbationStream,
    weights: F32,
    batch: Batch,
    parts: Sequence[slice],
    n_directions: Sequence[int],
    trial: int,
) -> F32:
    """A forward gradient whose directions perturb one part of the weights each."""
    total, at, sigma = np.zeros_like(weights), 0, np.float32(1e-3)
    loss = engine.loss(weights, batch)
    for part, n_own in zip(parts, n_directions, strict=True):
        signs = stream.signs(round_index=trial, slot=0, ks=range(at, at + n_own), n=len(weights)).astype(np.float32)
        at += n_own
        for z in signs:
            perturbed = weights.copy()
            perturbed[part] += sigma * z[part]
            total[part] += np.float32((engine.loss(perturbed, batch) - loss) / float(sigma) / n_own) * z[part]
    return total


def _cosine(a: F32, b: F32) -> float:
    return float(a @ b / (np.linalg.norm(a) * np.linalg.norm(b)))


def learn_digits(options: BaffleOptions, seed: int, n_rounds: int) -> dict[str, Any]:
    """BAFFLE on digits."""
    task = load("digits")
    assert task is not None
    return baffle(task, options, n_rounds=n_rounds, seed=seed)


def learn_among_liars(seed: int, n_rounds: int) -> dict[str, Any]:
    """Accuracies on digits, K = 100, two of ten devices lying."""
    task, found = load("digits"), {}
    assert task is not None
    sides = {
        "nobody lies": (BaffleOptions(K=100), 0),
        "two of ten lie": (BaffleOptions(K=100), 2),
        "two of ten lie, no clipping": (BaffleOptions(K=100, clip_median=0, clip_inf_norm=0), 2),
    }
    for name, (options, n_liars) in sides.items():
        found[name] = baffle(task, options, n_rounds=n_rounds, seed=seed, n_liars=n_liars)["accuracy"]
    return found


def learn_fashion(seed: int, n_rounds: int) -> dict[str, Any]:
    """BAFFLE on Fashion-MNIST at 14 x 14, K = 100, and backpropagation with as many steps on as many samples."""
    task = load("fashion", **Fashion.for_devices)
    if task is None:
        return {"skipped": "dataset-fashion-mnist is not installed"}
    found = baffle(task, BaffleOptions(K=100), n_rounds=n_rounds, seed=seed)
    network, start = start_of(task, seed)
    adam = train_by_adam(network, start, batch_of(task.train), n_steps=n_rounds, lr=3e-3, seed=seed, batch_size=320)
    right = NumpyEngine(network).accuracy(adam, batch_of(task.held_out))
    return {**found, "Adam, as many steps and samples": _percent(right)}


def baffle(
    task: Classification, options: BaffleOptions, *, n_rounds: int, seed: int, n_liars: int = 0
) -> dict[str, Any]:
    """Ten devices with a tenth of the data each, at the default rate; a second replica follows the replays."""
    (network, start), train, held_out = start_of(task, seed), batch_of(task.train), batch_of(task.held_out)
    lies = np.where(np.arange(options.K) % 2 == 0, 1e6, -1e6).astype(np.float32)
    engine = NumpyEngine(network, memory_bytes=8 << 20)
    gateway, device = Replica(start, options, RUN_ID), Replica(start, options, RUN_ID)
    schedule = Schedule(lr=Baffle.default_rate({"K": options.K}), kind=Baffle.default_schedule, total_steps=n_rounds)
    shares, rng, n = parts(len(train), N_DEVICES, seed), np.random.default_rng(seed), len(start)
    uplink = downlink = 0
    began = time.perf_counter()
    for index in range(n_rounds):
        key = RoundKey(round_index=index, round_seed=rng.bytes(32), n_slots=N_DEVICES)
        stream, contributions = PerturbationStream(key.round_seed, RUN_ID), []
        for slot, share in enumerate(shares):
            chosen = rng.choice(share, options.batch_size, replace=False)
            batch = Batch(inputs=train.inputs[chosen], labels=train.labels[chosen])
            directions = stream.at(round_index=index, slot=options.slot(slot), n=n)
            measured = (
                lies if slot < n_liars else measure(engine, gateway.weights, batch, directions, options).differences
            )
            payload = encode_scalars(measured, "fp32")
            differences = decode_scalars(payload, options.K, "fp32")
            contributions.append(Contribution(key=key, slot=slot, differences=differences))
            uplink = len(payload)
        rate = schedule.rate(index)
        replay = aggregate(contributions, options, step=index, learning_rate=rate, run_id=RUN_ID, n=n).to_bytes()
        downlink = len(replay)
        gateway.apply(Replay.from_bytes(replay, K=options.K))
        if index < 100:
            device.apply(Replay.from_bytes(replay, K=options.K))
            equal_after_100 = device.digest() == gateway.digest()
    return {
        "accuracy": _percent(engine.accuracy(gateway.averaged(), held_out)),
        "accuracy of the weights as they are": _percent(engine.accuracy(gateway.weights, held_out)),
        "rounds": n_rounds,
        "uplink_bytes": uplink,
        "downlink_bytes": downlink,
        "digests equal after 100 replays": equal_after_100,
        "wall_s": round(time.perf_counter() - began, 1),
    }


def _percent(fraction: float) -> float:
    return round(100 * fraction, 2)


def main() -> None:
    """Print one JSON object."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("parts", nargs="*", default=["speed", "digits"])
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--K", type=int, default=100, help="of digits")
    parser.add_argument("--rounds", type=int, default=0, help="0: as many as the part is meant to have")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    seed, rounds = arguments.seed, arguments.rounds
    known: dict[str, Callable[[], dict[str, Any]]] = {
        "speed": speed,
        "digits": lambda: learn_digits(BaffleOptions(K=arguments.K), seed, rounds or 300),
        "liars": lambda: learn_among_liars(seed, rounds or 300),
        "cosine": cosine_law,
        "fashion": lambda: learn_fashion(seed, rounds or 2000),
    }
    unknown = [name for name in arguments.parts if name not in known]
    if unknown:
        parser.error(f"unknown parts {unknown}: choose from {', '.join(known)}")
    print(json.dumps({name: known[name]() for name in arguments.parts}, indent=2))


if __name__ == "__main__":
    main()
