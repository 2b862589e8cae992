"""The worlds in which every scenario of the contract must end the same."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Protocol

from gossamer.protocol.network import Network
from gossamer.simulator.world import Simulation

Scenario = Callable[[list[Network]], Awaitable[None]]

PATIENCE_S = 20.0
"""For what must happen, but not at once."""


SETTLE_S = 5.0
"""For gRPC and asyncio to end what they cancelled or no longer need: calls' bookkeeping, generators nobody reads."""


async def left_running() -> list[asyncio.Task[object]]:
    """Tasks besides the present one that do not end by themselves."""
    others = asyncio.all_tasks() - {asyncio.current_task()}
    pending = (await asyncio.wait(others, timeout=SETTLE_S))[1] if others else set()
    return [task for task in pending if task is not None]


class World(Protocol):
    """Somewhere to run a scenario: opens networks that can reach each other, and closes what the scenario leaves."""

    @property
    def name(self) -> str: ...

    def run(self, scenario: Scenario, *, n_peers: int = 2) -> None: ...


@dataclass(frozen=True)
class SimulatedWorld:
    """Modelled wires in virtual time."""

    name: str
    loss: float = 0.0
    shuffle_seed: int | None = None

    def run(self, scenario: Scenario, *, n_peers: int = 2) -> None:
        sim = Simulation(seed=1, loss=self.loss, shuffle_seed=self.shuffle_seed)
        networks: list[Network] = [sim.host(f"peer {number}").network for number in range(n_peers)]

        async def main() -> None:
            await scenario(networks)

        sim.run(main(), timeout_s=600)


SIMULATED_WORLDS = (SimulatedWorld("simulated"), SimulatedWorld("simulated-lossy", loss=0.02, shuffle_seed=1))


def admit_all(networks: Sequence[Network]) -> None:
    for network in networks:
        network.set_gate(lambda peer: True)


async def eventually(condition: Callable[[], bool]) -> None:
    """Wait for something that is on its way. Raises TimeoutError."""
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what it waits for has no event that all worlds could set
            await asyncio.sleep(0.02)


async def settled(count: Callable[[], int], *, quiet_s: float = 0.5) -> int:
    """A count once it has stood still for a while."""
    async with asyncio.timeout(PATIENCE_S):
        while True:
            before = count()
            await asyncio.sleep(quiet_s)
            if count() == before:
                return before


async def each(chunks: Sequence[bytes]) -> AsyncIterator[bytes]:
    for chunk in chunks:
        yield chunk


async def endless(chunk: bytes, on_pull: Callable[[int], object] = lambda number: None) -> AsyncIterator[bytes]:
    for number in itertools.count(1):
        on_pull(number)
        yield chunk


async def collect(chunks: AsyncIterator[bytes]) -> list[bytes]:
    async with asyncio.timeout(PATIENCE_S):
        return [chunk async for chunk in chunks]
