"""Methods whose contributions come from devices: what a gateway needs of them besides the rounds of its group."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from typing import Any, Protocol

import numpy as np
import numpy.typing as npt

from .forward.aggregation import RoundKey
from .method import Method


class Answer(Protocol):
    """What one device measured in one round, decoded and checked."""

    @property
    def key(self) -> RoundKey: ...

    @property
    def slot(self) -> int:
        """The device's index in the round's roster."""
        ...


class DeviceMethod(Method):
    """A method that turns the answers of devices into payloads.

    The gateway puts what it has collected into `pending`; `encode` makes a payload of it; `combine` forgets what has
    become part of an update. A round's seed and a slot name an answer, whoever says that it counted.
    """

    pending: tuple[Any, ...] = ()
    """Answers that are not yet part of an update. Their gateway keeps them on disk."""

    @abstractmethod
    def read(self, key: RoundKey, slot: int, payload: bytes) -> Answer:
        """What a device submitted. A long one may be a view, and views of it may be kept.

        Raises: BadPayload for anything that no honest device sends.
        """

    @property
    def answer_bytes_max(self) -> int:
        """No honest device submits more. Methods whose answers are a few scalars need not say."""
        return 1 << 20

    @abstractmethod
    def counted(self, payloads: Sequence[bytes]) -> frozenset[tuple[bytes, int]]:
        """The answers that are part of some payloads: their rounds' seeds, and their slots of the stream."""

    @abstractmethod
    def credit(self, payloads: Sequence[bytes]) -> dict[str, float]:
        """How much of an update comes from "devices" and from "peers"; sums to 1."""

    @abstractmethod
    def device_options(self) -> dict[str, Any]:
        """What devices must know of the options, as JSON has it."""

    @abstractmethod
    def device_state(self) -> dict[str, npt.NDArray[np.generic]]:
        """What a device needs to go on from here: copies."""

    @abstractmethod
    def weights_digest(self) -> str:
        """SHA-256 (hex) of the weights, as devices compute it of theirs."""

    @abstractmethod
    def at_step(self, step: int) -> None:
        """Told the number of updates behind the state that was just restored."""

    @property
    @abstractmethod
    def samples_per_answer(self) -> int:
        """Samples that a device measures on in a round."""

    def learning_rate(self, step: int) -> float:
        """Of the update after `step` others, exact in float32, so that it can be sent. 0 where there is none."""
        return 0.0

    def stream_slot(self, slot: int) -> int:
        """The slot of the perturbation stream that a device in `slot` of the roster draws from."""
        return slot
