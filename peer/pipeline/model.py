"""A peer's copy of one stage, with the method that keeps it in step with the stage's other replicas.

What `Replica` is for a whole model. It is *settled* once the peer knows its stage. Pure computation, no I/O.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch

from ...algorithms import Exchange, Method, Slots, build_method
from ...protocol.errors import InvalidManifest
from ...protocol.manifest import Manifest
from ...protocol.network import Cost
from ...tasks import CannotCut, Staged, build_stage, cut_by_cost, loans, owned_names
from ..buffers import Buffers
from ..replica import Replica, schedule_of
from ..rounds.roster import WHOLE
from .memory import held_max_within
from .microbatches import MicrobatchId, boundaries
from .stage import StageReplica, Summed

F32 = npt.NDArray[np.float32]
NOT_SERVED = -1
"""In place of a version: the weights are not complete."""
TAKES_PER_MICROBATCH = 2
"""Gradients of so many times a step's microbatches may be held."""


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """What an update made of the stage."""

    digest: bytes
    n_discarded: int
    """Gradients that were held here and did not count."""


class StageModel(Replica):
    """A stage's weights, its method and counters.

    Raises: InvalidManifest for a task that cannot be cut so, or a method that stages cannot use.
    """

    task: Staged

    def __init__(self, task: Staged, manifest: Manifest, run_id: bytes) -> None:
        # Not Replica's: nothing is built before the stage is known.
        self.task = task
        self.manifest = manifest
        try:
            self.cut = cut_by_cost(task, manifest.pipeline.stages)
        except CannotCut as error:
            raise InvalidManifest(f"[pipeline] of the manifest: {error}") from None
        self.kinds = boundaries(task, self.cut)
        self.loans = loans(task, self.cut)
        self.stage = WHOLE
        self._run_id = run_id
        self.rounding = None  # the manifest allows no other
        self.n_params = sum(parameter.numel() for parameter in task.build_skeleton().parameters())
        self._progress = torch.zeros(2, dtype=torch.int64)
        self._n_rounds_worked = torch.zeros((), dtype=torch.int64)
        self._kept: dict[str, torch.Tensor] = {}
        self._pending: tuple[MicrobatchId, ...] | None = None
        self.memory_max: int | None = None
        """Bytes that this peer gives; bounds the gradients that are held."""
        self.passes: StageReplica

    @property
    def n_stages(self) -> int:
        return self.cut.n_stages

    def settle(self, stage: int) -> None:
        """Take a stage, with the run's initial weights. Raises InvalidManifest for an unfit method."""
        module = build_stage(self.task, self.manifest.run.seed, self.cut, stage)
        chosen = self.manifest.method
        try:
            method = build_method(chosen.name, dict(module.owned), chosen.options, schedule_of(self.manifest))
        except ValueError as error:
            raise InvalidManifest(f"[method] of the manifest: {error}") from None
        _refuse_unfit(method)
        method.begin(self._run_id)
        self.stage, self.model, self.parameters, self.method = stage, module, dict(module.owned), method
        self.buffers = Buffers(module.body)
        self.passes = StageReplica(
            module,
            self.kinds[stage],
            run_seed=self.manifest.run.seed,
            held_max=self._held_max(sum(parameter.numel() for parameter in module.parameters())),
        )
        self._progress.zero_()

    def _held_max(self, n_parameters: int) -> int:
        wanted = TAKES_PER_MICROBATCH * self.manifest.pipeline.microbatches
        return wanted if self.memory_max is None else held_max_within(self.memory_max, n_parameters, wanted)

    @property
    def settled(self) -> bool:
        return self.stage != WHOLE

    # -- a step ----------------------------------------------------------------------------------

    def sums(self, names: Sequence[MicrobatchId]) -> Summed:
        """Raises MissingMicrobatch, DuplicateMicrobatch."""
        return self.passes.collect(names)

    def lendable(self, summed: Summed, lender: int) -> F32:
        """The gradients of what this stage borrows from another, summed over samples, one after the other."""
        names = [name for name, stage in self.loans[self.stage].items() if stage == lender]
        parts = [summed.gradients[name].reshape(-1) * summed.n_samples for name in names]
        lent: F32 = torch.cat(parts).numpy()
        return lent

    def n_lent(self, borrower: int) -> int:
        """Elements of what a stage borrows from this one."""
        return sum(self.parameters[name].numel() for name in self.lent_names(borrower))

    def lent_names(self, borrower: int) -> list[str]:
        """What another stage borrows from this one."""
        return [name for name, stage in self.loans[borrower].items() if stage == self.stage]

    def contribution(
        self, names: tuple[MicrobatchId, ...], summed: Summed, lent: Sequence[tuple[int, F32]] = ()
    ) -> bytes:
        """The payload for exactly these microbatches; what was made for others is taken back.

        Args:
            lent: (borrowing stage, its gradients as `lendable` gives them), each of them once.
        Raises: ValueError for gradients that the method refuses.
        """
        self._take_back()
        gradients = {name: summed.gradients[name] for name in self.parameters}
        for borrower, values in lent:
            start = 0
            for name in self.lent_names(borrower):
                stop = start + gradients[name].numel()
                part = torch.from_numpy(values[start:stop]).reshape(gradients[name].shape)
                gradients[name] = gradients[name] + part / summed.n_samples
                start = stop
        self._kept = {name: tensor.clone() for name, tensor in self.method.local_state().items()}
        self._pending = names
        self.method.accumulate(gradients, summed.n_samples)
        return self.encode(np.empty(0, np.float32))

    def update(
        self,
        payloads: Sequence[bytes | memoryview],
        *,
        mine: int | None,
        counted: tuple[MicrobatchId, ...],
        slots: Slots,
        n_samples: int,
    ) -> Stepped:
        """Apply a decided step.

        Args:
            payloads: of the stage's contributors, in roster order.
            mine: index of this replica's own payload; None: it has none among them.
            counted: what that sums.
            slots: contributors as places among the stage's members.
            n_samples: behind the whole step.
        """
        if mine is None or counted != self._pending:
            # Decided was what an earlier plan asked of this replica: its bytes count, nothing of it is left to be sent.
            self._take_back()
            mine = None
        bodies = [bytes(payload) for payload in payloads]
        if self.exchange is Exchange.REDUCE:
            parts = [np.frombuffer(body, np.uint8) for body in bodies]
            bodies = [self.method.reduce(parts, 0).tobytes()]
        self.method.combine(bodies, mine=mine, step=self.step, slots=slots)
        self._kept, self._pending = {}, None
        self._progress += torch.tensor([1, n_samples])
        n_held = len(self.passes.held) if self.passes.version != NOT_SERVED else 0
        self.passes.renew(NOT_SERVED if self.borrows else self.step)
        return Stepped(digest=self.digest(), n_discarded=max(0, n_held - len(counted)))

    def _take_back(self) -> None:
        """What was accumulated for a plan that does not count leaves no trace."""
        for name, tensor in self.method.local_state().items():
            if name in self._kept:
                tensor.copy_(self._kept[name])
        self._kept, self._pending = {}, None

    # -- tied weights ----------------------------------------------------------------------------

    @property
    def borrows(self) -> bool:
        return bool(self.loans[self.stage])

    @property
    def lenders(self) -> tuple[int, ...]:
        """Stages that this one borrows from."""
        return tuple(sorted(set(self.loans[self.stage].values())))

    def lend(self, borrower: int) -> bytes:
        """The bits of what a stage borrows from this one, one tensor after the other."""
        return b"".join(self.parameters[name].detach().numpy().tobytes() for name in self.lent_names(borrower))

    def n_borrowed_bytes(self, lender: int) -> int:
        return sum(parameter.numel() * 4 for parameter in self._borrowed_from(lender).values())

    def borrow(self, bits: Mapping[int, bytes]) -> None:
        """Take over the bits of all lenders at the present step: from now on the stage is served."""
        borrowed: dict[str, torch.Tensor] = {}
        for lender, data in bits.items():
            start = 0
            for name, parameter in self._borrowed_from(lender).items():
                stop = start + 4 * parameter.numel()
                values = np.frombuffer(data[start:stop], np.float32).reshape(tuple(parameter.shape))
                borrowed[name] = torch.from_numpy(values.copy())
                start = stop
        with torch.no_grad():
            for name, values_ in borrowed.items():
                self.passes.stage.borrowed[name].copy_(values_)
        self.passes.renew(self.step)

    def _borrowed_from(self, lender: int) -> dict[str, torch.Tensor]:
        return {name: self.passes.stage.borrowed[name] for name, s in self.loans[self.stage].items() if s == lender}

    # -- state -----------------------------------------------------------------------------------

    def restore(self, data: bytes) -> None:
        super().restore(data)
        self._renewed()

    def load(
        self, model: dict[str, torch.Tensor], shared: dict[str, torch.Tensor], local: dict[str, torch.Tensor]
    ) -> None:
        super().load(model, shared, local)
        self._renewed()

    def _renewed(self) -> None:
        self._kept, self._pending = {}, None
        # At step 0 what is borrowed follows from the seed, as everything does.
        self.passes.renew(NOT_SERVED if self.borrows and self.step > 0 else self.step)

    def count_as(self, step: int, samples: int) -> None:
        """Give an older state the run's present version: what it has not seen is lost."""
        self._progress.copy_(torch.tensor([step, samples]))
        self._renewed()

    def reset(self) -> None:
        self.settle(self.stage)

    def model_state(self) -> dict[str, torch.Tensor]:
        """The stage's owned parameters and buffers, by their names in the whole model."""
        return self._model_state()

    def owned_elsewhere(self) -> tuple[tuple[str, ...], ...]:
        """What each stage of this run owns."""
        return owned_names(self.task, self.cut)

    # -- costs -----------------------------------------------------------------------------------

    @property
    def _n_own(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters.values()) if self.settled else 0

    def encode_cost(self) -> Cost:
        return Cost(flops=10.0 * self._n_own, memory_bytes=8.0 * self._n_own, what="encode")

    def apply_cost(self) -> Cost:
        return Cost(flops=50.0 * self._n_own, memory_bytes=32.0 * self._n_own, what="apply")


def _refuse_unfit(method: Method) -> None:
    why = ""
    one = Slots.everybody(1)
    if method.overlaps or method.steps(0) != 1 or method.name in ("local", "diloco", "sparseloco"):
        why = "lets replicas drift apart between exchanges, while all stages make each step together"
    elif method.name == "baffle":
        why = "measures forward passes, and a pipeline passes gradients back"
    elif len(method.agree()):
        why = "agrees on floats before it encodes, for which a pipeline's round has no phase"
    elif method.shares(0, 2) != (0,) or method.n_shares(one) != 1:
        why = "deals samples out by slots, while a pipeline's plan says which microbatches count"
    elif not method.suffices(one):
        why = "needs more contributions than a stage may have replicas"
    if why:
        raise InvalidManifest(f"method {method.name!r} {why}: use allreduce (mean) or demo for a pipeline")
