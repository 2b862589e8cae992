"""How faults are done to a swarm, at their times."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Awaitable, Callable, Sequence
from itertools import product
from typing import Any

from ..peer.checkpoints import list_checkpoints
from . import faults, lying, storms
from .holds import Way
from .struck import Struck
from .swarm import Swarm

POLL_S = 0.05

Strike = Callable[[Swarm, Any, Struck, random.Random], Awaitable[None]]


async def follow(swarm: Swarm, place: int, choose: random.Random) -> None:
    """Wait for the time of a fault of the scenario, do it, and again if it is one that comes again."""
    fault = swarm.scenario.faults[place]
    if fault.after_step is not None:
        while swarm.step < fault.after_step:  # noqa: ASYNC110 - virtual time, and no event to wait for
            await asyncio.sleep(POLL_S)
    await asyncio.sleep(fault.at_s or 0.0)
    async with asyncio.TaskGroup() as group:
        for _ in range(fault.times if fault.every_s else 1):
            if isinstance(fault, faults.Storm):
                group.create_task(_storm(swarm, place, fault, choose))
            else:
                group.create_task(strike(swarm, place, fault, choose))
            if fault.every_s is None:
                return
            await asyncio.sleep(fault.every_s)


async def strike(
    swarm: Swarm, place: int, fault: faults.Fault, choose: random.Random, *, among: Sequence[int] = ()
) -> None:
    """Do a fault now, to whom it concerns; returns when it is over.

    Args:
        place: of the fault, or of the storm that drew it, in the scenario's list.
        among: draw victims among these; default: among all.
    """
    victims, begun_s = _victims(swarm, fault, choose, among), swarm.sim.now_s
    struck = Struck(place=place, fault=_as_done(swarm, fault, victims))
    swarm.struck.append(struck)
    wanted = len(fault.peers) or (fault.n if fault.share is None else 1)
    if len(victims) < wanted:
        struck.remark(f"{len(victims)} of {wanted} machines were on to be struck")
    for number in victims:
        seat = swarm.seats[number]
        swarm.note(fault.kind, seat.host, "" if seat.is_on else "it is off")
    try:
        await _STRIKES[type(fault)](swarm, fault, struck, choose)
    finally:
        for number in struck.victims if isinstance(fault, _LASTING) else ():
            if not swarm.seats[number].was_on(begun_s):
                struck.spare(number, "was off all the while")


def _as_done(swarm: Swarm, fault: faults.Fault, victims: list[int]) -> faults.Fault:
    """The same fault once, with its time and its victims written out."""
    at_s = round(swarm.sim.now_s, 6)
    plain = {"after_step": None, "every_s": None, "times": 1_000_000, "n": 1, "share": None, "region": None}
    return fault.model_copy(update={**plain, "at_s": at_s, "peers": tuple(victims)})


def _victims(swarm: Swarm, fault: faults.Fault, choose: random.Random, among: Sequence[int]) -> list[int]:
    if fault.peers:
        return list(fault.peers)
    up = _up(swarm, fault, among)
    return sorted(choose.sample(up, _n_victims(fault, len(up))))


def _up(swarm: Swarm, fault: faults.Fault, among: Sequence[int]) -> list[int]:
    return [number for number in swarm.up(fault.region) if not among or number in among]


def _n_victims(fault: faults.Fault, n_up: int) -> int:
    return min(fault.n if fault.share is None else max(1, round(fault.share * n_up)), n_up)


# -------------------------------------------------------------------------------------------------------------- storm


async def _storm(swarm: Swarm, place: int, storm: faults.Storm, choose: random.Random) -> None:
    swarm.note(storm.kind, None)  # it happens to nobody: the faults that it draws do
    end_s = swarm.sim.now_s + storm.for_s
    async with asyncio.TaskGroup() as group:
        while True:
            await asyncio.sleep(choose.expovariate(1 / storm.mean_s))
            if swarm.sim.now_s >= end_s:
                return
            drawn = storms.drawn(storm, choose)
            n_victims = _n_victims(drawn, len(_up(swarm, drawn, storm.peers)))
            if n_victims and (not isinstance(drawn, storms.DISABLING) or swarm.can_spare(n_victims)):
                group.create_task(strike(swarm, place, drawn, choose, among=storm.peers))


# ---------------------------------------------------------------------------------------------------------- processes


async def _crash(swarm: Swarm, fault: faults.Crash, struck: Struck, choose: random.Random) -> None:
    is_lost = fault.disk == "lost"
    for number in struck.victims:
        if _take_down(swarm, number, struck, silent=fault.silent, disk_is_lost=is_lost) and is_lost and number == 0:
            struck.remark("p0 keeps its disk and key, which are the owner's")
    if fault.back_after_s is None:
        return
    await asyncio.sleep(fault.back_after_s)
    for number in struck.victims:
        swarm.seats[number].give_back()


async def _preempt(swarm: Swarm, fault: faults.Preempt, struck: Struck, choose: random.Random) -> None:
    async def one(number: int, after_s: float) -> None:
        await asyncio.sleep(after_s)
        if _take_down(swarm, number, struck) and fault.back_after_s is not None:
            await asyncio.sleep(choose.expovariate(1 / fault.back_after_s) if fault.back_after_s else 0.0)
            swarm.seats[number].give_back()

    async with asyncio.TaskGroup() as group:
        for number in struck.victims:
            group.create_task(one(number, choose.uniform(0.0, fault.over_s)))


def _take_down(swarm: Swarm, number: int, struck: Struck, *, silent: bool = False, disk_is_lost: bool = False) -> bool:
    """Whether there was anything to take."""
    seat = swarm.seats[number]
    was_on = seat.is_on
    if not seat.take_down(silent=silent, disk_is_lost=disk_is_lost):
        struck.spare(number, "was off")
        return False
    if not was_on:
        struck.remark(f"p{number} was down already")
    return True


# ------------------------------------------------------------------------------------------------------------ network


async def _partition(swarm: Swarm, fault: faults.Partition, struck: Struck, choose: random.Random) -> None:
    with swarm.holds.cut(_ways(swarm, struck, one_way=fault.one_way)):
        await asyncio.sleep(fault.for_s)


async def _flap(swarm: Swarm, fault: faults.Flap, struck: Struck, choose: random.Random) -> None:
    ways = _ways(swarm, struck)
    end_s = swarm.sim.now_s + fault.for_s
    while swarm.sim.now_s < end_s:
        with swarm.holds.cut(ways):
            await asyncio.sleep(fault.cut_s)
        await asyncio.sleep(fault.whole_s)


def _ways(swarm: Swarm, struck: Struck, *, one_way: bool = False) -> list[Way]:
    """Between the victims and the rest, devices among them; those of `one_way` are from the victims."""
    these = [host.name for number in struck.victims for host in swarm.seats[number].hosts]
    those = [name for name in swarm.sim.hosts if name not in these]
    if not those:
        for number in struck.victims:
            struck.spare(number, "is cut off from nobody: all are on its side")
    return [*product(these, those), *(() if one_way else product(those, these))]


async def _stall(swarm: Swarm, fault: faults.Stall, struck: Struck, choose: random.Random) -> None:
    with swarm.holds.slowed(struck.victims, line_factor=0.0):
        await asyncio.sleep(fault.for_s)


async def _slow(swarm: Swarm, fault: faults.Slow, struck: Struck, choose: random.Random) -> None:
    with swarm.holds.slowed(struck.victims, line_factor=fault.line_factor, compute_factor=fault.compute_factor):
        await asyncio.sleep(fault.for_s)


# ----------------------------------------------------------------------------------------------------------- machines


async def _skew(swarm: Swarm, fault: faults.Skew, struck: Struck, choose: random.Random) -> None:
    for number in struck.victims:
        for host in swarm.seats[number].hosts:
            host.clock_skew_s += fault.by_s


async def _rot_disk(swarm: Swarm, fault: faults.RotDisk, struck: Struck, choose: random.Random) -> None:
    for number in struck.victims:
        checkpoints = list_checkpoints(swarm.seats[number].folder)
        if not checkpoints:
            struck.spare(number, "had no checkpoint")
            continue
        file = choose.choice(sorted(one for one in checkpoints[0].iterdir() if one.is_file()))
        file.write_bytes(lying.flipped(file.read_bytes(), choose))


async def _full_disk(swarm: Swarm, fault: faults.FullDisk, struck: Struck, choose: random.Random) -> None:
    with swarm.holds.full_disk(struck.victims):
        await asyncio.sleep(fault.for_s)


_STRIKES: dict[type[Any], Strike] = {
    faults.Crash: _crash,
    faults.Preempt: _preempt,
    faults.Partition: _partition,
    faults.Flap: _flap,
    faults.Stall: _stall,
    faults.Slow: _slow,
    faults.Skew: _skew,
    faults.FlipBits: lying.flip_bits,
    faults.RotDisk: _rot_disk,
    faults.FullDisk: _full_disk,
    faults.Lie: lying.lie,
    faults.BadLeader: lying.bad_leader,
    faults.BadDonor: lying.bad_donor,
}

_LASTING = tuple(kind for kind in _STRIKES if "for_s" in kind.model_fields)
"""They make a difference to who is on for a part of their time."""
