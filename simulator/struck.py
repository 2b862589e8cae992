"""What became of a scenario's faults: each as it was done, and in words what did not come of it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field

from .faults import Fault


@dataclass(kw_only=True)
class Struck:
    """A fault that was done once."""

    place: int
    """Of the fault, or of the storm that drew it, in the scenario's list."""
    fault: Fault
    """With its time and its victims written out."""
    remarks: list[str] = field(default_factory=list)
    _spared: dict[int, None] = field(default_factory=dict)

    @property
    def victims(self) -> list[int]:
        return [number for number in self.fault.peers if number not in self._spared]

    @property
    def done(self) -> Fault:
        """As it was done, to whom it did anything."""
        return self.fault.model_copy(update={"peers": tuple(self.victims)})

    def spare(self, number: int, why: str) -> None:
        """It makes no difference to this machine."""
        if number not in self._spared:
            self._spared[number] = None
            self.remark(f"p{number} {why}")

    def remark(self, text: str) -> None:
        self.remarks.append(f"faults.{self.place}: {self.fault.kind} at {self.fault.at_s:.6g} s: {text}")


def faults_done(struck: Sequence[Struck]) -> list[Fault]:
    """Those that did anything, by the time at which they began."""
    return [one.done for one in struck if one.victims]


def faults_amiss(faults: Sequence[Fault], struck: Sequence[Struck], *, over_s: float, step: int) -> Iterator[str]:
    """What a person who wrote these faults should know: which never struck, and whom they spared.

    Args: over_s, step: when the run was over, and how many updates it had then.
    """
    seen = {one.place for one in struck}
    for place, fault in enumerate(faults):
        if place not in seen:
            yield f"faults.{place}: {fault.kind} never struck: the run was over at {over_s:.6g} s, after {step} updates"
    for one in struck:
        yield from one.remarks
