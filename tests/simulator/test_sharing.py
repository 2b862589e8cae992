"""Max-min fairness, against a solver that raises all rates together, in exact fractions."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from fractions import Fraction

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.simulator.flows import Flow, Flows
from gossamer.simulator.loop import VirtualLoop
from gossamer.simulator.rows import LINKS_MAX

SPEEDS = st.sampled_from([0, 1, 2, 3, 5, 8, 13, 100, math.inf])
N_LINKS = 10


def water_level(
    speeds: list[float], ways: list[tuple[int, ...]], contention: Fraction = Fraction(0)
) -> list[Fraction | float]:
    """Raise every flow's rate at the same pace; a flow stops when a link on its way is full, or never."""
    rates: list[Fraction | float] = [Fraction(0)] * len(ways)
    rising = list(range(len(ways)))
    while rising:
        headroom = {}
        for link, speed in enumerate(speeds):
            n_rising = sum(link in ways[index] for index in rising)
            if n_rising and speed < math.inf:
                used = sum((rate for rate, way in zip(rates, ways, strict=True) if link in way), Fraction(0))
                n_flows = sum(link in way for way in ways)
                headroom[link] = (Fraction(int(speed)) / (1 + contention * (n_flows - 1)) - used) / n_rising
        limited = [index for index in rising if any(link in headroom for link in ways[index])]
        for index in set(rising) - set(limited):
            rates[index] = math.inf
        if not limited:
            return rates
        level = min(headroom.values())
        for index in limited:
            rates[index] += level
        full = [link for link, room in headroom.items() if room == level]
        rising = [index for index in limited if not any(link in full for link in ways[index])]
    return rates


@dataclass
class Lines:
    """Links and flows under test, changed as a simulation would change them."""

    speeds: list[float]
    contention: Fraction = Fraction(0)
    flows: list[Flow] = field(default_factory=list)
    ways: list[tuple[int, ...]] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.loop = VirtualLoop()
        self.world = Flows(self.loop)
        self.links = [self.world.add_link(speed, contention=float(self.contention)) for speed in self.speeds]

    def begin(self, way: tuple[int, ...]) -> None:
        self.flows.append(self.world.start(way, 1.0, int))
        self.ways.append(way)

    def end(self, index: int) -> None:
        self.world.stop(self.flows.pop(index))
        self.ways.pop(index)

    def set_speed(self, link: int, speed: float) -> None:
        self.speeds[link] = speed
        self.world.set_speed(link, speed)

    def check(self) -> None:
        for flow, rate in zip(self.flows, water_level(self.speeds, self.ways, self.contention), strict=True):
            assert math.isclose(self.world.rate(flow), rate, rel_tol=1e-6, abs_tol=1e-9)


@given(st.data())
@settings(max_examples=150, deadline=None)
def test_incremental_rates_equal_a_full_recomputation(data: st.DataObject) -> None:
    contention = data.draw(st.sampled_from([Fraction(0), Fraction(1, 8)]))
    lines = Lines([data.draw(SPEEDS) for _ in range(N_LINKS)], contention)
    longest = data.draw(st.sampled_from([2, 2, LINKS_MAX]))
    ways = st.lists(st.integers(0, N_LINKS - 1), min_size=1, max_size=longest, unique=True)

    for _ in range(data.draw(st.integers(1, 30))):
        change = data.draw(st.sampled_from(["begin", "begin", "begin", "end", "speed"]))
        if change == "begin":
            lines.begin(tuple(data.draw(ways)))
        elif change == "end" and lines.flows:
            lines.end(data.draw(st.integers(0, len(lines.flows) - 1)))
        else:
            lines.set_speed(data.draw(st.integers(0, N_LINKS - 1)), data.draw(SPEEDS))
        if data.draw(st.booleans()):
            lines.check()


def test_hundreds_of_hosts_and_thousands_of_changes_stay_exact() -> None:
    lines = Lines([float(1 + 37 * number % 101) for number in range(200)])

    for number in range(1500):
        lines.begin((7919 * number % 100, 100 + 104729 * number % 97))
        if number > 300:
            lines.end(31 * number % 300)
        if number % 250 == 0:
            lines.set_speed(number % 200, float(number % 90))
            lines.check()
    lines.check()


def test_shares_of_unlike_lines_are_those_computed_by_hand() -> None:
    lines = Lines([10.0, 10.0, 4.0, 100.0])

    lines.begin((0, 2))
    lines.begin((0, 3))
    lines.begin((1, 2))

    assert [lines.world.rate(flow) for flow in lines.flows] == [2.0, 8.0, 2.0]


def test_unlimited_links_limit_nothing() -> None:
    lines = Lines([math.inf, 6.0, math.inf])
    for way in [(0, 1), (0, 1), (0, 2)]:
        lines.begin(way)

    assert [lines.world.rate(flow) for flow in lines.flows] == [3, 3, math.inf]


def test_rates_add_up_over_time_to_the_bytes_of_a_transfer() -> None:
    lines, ended_s = Lines([100.0]), []

    async def main() -> None:
        for n in (1, 2, 3):
            lines.world.start(tuple(lines.links), 50.0 * n, lambda: ended_s.append(lines.loop.time()))
        await asyncio.sleep(10.0)

    lines.loop.run(main())

    assert ended_s == pytest.approx([1.5, 2.5, 3.0])
