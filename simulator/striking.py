"""How faults are done to a swarm, at their times."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Awaitable, Callable, Sequence
from typing import Any

from ..peer.checkpoints import list_checkpoints
from . import faults, lying
from .swarm import Swarm

POLL_S = 0.05

Strike = Callable[[Swarm, Any, list[int], random.Random], Awaitable[None]]


async def follow(swarm: Swarm, fault: faults.Fault, choose: random.Random) -> None:
    """Wait for a fault's time, do it, and again if it is one that comes again."""
    if fault.after_step is not None:
        while swarm.step < fault.after_step:  # noqa: ASYNC110 - virtual time, and no event to wait for
            await asyncio.sleep(POLL_S)
    await asyncio.sleep(fault.at_s or 0.0)
    async with asyncio.TaskGroup() as group:
        for _ in range(fault.times if fault.every_s else 1):
            group.create_task(strike(swarm, fault, choose))
            if fault.every_s is None:
                return
            await asyncio.sleep(fault.every_s)


async def strike(swarm: Swarm, fault: faults.Fault, choose: random.Random) -> None:
    """Do a fault now, to whom it concerns; returns when it is over."""
    victims = _victims(swarm, fault, choose)
    if isinstance(fault, faults.Storm):  # it happens to nobody: the faults that it draws do
        swarm.note(fault.kind, None)
    elif victims:
        for number in victims:
            swarm.note(fault.kind, swarm.hosts[number])
        swarm.struck.append(_as_done(swarm, fault, victims))
    await _STRIKES[type(fault)](swarm, fault, victims, choose)


def _as_done(swarm: Swarm, fault: faults.Fault, victims: list[int]) -> faults.Fault:
    """The same fault once, with its time and its victims written out."""
    at_s = round(swarm.sim.now_s, 6)
    plain = {"after_step": None, "every_s": None, "times": 1_000_000, "n": 1, "share": None, "region": None}
    return fault.model_copy(update={**plain, "at_s": at_s, "peers": tuple(victims)})


def _victims(swarm: Swarm, fault: faults.Fault, choose: random.Random) -> list[int]:
    if fault.peers:
        return list(fault.peers)
    up = swarm.up(fault.region)
    n = fault.n if fault.share is None else max(1, round(fault.share * len(up)))
    return sorted(choose.sample(up, min(n, len(up))))


# ---------------------------------------------------------------------------------------------------------- processes


async def _crash(swarm: Swarm, fault: faults.Crash, victims: list[int], choose: random.Random) -> None:
    for number in victims:
        swarm.hosts[number].kill(silent=fault.silent)
    if fault.back_after_s is None:
        return
    await asyncio.sleep(fault.back_after_s)
    for number in victims:
        swarm.switch_on(number, new_machine=fault.disk == "lost")


async def _preempt(swarm: Swarm, fault: faults.Preempt, victims: list[int], choose: random.Random) -> None:
    async def one(number: int, after_s: float) -> None:
        await asyncio.sleep(after_s)
        swarm.hosts[number].kill()
        if fault.back_after_s is not None:
            await asyncio.sleep(choose.expovariate(1 / fault.back_after_s) if fault.back_after_s else 0.0)
            swarm.switch_on(number)

    async with asyncio.TaskGroup() as group:
        for number in victims:
            group.create_task(one(number, choose.uniform(0.0, fault.over_s)))


# ------------------------------------------------------------------------------------------------------------ network


async def _partition(swarm: Swarm, fault: faults.Partition, victims: list[int], choose: random.Random) -> None:
    these, those = _sides(swarm, victims)
    swarm.sim.partition(these, those, one_way=fault.one_way)
    await asyncio.sleep(fault.for_s)
    swarm.sim.heal(these, those)


async def _flap(swarm: Swarm, fault: faults.Flap, victims: list[int], choose: random.Random) -> None:
    these, those = _sides(swarm, victims)
    end_s = swarm.sim.now_s + fault.for_s
    while swarm.sim.now_s < end_s:
        swarm.sim.partition(these, those)
        await asyncio.sleep(fault.cut_s)
        swarm.sim.heal(these, those)
        await asyncio.sleep(fault.whole_s)


def _sides(swarm: Swarm, victims: Sequence[int]) -> tuple[list[str], list[str]]:
    names = [host.name for host in swarm.hosts]
    these = [names[number] for number in victims]
    return these, [name for name in names if name not in these]


async def _stall(swarm: Swarm, fault: faults.Stall, victims: list[int], choose: random.Random) -> None:
    await _at_speed(swarm, victims, fault.for_s, line_factor=0.0, compute_factor=1.0)


async def _slow(swarm: Swarm, fault: faults.Slow, victims: list[int], choose: random.Random) -> None:
    factors = {"line_factor": fault.line_factor, "compute_factor": fault.compute_factor}
    await _at_speed(swarm, victims, fault.for_s, **factors)


async def _at_speed(
    swarm: Swarm, victims: Sequence[int], for_s: float, *, line_factor: float, compute_factor: float
) -> None:
    for number in victims:
        _set_speed(swarm, number, line_factor, compute_factor)
    await asyncio.sleep(for_s)
    for number in victims:
        _set_speed(swarm, number, 1.0, 1.0)


def _set_speed(swarm: Swarm, number: int, line_factor: float, compute_factor: float) -> None:
    machine, host = swarm.fleet.machines[number], swarm.hosts[number]
    swarm.sim.set_line(
        host,
        up_bytes_per_s=machine.up_bytes_per_s * line_factor,
        down_bytes_per_s=machine.down_bytes_per_s * line_factor,
    )
    host.flops_per_s = machine.flops_per_s * compute_factor
    host.memory_bytes_per_s = machine.memory_bytes_per_s * compute_factor


# ----------------------------------------------------------------------------------------------------------- machines


async def _skew(swarm: Swarm, fault: faults.Skew, victims: list[int], choose: random.Random) -> None:
    for number in victims:
        swarm.hosts[number].clock_skew_s += fault.by_s


async def _rot_disk(swarm: Swarm, fault: faults.RotDisk, victims: list[int], choose: random.Random) -> None:
    for number in victims:
        for path in list_checkpoints(swarm.folder(number))[:1]:
            file = choose.choice(sorted(one for one in path.iterdir() if one.is_file()))
            file.write_bytes(lying.flipped(file.read_bytes(), choose))


async def _full_disk(swarm: Swarm, fault: faults.FullDisk, victims: list[int], choose: random.Random) -> None:
    for number in victims:
        swarm.hosts[number].disk_is_full = True
    await asyncio.sleep(fault.for_s)
    for number in victims:
        swarm.hosts[number].disk_is_full = False


# -------------------------------------------------------------------------------------------------------------- storm


async def _storm(swarm: Swarm, fault: faults.Storm, victims: list[int], choose: random.Random) -> None:
    end_s = swarm.sim.now_s + fault.for_s
    async with asyncio.TaskGroup() as group:
        while True:
            await asyncio.sleep(choose.expovariate(1 / fault.mean_s))
            if swarm.sim.now_s >= end_s:
                return
            drawn = _drawn(fault, choose)
            if not isinstance(drawn, _DISABLING) or swarm.can_spare_one():
                group.create_task(strike(swarm, drawn, choose))


_DISABLING = (faults.Crash, faults.Preempt, faults.FlipBits, faults.BadLeader, faults.BadDonor)
"""Of who is struck by these, rounds expect nothing."""


def _drawn(storm: faults.Storm, choose: random.Random) -> faults.Fault:
    """A fault of a storm: short ones mostly, long ones sometimes."""
    for_s = math.exp(choose.uniform(math.log(0.5), math.log(40.0)))
    makers: dict[str, Callable[[], faults.Fault]] = {
        "crash": lambda: faults.Crash(
            silent=choose.random() < 0.4,
            back_after_s=choose.choice((0.0, for_s, for_s)),
            disk=choose.choice(("kept", "kept", "lost")),
        ),
        "partition": lambda: faults.Partition(for_s=for_s, one_way=choose.random() < 0.3),
        "flap": lambda: faults.Flap(for_s=for_s, cut_s=choose.uniform(0.1, 5), whole_s=choose.uniform(0.1, 5)),
        "stall": lambda: faults.Stall(for_s=for_s),
        "slow": lambda: faults.Slow(
            for_s=for_s, line_factor=choose.uniform(0.01, 1), compute_factor=choose.uniform(0.01, 1)
        ),
        "skew": lambda: faults.Skew(by_s=choose.uniform(-2.0, 2.0)),
        "rot_disk": faults.RotDisk,
        "full_disk": lambda: faults.FullDisk(for_s=for_s),
        "bad_donor": lambda: faults.BadDonor(for_s=for_s),
        "bad_leader": lambda: faults.BadLeader(for_s=for_s),
        "preempt": lambda: faults.Preempt(over_s=0.0, back_after_s=for_s),
        "flip_bits": lambda: faults.FlipBits(for_s=for_s, rate=choose.uniform(0.001, 0.1)),
        "lie": lambda: _lie(for_s, choose),
    }
    return makers[choose.choice(storm.kinds)]()


def _lie(for_s: float, choose: random.Random) -> faults.Lie:
    attack = choose.choice(("sign_flip", "scale", "noise", "zero", "constant", "claim", "garbage"))
    size = {"scale": {"factor": choose.choice((1e3, -1e3))}, "claim": {"factor": 1e3}}
    return faults.Lie.model_validate({"attack": attack, "for_s": for_s, **size.get(attack, {})})


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
    faults.Storm: _storm,
}
