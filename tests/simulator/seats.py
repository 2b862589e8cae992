"""Machines on which something answers while they are on, for tests of what switches and holds them."""

from __future__ import annotations

import asyncio
from collections.abc import Coroutine, Sequence
from pathlib import Path
from typing import Any, TypeVar

from gossamer.simulator.fleets import Machine, Session
from gossamer.simulator.fleets.fleet import ALWAYS
from gossamer.simulator.host import Host
from gossamer.simulator.seat import Seat
from gossamer.simulator.world import Simulation

from .hosts import serve

T = TypeVar("T")

FLOPS_PER_S = 1e9
BYTES_PER_S = 1e6


def seat_of(
    sim: Simulation, number: int, sessions: Sequence[tuple[float, float]] = (), *, gateway: bool = False
) -> Seat:
    """Args: sessions: when it is on; default: always."""
    spans = tuple(Session(start_s=start_s, end_s=end_s) for start_s, end_s in sessions)
    machine = Machine(
        flops_per_s=FLOPS_PER_S,
        memory_bytes_per_s=1e9,
        up_bytes_per_s=BYTES_PER_S,
        down_bytes_per_s=BYTES_PER_S,
        sessions=spans or ALWAYS,
    )
    front = _host(sim, f"g{number}", machine) if gateway else None
    host = _host(sim, f"p{number}", machine)
    return Seat(number, machine, host, front, sim, Path("peers"), live=_live, tell=_say_nothing)


def _host(sim: Simulation, name: str, machine: Machine) -> Host:
    return sim.host(
        name,
        flops_per_s=machine.flops_per_s,
        memory_bytes_per_s=machine.memory_bytes_per_s,
        up_bytes_per_s=machine.up_bytes_per_s,
        down_bytes_per_s=machine.down_bytes_per_s,
    )


async def _live(seat: Seat) -> None:
    serve(seat.host)
    await asyncio.Event().wait()


def _say_nothing(what: str, host: Host, text: str) -> None: ...


async def with_sessions(seats: Sequence[Seat], main: Coroutine[Any, Any, T]) -> T:
    """Run `main` while they are switched on and off as they have it."""
    async with asyncio.TaskGroup() as group:
        for seat in seats:
            group.create_task(seat.follow_sessions())
        return await main
