"""FedAvg, FedProx, FedAdam and FedYogi as the method of a group, for devices that backpropagate and those that cannot.

The rules are those of `algorithms.forward.federated`; what contributions of both kinds stand for is in
`algorithms.forward.mixed`. A peer of the group contributes the change that its mean gradient would make.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
import torch

from .device_method import DeviceMethod
from .errors import BadPayload
from .forward.aggregation import Contribution, RoundKey, aggregate
from .forward.federated import FederatedServer, LocalUpdate, length_of, mean_change
from .forward.mixed import (
    CHANGES,
    FORWARD,
    KIND_BYTES,
    Changes,
    Mixed,
    MixedOptions,
    RosterPart,
    answer_bytes,
    combined_change,
    mixed_bytes_max,
    read_change,
    read_kind,
)
from .forward.replica import weights_digest
from .forward.scalars import decode_scalars
from .layout import Layout
from .method import F32, Exchange, Slots
from .options import describe_options
from .pending_gradient import PendingGradient
from .schedule import Schedule


@dataclass(frozen=True, kw_only=True)
class ChangeOfDevice:
    """What one device that backpropagates learned in one round."""

    key: RoundKey
    slot: int
    change: F32


class Federated(DeviceMethod):
    """Changes of weights, and forward gradients in their place, averaged by a federated rule."""

    name = "federated"
    exchange = Exchange.GATHER
    for_devices = True
    default_lr = 1.0
    options_type = MixedOptions

    def __init__(self, parameters: Mapping[str, torch.Tensor], options: MixedOptions, schedule: Schedule) -> None:
        self.options = options
        self.pending: tuple[ChangeOfDevice | Contribution, ...] = ()
        self._parameters = dict(parameters)
        self._schedule = schedule
        self._layout = Layout.of(parameters)
        self._run_id = bytes(32)
        self._step = 0
        self._gradients = PendingGradient(self._layout)
        self._server = FederatedServer(self._layout.pack(parameters).numpy(), options.server())

    def begin(self, run_id: bytes) -> None:
        self._run_id = run_id

    def accumulate(self, gradients: Mapping[str, torch.Tensor | None], n_samples: int) -> None:
        self._gradients.add(gradients, n_samples)

    def encode(self, agreed: F32) -> bytes:
        if self.pending:
            return self._of_devices().to_bytes()
        mean, samples = self._gradients.mean(), self._gradients.n_samples
        change = np.float32(-self.options.reach) * mean
        return Mixed(changes=Changes(samples=samples * self.options.local_steps, change=change)).to_bytes()

    def combine(self, payloads: Sequence[bytes], *, mine: int | None, step: int, slots: Slots) -> tuple[int, ...]:
        read = [self._decode(payload) for payload in payloads]
        change = combined_change(read, self.options, self._run_id, self._layout.dim)
        server = self._server
        server.weights[:] = self._layout.pack(self._parameters).numpy()
        server.descend(change, self.learning_rate(step))
        with torch.no_grad():
            views = self._layout.views(torch.from_numpy(server.weights))
            for parameter, part in zip(self._parameters.values(), views, strict=True):
                parameter.copy_(part)
        if mine is not None:
            self._gradients.clear()
        counted = frozenset[tuple[bytes, int]]().union(*(one.names() for one in read))
        self.pending = tuple(one for one in self.pending if (one.key.round_seed, one.slot) not in counted)
        return ()

    # -- devices ---------------------------------------------------------------------------------

    def read(self, key: RoundKey, slot: int, payload: bytes) -> ChangeOfDevice | Contribution:
        kind, values = read_kind(payload), memoryview(payload)[KIND_BYTES:]
        if kind == FORWARD:
            return Contribution(key=key, slot=slot, differences=decode_scalars(bytes(values), self.options.K, "fp32"))
        if kind == CHANGES:
            return ChangeOfDevice(key=key, slot=slot, change=read_change(values, self._layout.dim))
        raise BadPayload(f"an answer of kind {kind}: expected {FORWARD} (differences) or {CHANGES} (a change)")

    @property
    def answer_bytes_max(self) -> int:
        return max(answer_bytes(self.options, self._layout.dim, kind) for kind in (FORWARD, CHANGES))

    def counted(self, payloads: Sequence[bytes]) -> frozenset[tuple[bytes, int]]:
        return frozenset[tuple[bytes, int]]().union(*(self._decode(payload).names() for payload in payloads))

    def credit(self, payloads: Sequence[bytes]) -> dict[str, float]:
        weights = {"devices": 0.0, "peers": 0.0}
        for one in (self._decode(payload) for payload in payloads):
            kind = "devices" if one.names() else "peers"
            weights[kind] += sum(one.weights(self.options, self._layout.dim))
        total = sum(weights.values())
        return {kind: weight / total for kind, weight in weights.items()}

    def device_options(self) -> dict[str, Any]:
        return describe_options(self.options)

    def device_state(self) -> dict[str, npt.NDArray[np.generic]]:
        self._server.weights[:] = self._layout.pack(self._parameters).numpy()
        copies = {name: array.copy() for name, array in self._server.state().items()}
        return {**copies, "step": np.array([self._step], np.int64)}

    def weights_digest(self) -> str:
        return weights_digest(self._layout.pack(self._parameters).numpy())

    def at_step(self, step: int) -> None:
        self._step = step

    def learning_rate(self, step: int) -> float:
        return float(np.float32(self._schedule.rate(step)))

    @property
    def samples_per_answer(self) -> int:
        return self.options.batch_size * self.options.local_steps

    # -- payloads and state ----------------------------------------------------------------------

    def check(self, payload: bytes) -> None:
        self._decode(payload)

    def payload_bytes_max(self) -> int:
        return mixed_bytes_max(self.options, self._layout.dim)

    def shared_state(self) -> dict[str, torch.Tensor]:
        state = self._server.state()
        return {name: torch.from_numpy(state[name]) for name in ("first", "second") if name in state}

    def local_state(self) -> dict[str, torch.Tensor]:
        return {"gradients": self._gradients.total}

    def forget_local(self) -> None:
        super().forget_local()
        self.pending = ()

    def describe(self) -> dict[str, Any]:
        return {"method": self.name, **describe_options(self.options)}

    def _decode(self, payload: bytes) -> Mixed:
        return Mixed.from_bytes(bytes(payload), self.options, self._layout.dim)  # it may be a view

    def _of_devices(self) -> Mixed:
        forward = [one for one in self.pending if isinstance(one, Contribution)]
        changes = [one for one in self.pending if isinstance(one, ChangeOfDevice)]
        n = self._layout.dim
        replay = None
        if forward:
            replay = aggregate(forward, self.options.forward(), step=0, learning_rate=0.0, run_id=self._run_id, n=n)
        return Mixed(replay=replay, changes=self._mean(changes) if changes else None)

    def _mean(self, changes: Sequence[ChangeOfDevice]) -> Changes:
        """Those that are much longer than most are scaled down first, so that a liar is no louder than a few."""
        ordered = sorted(changes, key=lambda one: (one.key.round_index, one.slot))
        norms = np.array([length_of(one.change) for one in ordered])
        bound = self.options.clip_median * float(np.median(norms)) if self.options.clip_median else np.inf
        scales = [min(1.0, bound / norm) if norm > 0 else 1.0 for norm in norms]
        each = self.samples_per_answer
        updates = [
            LocalUpdate(slot=number, change=one.change, n_samples=each, scale=scale)
            for number, (one, scale) in enumerate(zip(ordered, scales, strict=True))
        ]
        parts = []
        for round_index in sorted({one.key.round_index for one in ordered}):
            own = [one for one in ordered if one.key.round_index == round_index]
            n_slots = max(one.key.n_slots for one in own)
            slots = tuple(one.slot for one in own)
            seed = own[0].key.round_seed
            parts.append(RosterPart(round_seed=seed, round_index=round_index, n_slots=n_slots, slots=slots))
        change = mean_change(updates, self._layout.dim)
        return Changes(samples=each * len(ordered), change=change, parts=tuple(parts))
