"""A gateway's copy of the model: it computes no gradients, and keeps what devices need to follow it."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

import torch

from ...algorithms import Slots
from ...algorithms.device_method import DeviceMethod
from ...algorithms.fixedpoint import FixedPoint
from ...protocol.edge_pb2 import Step
from ...protocol.errors import UsageError
from ...protocol.manifest import Manifest
from ...protocol.state import encode_state
from ...tasks import Evaluation, Task
from ..replica import Applied, Replica
from .history import Kept
from .integers import evaluate_in_integers
from .journal import PAYLOAD_BYTES_MAX


@dataclass(frozen=True, kw_only=True)
class Unpublished:
    """An update that was applied and of which no device has heard."""

    kept: Kept
    slots: Slots


def check_devices_can_follow(manifest: Manifest) -> None:
    """Raises UsageError for a run in which peers change their state outside of updates."""
    if manifest.group.snapshot_codec != "fp32":
        raise UsageError("devices follow a run update by update: with a gateway, group.snapshot_codec must be fp32")


def check_updates_can_be_kept(payload_bytes_max: int) -> None:
    """Raises UsageError where a single contribution to an update may be longer than the gateway's journal takes."""
    if payload_bytes_max > PAYLOAD_BYTES_MAX:
        raise UsageError(
            f"contributions to this run have up to {payload_bytes_max / 2**20:.0f} MiB, and a gateway can write down "
            f"no more than {PAYLOAD_BYTES_MAX / 2**20:.0f} MiB of one: make a run with a smaller model"
        )


class GatewayReplica(Replica):
    """Raises UsageError if the run's method has no use for devices."""

    def __init__(self, task: Task, manifest: Manifest) -> None:
        super().__init__(task, manifest)
        if not isinstance(self.method, DeviceMethod):
            raise UsageError(
                f"method {manifest.method.name!r} cannot use devices: a gateway needs baffle, federated or fixedpoint"
            )
        check_devices_can_follow(manifest)
        check_updates_can_be_kept(self.method.payload_bytes_max())
        self.of_devices: DeviceMethod = self.method
        self.device_state_bytes = sum(array.nbytes for array in self.of_devices.device_state().values())
        """About the length of a snapshot for devices."""
        self.unpublished: list[Unpublished] = []
        self.was_restored = False
        """A state was taken over from outside, and the gateway has not taken note of it."""
        self._for_devices: tuple[int, bytes, bytes] | None = None
        """Step, digest and encoded state."""

    def device_snapshot(self) -> tuple[int, bytes, bytes]:
        """Step, digest and what a device needs to go on from here, encoded: the same bytes for all who ask."""
        if self._for_devices is None or self._for_devices[0] != self.step:
            self.of_devices.at_step(self.step)
            state = encode_state(self.of_devices.device_state())
            self._for_devices = (self.step, hashlib.sha256(state).digest(), state)
        return self._for_devices

    def weights_digest(self) -> str:
        """SHA-256 (hex) of the weights, as devices compute it of theirs."""
        return self.of_devices.weights_digest()

    def evaluate(self) -> Evaluation:
        """As devices would: a fixed-point model is evaluated in integers."""
        if isinstance(self.of_devices, FixedPoint):
            return evaluate_in_integers(self.task, self.of_devices)
        return super().evaluate()

    def device_standing(self) -> tuple[int, bytes]:
        """Step and digest of that state."""
        return self.device_snapshot()[:2]

    def apply(self, payloads: Sequence[bytes | memoryview], mine: int | None, slots: Slots) -> Applied:
        before, rate = self.device_standing(), self.of_devices.learning_rate(self.step)
        applied = super().apply(payloads, mine, slots)
        step = Step(learning_rate=rate, payloads=[bytes(payload) for payload in payloads])
        kept = Kept(before=before, after=self.device_standing(), step=step)
        self.unpublished.append(Unpublished(kept=kept, slots=slots))
        return applied

    def load(
        self, model: dict[str, torch.Tensor], shared: dict[str, torch.Tensor], local: dict[str, torch.Tensor]
    ) -> None:
        super().load(model, shared, local)
        self._for_devices = None

    def restore(self, data: bytes) -> None:
        super().restore(data)
        self._for_devices = None
        self.unpublished.clear()
        self.was_restored = True
