"""What a pipeline's peer tells of its rounds, and how it evaluates: along the stages, since nobody has them all."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ...protocol.errors import GossamerError, NetworkClosed
from ...tasks import Evaluation
from ..event_kinds import Evaluated, StageRestored, StepPassed, Trained
from ..folder import standing_to_record
from ..replica import finite
from ..rounds.outcome import Outcome
from ..rounds.roster import Roster
from ..rounds.snapshots import Standing
from ..trainer import Trainer
from .courier import Courier
from .flow import Flow
from .meter import Meter
from .microbatches import MicrobatchId
from .model import StageModel
from .server import Tally
from .stage import StageReplica

EVALUATION_TAKE = (1 << 32) - 1
"""No microbatch that counts has this take."""
EVALUATION_S = 30.0
"""An evaluation on the way takes no longer: its peer's next round waits for it."""


@dataclass(frozen=True, kw_only=True)
class StepReport:
    """What became of a step, as far as a group knows."""

    round_index: int
    n_counted: int
    n_made_up: int
    n_discarded: int
    delay: float
    flow: Flow | None
    """None: this peer replayed the round."""
    duration_s: float


@dataclass(frozen=True, kw_only=True)
class _Before:
    """Counters when the round opened."""

    n_forward: int = 0
    n_backward: int = 0
    n_repeated: int = 0
    busy_s: float = 0.0


class StageTrainer(Trainer):
    """The delegate of a `StageGroup`."""

    replica: StageModel
    courier: Courier
    state: Callable[[], bytes]
    """Digest of this peer's stage."""
    stop_at: int
    """Updates after which the run stops."""
    _before = _Before()

    # -- steps -----------------------------------------------------------------------------------

    def opens(self, tally: Tally, meter: Meter, passes: StageReplica) -> None:
        """A round begins: what is counted from here on is its."""
        tally.n_waiting_max = 0
        self._before = _Before(
            n_forward=tally.n_forward,
            n_backward=tally.n_backward,
            n_repeated=passes.n_repeated,
            busy_s=meter.busy_s,
        )

    def stepped(self, report: StepReport, tally: Tally, meter: Meter, passes: StageReplica) -> None:
        """A step was applied."""
        flow, before = report.flow, self._before
        if flow is not None and flow.n_samples:
            self.emit(
                Trained(
                    step=self.replica.step - 1,
                    loss=finite(flow.loss),
                    samples=flow.n_samples,
                    seconds=report.duration_s,
                )
            )
        self.emit(
            StepPassed(
                round=report.round_index,
                step=self.replica.step,
                stage=self.replica.stage_served,
                counted=report.n_counted,
                made_up=report.n_made_up,
                delay=report.delay,
                expected=self.replica.manifest.pipeline.microbatches,
                forward_passes=tally.n_forward - before.n_forward if flow else 0,
                backward_passes=tally.n_backward - before.n_backward if flow else 0,
                n_waiting_max=tally.n_waiting_max if flow else 0,
                rerouted=flow.n_rerouted if flow else 0,
                mended=flow.n_mended if flow else 0,
                duplicates_refused=passes.n_repeated - before.n_repeated if flow else 0,
                discarded=report.n_discarded if flow else 0,
                busy_s=meter.busy_s - before.busy_s if flow else 0.0,
                duration_s=report.duration_s,
            )
        )

    async def concluded(self, outcome: Outcome, roster: Roster) -> None:
        for one in outcome.restored:
            self.emit(StageRestored(round=outcome.round_index, stage=one.stage, step=one.step, from_step=one.from_step))
        await super().concluded(outcome, roster)

    # -- beside the rounds -----------------------------------------------------------------------

    async def evaluate(self, *, sample: bool = False) -> None:
        """Loss on held-out samples, passed along the stages at their present version.

        Args:
            sample: for the first and the last step; the last is evaluated by one peer, which the others wait for.
        """
        if not sample and self.replica.step >= self.stop_at:
            return
        try:
            async with asyncio.timeout(EVALUATION_S):
                result = await self._along_the_stages()
        except NetworkClosed:
            raise
        except (GossamerError, TimeoutError) as error:
            reason = str(error) or f"the stages did not answer within {EVALUATION_S:g} s"
            self.warned(f"no evaluation at step {self.replica.step}: {reason}")
            return
        self.tally.evaluations.append((self.replica.step, result.loss))
        self.emit(Evaluated(step=self.replica.step, loss=finite(result.loss), accuracy=result.accuracy))

    async def _along_the_stages(self) -> Evaluation:
        model = self.replica
        inputs, targets = model.task.held_out_batch()
        n, size = len(inputs), model.manifest.data.batch_size
        loss, accuracy = 0.0, 0.0
        has_accuracy = True
        for start in range(0, n, size):
            part = slice(start, min(n, start + size))
            name = MicrobatchId(step=model.step, index=start // size, take=EVALUATION_TAKE)
            result = await self.courier.evaluate(name, model.step, inputs[part], targets[part])
            share = (part.stop - part.start) / n
            loss += result.loss * share
            has_accuracy = has_accuracy and result.accuracy is not None
            accuracy += (result.accuracy or 0.0) * share
        return Evaluation(loss=loss, accuracy=accuracy if has_accuracy else None)

    def record(self, standing: Standing, *, stopped: bool) -> dict[str, Any]:
        pipeline = {
            "stage": self.replica.stage,
            "n_stages": self.replica.n_stages,
            "state": self.state().hex(),
            "owned": [list(names) for names in self.replica.owned_elsewhere()],
        }
        return {**standing_to_record(standing, stopped=stopped), "pipeline": pipeline}
