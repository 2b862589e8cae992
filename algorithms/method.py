"""What every communication method can do.

A replica of the model trains on its own samples and, from time to time, *exchanges* with the others of its group.
A method says when it exchanges, what it sends, and what it makes of what the others sent. It is pure: arrays in,
arrays out; no clock, no I/O, no global randomness. A round may fail, or leave this replica out: `encode` therefore
retires nothing; only `combine`, told whether this replica's contribution was among those that counted, does.

    with method.working():                                      parameters may leave the agreed state in here
        steps(step) times: accumulate(gradients, n_samples)     gradients at the parameters as they then are
    agreed = max over peers of agree()                          (only if agree() is not empty)
    payload = encode(agreed)                                    (may be called again for a new round)
    ... the group commits which payloads count ...
    combine(payloads, mine=..., step=step, slots=...)

So one *round* is one exchange, and holds `steps(step)` local steps: one for methods that exchange gradients, more for
those that let replicas drift apart for a while. Between rounds the parameters of all replicas are the same, bit for
bit; what a replica has of its own by then is in `local_state`.
"""

from __future__ import annotations

import enum
import math
from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from .errors import BadPart
from .options import OptionValue
from .schedule import Schedule

F32 = npt.NDArray[np.float32]
Tensors = Mapping[str, torch.Tensor]
U8 = npt.NDArray[np.uint8]


class Exchange(enum.Enum):
    """How payloads travel."""

    GATHER = "gather"
    """Everybody gets everybody's payload: `combine` sees one payload per contributor."""

    REDUCE = "reduce"
    """Payloads are vectors of one length, float32 or coded, reduced part by part: `combine` sees one payload, the
    result of `reduce` over all contributors."""


@dataclass(frozen=True, kw_only=True)
class Slots:
    """Whose payloads count in a round, as places in its roster."""

    contributors: tuple[int, ...]
    """Ascending."""
    n_members: int

    @classmethod
    def everybody(cls, n_members: int) -> Slots:
        return cls(contributors=tuple(range(n_members)), n_members=n_members)


class Method(ABC):
    """One replica's side of a communication method. Built by `algorithms.build_method`.

    Args of every method's constructor:
        parameters: name -> parameter, updated in place by `combine`; iteration order is the wire order.
        options: an `options_type`.
        schedule: learning rate by number of updates.
    """

    name: ClassVar[str]
    exchange: Exchange
    """Alike for all methods of one class, or chosen by the options when it is built."""
    adds: bool = False
    """Whether payloads that a peer makes one after the other, of different samples, may be combined together."""
    overlaps: bool = False
    """Whether the next round's local steps are done while this round's contributions travel."""
    for_devices: ClassVar[bool] = False
    """Whether devices that only do forward passes can take part."""
    default_lr: ClassVar[float]
    """A peak learning rate that trains small models well."""
    default_schedule: ClassVar[str] = "constant"
    """How the learning rate goes on, unless the run says otherwise."""
    unit_bytes: int = 4
    """REDUCE: payloads are so many bytes times an integer, and parts of them are cut between such units."""
    takes_gradients: ClassVar[bool] = True
    """Whether replicas that backpropagate can contribute; if not, only gateways' devices do."""
    options_type: ClassVar[type[Any]]
    """The method's options: a frozen, keyword-only dataclass that validates itself."""

    @classmethod
    def default_rate(cls, options: Mapping[str, OptionValue]) -> float:
        """The peak learning rate of a run that names none, with these options (those left out are the default)."""
        return cls.default_lr

    @abstractmethod
    def __init__(self, parameters: Mapping[str, torch.Tensor], options: Any, schedule: Schedule) -> None: ...

    def begin(self, run_id: bytes) -> None:
        """Told once which run this is (32 bytes), before anything else. Most methods don't care."""
        return

    @abstractmethod
    def accumulate(self, gradients: Mapping[str, torch.Tensor | None], n_samples: int) -> None:
        """Take in the mean gradient over `n_samples` fresh samples. Missing gradients count as zero.

        Calling it again before `combine` (the round failed or left us out) adds to what is pending: no work is lost.
        """

    @abstractmethod
    def encode(self, agreed: F32) -> bytes:
        """This replica's payload. Changes nothing; equal state gives equal bytes."""

    @abstractmethod
    def combine(self, payloads: Sequence[bytes], *, mine: int | None, step: int, slots: Slots) -> tuple[int, ...]:
        """Update the parameters from the committed payloads and retire what of ours was among them.

        Args:
            payloads: in roster order (GATHER), or the one reduced payload (REDUCE). All passed `check`.
            mine: index of this replica's payload among the contributors, None if it was left out.
            step: number of updates applied before this round.
            slots: who contributed.
        Returns: indices of contributors that a robust rule dropped, ascending; () where there is no such rule.
        Raises: TooFewContributions if these do not determine an update; nothing is changed then.
        """

    @abstractmethod
    def check(self, payload: bytes) -> None:
        """Refuse a payload from outside that is not exactly what `encode` of an honest replica could send.

        Raises ValueError with the reason. Looks at lengths, indices, and that every float is finite.
        """

    @abstractmethod
    def payload_bytes_max(self) -> int:
        """No honest payload is longer."""

    @abstractmethod
    def shared_state(self) -> dict[str, torch.Tensor]:
        """What all replicas hold alike besides the parameters (e.g. optimizer moments). References, not copies."""

    @abstractmethod
    def local_state(self) -> dict[str, torch.Tensor]:
        """What only this replica holds (residuals, pending gradients). References, not copies.

        Both states are restored by copying into these tensors in place, so their names and shapes never change.
        """

    def steps(self, step: int) -> int:
        """Local steps in the round that begins when `step` updates are applied; the same on all replicas."""
        return 1

    def shares(self, slot: int, n_members: int) -> tuple[int, ...]:
        """The slots whose samples this replica works through in a round, its own among them."""
        return (slot,)

    def n_shares(self, slots: Slots) -> int:
        """Of how many members' samples an update is made to which these contribute."""
        return len(slots.contributors)

    def suffices(self, slots: Slots) -> bool:
        """Whether these contributions determine an update; if not, `combine` raises TooFewContributions."""
        return True

    def noise_scale(self) -> float:
        """Variance of one contribution over the squared norm of their mean, as seen so far; infinite if unknown."""
        return math.inf

    @contextmanager
    def working(self) -> Iterator[None]:
        """Local steps happen in here; before and after, the parameters hold the agreed state."""
        yield

    def agree(self) -> F32:
        """A few floats whose maximum over the peers `encode` needs. Empty: none."""
        return np.empty(0, np.float32)

    def reduce(self, parts: Sequence[U8], start: int) -> U8:
        """Reduce the same units of every contributor's payload, in roster order (REDUCE only).

        A unit's result depends on nothing but that unit. Default: float32 values are added up.

        Args:
            parts: uint8 [n_contributors][n_units * unit_bytes].
            start: number of the first of these units within the payload.
        Returns: uint8 [n_units * unit_bytes].
        Raises: BadPart for what no honest replica sends.
        """
        return float_sum(parts)

    @classmethod
    def served(cls, model: Tensors, shared: Tensors) -> Tensors:
        """The model to evaluate and to export: the parameters, unless the method keeps an average of them.

        Args:
            model: the parameters in their order, and buffers after them.
            shared: as `shared_state` has it.
        """
        return model

    def forget_local(self) -> None:
        """Zero the local state: this replica resynchronised and its pending work no longer fits."""
        for tensor in self.local_state().values():
            tensor.zero_()

    def describe(self) -> dict[str, Any]:
        """Name and options, for logs."""
        return {"method": self.name}


def float_sum(parts: Sequence[U8]) -> U8:
    """The sum of float32 vectors, one after the other. Raises BadPart where it is not finite."""
    vectors = [part.view(np.float32) for part in parts]
    total = vectors[0].copy()
    with np.errstate(over="ignore", invalid="ignore"):
        for vector in vectors[1:]:
            total += vector
    # A finite sum has finite addends, so that one look is enough.
    if not np.isfinite(total).all():
        raise BadPart(_largest_of(vectors), "NaN, infinity, or values too large to be added up")
    return total.view(np.uint8)


def _largest_of(vectors: Sequence[F32]) -> int:
    """Which of these holds NaN, else which the largest magnitude; the first of several."""
    peaks = [float(np.abs(vector).max(initial=0.0)) for vector in vectors]
    return max(range(len(peaks)), key=lambda index: (peaks[index] != peaks[index], peaks[index]))
