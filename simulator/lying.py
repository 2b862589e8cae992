"""Faults of machines that send what they should not: flipped bits, bad leaders and donors, liars."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch

from . import faults
from .swarm import Swarm

LEADS = ("round/prepare", "round/accept", "round/commit", "round/plan")
DONATES = ("sync/snapshot", "sync/chunk", "round/log", "round/fetch")


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
        swarm.hosts[number].set_tamper(None)


def flipped(data: bytes, choose: random.Random) -> bytes:
    """With one bit flipped."""
    changed = bytearray(data)
    if changed:
        changed[choose.randrange(len(changed))] ^= 1 << choose.randrange(8)
    return bytes(changed)


async def lie(swarm: Swarm, fault: faults.Lie, victims: list[int], choose: random.Random) -> None:
    """From the daemon's next step on, in this life."""
    told: list[tuple[Any, str]] = []
    for number in victims:
        daemon = swarm.daemons[number]
        if daemon is None:
            continue
        method = daemon.replica.method
        if fault.attack == "garbage":
            honest_encode = method.encode
            setattr(method, "encode", lambda agreed, encode=honest_encode: b"\xff" * len(encode(agreed)))  # noqa: B010
            told.append((method, "encode"))
        else:
            honest = method.accumulate
            generator = torch.Generator().manual_seed(choose.getrandbits(63))

            def accumulate(
                gradients: Mapping[str, torch.Tensor | None],
                n_samples: int,
                *,
                honest: Callable[..., None] = honest,
                generator: torch.Generator = generator,
            ) -> None:
                honest({k: _attacked(g, fault, generator) for k, g in gradients.items()}, n_samples)

            setattr(method, "accumulate", accumulate)  # noqa: B010
            told.append((method, "accumulate"))
    await asyncio.sleep(fault.for_s)
    for method, name in told:
        delattr(method, name)


def _attacked(gradient: torch.Tensor | None, fault: faults.Lie, generator: torch.Generator) -> torch.Tensor | None:
    if gradient is None:
        return None
    if fault.attack == "sign_flip":
        return -gradient
    if fault.attack == "scale":
        return fault.factor * gradient
    if fault.attack == "noise":
        noise = torch.randn(gradient.shape, generator=generator)
        return noise.mul_(gradient.norm())
    return torch.zeros_like(gradient)
