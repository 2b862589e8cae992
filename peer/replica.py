"""This peer's copy of the model, with the method that keeps it in step with the others'. Pure computation, no I/O."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ..algorithms import Exchange, Schedule, build_method
from ..protocol.manifest import Manifest
from ..protocol.network import Cost
from ..protocol.state import decode_state, encode_state, state_bytes
from ..tasks import Evaluation, Task, shard

PROGRESS = "progress"
"""Name of the counters within the state: [updates applied, samples behind them]."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """A contribution, ready to be sent."""

    payload: bytes
    loss: float
    samples: int


class Replica:
    """Model, method and counters. `snapshot` covers what all replicas hold alike; its SHA-256 is the digest."""

    def __init__(self, task: Task, manifest: Manifest) -> None:
        """Raises ValueError for options that the method refuses."""
        self.task = task
        self.manifest = manifest
        self.model = task.build_model(manifest.run.seed)
        self.parameters = dict(self.model.named_parameters())
        self.method = build_method(
            manifest.method.name, self.parameters, manifest.method.options, schedule_of(manifest)
        )
        self._progress = torch.zeros(2, dtype=torch.int64)
        self.n_params = sum(parameter.numel() for parameter in self.parameters.values())

    @property
    def exchange(self) -> Exchange:
        return self.method.exchange

    @property
    def step(self) -> int:
        """Updates applied to the model."""
        return int(self._progress[0])

    @property
    def samples(self) -> int:
        """Training samples behind those updates."""
        return int(self._progress[1])

    # -- training --------------------------------------------------------------------------------

    def work(self, round_index: int, n_members: int, slot: int) -> Work:
        """Take this slot's samples of the round, add their gradient to what is pending, encode the contribution."""
        batch_size = self.manifest.data.batch_size
        indices = shard(
            seed=self.manifest.run.seed,
            round_index=round_index,
            n_members=n_members,
            slot=slot,
            batch_size=batch_size,
            n_train=self.task.n_train,
        )
        loss = self.task.loss(self.model, indices)
        gradients = torch.autograd.grad(loss, list(self.parameters.values()), allow_unused=True)
        self.method.accumulate(dict(zip(self.parameters, gradients, strict=True)), batch_size)
        return Work(payload=self.encode(), loss=float(loss.detach()), samples=batch_size)

    def encode(self) -> bytes:
        return self.method.encode(self.method.agree())

    def apply(self, payloads: Sequence[bytes], mine: int | None, n_contributors: int) -> bytes:
        """Apply a committed round; the new digest."""
        self.method.combine(payloads, mine=mine, step=self.step)
        self._progress += torch.tensor([1, n_contributors * self.manifest.data.batch_size])
        return self.digest()

    def work_cost(self) -> Cost:
        flops = self.task.flops_per_sample() * self.manifest.data.batch_size
        return Cost(flops=flops, memory_bytes=16.0 * self.n_params)

    def apply_cost(self) -> Cost:
        return Cost(flops=50.0 * self.n_params, memory_bytes=32.0 * self.n_params)

    def evaluate(self) -> Evaluation:
        return self.task.evaluate(self.model)

    # -- payloads of others ----------------------------------------------------------------------

    def check(self, payload: bytes) -> None:
        """Refuse a payload that no honest replica sends. Raises ValueError."""
        self.method.check(payload)

    def reduce(self, parts: Sequence[npt.NDArray[np.float32]]) -> npt.NDArray[np.float32]:
        return self.method.reduce(parts)

    @property
    def vector_length(self) -> int:
        """Elements of a REDUCE payload."""
        return self.method.payload_bytes_max() // 4

    # -- state -----------------------------------------------------------------------------------

    def shared(self) -> dict[str, torch.Tensor]:
        """All that replicas hold alike, besides the parameters."""
        states = {f"shared/{name}": tensor for name, tensor in self.method.shared_state().items()}
        return {**states, PROGRESS: self._progress}

    def _everything(self) -> dict[str, torch.Tensor]:
        return {**{f"model/{name}": tensor.detach() for name, tensor in self.parameters.items()}, **self.shared()}

    def snapshot(self) -> bytes:
        return encode_state({name: tensor.numpy() for name, tensor in self._everything().items()})

    def digest(self) -> bytes:
        return hashlib.sha256(self.snapshot()).digest()

    def snapshot_bytes(self) -> int:
        """The exact length of `snapshot`."""
        return state_bytes(self._specs())

    def _specs(self) -> dict[str, tuple[npt.DTypeLike, tuple[int, ...]]]:
        everything = self._everything()
        return {name: (tensor.numpy().dtype, tuple(tensor.shape)) for name, tensor in everything.items()}

    def restore(self, data: bytes) -> None:
        """Take over a snapshot; what was pending here no longer fits and is dropped. Raises BadTensor."""
        arrays = decode_state(data, self._specs())
        with torch.no_grad():
            for name, tensor in self._everything().items():
                tensor.copy_(torch.from_numpy(arrays[name]))
        self.method.forget_local()

    def load(
        self, model: dict[str, torch.Tensor], shared: dict[str, torch.Tensor], local: dict[str, torch.Tensor]
    ) -> None:
        """Take over a checkpoint of this very replica, pending work included. Raises ValueError if it does not fit."""
        parameters: dict[str, torch.Tensor] = dict(self.parameters)
        states = [(parameters, model), (self.shared(), shared), (self.method.local_state(), local)]
        for here, there in states:
            shapes = [{name: tuple(tensor.shape) for name, tensor in state.items()} for state in (here, there)]
            if shapes[0] != shapes[1]:
                raise ValueError("the checkpoint is of another model or method than the run's: use another folder")
        with torch.no_grad():
            for here, there in states:
                for name, tensor in here.items():
                    tensor.copy_(there[name])


def schedule_of(manifest: Manifest) -> Schedule:
    """The learning-rate schedule that a manifest asks for."""
    chosen = manifest.schedule
    return Schedule(
        lr=chosen.lr,
        kind=chosen.kind,
        warmup_steps=chosen.warmup_steps,
        total_steps=manifest.run.steps,
        floor=chosen.floor,
    )


def finite(value: float) -> float | None:
    """None in place of NaN or infinity, for logs."""
    return value if math.isfinite(value) else None
