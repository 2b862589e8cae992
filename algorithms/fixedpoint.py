"""Fixed-point forward gradients as the method of a group: gateways send their devices' votes, nobody a gradient.

The mathematics is that of `algorithms.forward.fixedpoint` (after arXiv:2411.04036), which devices run too. The integers
are the model; the float parameters are what they stand for, so that tasks can evaluate and export it.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import numpy as np
import numpy.typing as npt
import torch

from .device_method import DeviceMethod
from .errors import BadGradient, BadPayload
from .forward.aggregation import RoundKey
from .forward.exchange import DEVICES_MAX
from .forward.fixedpoint.options import VotingOptions
from .forward.fixedpoint.scales import dequantise, quantise
from .forward.fixedpoint.training import IntegerReplica
from .forward.fixedpoint.votes import VotePart, VoteReplay, decode_votes, votes_bytes
from .forward.replay import PARTS_MAX
from .layout import Layout
from .method import F32, Exchange, Slots
from .options import require
from .schedule import Schedule

I8 = npt.NDArray[np.int8]


@dataclass(frozen=True, kw_only=True)
class Ballot:
    """One device's votes in one round."""

    key: RoundKey
    slot: int
    votes: I8
    """int8 [m] of -1, 0 and 1."""


class FixedPoint(DeviceMethod):
    """Votes from devices, added up. Raises BadOption for a plan that is not one of this model."""

    name = "fixedpoint"
    exchange = Exchange.GATHER
    for_devices = True
    takes_gradients: ClassVar[bool] = False
    default_lr = 1.0
    options_type = VotingOptions

    def __init__(self, parameters: Mapping[str, torch.Tensor], options: VotingOptions, schedule: Schedule) -> None:
        self.options = options
        self.pending: tuple[Ballot, ...] = ()
        self.plan = options.read_plan()
        self._scales = options.read_scales(self.plan)
        self._parameters = dict(parameters)
        self._layout = Layout.of(parameters)
        ours, theirs = [tuple(p.shape) for p in self.plan.network.parameters()], list(self._layout.shapes)
        require(ours == theirs, "plan", f"one of a model with parameters {theirs}", str(ours))
        start = quantise(self.plan, self._scales, self._layout.pack(parameters).numpy())
        self._replica = IntegerReplica(start, self.plan, bytes(32))
        self._show()

    @property
    def weights(self) -> npt.NDArray[np.int16]:
        """The model, int16 [plan.n_weights]; a reference."""
        return self._replica.weights

    @property
    def momentum(self) -> npt.NDArray[np.int32]:
        """Of the votes, int32 [plan.n_weights], empty where nothing is guided by it; a reference."""
        return self._replica.momentum

    def begin(self, run_id: bytes) -> None:
        self._replica.run_id = run_id

    def accumulate(self, gradients: Mapping[str, torch.Tensor | None], n_samples: int) -> None:
        raise BadGradient("fixed point adds up votes of devices and has no use for gradients: be a gateway")

    def encode(self, agreed: F32) -> bytes:
        if not self.pending:
            raise BadGradient("nothing to contribute: no device has answered")
        return VoteReplay(step=0, parts=tuple(_parts(self.pending))).to_bytes()

    def combine(self, payloads: Sequence[bytes], *, mine: int | None, step: int, slots: Slots) -> tuple[int, ...]:
        replays = [self._decode(bytes(payload)) for payload in payloads]  # they may be views
        self._replica.step = step
        sums = np.zeros(len(self.weights), np.int64)
        for replay in replays:
            sums += self._replica.sum_votes(replay)
        self._replica.descend(sums)
        self._show()
        counted = _names(replays)
        self.pending = tuple(one for one in self.pending if (one.key.round_seed, one.slot) not in counted)
        return ()

    # -- devices ---------------------------------------------------------------------------------

    def read(self, key: RoundKey, slot: int, payload: bytes) -> Ballot:
        return Ballot(key=key, slot=slot, votes=decode_votes(payload, self.options.n_votes))

    def counted(self, payloads: Sequence[bytes]) -> frozenset[tuple[bytes, int]]:
        return _names([self._decode(payload) for payload in payloads])

    def credit(self, payloads: Sequence[bytes]) -> dict[str, float]:
        return {"devices": 1.0, "peers": 0.0}

    def device_options(self) -> dict[str, Any]:
        return {"plan": self.options.plan, "batch_size": self.options.batch_size}

    def device_state(self) -> dict[str, npt.NDArray[np.generic]]:
        return self._replica.state()

    def weights_digest(self) -> str:
        return self._replica.digest()

    def at_step(self, step: int) -> None:
        self._replica.step = step

    @property
    def samples_per_answer(self) -> int:
        return self.options.batch_size

    # -- payloads and state ----------------------------------------------------------------------

    def check(self, payload: bytes) -> None:
        self._decode(bytes(payload))

    def payload_bytes_max(self) -> int:
        return 64 + PARTS_MAX * (64 + 2**13) + votes_bytes(self.options.n_votes * DEVICES_MAX) + PARTS_MAX

    def shared_state(self) -> dict[str, torch.Tensor]:
        momentum = {"momentum": torch.from_numpy(self.momentum)} if len(self.momentum) else {}
        return {"weights": torch.from_numpy(self._replica.weights), **momentum}

    def local_state(self) -> dict[str, torch.Tensor]:
        return {}

    def forget_local(self) -> None:
        self.pending = ()

    def describe(self) -> dict[str, Any]:
        chosen = self.options
        return {"method": self.name, "n_votes": chosen.n_votes, "epsilon": chosen.epsilon, "eta": chosen.eta}

    def _decode(self, payload: bytes) -> VoteReplay:
        replay = VoteReplay.from_bytes(payload, n_votes=self.options.n_votes)
        n = sum(len(part.slots) for part in replay.parts)
        if n > DEVICES_MAX:
            raise BadPayload(f"a payload with the votes of {n} devices: at most {DEVICES_MAX} fit")
        return replay

    def _show(self) -> None:
        """Let the float parameters be what the integers stand for."""
        flat = torch.from_numpy(dequantise(self.plan, self._scales, self.weights))
        with torch.no_grad():
            for parameter, part in zip(self._parameters.values(), self._layout.views(flat), strict=True):
                parameter.copy_(part)


def _parts(ballots: Sequence[Ballot]) -> list[VotePart]:
    """By ascending round, each in slot order."""
    ordered = sorted(ballots, key=lambda ballot: (ballot.key.round_index, ballot.slot))
    parts = []
    for round_index in sorted({ballot.key.round_index for ballot in ordered}):
        own = [ballot for ballot in ordered if ballot.key.round_index == round_index]
        key = own[-1].key
        parts.append(
            VotePart(
                round_seed=key.round_seed,
                round_index=round_index,
                n_slots=max(ballot.key.n_slots for ballot in own),
                slots=tuple(ballot.slot for ballot in own),
                votes=np.array([ballot.votes for ballot in own], np.int8),
            )
        )
    return parts


def _names(replays: Sequence[VoteReplay]) -> frozenset[tuple[bytes, int]]:
    return frozenset((part.round_seed, slot) for replay in replays for part in replay.parts for slot in part.slots)
