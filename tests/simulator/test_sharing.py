"""Max-min fairness, against a solver that raises all rates together, in exact fractions."""

from __future__ import annotations

import asyncio
import math
from dataclasses import dataclass, field
from fractions import Fraction

from hypothesis import given, settings
from hypothesis import strategies as st

from gossamer.simulator.loop import VirtualLoop
from gossamer.simulator.sharing import Flow, Link, reshare

N_HOSTS = 5
SPEEDS = st.sampled_from([0, 1, 2, 3, 5, 8, 13, 100])
_LOOP = VirtualLoop()  # futures want one; it never runs
HOSTS = st.integers(0, N_HOSTS - 1)


def water_level(speeds: dict[str, int], flows: list[tuple[str, str]]) -> list[Fraction]:
    """Raise every flow's rate at the same pace; a flow stops when a link on its way is full."""
    rates = [Fraction(0)] * len(flows)
    rising = list(range(len(flows)))
    while rising:
        headroom = []
        for name, speed in speeds.items():
            n_rising = sum(name in flows[index] for index in rising)
            if n_rising:
                used = sum((rate for rate, flow in zip(rates, flows, strict=True) if name in flow), Fraction(0))
                headroom.append((speed - used) / n_rising)
        for index in rising:
            rates[index] += min(headroom)
        full = [
            name
            for name, speed in speeds.items()
            if sum(rate for rate, flow in zip(rates, flows, strict=True) if name in flow) == speed
        ]
        rising = [index for index in rising if not any(name in full for name in flows[index])]
    return rates


@dataclass
class Lines:
    """Links and flows under test, changed as a simulation would change them."""

    links: dict[str, Link] = field(default_factory=dict)
    flows: list[Flow] = field(default_factory=list)
    touched: list[Link] = field(default_factory=list)

    def begin(self, source: int, target: int) -> None:
        links = (self.links[f"up {source}"], self.links[f"down {target}"])
        flow = Flow(links=links, left_bytes=1.0, done=asyncio.Future(loop=_LOOP))
        self.flows.append(flow)
        for link in links:
            link.flows[flow] = None
        self.touched += links

    def end(self, flow: Flow) -> None:
        self.flows.remove(flow)
        for link in flow.links:
            del link.flows[flow]
        self.touched += flow.links

    def set_speed(self, name: str, speed: int) -> None:
        self.links[name].bytes_per_s = speed
        self.touched.append(self.links[name])

    def expected(self) -> list[Fraction]:
        speeds = {name: int(link.bytes_per_s) for name, link in self.links.items()}
        return water_level(speeds, [(flow.links[0].name, flow.links[1].name) for flow in self.flows])


@given(st.data())
@settings(max_examples=150)
def test_incremental_rates_equal_a_full_recomputation(data: st.DataObject) -> None:
    lines = Lines()
    for name in [f"{way} {host}" for way in ("up", "down") for host in range(N_HOSTS)]:
        lines.links[name] = Link(name=name, bytes_per_s=data.draw(SPEEDS))

    for _ in range(data.draw(st.integers(1, 25))):
        change = data.draw(st.sampled_from(["begin", "begin", "begin", "end", "speed"]))
        if change == "begin":
            lines.begin(data.draw(HOSTS), data.draw(HOSTS))
        elif change == "end" and lines.flows:
            lines.end(data.draw(st.sampled_from(lines.flows)))
        else:
            lines.set_speed(data.draw(st.sampled_from(sorted(lines.links))), data.draw(SPEEDS))
        if data.draw(st.booleans()):
            reshare(lines.touched)
            lines.touched.clear()
            for flow, rate in zip(lines.flows, lines.expected(), strict=True):
                assert math.isclose(flow.rate, rate, rel_tol=1e-6, abs_tol=1e-9)


def test_only_flows_that_could_change_are_touched() -> None:
    lines = Lines()
    for host in range(N_HOSTS):
        for way in ("up", "down"):
            lines.links[f"{way} {host}"] = Link(name=f"{way} {host}", bytes_per_s=10)
    lines.begin(0, 1)
    lines.begin(2, 3)
    reshare(lines.touched)

    lines.touched.clear()
    lines.begin(0, 4)
    changed = reshare(lines.touched)

    assert lines.flows[1] not in changed
    assert [flow.rate for flow in lines.flows] == [5, 10, 5]


def test_unlimited_links_limit_nothing() -> None:
    lines = Lines()
    lines.links["up 0"] = Link(name="up 0", bytes_per_s=math.inf)
    lines.links["down 1"] = Link(name="down 1", bytes_per_s=6)
    lines.links["down 2"] = Link(name="down 2", bytes_per_s=math.inf)
    lines.begin(0, 1)
    lines.begin(0, 1)
    lines.begin(0, 2)

    reshare(lines.touched)

    assert [flow.rate for flow in lines.flows] == [3, 3, math.inf]
