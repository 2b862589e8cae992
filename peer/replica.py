"""This peer's copy of the model, with the method that keeps it in step with the others'. Pure computation, no I/O."""

from __future__ import annotations

import copy
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import cast

import numpy as np
import numpy.typing as npt
import torch

from ..algorithms import Exchange, Schedule, Slots, build_method
from ..protocol.errors import ChecksumMismatch
from ..protocol.manifest import Manifest
from ..protocol.network import Cost
from ..protocol.state import decode_state, encode_state, state_bytes, state_digest
from ..tasks import Evaluation, Indices, Task, round_batches
from .buffers import Buffers
from .lent_generator import lent_generator
from .rounding import rounding_of

PROGRESS = "progress"
"""Name of the counters within the state: [updates applied, samples behind them]."""


@dataclass(frozen=True, kw_only=True)
class Work:
    """Local steps that were done for a round."""

    loss: float
    """Mean over the steps, each at the parameters of its time."""
    samples: int
    floats: npt.NDArray[np.float32]
    """What the group agrees on before the contribution is encoded: float32 [n], the maximum over all members."""


@dataclass(frozen=True, kw_only=True)
class Applied:
    """What a committed round made of this replica."""

    digest: bytes
    dropped: tuple[int, ...]
    """Indices of contributors whose payload a robust rule left out of the update."""


@dataclass(frozen=True, kw_only=True)
class Copied:
    """A rounded copy of the state, and the digest of the state that it stands for."""

    data: bytes
    digest: bytes


class Replica:
    """Model, method and counters. `snapshot` covers what all replicas hold alike; its SHA-256 is the digest."""

    def __init__(self, task: Task, manifest: Manifest) -> None:
        """Raises ValueError for options that the method refuses."""
        self.task = task
        self.manifest = manifest
        self.model = task.build_model(manifest.run.seed)
        self.parameters = dict(self.model.named_parameters())
        self.buffers = Buffers(self.model)
        self.method = build_method(
            manifest.method.name, self.parameters, manifest.method.options, schedule_of(manifest)
        )
        self._progress = torch.zeros(2, dtype=torch.int64)
        self._counters = self._progress.numpy()
        """The same memory: it is looked at all the time."""
        self._n_rounds_worked = torch.zeros((), dtype=torch.int64)
        """Rounds below this have had their local steps."""
        self.rounding = rounding_of(manifest.group.snapshot_codec, self._specs())
        self.n_params = sum(parameter.numel() for parameter in self.parameters.values())

    @property
    def exchange(self) -> Exchange:
        return self.method.exchange

    @property
    def step(self) -> int:
        """Updates applied to the model."""
        return int(self._counters.item(0))

    @property
    def samples(self) -> int:
        """Training samples behind those updates."""
        return int(self._counters.item(1))

    # -- training --------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """Local steps in the round that comes next."""
        return self.method.steps(self.step)

    @property
    def works_ahead(self) -> bool:
        """Whether the next round's local steps are to be done while this round's contributions travel."""
        return self.method.overlaps and self.step + self.steps < self.manifest.run.steps

    def work(self, round_index: int, n_members: int, slot: int, *, ahead: bool = False) -> Work:
        """Do a round's local steps on this slot's samples; what comes of them is pending in the method.

        Args:
            ahead: the round before is not over yet.
        Returns: without samples if the round's steps were done ahead.
        """
        if round_index < int(self._n_rounds_worked):
            return Work(loss=math.nan, samples=0, floats=self.method.agree())
        batches = round_batches(
            seed=self.manifest.run.seed,
            round_index=round_index,
            n_members=n_members,
            batch_size=self.manifest.data.batch_size,
            n_steps=self.method.steps(self.step + self.steps) if ahead else self.steps,
            n_train=self.task.n_train,
        )
        shares = self.method.shares(slot, n_members)
        with self.method.working():
            losses = [
                self._learn(
                    batch[share], f"gossamer/samples/v1 {self.manifest.run.seed} {round_index} {number} {share}"
                )
                for number, batch in enumerate(batches)
                for share in shares
            ]
        self.buffers.restore()
        self._n_rounds_worked.fill_(round_index + 1)
        return Work(
            loss=math.fsum(losses) / len(losses),
            samples=len(losses) * self.manifest.data.batch_size,
            floats=self.method.agree(),
        )

    def _learn(self, indices: Indices, name: str) -> float:
        """Args: name: what random layers draw follows from it."""
        with lent_generator(name):
            loss = self.task.loss(self.model, indices)
            gradients = torch.autograd.grad(loss, list(self.parameters.values()), allow_unused=True)
        self.method.accumulate(dict(zip(self.parameters, gradients, strict=True)), len(indices))
        return float(loss.detach())

    def encode(self, agreed: npt.NDArray[np.float32]) -> bytes:
        """The contribution, given what the group agreed on."""
        return self.method.encode(agreed)

    def apply(self, payloads: Sequence[bytes | memoryview], mine: int | None, slots: Slots) -> Applied:
        """Apply a committed round. Raises TooFewContributions, and changes nothing then."""
        n_steps = self.steps
        # Methods read payloads as buffers, so that a view of a large one need not be copied.
        views = cast(Sequence[bytes], payloads)
        dropped = self.method.combine(views, mine=mine, step=self.step, slots=slots)
        n_samples = n_steps * self.method.n_shares(slots) * self.manifest.data.batch_size
        self._progress += torch.tensor([n_steps, n_samples])
        return Applied(digest=self.digest(), dropped=dropped)

    def work_cost(self, n_members: int, slot: int) -> Cost:
        """Of a round's local steps."""
        n_steps, n_shares = self.steps, len(self.method.shares(slot, n_members))
        n_samples = n_shares * self.manifest.data.batch_size
        flops = self.task.flops_per_sample() * n_samples
        return Cost(flops=n_steps * flops, memory_bytes=n_steps * 16.0 * self.n_params, what="work")

    def encode_cost(self) -> Cost:
        return Cost(flops=10.0 * self.n_params, memory_bytes=8.0 * self.n_params, what="encode")

    def apply_cost(self) -> Cost:
        return Cost(flops=50.0 * self.n_params, memory_bytes=32.0 * self.n_params, what="apply")

    def evaluate(self) -> Evaluation:
        """Loss on held-out samples of the agreed model, or of the average that the method keeps of it."""
        with lent_generator(f"gossamer/evaluation/v1 {self.manifest.run.seed} {self.step}"):
            return self._evaluate()

    def _evaluate(self) -> Evaluation:
        served = self.method.served(self.parameters, self.method.shared_state())
        if served is not self.parameters:
            return self._evaluate_copy(served)
        self._estimate_buffers()
        self.model.eval()
        try:
            return self.task.evaluate(self.model)
        finally:
            self.model.train()

    def _evaluate_copy(self, served: Mapping[str, torch.Tensor]) -> Evaluation:
        model = copy.deepcopy(self.model)
        with torch.no_grad():
            for name, parameter in model.named_parameters():
                parameter.copy_(served[name])
        Buffers(model).estimate(self.task, seed=self.manifest.run.seed, batch_size=self.manifest.data.batch_size)
        return self.task.evaluate(model.eval())

    def evaluate_cost(self) -> Cost:
        return Cost(flops=self.task.flops_per_sample() * self.manifest.data.batch_size, what="evaluate")

    # -- payloads of others ----------------------------------------------------------------------

    def check(self, payload: bytes) -> None:
        """Refuse a payload that no honest replica sends. Raises ValueError."""
        self.method.check(payload)

    def reduce(self, parts: Sequence[npt.NDArray[np.uint8]], start: int) -> npt.NDArray[np.uint8]:
        return self.method.reduce(parts, start)

    @property
    def unit_bytes(self) -> int:
        """Of each unit of a REDUCE payload."""
        return self.method.unit_bytes

    @property
    def vector_length(self) -> int:
        """Units of a REDUCE payload."""
        return self.method.payload_bytes_max() // self.method.unit_bytes

    # -- state -----------------------------------------------------------------------------------

    def shared(self) -> dict[str, torch.Tensor]:
        """All that replicas hold alike, besides the parameters."""
        states = {f"shared/{name}": tensor for name, tensor in self.method.shared_state().items()}
        return {**states, PROGRESS: self._progress}

    def _everything(self) -> dict[str, torch.Tensor]:
        return {**{f"model/{name}": tensor.detach() for name, tensor in self.parameters.items()}, **self.shared()}

    def snapshot(self) -> bytes:
        return encode_state(self._arrays())

    def digest(self) -> bytes:
        """The SHA-256 of `snapshot`."""
        return state_digest(self._arrays())

    def _arrays(self) -> dict[str, npt.NDArray[np.generic]]:
        return {name: tensor.numpy() for name, tensor in self._everything().items()}

    def snapshot_bytes(self) -> int:
        """The exact length of `snapshot`."""
        return state_bytes(self._specs())

    def download_bytes(self) -> dict[bool, int]:
        """The exact length of a download: rounded (True, where the run has such) and exact (False)."""
        rounded = {True: self.rounding.encoded_bytes()} if self.rounding is not None else {}
        return {False: self.snapshot_bytes(), **rounded}

    def _specs(self) -> dict[str, tuple[npt.DTypeLike, tuple[int, ...]]]:
        everything = self._everything()
        return {name: (tensor.numpy().dtype, tuple(tensor.shape)) for name, tensor in everything.items()}

    def model_state(self) -> dict[str, torch.Tensor]:
        """The agreed model for keeps: parameters, and buffers as they belong to them. References."""
        self._estimate_buffers()
        return self._model_state()

    def _model_state(self) -> dict[str, torch.Tensor]:
        return {**{name: p.detach() for name, p in self.parameters.items()}, **self.buffers.tensors()}

    def _estimate_buffers(self) -> None:
        self.buffers.estimate(self.task, seed=self.manifest.run.seed, batch_size=self.manifest.data.batch_size)

    def local(self) -> dict[str, torch.Tensor]:
        """What only this replica holds."""
        return {**self.method.local_state(), "n_rounds_worked": self._n_rounds_worked}

    def forget_local(self) -> None:
        """Drop what is pending: it no longer fits, or an earlier life may have sent it."""
        self.method.forget_local()
        self._n_rounds_worked.zero_()

    def round_off(self) -> Copied:
        """Copy the state in the run's snapshot codec, and round it to what the copy says. Raises BadTensor."""
        assert self.rounding is not None
        data = self.rounding.encode(self._arrays())
        self._take(self.rounding.decode(data))
        return Copied(data=data, digest=self.digest())

    def restore(self, data: bytes) -> None:
        """Take over a snapshot; what was pending here no longer fits and is dropped. Raises BadTensor."""
        self._take(decode_state(data, self._specs()))
        self.forget_local()

    def restore_rounded(self, data: bytes, digest: bytes) -> None:
        """Take over a rounded copy as `restore` does. Raises BadTensor, ChecksumMismatch; nothing is changed then."""
        assert self.rounding is not None
        arrays = self.rounding.decode(data)
        if state_digest(arrays) != digest:
            raise ChecksumMismatch("a rounded copy of the state does not give the state it was said to: fetch another")
        self._take(arrays)
        self.forget_local()

    def _take(self, arrays: Mapping[str, npt.NDArray[np.generic]]) -> None:
        with torch.no_grad():
            for name, tensor in self._everything().items():
                tensor.copy_(torch.from_numpy(arrays[name]))

    def reset(self) -> None:
        """Begin anew with the run's initial state."""
        self.restore(Replica(self.task, self.manifest).snapshot())

    def load(
        self, model: dict[str, torch.Tensor], shared: dict[str, torch.Tensor], local: dict[str, torch.Tensor]
    ) -> None:
        """Take over a checkpoint of this very replica, pending work included. Raises ValueError if it does not fit."""
        states = [(self._model_state(), model), (self.shared(), shared), (self.local(), local)]
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
