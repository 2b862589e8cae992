"""Keys that a scenario sets though nothing would come of them: whoever wrote them meant something else."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .scenario import Scenario

_OF_EQUAL_MACHINES = ("flops_per_s", "memory_bytes_per_s", "up_mbit_s", "down_mbit_s", "round_trip_s")
_OF_REAL_WORK = ("method", "method_options", "task", "task_options")


def check_used(scenario: Scenario) -> None:
    """Raises ValueError for a key that is set without effect, with what to do about it."""
    for key, remedy in (*_of_the_run(scenario), *_of_the_fleet(scenario), *_of_the_devices(scenario)):
        raise ValueError(f"{key} is set without effect: {remedy}")


def _of_the_run(scenario: Scenario) -> Iterator[tuple[str, str]]:
    run = scenario.run
    if run.like is not None:
        keys = [("run", name) for name in sorted(run.model_fields_set - {"like"})]
        for table, name in [*keys, *(("pipeline", name) for name in sorted(scenario.pipeline.model_fields_set))]:
            yield f"{table}.{name}", f"run.like brings its own, leave {name} out"
    elif run.compute == "analytic":
        for name in _OF_REAL_WORK:
            if name in run.model_fields_set:
                yield f"run.{name}", f'with compute = "analytic" run.sizes describes the work, leave {name} out'
    elif "sizes" in run.model_fields_set:
        yield "run.sizes", 'set run.compute = "analytic", or leave it out'


def _of_the_fleet(scenario: Scenario) -> Iterator[tuple[str, str]]:
    fleet = scenario.fleet
    for name in _OF_EQUAL_MACHINES:
        if fleet.kind != "equal" and name in fleet.model_fields_set:
            yield f"fleet.{name}", f'it is of equal machines, set fleet.kind = "equal" or leave {name} out'
    if fleet.kind != "trace" and fleet.trace is not None:
        yield "fleet.trace", 'set fleet.kind = "trace", or leave it out'
    if not fleet.one_machine and "other_threads" in fleet.model_fields_set:
        yield "fleet.other_threads", "set fleet.one_machine = true, or leave it out"


def _of_the_devices(scenario: Scenario) -> Iterator[tuple[str, str]]:
    if "n" not in scenario.devices.model_fields_set:
        for name in sorted(scenario.devices.model_fields_set):
            yield f"devices.{name}", "set devices.n, or leave it out"
