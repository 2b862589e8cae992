"""What faults hold over a swarm's machines and the ways between them, until the last that asks for it ends.

Each hold is a `with`: two partitions of one peer that overlap are over when both are.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from .fabric import Tamper
from .seat import Seat
from .world import Simulation

Way = tuple[str, str]
"""From one host to another, by name."""


class Holds:
    """All holds that there are now, on machines by number."""

    def __init__(self, sim: Simulation, seats: Sequence[Seat]) -> None:
        self._sim, self._seats = sim, seats
        self._cuts: Counter[Way] = Counter()
        self._full: Counter[int] = Counter()
        self._factors: list[list[tuple[float, float]]] = [[] for _ in seats]
        self._tampers: list[list[Tamper]] = [[] for _ in seats]

    @contextmanager
    def cut(self, ways: Sequence[Way]) -> Iterator[None]:
        """Nothing gets through there."""
        self._cuts.update(ways)
        self._sim.cut([way for way in ways if self._cuts[way] == 1])
        try:
            yield
        finally:
            self._cuts.subtract(ways)
            self._sim.mend([way for way in ways if not self._cuts[way]])

    @contextmanager
    def slowed(
        self, numbers: Sequence[int], *, line_factor: float = 1.0, compute_factor: float = 1.0
    ) -> Iterator[None]:
        """At fractions of their speed. Of several the slowest counts, for the line and for the processor."""
        factors = (line_factor, compute_factor)
        for number in numbers:
            self._factors[number].append(factors)
            self._set_speed(number)
        try:
            yield
        finally:
            for number in numbers:
                self._factors[number].remove(factors)
                self._set_speed(number)

    def _set_speed(self, number: int) -> None:
        line_factors, compute_factors = zip((1.0, 1.0), *self._factors[number], strict=True)
        machine, line, compute = self._seats[number].machine, min(line_factors), min(compute_factors)
        for host in self._seats[number].hosts:
            self._sim.set_line(
                host,
                up_bytes_per_s=machine.up_bytes_per_s * line if line else 0.0,  # a line may have no limit
                down_bytes_per_s=machine.down_bytes_per_s * line if line else 0.0,
            )
            host.flops_per_s = machine.flops_per_s * compute
            host.memory_bytes_per_s = machine.memory_bytes_per_s * compute

    @contextmanager
    def full_disk(self, numbers: Sequence[int]) -> Iterator[None]:
        self._full.update(numbers)
        self._set_disks(numbers)
        try:
            yield
        finally:
            self._full.subtract(numbers)
            self._set_disks(numbers)

    def _set_disks(self, numbers: Sequence[int]) -> None:
        for number in numbers:
            for host in self._seats[number].hosts:
                host.disk_is_full = self._full[number] > 0

    @contextmanager
    def tampered(self, numbers: Sequence[int], tamper: Tamper) -> Iterator[None]:
        """What they send goes through this; through several one after the other."""
        for number in numbers:
            self._tampers[number].append(tamper)
            self._set_tamper(number)
        try:
            yield
        finally:
            for number in numbers:
                self._tampers[number].remove(tamper)
                self._set_tamper(number)

    def _set_tamper(self, number: int) -> None:
        tampers = tuple(self._tampers[number])

        def all_of_them(method: str, payload: bytes) -> bytes:
            for tamper in tampers:
                payload = tamper(method, payload)
            return payload

        for host in self._seats[number].hosts:
            host.set_tamper(all_of_them if tampers else None)
