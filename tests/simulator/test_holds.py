"""What overlapping faults hold lasts until the last of them ends."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Awaitable, Callable
from contextlib import AbstractContextManager
from itertools import product
from typing import Any

import pytest

from gossamer.protocol.errors import PeerTimeout
from gossamer.protocol.identity import PeerId
from gossamer.protocol.network import Cost
from gossamer.simulator.holds import Holds
from gossamer.simulator.host import Host
from gossamer.simulator.seat import Seat
from gossamer.simulator.world import Simulation

from .hosts import ask, serve
from .seats import BYTES_PER_S, FLOPS_PER_S, seat_of

Hold = Callable[[], AbstractContextManager[None]]


def _world() -> tuple[Simulation, list[Seat], Holds]:
    sim = Simulation(seed=1, jitter_s=0.0)
    seats = [seat_of(sim, number, gateway=number == 0) for number in range(4)]
    for seat in seats:
        for host in seat.hosts:
            serve(host)
    return sim, seats, Holds(sim, seats)


async def _held(hold: Hold, from_s: float, to_s: float) -> None:
    await asyncio.sleep(from_s)
    with hold():
        await asyncio.sleep(to_s - from_s)


async def _seen(look: Callable[[], Any], holds: list[tuple[Hold, float, float]], *times_s: float) -> list[Any]:
    """What a look tells at these times, while there are these holds."""
    loop, found = asyncio.get_running_loop(), []
    async with asyncio.TaskGroup() as group:
        for hold in holds:
            group.create_task(_held(*hold))
        for time_s in times_s:
            await asyncio.sleep(time_s - loop.time())
            found.append(await look())
    return found


def _hearing(name: str, heard: list[str]) -> Callable[[PeerId, bytes], Awaitable[bytes]]:
    async def hear(peer: PeerId, request: bytes) -> bytes:
        heard.append(name)
        return b""

    return hear


async def _reaches(a: Host, b: Host) -> bool:
    try:
        await ask(a, b, timeout_s=0.5)
    except PeerTimeout:
        return False
    return True


def test_a_peer_is_cut_off_until_the_last_partition_is_over() -> None:
    sim, seats, holds = _world()
    ways = [*product(["p1"], ["p2", "p3"]), *product(["p2", "p3"], ["p1"])]

    def cut() -> AbstractContextManager[None]:
        return holds.cut(ways)

    seen = sim.run(
        _seen(lambda: _reaches(seats[1].host, seats[2].host), [(cut, 2, 12), (cut, 8, 38)], 1, 3, 13, 37, 39)
    )

    assert seen == [True, False, False, False, True]


def test_the_end_of_a_one_way_partition_leaves_the_other_direction_cut() -> None:
    sim, seats, holds = _world()
    a, b = seats[1].host, seats[2].host
    one, other, heard = [("p1", "p2")], [("p2", "p1")], list[str]()
    for host in (a, b):
        host.network.serve("hear", _hearing(host.name, heard))

    async def look() -> list[str]:
        heard.clear()
        for asking, asked in ((a, b), (b, a)):
            with contextlib.suppress(PeerTimeout):
                await asking.network.call(asked.peer_id, "hear", b"", timeout_s=0.3)
        return list(heard)

    seen = sim.run(_seen(look, [(lambda: holds.cut(one), 2, 10), (lambda: holds.cut(other), 4, 20)], 5, 11, 21))

    assert seen == [[], ["p2"], ["p2", "p1"]]


def test_the_slowest_of_several_slows_counts() -> None:
    sim, seats, holds = _world()

    async def look() -> float:
        begun_s = sim.now_s
        await seats[1].host.network.compute(lambda: None, Cost(flops=0.1 * FLOPS_PER_S))
        return round(sim.now_s - begun_s, 6)

    def slow(factor: float) -> Hold:
        return lambda: holds.slowed([1], line_factor=1.0, compute_factor=factor)

    seen = sim.run(_seen(look, [(slow(0.1), 2, 10), (slow(0.5), 4, 20)], 1, 3, 5, 11, 21))

    assert seen == [0.1, 1.0, 1.0, 0.2, 0.1]


def test_a_stall_stands_although_a_slow_line_is_fast_again() -> None:
    sim, seats, holds = _world()

    def slow(factor: float) -> Hold:
        return lambda: holds.slowed([1], line_factor=factor)

    seen = sim.run(
        _seen(lambda: _reaches(seats[1].host, seats[2].host), [(slow(0.0), 2, 20), (slow(0.5), 4, 10)], 1, 5, 11, 21)
    )

    assert seen == [True, False, False, True]


def test_a_disk_is_full_until_the_last_says_so() -> None:
    sim, seats, holds = _world()

    async def look() -> bool:
        return seats[1].host.disk_is_full

    seen = sim.run(_seen(look, [(lambda: holds.full_disk([1]), 2, 12), (lambda: holds.full_disk([1]), 8, 38)], 13, 39))

    assert seen == [True, False]


def test_what_garbled_messages_first_garbles_on_when_a_later_one_ends() -> None:
    sim, seats, holds = _world()

    async def look() -> bytes:
        return await ask(seats[2].host, seats[1].host)

    def say(word: bytes) -> Hold:
        return lambda: holds.tampered([1], lambda method, payload: payload + word)

    seen = sim.run(_seen(look, [(say(b"a"), 2, 20), (say(b"b"), 4, 10)], 1, 3, 5, 11, 21))

    assert seen == [b"?", b"?a", b"?ab", b"?a", b"?"]


@pytest.mark.parametrize("name", ["p0", "g0"])
def test_a_gateways_own_host_is_held_with_its_machine(name: str) -> None:
    sim, seats, holds = _world()

    def stall() -> AbstractContextManager[None]:
        return holds.slowed([0], line_factor=0.0)

    seen = sim.run(_seen(lambda: _reaches(seats[1].host, sim.hosts[name]), [(stall, 2, 10)], 1, 3, 11))

    assert seen == [True, False, True]
    assert sim.hosts[name].flops_per_s == FLOPS_PER_S
    assert seats[0].machine.up_bytes_per_s == BYTES_PER_S
