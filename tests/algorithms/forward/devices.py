"""Small data and whole training runs for the tests of forward-only training."""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from gossamer.algorithms.forward import (
    BaffleOptions,
    Batch,
    Contribution,
    Engine,
    Network,
    NumpyEngine,
    PerturbationStream,
    Replay,
    Replica,
    RoundKey,
    aggregate,
    decode_scalars,
    encode_scalars,
    measure,
)
from gossamer.algorithms.schedule import Schedule

F32 = npt.NDArray[np.float32]
RUN_ID = hashlib.sha256(b"a test run").digest()


def seed_of(round_index: int) -> bytes:
    return hashlib.sha256(b"seed %d" % round_index).digest()


def key_of(round_index: int, n_slots: int) -> RoundKey:
    return RoundKey(round_index=round_index, round_seed=seed_of(round_index), n_slots=n_slots)


def random_batch(network: Network, n: int, seed: int = 0) -> Batch:
    rng = np.random.default_rng(seed)
    inputs = rng.standard_normal((n, *network.input_shape)).astype(np.float32)
    return Batch(inputs=inputs, labels=rng.integers(0, network.n_classes, n))


def digits() -> tuple[Batch, Batch]:
    """scikit-learn's digits; every fifth sample is held out."""
    from sklearn.datasets import load_digits

    images, labels = load_digits(return_X_y=True)
    inputs, held_out = (images / 16 - 0.5).astype(np.float32), np.arange(len(labels)) % 5 == 4
    labels = labels.astype(np.int64)
    train = Batch(inputs=inputs[~held_out], labels=labels[~held_out])
    return train, Batch(inputs=inputs[held_out], labels=labels[held_out])


@dataclass
class Fleet:
    """Devices with a part of the data each, and the gateway's replica."""

    engine: Engine
    parts: Sequence[Batch]
    options: BaffleOptions
    replica: Replica
    schedule: Schedule
    lie: Callable[[int, F32], F32] = lambda slot, differences: differences
    """What a device sends instead of what it measured."""
    present: Callable[[int, int], bool] = lambda round_index, slot: True

    def round(self, index: int) -> Replay:
        """One round of all present devices; the replica takes the step."""
        n, n_slots = len(self.replica.weights), len(self.parts)
        stream = PerturbationStream(seed_of(index), RUN_ID)
        contributions = []
        for slot, part in enumerate(self.parts):
            if not self.present(index, slot):
                continue
            directions = stream.at(round_index=index, slot=self.options.slot(slot), n=n)
            measured = measure(
                self.engine, self.replica.weights, self.draw(part, index, slot), directions, self.options
            )
            payload = encode_scalars(self.lie(slot, measured.differences), self.options.value)
            differences = decode_scalars(payload, self.options.K, self.options.value)
            contributions.append(Contribution(key=key_of(index, n_slots), slot=slot, differences=differences))
        rate = self.schedule.rate(index)
        replay = aggregate(contributions, self.options, step=index, learning_rate=rate, run_id=RUN_ID, n=n)
        self.replica.apply(replay)
        return replay

    def draw(self, part: Batch, index: int, slot: int) -> Batch:
        rng = np.random.default_rng([index, slot])
        chosen = rng.choice(len(part), min(self.options.batch_size, len(part)), replace=False)
        return Batch(inputs=part.inputs[chosen], labels=part.labels[chosen])


def split(batch: Batch, n_parts: int, seed: int = 0) -> list[Batch]:
    """Equal parts of shuffled samples."""
    order = np.random.default_rng(seed).permutation(len(batch))
    return [Batch(inputs=batch.inputs[part], labels=batch.labels[part]) for part in np.array_split(order, n_parts)]


def split_by_label(batch: Batch, n_parts: int, alpha: float, seed: int = 0) -> list[Batch]:
    """Non-IID parts: each label's samples are shared out by a Dirichlet(alpha) draw."""
    rng = np.random.default_rng(seed)
    members: list[list[int]] = [[] for _ in range(n_parts)]
    for label in range(10):
        samples = rng.permutation(np.flatnonzero(batch.labels == label))
        cuts = (np.cumsum(rng.dirichlet(np.full(n_parts, alpha)))[:-1] * len(samples)).astype(int)
        for member, share in zip(members, np.split(samples, cuts), strict=True):
            member.extend(share.tolist())
    return [Batch(inputs=batch.inputs[part], labels=batch.labels[part]) for part in map(np.array, members)]


def batched(network: Network) -> NumpyEngine:
    return NumpyEngine(network, memory_bytes=8 << 20)
