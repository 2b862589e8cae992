"""A gateway's copy of the model: it computes no gradients, and keeps what devices need to follow it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import torch

from ...algorithms import Slots
from ...algorithms.baffle import Baffle
from ...algorithms.forward.replica import weights_digest
from ...protocol.edge_pb2 import Step
from ...protocol.errors import UsageError
from ...protocol.manifest import Manifest
from ...protocol.state import encode_state
from ...tasks import Task
from ..replica import Applied, Replica
from .history import Kept


@dataclass(frozen=True, kw_only=True)
class Unpublished:
    """An update that was applied and of which no device has heard."""

    kept: Kept
    slots: Slots


class GatewayReplica(Replica):
    """Raises UsageError if the run's method has no use for devices."""

    def __init__(self, task: Task, manifest: Manifest) -> None:
        super().__init__(task, manifest)
        if not isinstance(self.method, Baffle):
            raise UsageError(f"method {manifest.method.name!r} cannot use devices: a gateway needs a run with baffle")
        if self.rounding is not None:
            raise UsageError("devices follow a run update by update: with a gateway, group.snapshot_codec must be fp32")
        self.baffle: Baffle = self.method
        self.unpublished: list[Unpublished] = []
        self.was_restored = False
        """A state was taken over from outside, and the gateway has not taken note of it."""
        self._device_digest: tuple[int, bytes] | None = None

    def device_state(self) -> bytes:
        """What a device needs to go on from here, encoded."""
        self.baffle.at_step(self.step)
        return encode_state(self.baffle.forward_state())

    def weights_digest(self) -> str:
        """SHA-256 (hex) of the weights, as devices compute it of theirs."""
        return weights_digest(self.baffle.forward_state()["weights"].astype(np.float32))

    def device_standing(self) -> tuple[int, bytes]:
        """Step and digest of that state."""
        if self._device_digest is None or self._device_digest[0] != self.step:
            self._device_digest = (self.step, hashlib.sha256(self.device_state()).digest())
        return self._device_digest

    def apply(self, payloads: Sequence[bytes | memoryview], mine: int | None, slots: Slots) -> Applied:
        before, rate = self.device_standing(), self.baffle.learning_rate(self.step)
        applied = super().apply(payloads, mine, slots)
        step = Step(learning_rate=rate, payloads=[bytes(payload) for payload in payloads])
        kept = Kept(before=before, after=self.device_standing(), step=step)
        self.unpublished.append(Unpublished(kept=kept, slots=slots))
        return applied

    def load(
        self, model: dict[str, torch.Tensor], shared: dict[str, torch.Tensor], local: dict[str, torch.Tensor]
    ) -> None:
        super().load(model, shared, local)
        self._device_digest = None

    def restore(self, data: bytes) -> None:
        super().restore(data)
        self._device_digest = None
        self.unpublished.clear()
        self.was_restored = True
