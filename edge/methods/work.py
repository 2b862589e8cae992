"""What every method has a device do: hold the weights, follow the run's updates, and measure when it is asked."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt

from ...algorithms.forward import BaffleOptions, Network
from ...protocol.devices import Task
from ...protocol.edge_pb2 import Step
from ...protocol.errors import InvalidMessage
from ..data import DeviceData

F32 = npt.NDArray[np.float32]
Arrays = dict[str, npt.NDArray[Any]]


@dataclass(frozen=True, kw_only=True)
class Answer:
    """What a device has for its gateway after a round's work."""

    loss: float
    """Mean over the samples, in nats. For logs: nothing is computed from it."""
    scalars: bytes | memoryview


class DeviceWork(ABC):
    """One device's part in one run.

    Args of every constructor:
        card: the run's; raises ValueError, TypeError or AttributeError if it is none of this method.
    """

    network: Network
    engine_name: str
    """Of what evaluates the network."""
    sums: BaffleOptions | None = None
    """Of a run whose answers are summed under masks: `differences` is asked then, and not `answer`."""
    scalars_per_byte: float
    """Perturbations behind a byte of payload, about: for the simulator's cost model."""

    @property
    @abstractmethod
    def n_weights(self) -> int: ...

    @property
    @abstractmethod
    def step(self) -> int:
        """Updates behind the state."""

    @abstractmethod
    def state(self) -> Arrays:
        """Copies of everything that follows from the run's updates."""

    @abstractmethod
    def restore(self, state: Mapping[str, npt.NDArray[Any]]) -> None:
        """Take over another replica's. Raises BadPayload if it is none."""

    @abstractmethod
    def apply(self, step: Step) -> None:
        """One update of the run. Raises BadPayload for one that no honest gateway sends."""

    @abstractmethod
    def weights_digest(self) -> str:
        """SHA-256 (hex) of the weights."""

    @abstractmethod
    async def answer(self, seed: bytes, task: Task, data: DeviceData) -> Answer:
        """A round's work; the weights are unchanged. Raises ValueError, GossamerError."""

    async def differences(self, seed: bytes, task: Task, data: DeviceData) -> F32:
        """What a round's work has measured, float32 [K], for a secure sum. Raises as `answer` does."""
        raise InvalidMessage("this run's answers are not summed")

    def check_fits(self, data: DeviceData) -> None:
        """Raise UsageError unless these samples are what the run takes."""
        data.check_fits(self.network)
