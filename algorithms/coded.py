"""Gradient averaging that survives stragglers without losing a sample: gradient coding (arXiv:1612.03301).

    work      the samples of several members, mine among them (`shares`; see `gradient_coding`)
    payload   their gradients' sum, or a combination of them, and which part of which code it is
    update    decode the sum over all members' samples; its mean steps as in `allreduce`

Every update is made of the samples of *all* members, whoever of them straggles: s + 1 times the work buys that. So a
round retires all pending work, that of stragglers too, and each round starts afresh: what a failed round left behind
is dropped, or replicas that share their work would send different bytes.

`repetition` decodes bit for bit what it would with everybody there. It also shows who lies: of a subgroup's payloads
the most frequent counts, and who sent anything else is dropped, which withstands a minority of each subgroup (as in
DRACO, arXiv:1803.09877). `cyclic` needs the least work for every roster, is exact up to rounding only, and
cannot tell a liar.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import torch

from .clipping import GRADIENT_ABS_MAX, refuse_unusable
from .descent import Descent
from .errors import BadPayload, TooFewContributions
from .gradient_coding import cyclic_code, cyclic_shares, decoding_weights, subgroup_of, subgroups
from .method import F32, Exchange, Method, Slots
from .optimizers import OptimizerOptions
from .options import describe_options, require
from .schedule import Schedule

CODES: Final = ("repetition", "cyclic")
N_STRAGGLERS_MAX: Final = 15
TAIL: Final = 3
"""Floats behind the gradient: samples, members of the round, part (subgroup, or slot of the cyclic code)."""
TAIL_MAX: Final = 2.0**24
"""Above this float32 cannot count one by one."""


@dataclass(frozen=True, kw_only=True)
class CodedOptions(OptimizerOptions):
    """Options of `coded`."""

    n_stragglers: int = 1
    """Members that may be missing from any round, whichever they are."""
    code: str = "repetition"
    """repetition (exact) or cyclic (exact up to rounding)."""

    def __post_init__(self) -> None:
        super().__post_init__()
        fits = 1 <= self.n_stragglers <= N_STRAGGLERS_MAX
        require(fits, "n_stragglers", f"between 1 and {N_STRAGGLERS_MAX}", self.n_stragglers)
        require(self.code in CODES, "code", f"one of {', '.join(CODES)}", self.code)


class Coded(Method):
    """Averaging of gradients with redundant work."""

    name = "coded"
    exchange = Exchange.GATHER
    default_lr = 3e-4
    options_type = CodedOptions

    def __init__(self, parameters: Mapping[str, torch.Tensor], options: CodedOptions, schedule: Schedule) -> None:
        self._options = options
        self._descent = Descent(parameters, options, schedule)
        self._pending = torch.zeros(self._descent.layout.dim + TAIL)
        # What each share of a round is multiplied with; accumulate meets them in turn.
        self._weights: list[float] = [1.0]
        self._n_taken = 0
        self._part = (0, 0)

    # -- working ---------------------------------------------------------------------------------

    def shares(self, slot: int, n_members: int) -> tuple[int, ...]:
        s = self._options.n_stragglers
        if self._options.code == "cyclic":
            shares = cyclic_shares(slot, n_members, s)
            self._weights = [float(cyclic_code(n_members, s)[slot, share]) for share in shares]
            self._part = (n_members, slot)
            return shares
        part = subgroup_of(slot, n_members, s)
        shares = tuple(subgroups(n_members, s)[part])
        self._weights, self._part = [1.0] * len(shares), (n_members, part)
        return shares

    @contextmanager
    def working(self) -> Iterator[None]:
        self._pending.zero_()
        self._pending[-2:] = torch.tensor(self._part)
        self._n_taken = 0
        yield

    def accumulate(self, gradients: Mapping[str, torch.Tensor | None], n_samples: int) -> None:
        weight = self._weights[self._n_taken % len(self._weights)]
        pending = self._pending.clone()
        pending[:-TAIL].add_(self._descent.layout.pack(gradients), alpha=weight * n_samples)
        pending[-TAIL] += n_samples
        refuse_unusable(pending)
        self._pending.copy_(pending)
        self._n_taken += 1

    def encode(self, agreed: F32) -> bytes:
        return bytes(self._pending.numpy().astype("<f4", copy=False).tobytes())

    # -- combining -------------------------------------------------------------------------------

    def suffices(self, slots: Slots) -> bool:
        s, present = self._options.n_stragglers, slots.contributors
        if self._options.code == "cyclic":
            return decoding_weights(cyclic_code(slots.n_members, s), present) is not None
        return all(any(slot in group for slot in present) for group in subgroups(slots.n_members, s))

    def noise_scale(self) -> float:
        return 0.0  # whatever suffices decodes to the same

    def n_shares(self, slots: Slots) -> int:
        return slots.n_members

    def combine(self, payloads: Sequence[bytes], *, mine: int | None, step: int, slots: Slots) -> tuple[int, ...]:
        decode = self._decode_cyclic if self._options.code == "cyclic" else self._decode_repetition
        total, n_samples, dropped = decode(payloads, slots)
        self._descent.update(torch.from_numpy(total / np.float32(max(1.0, n_samples))), step)
        self._pending.zero_()
        return dropped

    def _decode_repetition(self, payloads: Sequence[bytes], slots: Slots) -> tuple[F32, float, tuple[int, ...]]:
        counted, dropped = [], []
        for part, group in enumerate(subgroups(slots.n_members, self._options.n_stragglers)):
            members = [index for index, slot in enumerate(slots.contributors) if slot in group]
            fitting = [i for i in members if _tail(payloads[i])[1:] == (slots.n_members, part)]
            if not fitting:
                raise TooFewContributions(f"nobody contributed for slots {group.start} to {group.stop - 1}")
            # Of equally frequent ones, the first.
            chosen = Counter(payloads[index] for index in fitting).most_common(1)[0][0]
            counted.append(chosen)
            dropped += [index for index in members if payloads[index] != chosen]
        total = _gradient(counted[0]).copy()
        for payload in counted[1:]:
            total += _gradient(payload)
        return total, sum(_tail(payload)[0] for payload in counted), tuple(sorted(dropped))

    def _decode_cyclic(self, payloads: Sequence[bytes], slots: Slots) -> tuple[F32, float, tuple[int, ...]]:
        n, s = slots.n_members, self._options.n_stragglers
        fits = [_tail(payload)[1:] == (n, slot) for payload, slot in zip(payloads, slots.contributors, strict=True)]
        used = [index for index, fit in enumerate(fits) if fit]
        weights = decoding_weights(cyclic_code(n, s), [slots.contributors[index] for index in used])
        if weights is None:
            raise TooFewContributions(f"{len(used)} usable contributions of {n}: at most {s} may be missing")
        total = np.zeros(self._descent.layout.dim)
        for index, weight in zip(used, weights, strict=True):
            total += weight * _gradient(payloads[index]).astype(np.float64)
        n_samples = max(_tail(payloads[index])[0] for index in used) * n / (min(s, n - 1) + 1)
        return total.astype(np.float32), n_samples, tuple(index for index, fit in enumerate(fits) if not fit)

    def check(self, payload: bytes) -> None:
        if len(payload) != self.payload_bytes_max():
            raise BadPayload(f"payload of {len(payload)} bytes, expected {self.payload_bytes_max()}")
        # NaN makes the comparison false.
        if not float(np.abs(np.frombuffer(payload, "<f4")).max()) <= GRADIENT_ABS_MAX:
            raise BadPayload("payload holds NaN, infinity or values above 2^100")
        if not all(0 <= number <= TAIL_MAX and number.is_integer() for number in _tail(payload)):
            raise BadPayload(f"payload says (samples, members, part) = {_tail(payload)}, expected integers")

    def payload_bytes_max(self) -> int:
        return 4 * (self._descent.layout.dim + TAIL)

    def shared_state(self) -> dict[str, torch.Tensor]:
        return self._descent.state()

    def local_state(self) -> dict[str, torch.Tensor]:
        return {"pending": self._pending}

    def describe(self) -> dict[str, Any]:
        return {"method": self.name, **describe_options(self._options)}


def _gradient(payload: bytes) -> F32:
    return np.frombuffer(payload, "<f4")[:-TAIL]


def _tail(payload: bytes) -> tuple[float, ...]:
    """(samples, members, part)."""
    return tuple(float(number) for number in np.frombuffer(payload[-4 * TAIL :], "<f4"))
