"""A group of replicas within one process, for tests of methods."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch

from gossamer.algorithms import Exchange, Method, OptionValue, Schedule, Slots, build_method

NOTHING = np.empty(0, np.float32)
Shape = tuple[int, ...]


def parameters_of(shapes: Sequence[Shape], seed: int = 0) -> dict[str, torch.Tensor]:
    generator = torch.Generator().manual_seed(seed)
    return {f"p{i}": torch.randn(shape, generator=generator) for i, shape in enumerate(shapes)}


def gradients_of(shapes: Sequence[Shape], seed: int) -> dict[str, torch.Tensor | None]:
    return {**parameters_of(shapes, seed + 1000)}


class Replica:
    """Parameters and the method that moves them."""

    def __init__(
        self, name: str, shapes: Sequence[Shape], options: Mapping[str, OptionValue], *, lr: float = 0.1
    ) -> None:
        self.parameters = parameters_of(shapes)
        self.method: Method = build_method(name, self.parameters, options, Schedule(lr=lr))

    def encode(self) -> bytes:
        return self.method.encode(NOTHING)

    def flat(self) -> torch.Tensor:
        return torch.cat([parameter.flatten() for parameter in self.parameters.values()])

    def load_state(self, other: Replica) -> None:
        """Take over all that `other` holds, local state too."""
        pairs: list[tuple[Mapping[str, Any], Mapping[str, Any]]] = [
            (self.parameters, other.parameters),
            (self.method.shared_state(), other.method.shared_state()),
            (self.method.local_state(), other.method.local_state()),
        ]
        for ours, theirs in pairs:
            for name, tensor in ours.items():
                tensor.copy_(theirs[name])


def reduced(method: Method, payloads: Sequence[bytes]) -> bytes:
    """What a REDUCE exchange makes of these payloads."""
    return method.reduce([np.frombuffer(payload, np.uint8) for payload in payloads], 0).tobytes()


def exchange(members: Sequence[Replica], contributors: Sequence[int], *, step: int) -> tuple[int, ...]:
    """One committed round: the payloads of `contributors` (ascending slots) reach all members.

    Returns: whom a robust rule dropped, which must be the same on all.
    """
    payloads = [members[i].encode() for i in contributors]
    for payload in payloads:
        members[0].method.check(payload)
    if members[0].method.exchange is Exchange.REDUCE:
        payloads = [reduced(members[0].method, payloads)]
    slots = Slots(contributors=tuple(contributors), n_members=len(members))
    told = []
    for slot, member in enumerate(members):
        mine = contributors.index(slot) if slot in contributors else None
        told.append(member.method.combine(payloads, mine=mine, step=step, slots=slots))
    assert len(set(told)) == 1
    return told[0]
