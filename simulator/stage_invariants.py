"""What must hold of a pipeline, beside what must hold of every run: no microbatch lost or doubled, no stage left empty.

Logs tell how many microbatches a step counted. That they were the right ones, once each and at all stages, shows in the
model: it must be the one that a single process makes of the same samples, up to the order of sums.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence

import torch
from torch import Tensor

from ..algorithms import Slots, build_method
from ..peer.daemon import Daemon
from ..peer.event_kinds import Event, StageRestored, StepPassed
from ..peer.pipeline.flow import step_batches
from ..peer.pipeline.model import StageModel
from ..peer.replica import schedule_of
from ..protocol.errors import UsageError
from ..protocol.manifest import Manifest
from ..tasks import Staged
from .tables import Expectation

SPARE = 2
"""A stage with so many replicas can give one away."""


class Vacancies:
    """How long stages were without a living replica while others had some to spare, until somebody had finished the
    run: then all that is left to do is to end."""

    def __init__(self, n_stages: int) -> None:
        self._n_stages = n_stages
        self._since_s: dict[int, float] = {}
        self.has_begun = self._is_over = False
        """Whether every stage had a replica once."""
        self.longest_s = 0.0

    def look(self, daemons: Iterable[Daemon], now_s: float) -> None:
        """Args: daemons: of processes that run now."""
        placed = [daemon for daemon in daemons if daemon.group is not None]
        self._is_over = self._is_over or any(daemon.replica.step >= daemon.stop_at for daemon in placed)
        if self._is_over:
            return
        models = [daemon.replica for daemon in placed]
        served = Counter(model.stage for model in models if isinstance(model, StageModel) and model.serves)
        empty = [stage for stage in range(self._n_stages) if not served[stage]]
        self.has_begun = self.has_begun or not empty
        if not self.has_begun or max(served.values(), default=0) < SPARE:
            empty = []
        self._since_s = {stage: self._since_s.get(stage, now_s) for stage in empty}
        for since_s in self._since_s.values():
            self.longest_s = max(self.longest_s, now_s - since_s)


def check_stages(expect: Expectation, n_stages: int) -> None:
    """Raises UsageError if something is expected of a pipeline that there is not."""
    asked = {"empty_stage_s_max": expect.empty_stage_s_max, "one_process_within": expect.one_process_within}
    names = [name for name, value in asked.items() if value is not None]
    if n_stages == 1 and names:
        raise UsageError(f"expect.{names[0]} is of pipelines: set pipeline.stages above 1, or leave it out")


def stage_violations(
    events: Sequence[Event],
    vacancies: Vacancies,
    daemons: Sequence[Daemon],
    expect: Expectation,
) -> Iterator[str]:
    """Args: daemons: of peers that have finished the run."""
    yield from _empty(vacancies, expect.empty_stage_s_max)
    if expect.one_process_within is None:
        return
    short = {event.round: event for event in events if isinstance(event, StepPassed) and event.counted < event.expected}
    for number, event in sorted(short.items()):
        yield f"microbatches: round {number} counts {event.counted} of {event.expected}"
    has_lost = any(isinstance(event, StageRestored) and event.from_step < event.step for event in events)
    if not short and not has_lost:  # else it is another model, and the log says so
        yield from _strays(daemons, expect.one_process_within)


def _empty(vacancies: Vacancies, seconds_max: float | None) -> Iterator[str]:
    if seconds_max is None:
        return
    if not vacancies.has_begun:
        yield "liveness: there was no moment at which every stage had a replica"
    if vacancies.longest_s > seconds_max:
        yield f"empty stage: one had no replica for {vacancies.longest_s:.1f} s while another had two or more to give"


def _strays(daemons: Sequence[Daemon], within: float) -> Iterator[str]:
    expected: dict[int, dict[str, Tensor]] = {}
    for daemon in daemons:
        model = daemon.replica
        if not isinstance(model, StageModel) or not model.serves:
            continue
        if model.step not in expected:
            expected[model.step] = model_of_one_process(model.task, model.manifest, model.step)
        own = {name: tensor for name, tensor in model.model_state().items() if name in model.parameters}
        off = [(own[name] - expected[model.step][name]).abs().max() for name in own]
        furthest = float(torch.stack(off).max())  # NaN if any is
        if not furthest <= within:
            yield (
                f"one process: stage {model.stage} of {daemon.identity.peer_id} is {furthest:.3g} off what one process "
                f"makes of these samples in {model.step} steps, at most {within:g} was expected"
            )
    if not expected:
        yield "liveness: nobody that serves a stage has finished the run, so there is no model to compare"


def model_of_one_process(task: Staged, manifest: Manifest, n_steps: int) -> dict[str, Tensor]:
    """The parameters after so many steps of the run's method on the whole model, without peers."""
    model = task.build_model(manifest.run.seed)
    parameters = dict(model.named_parameters())
    method = build_method(manifest.method.name, parameters, manifest.method.options, schedule_of(manifest))
    for step in range(n_steps):
        for batch in step_batches(
            task,
            seed=manifest.run.seed,
            step=step,
            n_microbatches=manifest.pipeline.microbatches,
            n_samples=manifest.data.batch_size,
        ):
            gradients = torch.autograd.grad(task.loss(model, batch), list(parameters.values()))
            method.accumulate(dict(zip(parameters, gradients, strict=True)), len(batch))
        method.combine([method.encode(torch.zeros(0).numpy())], mine=0, step=step, slots=Slots.everybody(1))
    return {name: parameter.detach() for name, parameter in parameters.items()}
