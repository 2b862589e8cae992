"""Faults of machines that send what they should not: flipped bits, bad leaders and donors. Liars: see `liar`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from . import faults
from .liar import Liar, Told
from .struck import Struck
from .swarm import Swarm

LEADS = ("round/prepare", "round/accept", "round/commit", "round/plan")
DONATES = ("sync/snapshot", "sync/chunk", "round/log", "round/fetch")
LOOK_EVERY_S = 0.1
"""For machines that have begun anew and are to lie on."""


async def flip_bits(swarm: Swarm, fault: faults.FlipBits, struck: Struck, choose: random.Random) -> None:
    def tamper(method: str, payload: bytes) -> bytes:
        return flipped(payload, choose) if payload and choose.random() < fault.rate else payload

    with swarm.holds.tampered(struck.victims, tamper):
        await asyncio.sleep(fault.for_s)


async def bad_leader(swarm: Swarm, fault: faults.BadLeader, struck: Struck, choose: random.Random) -> None:
    def babble(method: str, payload: bytes) -> bytes:
        return b"\xff" * len(payload) if method in LEADS else payload

    with swarm.holds.tampered(struck.victims, babble if fault.how == "nonsense" else _garbling(LEADS, choose)):
        await asyncio.sleep(fault.for_s)


async def bad_donor(swarm: Swarm, fault: faults.BadDonor, struck: Struck, choose: random.Random) -> None:
    with swarm.holds.tampered(struck.victims, _garbling(DONATES, choose)):
        await asyncio.sleep(fault.for_s)


def _garbling(methods: Sequence[str], choose: random.Random) -> Callable[[str, bytes], bytes]:
    def tamper(method: str, payload: bytes) -> bytes:
        return flipped(payload, choose) if payload and method in methods else payload

    return tamper


def flipped(data: bytes, choose: random.Random) -> bytes:
    """With one bit flipped."""
    changed = bytearray(data)
    if changed:
        changed[choose.randrange(len(changed))] ^= 1 << choose.randrange(8)
    return bytes(changed)


async def lie(swarm: Swarm, fault: faults.Lie, struck: Struck, choose: random.Random) -> None:
    """From the contribution that is made next, in all lives and at all stages of these machines."""
    told = Told(fault=fault, key=choose.getrandbits(64))
    liars: dict[int, Liar] = {}
    """The latest of each machine."""
    begun_s, end_s = swarm.sim.now_s, swarm.sim.now_s + fault.for_s
    try:
        while swarm.sim.now_s < end_s:
            for number in struck.victims:
                daemon = swarm.seats[number].daemon
                # A pipeline's peer has a method once it has a stage, and another one with another stage.
                method = getattr(daemon.replica, "method", None) if daemon is not None else None
                if method is not None and told not in (liar := Liar.of(method)).told:
                    liar.told.append(told)
                    liars[number] = liar
            await asyncio.sleep(min(LOOK_EVERY_S, end_s - swarm.sim.now_s))
    finally:
        for number in struck.victims:
            if number not in liars and swarm.seats[number].was_on(begun_s):
                struck.spare(number, "had nothing to contribute")
    for liar in liars.values():
        liar.stop(told)
