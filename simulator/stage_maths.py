"""Measures what the mathematics of a pipeline's stages takes of a core, as its daemons do it.

The cost model knows one factor for each kind of work, so a pass costs what it does on average over the stages: daemons
share the work by estimated operations, and so does the estimate.
"""

from __future__ import annotations

import statistics
import time
from collections import defaultdict
from collections.abc import Callable
from functools import partial
from typing import Protocol, TypeVar

import numpy as np
from torch import Tensor

from ..algorithms import Slots
from ..peer.pipeline.daemon import FORWARD_SHARE
from ..peer.pipeline.decided import Decided
from ..peer.pipeline.microbatches import MicrobatchId
from ..peer.pipeline.model import StageModel
from ..peer.pipeline.models import stage_model
from ..peer.pipeline.pacing import SPLIT
from ..peer.pipeline.server import BACKWARD_PASSES, backward_passes
from ..protocol.errors import UsageError
from ..protocol.manifest import Manifest
from ..tasks import Staged, Task
from .companions import rest
from .costs import CostModel, Maths

T = TypeVar("T")
_WARM_UPS = 3
_REPEATS = 12
_MEMORY_BYTES_PER_S = 1e10
"""Taken as given: what maths takes is told by factors on estimates that use it."""


class Timed(Protocol):
    """Does a piece of work and notes how long it took."""

    def __call__(self, what: str, work: Callable[[], T]) -> T: ...


def measure_stages(task: Task, manifest: Manifest) -> Maths:
    """A core's speed at the stages' backward passes, and how far the estimates of other work are off.

    Raises: UsageError for a task that cannot be cut.
    """
    stages = _stages(task, manifest)
    taken: dict[str, list[float]] = defaultdict(list)
    for step in range(_WARM_UPS + _REPEATS):
        for name, seconds in _step(stages, step).items():
            taken[name].append(seconds)
    seconds_of = {name: statistics.mean(values[_WARM_UPS:]) / len(stages) for name, values in taken.items()}
    task, n_samples = stages[0].task, manifest.data.batch_size
    forward_flops = n_samples * FORWARD_SHARE * task.flops_per_sample() / len(stages)
    passes = [backward_passes(splits=_splits(model), is_first=model.passes.stage.is_first) for model in stages]
    deferred = BACKWARD_PASSES - statistics.mean(passes)
    flops_per_s = statistics.mean(passes) * forward_flops / seconds_of["stage backward"]
    costs = [(model.encode_cost(), model.apply_cost()) for model in stages]

    def estimated_s(which: int) -> float:
        speeds = {"flops_per_s": flops_per_s, "memory_bytes_per_s": _MEMORY_BYTES_PER_S}
        return statistics.mean(CostModel().maths_s(pair[which], **speeds) for pair in costs)

    forward_s = forward_flops / flops_per_s
    factors = {
        "stage forward": seconds_of["stage forward"] / forward_s,
        "stage evaluate": seconds_of["stage forward"] / forward_s,
        "encode": seconds_of["encode"] / estimated_s(0),
        "apply": seconds_of["apply"] / estimated_s(1),
    }
    if deferred:
        factors["stage weights"] = seconds_of["stage weights"] / (deferred * forward_s)
    return Maths(
        flops_per_s=float(f"{flops_per_s:.4g}"),
        memory_bytes_per_s=_MEMORY_BYTES_PER_S,
        factor={name: float(f"{factor:.4g}") for name, factor in factors.items()},
    )


def stage_turns(task: Task, manifest: Manifest) -> Callable[[int], object]:
    """Does a step of one microbatch, by its number. Raises: as `measure_stages`."""
    return partial(_step, _stages(task, manifest))


def _stages(task: Task, manifest: Manifest) -> list[StageModel]:
    """Raises UsageError."""
    if not isinstance(task, Staged):
        raise UsageError(f"task {task.name!r} cannot be cut into stages: measure a run with one stage")
    return [_stage(task, manifest, stage) for stage in range(manifest.pipeline.stages)]


def _stage(task: Staged, manifest: Manifest, stage: int) -> StageModel:
    model = stage_model(task, manifest, bytes(32))
    model.settle(stage)
    return model


def _step(stages: list[StageModel], step: int) -> dict[str, float]:
    """Seconds of each kind of work in a step of one microbatch, over all stages."""
    taken: dict[str, float] = defaultdict(float)

    def timed(what: str, work: Callable[[], T]) -> T:
        rest()
        begun_s = time.thread_time()
        result = work()
        taken[what] += time.thread_time() - begun_s
        return result

    task, n_samples = stages[0].task, stages[0].manifest.data.batch_size
    indices = np.arange(step * n_samples, (step + 1) * n_samples, dtype=np.int64) % task.n_train
    name = MicrobatchId(step=step, index=0)
    tensors: list[Tensor] = [task.inputs(indices)]
    for model in stages:
        tensors.append(timed("stage forward", partial(model.passes.forward, name, model.passes.version, tensors[-1])))
    arrived = task.targets(indices)
    for model, x in zip(reversed(stages), reversed(tensors[:-1]), strict=True):
        backward = partial(model.passes.backward, name, model.passes.version, x, arrived, defer_weights=_splits(model))
        passed = timed("stage backward", backward)
        timed("stage weights", model.passes.finish_weights)
        if passed.input_gradient is not None:
            arrived = passed.input_gradient
    for model in stages:
        _update(model, name, timed)
    return taken


def _splits(model: StageModel) -> bool:
    return model.manifest.pipeline.schedule in SPLIT


def _update(model: StageModel, name: MicrobatchId, timed: Timed) -> None:
    """The stage's exchange with nobody else, borrowed weights left as they are."""
    summed = model.sums((name,))

    def encode() -> bytes:
        return model.encode(model.prepare((name,), summed))

    decided = Decided(
        payloads=[timed("encode", encode)],
        mine=0,
        counted=(name,),
        slots=Slots.everybody(1),
        n_samples=summed.n_samples,
    )
    timed("apply", partial(model.update, decided))
    model.passes.renew(model.step)
