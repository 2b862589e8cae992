"""Whether faults can strike at all, as far as that shows before anything runs."""

from __future__ import annotations

from collections.abc import Sequence

from ..protocol.errors import UsageError, unknown_name
from .faults import Fault
from .fleets import Fleet


def check_times(faults: Sequence[Fault], *, duration_s: float, steps: int | None) -> None:
    """See that their times come. Args: steps: of the run; None: not known yet. Raises UsageError."""
    for place, fault in enumerate(faults):
        if fault.at_s is not None and fault.at_s >= duration_s:
            raise UsageError(f"the scenario's faults.{place}.at_s = {fault.at_s:g}: duration_s is {duration_s:g}")
        if fault.after_step is not None and steps is not None and fault.after_step > steps:
            raise UsageError(f"the scenario's faults.{place}.after_step = {fault.after_step}: run.steps is {steps}")


def check_numbers(faults: Sequence[Fault], n_machines: int) -> None:
    """See that there are so many machines. Raises UsageError."""
    for place, fault in enumerate(faults):
        strangers = [number for number in fault.peers if not 0 <= number < n_machines]
        if strangers:
            raise UsageError(
                f"the scenario's faults.{place}.peers names peer {strangers[0]}: peers are 0 to {n_machines - 1}"
            )
        if fault.n > n_machines:
            raise UsageError(f"the scenario's faults.{place}.n = {fault.n}: there are {n_machines} peers")


def check_regions(faults: Sequence[Fault], fleet: Fleet) -> None:
    """See that somebody lives there. Raises UsageError, UnknownName."""
    regions = {machine.region for machine in fleet.machines} - {""}
    for place, fault in enumerate(faults):
        if fault.region is not None and not regions:
            raise UsageError(f"the scenario's faults.{place}.region: these machines are in no region, leave it out")
        if fault.region is not None and fault.region not in regions:
            raise unknown_name(f"region of the scenario's faults.{place}", fault.region, regions)
