"""Machines that are switched on and off by their fleet and by faults at once."""

from __future__ import annotations

import asyncio
import math

import pytest

from gossamer.protocol.errors import PeerUnreachable
from gossamer.simulator.seat import Seat
from gossamer.simulator.world import Simulation

from .hosts import ask
from .seats import seat_of, with_sessions


async def _course(seat: Seat, *times_s: float) -> list[bool]:
    """Whether it is on at these times."""
    found = []
    for time_s in times_s:
        await asyncio.sleep(time_s - asyncio.get_running_loop().time())
        found.append(seat.is_on)
    return found


def test_who_has_not_come_yet_is_not_there() -> None:
    sim = Simulation(seed=1)
    seats = first, late = seat_of(sim, 0), seat_of(sim, 1, [(5.0, math.inf)])

    async def main() -> bytes:
        await asyncio.sleep(1.0)
        with pytest.raises(PeerUnreachable):
            await ask(first.host, late.host)
        await asyncio.sleep(5.0)
        return await ask(first.host, late.host)

    assert sim.run(with_sessions(seats, main())) == b"?"


def test_a_fault_that_is_over_leaves_a_machine_off_that_its_fleet_has_off() -> None:
    sim = Simulation(seed=1)
    seat = seat_of(sim, 1, [(0.0, 20.0), (60.0, math.inf)])

    async def main() -> list[bool]:
        await asyncio.sleep(18.0)
        seat.take_down()
        await asyncio.sleep(5.0)
        seat.give_back()
        found = await _course(seat, 24.0, 59.0, 61.0)
        return found

    assert sim.run(with_sessions([seat], main())) == [False, False, True]


def test_a_session_does_not_bring_back_whom_a_fault_keeps_down() -> None:
    sim = Simulation(seed=1)
    seat = seat_of(sim, 1, [(0.0, 20.0), (30.0, math.inf)])

    async def main() -> list[bool]:
        await asyncio.sleep(10.0)
        seat.take_down()
        found = await _course(seat, 40.0)
        seat.give_back()
        return found + await _course(seat, 41.0)

    assert sim.run(with_sessions([seat], main())) == [False, True]


def test_a_machine_is_down_until_the_last_fault_gives_it_back() -> None:
    sim = Simulation(seed=1)
    seat = seat_of(sim, 1)

    async def main() -> list[bool]:
        found = await _course(seat, 1.0)
        for _ in range(2):
            assert seat.take_down()
        seat.give_back()
        found += await _course(seat, 2.0)
        seat.give_back()
        return found + await _course(seat, 3.0)

    assert sim.run(with_sessions([seat], main())) == [True, False, True]


def test_who_is_off_cannot_be_taken_down() -> None:
    sim = Simulation(seed=1)
    seat = seat_of(sim, 1, [(5.0, math.inf)])

    async def main() -> list[bool]:
        await asyncio.sleep(1.0)
        assert not seat.take_down()
        found = await _course(seat, 6.0)
        return found

    assert sim.run(with_sessions([seat], main())) == [True]


def test_another_machine_comes_back_for_one_that_lost_its_disk_but_not_for_the_owners() -> None:
    sim = Simulation(seed=1)
    seats = [seat_of(sim, number) for number in range(2)]
    before = [(seat.host.peer_id, seat.folder) for seat in seats]

    async def main() -> None:
        await asyncio.sleep(1.0)
        for seat in seats:
            seat.take_down(disk_is_lost=True)
            seat.give_back()

    sim.run(with_sessions(seats, main()))

    same = [(seat.host.peer_id, seat.folder) == known for seat, known in zip(seats, before, strict=True)]
    assert same == [True, False]
    assert seats[1].folder.name == "1.1"


def test_what_devices_see_of_a_gateway_dies_with_its_machine() -> None:
    sim = Simulation(seed=1)
    seat = seat_of(sim, 0, gateway=True)

    async def main() -> list[bool]:
        await asyncio.sleep(1.0)
        seat.take_down(silent=True)
        return [host.network.silent for host in seat.hosts]

    assert sim.run(with_sessions([seat], main())) == [True, True]
