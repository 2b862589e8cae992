"""A peer's copy of one stage, with the method that keeps it in step with the stage's other replicas.

What `Replica` is for a whole model. It is *settled* once the peer knows its stage. Pure computation, no I/O.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping, Sequence

import numpy as np
import numpy.typing as npt
import torch

from ...algorithms import Exchange, Method, build_method
from ...protocol.errors import InvalidManifest, StaleStage
from ...protocol.manifest import Manifest
from ...protocol.network import Cost
from ...tasks import NoStage, Stage, Staged, build_stage, loans, owned_names
from ..buffers import Buffers
from ..replica import Replica, schedule_of
from ..rounds.roster import NO_STAGE, WHOLE, Roster
from .cutting import cut_of
from .decided import Decided, Stepped
from .fitting import refuse_unfit, why_unfit
from .memory import copies_of, held_max_within
from .microbatches import Boundaries, MicrobatchId, boundaries
from .stage import StageReplica, Summed
from .unsettled import Owed

F32 = npt.NDArray[np.float32]
NOT_SERVED = -1
"""In place of a version: the weights are not complete."""
TAKES_PER_MICROBATCH = 2
"""Gradients of so many times a step's microbatches may be held."""


class StageModel(Replica):
    """A stage's weights, its method and counters. With NO_STAGE there are no weights: what is left are the counters,
    and what follows from them.

    Raises: InvalidManifest for a task that cannot be cut so, or a method that stages cannot use.
    """

    task: Staged
    takes_per_microbatch = TAKES_PER_MICROBATCH
    steps_go_on = True
    """Whether a step may go on when the roster changes."""
    works_a_step_ahead = False
    """Whether the next step's microbatches are passed before the present one is decided."""

    def __init__(self, task: Staged, manifest: Manifest, run_id: bytes) -> None:
        # Not Replica's: nothing is built before the stage is known.
        self.task = task
        self.manifest = manifest
        self.cut = cut_of(task, manifest)
        self.kinds = boundaries(task, self.cut)
        self.loans = loans(task, self.cut)
        self.stage = WHOLE
        self._run_id = run_id
        self.rounding = None  # the manifest allows no other
        self.n_params = sum(parameter.numel() for parameter in task.build_skeleton().parameters())
        self._progress = torch.zeros(2, dtype=torch.int64)
        self._counters = self._progress.numpy()
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
        """Take a stage, or none, with the run's initial weights. Raises InvalidManifest for an unfit method."""
        module = self._build_stage(stage)
        chosen = self.manifest.method
        try:
            method = build_method(chosen.name, dict(module.owned), chosen.options, schedule_of(self.manifest))
        except ValueError as error:
            raise InvalidManifest(f"[method] of the manifest: {error}") from None
        refuse_unfit(method, self._why_unfit(method))
        method.begin(self._run_id)
        self.stage, self.model, self.parameters, self.method = stage, module, dict(module.owned), method
        self.buffers = Buffers(module.body)
        self.passes = self._build_passes(module)
        self._progress.zero_()

    def _build_stage(self, stage: int) -> Stage:
        if stage == NO_STAGE:
            return NoStage(self.n_stages)
        return build_stage(self.task, self.manifest.run.seed, self.cut, stage)

    def _build_passes(self, module: Stage) -> StageReplica:
        """What passes microbatches through the stage."""
        held_max = self._held_max(sum(parameter.numel() for parameter in module.parameters()))
        return StageReplica(module, self._boundaries, run_seed=self.manifest.run.seed, held_max=held_max)

    @property
    def _boundaries(self) -> Boundaries:
        """Of my stage; where there is none, nothing is passed."""
        return self.kinds[self.stage if self.serves else 0]

    def _held_max(self, n_parameters: int) -> int:
        wanted = self.takes_per_microbatch * self.manifest.pipeline.microbatches
        if self.memory_max is None:
            return wanted
        return held_max_within(self.memory_max, n_parameters, wanted, copies_of(self.manifest))

    @property
    def settled(self) -> bool:
        return self.stage != WHOLE

    @property
    def serves(self) -> bool:
        """Whether it has a stage."""
        return self.settled and self.stage != NO_STAGE

    @property
    def stage_served(self) -> int | None:
        """As events tell it; None: none, or not known yet."""
        return self.stage if self.serves else None

    def is_role(self, stage: int) -> bool:
        """Whether a peer of this run may have this in place of a stage."""
        return 0 <= stage < self.n_stages or stage == NO_STAGE

    # -- a step ----------------------------------------------------------------------------------

    @property
    def steps(self) -> int:
        """A pipeline's round is one step, whatever the method."""
        return 1

    @property
    def gathers(self) -> bool:
        """Whether the step that comes next gathers what replicas did by themselves since the last such one."""
        return False

    def owed(self, roster: Roster) -> tuple[Owed, ...]:
        """Microbatches of earlier steps that the next one is to make up for; alike at all replicas of all stages."""
        return ()

    def holders(self, roster: Roster) -> tuple[int, ...]:
        """Slots of replicas whose work since the last agreed step nobody else has."""
        return ()

    def forget(self, unless: Callable[[MicrobatchId], bool]) -> None:
        """A round begins: drop what was made of microbatches that can no longer count."""
        self.passes.forget(unless)

    @property
    def counts_in_parts(self) -> bool:
        """Whether several rounds may count parts of one step."""
        return self.steps_go_on and self.method.adds

    def settle_part(self, indices: Collection[int], payloads: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
        """These microbatches of the step are counted: what is held of them has been sent.

        Args:
            payloads: of all the step's parts so far.
        Returns: what is to be kept of them for the update.
        """
        if not self.serves:
            return []
        self._take_back()
        self.passes.forget(lambda name: name.step != self.step or name.index not in indices)
        return self._reduced(payloads) if self.exchange is Exchange.REDUCE else list(payloads)

    def sums(self, names: Sequence[MicrobatchId]) -> Summed:
        """Raises MissingMicrobatch, DuplicateMicrobatch."""
        if names:
            return self.passes.collect(names)
        nothing = {name: torch.zeros_like(parameter) for name, parameter in self.passes.stage.trained.items()}
        return Summed(gradients=nothing, n_samples=0, loss=None)

    def lendable(self, summed: Summed, lender: int) -> F32:
        """The gradients of what this stage borrows from another, summed over samples, one after the other."""
        names = [name for name, stage in self._borrowed_names.items() if stage == lender]
        parts = [summed.gradients[name].reshape(-1) * summed.n_samples for name in names]
        lent: F32 = torch.cat(parts).numpy()
        return lent

    def n_lent(self, borrower: int) -> int:
        """Elements of what a stage borrows from this one."""
        return sum(self.parameters[name].numel() for name in self.lent_names(borrower))

    def lent_names(self, borrower: int) -> list[str]:
        """What another stage borrows from this one."""
        return [name for name, stage in self.loans[borrower].items() if stage == self.stage]

    def prepare(self, names: tuple[MicrobatchId, ...], summed: Summed, lent: Sequence[tuple[int, F32]] = ()) -> F32:
        """Take in exactly these microbatches for the payload; what was made for others is taken back.

        Args:
            lent: (borrowing stage, its gradients as `lendable` gives them), each of them once.
        Returns: floats to agree on with the stage's other contributors before `encode`.
        Raises: ValueError for gradients that the method refuses.
        """
        self._take_back()
        gradients = self._with_lent(summed, lent)
        self._kept = {name: tensor.clone() for name, tensor in self.method.local_state().items()}
        self._pending = names
        if summed.n_samples:
            self._take_in(gradients, summed.n_samples)
        return self.method.agree()

    def _take_in(self, gradients: dict[str, torch.Tensor], n_samples: int) -> None:
        self.method.accumulate(gradients, n_samples)

    def _with_lent(self, summed: Summed, lent: Sequence[tuple[int, F32]]) -> dict[str, torch.Tensor]:
        """The mean gradients of what this stage owns, with what borrowers add to them."""
        gradients = {name: summed.gradients[name] for name in self.parameters}
        for borrower, values in lent:
            start = 0
            for name in self.lent_names(borrower):
                stop = start + gradients[name].numel()
                part = torch.from_numpy(values[start:stop]).reshape(gradients[name].shape)
                gradients[name] = gradients[name] + part / summed.n_samples
                start = stop
        return gradients

    def update(self, decided: Decided) -> Stepped:
        """Apply a decided step."""
        self._apply(decided)
        self._kept, self._pending = {}, None
        self._progress += torch.tensor([1, decided.n_samples])
        held = self.passes.held if self.passes.version != NOT_SERVED else ()
        n_held = sum(name.step < self.step for name in held)
        self._show()
        self.passes.renew(NOT_SERVED if self.borrows else self.step)
        return Stepped(digest=self.digest(), n_discarded=max(0, n_held - len(decided.counted)))

    def _apply(self, decided: Decided) -> None:
        mine = decided.mine
        if mine is None or decided.counted != self._pending:
            # Decided was what an earlier plan asked of this replica: its bytes count, nothing of it is left to be sent.
            self._take_back()
            mine = None
        self._combine(decided, mine, self.step)

    def _combine(self, decided: Decided, mine: int | None, step: int) -> None:
        if not self.serves:
            return
        is_reduced = self.exchange is Exchange.REDUCE
        bodies = [bytes(body) for body in (self._reduced(decided.payloads) if is_reduced else decided.payloads)]
        self.method.combine(bodies, mine=mine, step=step, slots=decided.slots)

    def _reduced(self, payloads: Sequence[bytes | memoryview]) -> list[bytes | memoryview]:
        return [self.method.reduce([np.frombuffer(body, np.uint8) for body in payloads], 0).tobytes()]

    def _show(self) -> None:
        """Pass microbatches with the weights as they are now."""

    def _take_back(self) -> None:
        """What was accumulated for a plan that does not count leaves no trace."""
        for name, tensor in self.method.local_state().items():
            if name in self._kept:
                tensor.copy_(self._kept[name])
        self._kept, self._pending = {}, None

    # -- tied weights ----------------------------------------------------------------------------

    @property
    def _borrowed_names(self) -> Mapping[str, int]:
        """What this stage borrows: its name -> its owner's stage."""
        return self.loans[self.stage] if self.serves else {}

    @property
    def borrows(self) -> bool:
        return bool(self._borrowed_names)

    @property
    def lenders(self) -> tuple[int, ...]:
        """Stages that this one borrows from."""
        return tuple(sorted(set(self._borrowed_names.values())))

    def lend(self, borrower: int, version: int) -> bytes:
        """The bits of what a stage borrows from this one, one tensor after the other. Raises StaleStage."""
        if self.step != version:
            raise StaleStage(f"stage {self.stage} is at version {self.step} here, not {version}: ask another")
        served = self.passes.stage.owned
        return b"".join(served[name].detach().numpy().tobytes() for name in self.lent_names(borrower))

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
        return {name: self.passes.stage.borrowed[name] for name, s in self._borrowed_names.items() if s == lender}

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
        self._show()
        # At step 0 what is borrowed follows from the seed, as everything does.
        self.passes.renew(NOT_SERVED if self.borrows and self.step > 0 else self.step)

    @property
    def agreed_step(self) -> int:
        """Updates that the stage's agreed weights have seen."""
        return self.step

    def start_settled(self) -> None:
        """A new life begins, in which nothing is pending that only an earlier one is known to hold."""

    def unsettled_bytes(self) -> bytes:
        """What single replicas hold of the run's newest microbatches; alike at all replicas of all stages."""
        return b""

    def count_as(self, step: int, samples: int, unsettled: bytes) -> None:
        """Give an older state the run's present version: what it has not seen is lost.

        Args:
            unsettled: what `unsettled_bytes` is at that version. Raises ValueError if it cannot be that.
        """
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

    def _why_unfit(self, method: Method) -> str:
        """Why this run's stages cannot use a method; empty: they can."""
        return why_unfit(method)

    # -- costs -----------------------------------------------------------------------------------

    @property
    def _n_own(self) -> int:
        return sum(parameter.numel() for parameter in self.parameters.values()) if self.settled else 0

    def encode_cost(self) -> Cost:
        return Cost(flops=10.0 * self._n_own, memory_bytes=8.0 * self._n_own, what="encode")

    def apply_cost(self) -> Cost:
        return Cost(flops=50.0 * self._n_own, memory_bytes=32.0 * self._n_own, what="apply")
