"""A method of one's own in one file: signSGD with majority vote (Bernstein et al. 2018, arXiv:1802.05957, algorithm 1).

Every peer sends one bit per parameter, the sign of its gradient; all step where most of them point.

    m_i   beta m_i + (1 - beta) g_i          (the momentum is the peer's own; the paper calls this Signum)
    send  sign(m_i)
    p     p - lr * sign(sum of the signs)

Put this file's folder on PYTHONPATH on every machine that takes part, then name the class:

    PYTHONPATH=examples gossamer up --peers 3 --task digits --method sign_vote:SignVote --steps 200
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import torch

from gossamer.algorithms import BadOption, BadPayload, Exchange, Method, Schedule, Slots


@dataclass(frozen=True, kw_only=True)
class SignVoteOptions:
    """Options of `sign_vote:SignVote`."""

    beta: float = 0.9
    """Decay of the local momentum; 0: none."""

    def __post_init__(self) -> None:
        if not 0 <= self.beta < 1:
            raise BadOption(f"option 'beta' must be at least 0 and below 1, not {self.beta}")


class SignVote(Method):
    """One bit per parameter, and a vote."""

    name = "sign-vote"
    exchange = Exchange.GATHER
    default_lr = 1e-3
    options_type = SignVoteOptions

    def __init__(self, parameters: Mapping[str, torch.Tensor], options: SignVoteOptions, schedule: Schedule) -> None:
        self._parameters = dict(parameters)
        self._beta = options.beta
        self._schedule = schedule
        self._dim = sum(parameter.numel() for parameter in parameters.values())
        self._momentum = torch.zeros(self._dim)

    def accumulate(self, gradients: Mapping[str, torch.Tensor | None], n_samples: int) -> None:
        parts = [gradients.get(name) for name in self._parameters]
        shapes = self._parameters.values()
        flat = torch.cat(
            [torch.zeros(p.numel()) if g is None else g.flatten() for p, g in zip(shapes, parts, strict=True)]
        )
        self._momentum.mul_(self._beta).add_(flat, alpha=1 - self._beta)

    def encode(self, agreed: np.ndarray) -> bytes:
        return np.packbits(self._momentum.numpy() < 0).tobytes()

    @torch.no_grad()
    def combine(self, payloads: Sequence[bytes], *, mine: int | None, step: int, slots: Slots) -> tuple[int, ...]:
        votes = np.zeros(self._dim, np.int32)
        for payload in payloads:
            votes += 1 - 2 * np.unpackbits(np.frombuffer(payload, np.uint8), count=self._dim).astype(np.int32)
        direction = torch.from_numpy(np.sign(votes).astype(np.float32))
        start = 0
        for parameter in self._parameters.values():
            part = direction[start : start + parameter.numel()].view(parameter.shape)
            parameter.sub_(part, alpha=self._schedule.rate(step))
            start += parameter.numel()
        return ()

    def check(self, payload: bytes) -> None:
        if len(payload) != self.payload_bytes_max():
            raise BadPayload(f"payload of {len(payload)} bytes, expected {self.payload_bytes_max()}")

    def payload_bytes_max(self) -> int:
        return (self._dim + 7) // 8

    def shared_state(self) -> dict[str, torch.Tensor]:
        return {}

    def local_state(self) -> dict[str, torch.Tensor]:
        return {"momentum": self._momentum}
