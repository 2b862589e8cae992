"""A stage in asynchronous mode: gradients may come a step late, and what makes up for that.

A microbatch's delay D is the number of updates between the weights of its passes and those that its gradient moves: 1
if it was begun before the step before it was decided, else 0. It is read off the decided counts, so all replicas of a
stage measure the same. docs/design/0004-pipelines.md, "Without waiting".
"""

from __future__ import annotations

from ...algorithms import Method
from ...algorithms.allreduce import AllReduce
from ...protocol.errors import InvalidManifest
from ...tasks import Stage
from .decided import Decided
from .double_buffered import DoubleBuffered, Weights
from .model import TAKES_PER_MICROBATCH, StageModel
from .stage import StageReplica

SYNCHRONOUS = "synchronous"
DELAY = 1.0
"""Of a gradient that comes late."""


class AsynchronousModel(StageModel):
    """A stage whose replicas also pass the next step's microbatches."""

    takes_per_microbatch = 2 * TAKES_PER_MICROBATCH
    works_a_step_ahead = True
    steps_go_on = False

    def _build_passes(self, module: Stage) -> StageReplica:
        first, second = (self._build_stage(self.stage) for _ in range(2))
        passes = DoubleBuffered(
            module,
            self._boundaries,
            run_seed=self.manifest.run.seed,
            held_max=self._held_max(sum(parameter.numel() for parameter in module.parameters())),
            copies=(first, second),
            ahead=self._ahead,
        )
        passes.renew(0)
        return passes

    def _ahead(self) -> Weights:
        """What passes a step ahead use in place of the agreed weights. Borrowed tensors are not predicted."""
        if not self._predicts:
            return {}
        assert isinstance(self.method, AllReduce)
        return self.method.descent.predicted(self.step, DELAY)

    @property
    def _predicts(self) -> bool:
        return "predict" in self.manifest.pipeline.mode

    @property
    def _compensates(self) -> bool:
        return "compensate" in self.manifest.pipeline.mode

    def _apply(self, decided: Decided) -> None:
        if self._compensates:
            assert isinstance(self.method, AllReduce)
            assert self.method.descent.momentum is not None
            self.method.descent.momentum.delay = decided.delay
        super()._apply(decided)

    def _renewed(self) -> None:
        assert isinstance(self.passes, DoubleBuffered)
        self.passes.clear()
        super()._renewed()

    def _why_unfit(self, method: Method) -> str:
        makes_up = self._predicts or self._compensates
        if makes_up and not (isinstance(method, AllReduce) and method.descent.momentum is not None):
            mode = self.manifest.pipeline.mode
            raise InvalidManifest(
                f"pipeline.mode = {mode!r} is defined for momentum SGD, not for {method.name!r} as it is here: use "
                "allreduce with optimizer = 'sgd', or mode = 'stash'"
            )
        return super()._why_unfit(method)
