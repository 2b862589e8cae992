"""BAFFLE as the method of a group: gateways send their devices' loss differences, peers with backpropagation gradients.

The mathematics is that of `algorithms.forward` (Feng et al. 2023, arXiv:2301.12195), which devices run too: parameters
and Adam's moments stay bit-identical on peers, gateways and devices that apply the same payloads.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

import numpy as np
import numpy.typing as npt
import torch

from .device_method import DeviceMethod
from .forward.aggregation import Contribution, RoundKey, aggregate
from .forward.baffle import BaffleOptions
from .forward.exchange import (
    Dense,
    combined_gradient,
    contributions_in,
    decode,
    encode_dense,
    encode_forward,
    payload_bytes_max,
    shares_of,
)
from .forward.replica import Replica, unbiased, weights_digest
from .forward.residues import decode_mean, from_bytes
from .forward.scalars import decode_scalars
from .layout import Layout
from .method import F32, Exchange, Slots, Tensors
from .options import OptionValue, describe_options, read_options
from .pending_gradient import PendingGradient
from .schedule import Schedule

RATE_MAX: Final = 0.2


class Baffle(DeviceMethod):
    """Forward gradients from devices and gradients from peers, one Adam for all."""

    name = "baffle"
    exchange = Exchange.GATHER
    for_devices = True
    default_lr = 7e-2
    default_schedule = "cosine"
    options_type = BaffleOptions

    def __init__(self, parameters: Mapping[str, torch.Tensor], options: BaffleOptions, schedule: Schedule) -> None:
        self.options = options
        self.pending: tuple[Contribution, ...] = ()
        self._parameters = dict(parameters)
        self._schedule = schedule
        self._layout = Layout.of(parameters)
        self._run_id = bytes(32)
        self._gradients = PendingGradient(self._layout)
        self._replica = Replica(self._layout.pack(parameters).numpy(), options, self._run_id)

    @classmethod
    def default_rate(cls, options: Mapping[str, OptionValue]) -> float:
        """`default_lr` at K = 100, and in proportion to sqrt(K), as noise is in inverse proportion; at most RATE_MAX.

        Shared perturbations count once: as if each of ten devices had a tenth of them.
        """
        chosen = read_options(BaffleOptions, options, owner="method 'baffle'")
        of_a_device = chosen.K if chosen.perturbations == "distinct" else chosen.K / 10
        return round(min(RATE_MAX, cls.default_lr * math.sqrt(of_a_device / 100)), 4)

    def begin(self, run_id: bytes) -> None:
        self._run_id = run_id

    def accumulate(self, gradients: Mapping[str, torch.Tensor | None], n_samples: int) -> None:
        self._gradients.add(gradients, n_samples)

    def encode(self, agreed: F32) -> bytes:
        if self.pending:
            return encode_forward(
                aggregate(
                    self.pending, self.options, step=0, learning_rate=0.0, run_id=self._run_id, n=self._layout.dim
                )
            )
        mean, samples = self._gradients.mean(), self._gradients.n_samples
        return encode_dense(Dense(samples=samples, gradient=mean))

    def combine(self, payloads: Sequence[bytes], *, mine: int | None, step: int, slots: Slots) -> tuple[int, ...]:
        payloads = [bytes(payload) for payload in payloads]  # they may be views
        gradient = combined_gradient(payloads, self.options, self._run_id, self._layout.dim)
        replica = self._replica
        replica.step = step
        replica.weights[:] = self._layout.pack(self._parameters).numpy()
        replica.descend(gradient, self.learning_rate(step))
        with torch.no_grad():
            views = self._layout.views(torch.from_numpy(replica.weights))
            for parameter, part in zip(self._parameters.values(), views, strict=True):
                parameter.copy_(part)
        if mine is not None:
            self._gradients.clear()
        self._retire(payloads)
        return ()

    def learning_rate(self, step: int) -> float:
        """Exact in float32, so that it can be sent."""
        return float(np.float32(self._schedule.rate(step)))

    def read(self, key: RoundKey, slot: int, payload: bytes) -> Contribution:
        if self.options.in_residues:
            residues = from_bytes(payload, self.options.K)
            differences = decode_mean(residues, self.options, n_roster=1, n=1)
        else:
            differences = decode_scalars(payload, self.options.K, self.options.value)
        return Contribution(key=key, slot=slot, differences=differences)

    def counted(self, payloads: Sequence[bytes]) -> frozenset[tuple[bytes, int]]:
        return contributions_in(payloads, self.options, self._layout.dim)

    def credit(self, payloads: Sequence[bytes]) -> dict[str, float]:
        return shares_of(payloads, self.options, self._layout.dim)

    def device_options(self) -> dict[str, Any]:
        return describe_options(self.options)

    def device_state(self) -> dict[str, npt.NDArray[np.generic]]:
        """As `forward.Replica.state` gives it."""
        self._replica.weights[:] = self._layout.pack(self._parameters).numpy()
        return {**self._replica.state()}

    def weights_digest(self) -> str:
        return weights_digest(self._layout.pack(self._parameters).numpy())

    @property
    def samples_per_answer(self) -> int:
        return self.options.batch_size

    def stream_slot(self, slot: int) -> int:
        return self.options.slot(slot)

    def at_step(self, step: int) -> None:
        self._replica.step = step

    def _retire(self, payloads: Sequence[bytes]) -> None:
        """Forget what has become part of an update. Seed and slot name a contribution, whoever says that it counted."""
        counted = self.counted(payloads)
        slot_of = self.options.slot
        self.pending = tuple(one for one in self.pending if (one.key.round_seed, slot_of(one.slot)) not in counted)

    def check(self, payload: bytes) -> None:
        decode(payload, self.options, self._layout.dim)

    def payload_bytes_max(self) -> int:
        return payload_bytes_max(self.options, self._layout.dim)

    def shared_state(self) -> dict[str, torch.Tensor]:
        return {name: torch.from_numpy(array) for name, array in self._replica.moments().items()}

    @classmethod
    def served(cls, model: Tensors, shared: Tensors) -> Tensors:
        """The exponential average of the parameters: the same bits on every replica, devices included."""
        weights = unbiased(shared["average"].numpy(), float(shared["decays"][2]))
        if weights is None:
            return model
        served, start = dict(model), 0
        for name, parameter in model.items():
            if start == len(weights):
                break  # buffers
            part = weights[start : start + parameter.numel()]
            served[name] = torch.from_numpy(part).view(parameter.shape)
            start += parameter.numel()
        return served

    def local_state(self) -> dict[str, torch.Tensor]:
        return {"gradients": self._gradients.total}

    def forget_local(self) -> None:
        super().forget_local()
        self.pending = ()

    def describe(self) -> dict[str, Any]:
        return {"method": self.name, **describe_options(self.options)}
