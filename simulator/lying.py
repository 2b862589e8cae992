"""Faults of machines that send what they should not: flipped bits, bad leaders and donors. Liars: see `liar`."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Sequence

from . import faults
from .liar import Liar, Told
from .swarm import Swarm

LEADS = ("round/prepare", "round/accept", "round/commit", "round/plan")
DONATES = ("sync/snapshot", "sync/chunk", "round/log", "round/fetch")
LOOK_EVERY_S = 0.1
"""For machines that have begun anew and are to lie on."""


async def flip_bits(swarm: Swarm, fault: faults.FlipBits, victims: list[int], choose: random.Random) -> None:
    def tamper(method: str, payload: bytes) -> bytes:
        return flipped(payload, choose) if payload and choose.random() < fault.rate else payload

    await _tampered(swarm, victims, tamper, fault.for_s)


async def bad_leader(swarm: Swarm, fault: faults.BadLeader, victims: list[int], choose: random.Random) -> None:
    def babble(method: str, payload: bytes) -> bytes:
        return b"\xff" * len(payload) if method in LEADS else payload

    tamper = babble if fault.how == "nonsense" else _garbling(LEADS, choose)
    await _tampered(swarm, victims, tamper, fault.for_s)


async def bad_donor(swarm: Swarm, fault: faults.BadDonor, victims: list[int], choose: random.Random) -> None:
    await _tampered(swarm, victims, _garbling(DONATES, choose), fault.for_s)


def _garbling(methods: Sequence[str], choose: random.Random) -> Callable[[str, bytes], bytes]:
    def tamper(method: str, payload: bytes) -> bytes:
        return flipped(payload, choose) if payload and method in methods else payload

    return tamper


async def _tampered(swarm: Swarm, victims: Sequence[int], tamper: Callable[[str, bytes], bytes], for_s: float) -> None:
    for number in victims:
        swarm.hosts[number].set_tamper(tamper)
    await asyncio.sleep(for_s)
    for number in victims:
        if swarm.hosts[number].tamper is tamper:  # else a later fault has taken its place
            swarm.hosts[number].set_tamper(None)


def flipped(data: bytes, choose: random.Random) -> bytes:
    """With one bit flipped."""
    changed = bytearray(data)
    if changed:
        changed[choose.randrange(len(changed))] ^= 1 << choose.randrange(8)
    return bytes(changed)


async def lie(swarm: Swarm, fault: faults.Lie, victims: list[int], choose: random.Random) -> None:
    """From the contribution that is made next, in all lives and at all stages of these machines."""
    told = Told(fault=fault, key=choose.getrandbits(64))
    liars: list[Liar] = []
    end_s = swarm.sim.now_s + fault.for_s
    while swarm.sim.now_s < end_s:
        for number in victims:
            daemon = swarm.daemons[number]
            # A pipeline's peer has a method once it has a stage, and another one with another stage.
            method = getattr(daemon.replica, "method", None) if daemon is not None else None
            if method is not None and told not in (liar := Liar.of(method)).told:
                liar.told.append(told)
                liars.append(liar)
        await asyncio.sleep(min(LOOK_EVERY_S, end_s - swarm.sim.now_s))
    for liar in liars:
        liar.stop(told)
