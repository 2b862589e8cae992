"""Runs that share only the DHT go the same way together and apart."""

from __future__ import annotations

import asyncio
import io

import pytest

from gossamer.simulator.world import Simulation

from .gossip import daemon

NAMES = ("a1", "b1", "a2", "b2", "a3", "b3")


def played(*runs: str, n_bystanders: int = 0) -> dict[str, list[str]]:
    """By run: what was delivered in a world in which these are played and the other's peers only hold records."""
    sim = Simulation(seed=3, loss=0.01, stale=0.2, up_bytes_per_s=2e5)
    sink = io.StringIO()
    sim.record_deliveries(sink)
    hosts = []
    for name in NAMES:
        if name[0] in runs:
            hosts.append(sim.host(name, run_id=name[0]))
        else:
            sim.bystander(name)
    for number in range(n_bystanders):
        sim.bystander(f"more {number}")

    async def main() -> None:
        for host in hosts:
            host.spawn(daemon(host))
        await asyncio.sleep(20.0)

    sim.run(main())
    sim.trace_hash()
    lines = sink.getvalue().splitlines()
    return {run: [line for line in lines if line.split()[1].startswith(run)] for run in runs}


def test_a_run_beside_others_goes_as_beside_bystanders() -> None:
    together = played("a", "b")

    assert played("a") | played("b") == together
    assert min(len(lines) for lines in together.values()) > 500


def test_names_are_unique() -> None:
    sim = Simulation(seed=1)
    sim.bystander("a")

    with pytest.raises(ValueError, match="'a' already"):
        sim.host("a")
    with pytest.raises(ValueError, match="'a' already"):
        sim.bystander("a")


def test_bystanders_are_nodes_of_the_dht() -> None:
    """Searches take longer the more there are, so the first word to somebody who was found comes later."""
    few, many = (played("a", n_bystanders=n)["a"][0] for n in (0, 200))

    assert float(few.split()[0]) + 0.1 < float(many.split()[0])
