"""The device's copy of the model: it follows the run's updates step by step, and says by a digest where it stands."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ..algorithms.errors import BadPayload
from ..algorithms.forward import BaffleOptions, Network, Replica
from ..algorithms.forward.exchange import combined_gradient
from ..algorithms.forward.replica import weights_digest
from ..algorithms.options import OptionError, read_options
from ..protocol.devices import stream_run_id
from ..protocol.edge_pb2 import RunCard, Step
from ..protocol.errors import InvalidMessage
from ..protocol.state import Spec, decode_state, encode_state, state_bytes

LEARNING_RATE_MAX = 100.0


class DeviceModel:
    """Network, options and state of one run.

    Raises: InvalidMessage for a card that this version cannot work with.
    """

    def __init__(self, card: RunCard) -> None:
        self.run_id = stream_run_id(card.run_id)
        try:
            self.network = Network.from_dict(json.loads(card.network))
            self.options = read_options(BaffleOptions, json.loads(card.options), owner="a run's card")
        except (ValueError, TypeError, AttributeError, OptionError) as error:
            raise InvalidMessage(f"the run's card cannot be used ({error}): do both run the same version?") from None
        self._n = self.network.n_parameters
        self._replica = Replica(np.zeros(self._n, np.float32), self.options, self.run_id)
        self._standing: tuple[int, bytes] | None = None

    @property
    def standing(self) -> tuple[int, bytes] | None:
        """Step and digest of the state; None before the first snapshot."""
        return self._standing

    @property
    def weights(self) -> npt.NDArray[np.float32]:
        return self._replica.weights

    @property
    def snapshot_bytes(self) -> int:
        """The exact length of a snapshot."""
        return state_bytes(self._spec())

    def weights_digest(self) -> str:
        return weights_digest(self.weights)

    def restore(self, data: bytes, standing: tuple[int, bytes]) -> None:
        """Take over a snapshot. Raises InvalidMessage if it is not the one that was announced; nothing changed then."""
        if hashlib.sha256(data).digest() != standing[1]:
            raise InvalidMessage("a snapshot is not the one that was announced: fetch it again")
        arrays = decode_state(data, self._spec())
        try:
            self._replica.restore(arrays)  # type: ignore[arg-type]  # the spec says float32 and float64
        except BadPayload as error:
            raise InvalidMessage(
                f"a snapshot cannot be used ({error}): does the gateway run the same version?"
            ) from None
        if self._replica.step != standing[0]:
            raise InvalidMessage(f"a snapshot of step {self._replica.step} was announced as one of {standing[0]}")
        self._standing = standing

    def follow(self, steps: Sequence[Step], target: tuple[int, bytes]) -> bool:
        """Apply updates; whether the state is now the one that the gateway means. If not, only a snapshot helps.

        Raises: InvalidMessage for updates that no honest gateway sends.
        """
        if self._standing is None:
            return False
        try:
            for step in steps:
                self._apply(step)
        except BadPayload as error:
            self._standing = None
            raise InvalidMessage(
                f"an update cannot be used ({error}): does the gateway run the same version?"
            ) from None
        digest = hashlib.sha256(encode_state(self._replica.state())).digest() if steps else self._standing[1]
        self._standing = (self._replica.step, digest)
        if self._standing != target:
            self._standing = None
        return self._standing is not None

    def _apply(self, step: Step) -> None:
        if not 0 <= step.learning_rate <= LEARNING_RATE_MAX or not step.payloads:
            raise BadPayload(f"an update of {len(step.payloads)} payloads with learning rate {step.learning_rate}")
        gradient = combined_gradient(list(step.payloads), self.options, self.run_id, self._n)
        self._replica.descend(gradient, step.learning_rate)

    def _spec(self) -> dict[str, Spec]:
        return {name: (array.dtype, array.shape) for name, array in self._replica.state().items()}
