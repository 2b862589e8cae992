"""The device's copy of the model: it follows the run's updates step by step, and says by a digest where it stands."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from ..algorithms.errors import BadPayload
from ..protocol.edge_pb2 import Step
from ..protocol.errors import InvalidMessage
from ..protocol.state import Spec, decode_state, state_bytes, state_digest
from .methods.work import DeviceWork


class DeviceModel:
    """The state that `work` holds, and where it stands."""

    def __init__(self, work: DeviceWork) -> None:
        self._work = work
        self._standing: tuple[int, bytes] | None = None
        self._spec: dict[str, Spec] = {name: (array.dtype, array.shape) for name, array in work.state().items()}
        self._digest: tuple[tuple[int, bytes] | None, str] = (None, "")
        """Of the weights, and where they stood."""

    @property
    def standing(self) -> tuple[int, bytes] | None:
        """Step and digest of the state; None before the first snapshot."""
        return self._standing

    @property
    def snapshot_bytes(self) -> int:
        """The exact length of a snapshot."""
        return state_bytes(self._spec)

    def weights_digest(self) -> str:
        """SHA-256 (hex) of the weights; "" before the first snapshot."""
        if self._digest[0] != self._standing:
            self._digest = (self._standing, self._work.weights_digest())
        return self._digest[1]

    def restore(self, data: bytes | bytearray, standing: tuple[int, bytes]) -> None:
        """Take over a snapshot. Raises InvalidMessage if it is not the one that was announced; nothing changed then."""
        if hashlib.sha256(data).digest() != standing[1]:
            raise InvalidMessage("a snapshot is not the one that was announced: fetch it again")
        try:
            self._work.restore(decode_state(memoryview(data), self._spec))
        except BadPayload as error:
            raise InvalidMessage(
                f"a snapshot cannot be used ({error}): does the gateway run the same version?"
            ) from None
        if self._work.step != standing[0]:
            raise InvalidMessage(f"a snapshot of step {self._work.step} was announced as one of {standing[0]}")
        self._standing = standing

    def follow(self, steps: Sequence[Step], target: tuple[int, bytes]) -> bool:
        """Apply updates; whether the state is now the one that the gateway means. If not, only a snapshot helps.

        Raises: InvalidMessage for updates that no honest gateway sends.
        """
        if self._standing is None:
            return False
        try:
            for step in steps:
                self._work.apply(step)
        except BadPayload as error:
            self._standing = None
            raise InvalidMessage(
                f"an update cannot be used ({error}): does the gateway run the same version?"
            ) from None
        digest = state_digest(self._work.state()) if steps else self._standing[1]
        self._standing = (self._work.step, digest)
        if self._standing != target:
            self._standing = None
        return self._standing is not None
