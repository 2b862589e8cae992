"""A stage whose replicas make local steps, and average their weights now and then: `local` and `diloco`.

Every round is a step of all stages, as ever: a plan says which replica counts which microbatches, a decision makes it
so, the version goes up by one. What differs is what a step does to a stage. In a *local* step each replica takes an
inner optimizer step with the gradient of what it counts; its item is a *receipt*, the hash of these names, and nothing
large travels. In an *agreed* step, the last of the H in a cycle, it does that too, and then its item is its drift since
the last one, weighed by the samples behind it. Where cycles begin follows from the step alone.

Between agreed steps the agreed weights are the stage's state: what digests, snapshots and checkpoints hold. Passes are
made by a second copy, at the agreed weights plus this replica's drift. docs/design/0004-pipelines.md, "Local steps".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence

import torch

from ...algorithms import Method
from ...algorithms.local import Local
from ...protocol.errors import BadTensor, Diverged, InvalidManifest
from ...protocol.manifest import Manifest
from ...tasks import Stage, Staged
from ..rounds.decision import HASH_BYTES
from ..rounds.roster import Roster
from .decided import Decided
from .microbatches import MicrobatchId
from .model import F32, StageModel
from .stage import StageReplica, Summed
from .unsettled import ROWS_MAX, Owed, Unsettled

UNSETTLED = "unsettled"
METHODS = ("local", "diloco")


class DriftingModel(StageModel):
    """A stage's agreed weights, this replica's drift from them, and who holds what is not settled yet."""

    steps_go_on = False
    method: Local

    def __init__(self, task: Staged, manifest: Manifest, run_id: bytes) -> None:
        super().__init__(task, manifest, run_id)
        # Whoever misses an agreed step keeps what it held for another cycle: hence room for two.
        per_step = 2 * manifest.pipeline.microbatches * self.n_stages
        self._cycle_max = max(1, ROWS_MAX // per_step)
        """Steps of a cycle whose microbatches the list has room for."""
        self.unsettled = Unsettled(per_step * min(self._cycle_max, manifest.run.steps))
        self._cycle = (0, 0)
        self._local_steps: dict[tuple[MicrobatchId, ...], tuple[dict[str, torch.Tensor], int]] = {}
        """Gradients and samples that were asked for by plans of this round."""

    def _build_passes(self, module: Stage) -> StageReplica:
        self.method.weigh_by_samples()
        self._cycle = (0, self.method.steps(0))
        self._local_steps = {}
        self.unsettled.clear()
        return super()._build_passes(self._build_stage(self.stage))

    # -- cycles ----------------------------------------------------------------------------------

    @property
    def agreed_step(self) -> int:
        """The last agreed step: updates that the agreed weights have seen."""
        start, length = self._cycle
        if self.step < start:
            start, length = 0, self.method.steps(0)
        while start + length <= self.step:
            start += length
            length = self.method.steps(start)
        self._cycle = (start, length)
        return start

    @property
    def gathers(self) -> bool:
        return self.step + 1 >= self.agreed_step + self.method.steps(self.agreed_step)

    def owed(self, roster: Roster) -> tuple[Owed, ...]:
        return self.unsettled.owed(roster, self.manifest.pipeline.microbatches)

    def holders(self, roster: Roster) -> tuple[int, ...]:
        return self.unsettled.holders(roster)

    # -- a step ----------------------------------------------------------------------------------

    def forget(self, unless: Callable[[MicrobatchId], bool]) -> None:
        super().forget(unless)
        self._local_steps = {names: made for names, made in self._local_steps.items() if all(map(unless, names))}

    def prepare(self, names: tuple[MicrobatchId, ...], summed: Summed, lent: Sequence[tuple[int, F32]] = ()) -> F32:
        if self.gathers:
            return super().prepare(names, summed, lent)
        self._local_steps[names] = (self._with_lent(summed, lent), summed.n_samples)
        self._pending = names
        return self.method.agree()

    def _take_in(self, gradients: dict[str, torch.Tensor], n_samples: int) -> None:
        with self.method.working():
            self.method.accumulate(gradients, n_samples)

    def encode(self, agreed: F32) -> bytes:
        return super().encode(agreed) if self.gathers else receipt(self._pending or ())

    def check(self, payload: bytes) -> None:
        if self.gathers:
            super().check(payload)
        elif len(payload) != HASH_BYTES:
            raise ValueError(f"a receipt of {len(payload)} bytes instead of {HASH_BYTES}")

    def _apply(self, decided: Decided) -> None:
        gathers, start = self.gathers, self.agreed_step
        if gathers:
            self._gather(decided, start)
        elif decided.mine is not None:
            self._step_alone(decided)
        self._local_steps = {}
        if decided.roster is not None:
            n = self.manifest.pipeline.microbatches
            self.unsettled.count(decided.counts, decided.roster, step=self.step, n_microbatches=n, closes=gathers)

    def _step_alone(self, decided: Decided) -> None:
        found = self._local_steps.get(decided.counted)
        if found is None or decided.payloads[decided.mine or 0] != receipt(decided.counted):
            raise Diverged("a local step was decided that this replica cannot make: resynchronising")
        gradients, n_samples = found
        self._take_in(gradients, n_samples)

    def _gather(self, decided: Decided, start: int) -> None:
        mine = decided.mine
        if mine is not None and decided.counted != self._pending:
            # Decided is what an earlier plan asked of this replica: all of its drift counts, and is not to count again.
            self._take_back()
            self.method.forget_local()
            mine = None
        elif mine is None:
            self._take_back()
        self._combine(decided, mine, start)

    # -- state -----------------------------------------------------------------------------------

    @torch.no_grad()
    def _show(self) -> None:
        with self.method.working():
            for name, parameter in self.parameters.items():
                self.passes.stage.owned[name].copy_(parameter)

    def shared(self) -> dict[str, torch.Tensor]:
        return {**super().shared(), UNSETTLED: self.unsettled.tensor}

    def restore(self, data: bytes) -> None:
        super().restore(data)
        try:
            n = self.manifest.pipeline.microbatches
            self.unsettled.check(n_stages=self.n_stages, n_microbatches=n, step=self.step)
        except ValueError as error:
            raise BadTensor(str(error)) from None

    def start_settled(self) -> None:
        self.forget_local()

    def unsettled_bytes(self) -> bytes:
        return self.unsettled.to_bytes()

    def count_as(self, step: int, samples: int, unsettled: bytes) -> None:
        n = self.manifest.pipeline.microbatches
        self.unsettled.take(unsettled, n_stages=self.n_stages, n_microbatches=n, step=step)
        self.method.forget_local()
        super().count_as(step, samples, unsettled)

    def forget_local(self) -> None:
        super().forget_local()
        self._renewed()

    def _why_unfit(self, method: Method) -> str:
        longest = _longest_cycle(method, self.manifest.run.steps)
        if longest > self._cycle_max:
            n = self.manifest.pipeline.microbatches
            raise InvalidManifest(
                f"method.h: {method.name!r} would make {longest} local steps in a row, and with {n} microbatches in "
                f"{self.n_stages} stages peers can keep account of {self._cycle_max}: use a smaller h (by rule = 'qsr' "
                "a smaller alpha), fewer stages or fewer microbatches"
            )
        return "works ahead, so that its drift belongs to no step" if method.overlaps else ""


def _longest_cycle(method: Method, n_steps: int) -> int:
    """Steps from one agreed step to the next, at most."""
    start = longest = 0
    while start < n_steps:
        length = method.steps(start)
        longest, start = max(longest, length), start + length
    return longest


def receipt(names: Sequence[MicrobatchId]) -> bytes:
    """What a replica offers in a local step: 32 bytes that stand for what it counts."""
    text = " ".join(f"{one.step}/{one.index}/{one.take}" for one in names)
    return hashlib.sha256(text.encode()).digest()
