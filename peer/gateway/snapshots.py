"""The present state on its way to devices that have none, or one that is too old.

A stream holds a piece at a time and not the state that it is of: a device that reads slowly, or begins anew with every
update and never reads on, costs its gateway no copy of the model. States that are being fetched are kept here; where
they are too many, that of which nobody has taken a piece for longest goes.
"""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import AsyncIterator, Awaitable, Callable

from ...protocol.edge_pb2 import SnapshotHead, SnapshotRequest
from ...protocol.errors import InvalidMessage, StaleRound
from ...protocol.identity import PeerId
from ...protocol.network import MAX_CHUNK_BYTES
from ...protocol.wire import parse

Snapshot = tuple[int, bytes, bytes]
"""Step, digest and encoded state."""
STATES_BYTES_MAX = 512 << 20
"""Of states that are being fetched, unless the last two alone are larger."""


class Snapshots:
    """Args: of_now: the present state."""

    def __init__(self, of_now: Callable[[], Awaitable[Snapshot]]) -> None:
        self._of_now = of_now
        self._states: OrderedDict[bytes, bytes] = OrderedDict()
        """By digest; the last is that of which a piece was taken last."""
        self._newest: dict[PeerId, object] = {}
        """Each device's last stream: only that goes on."""
        self._fetched: dict[object, bytes] = {}
        """By the stream: the digest of what it is of."""

    async def serve(self, device: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        """The stream handler: the state from where the device's copy of it broke off, if it has one."""
        asked = parse(SnapshotRequest, await anext(chunks, b""), bytes_max=1024, what="a request for a snapshot")
        stream = self._newest[device] = object()
        try:
            head = await self._begin(asked, stream)
            yield head.SerializeToString()
            for start in range(head.offset, head.length, MAX_CHUNK_BYTES):
                if self._newest.get(device) is not stream:
                    raise InvalidMessage(f"{device} fetches the state on a newer stream: this one is closed")
                yield self._piece(head.digest, start)
        finally:
            self._end(device, stream)

    async def _begin(self, asked: SnapshotRequest, stream: object) -> SnapshotHead:
        step, digest, state = await self._of_now()
        self._states[digest] = state
        self._fetched[stream] = digest
        self._states.move_to_end(digest)
        while len(self._states) > 2 and sum(map(len, self._states.values())) > STATES_BYTES_MAX:
            self._states.popitem(last=False)
        offset = asked.offset if asked.digest == digest and asked.offset <= len(state) else 0
        return SnapshotHead(step=step, digest=digest, length=len(state), offset=offset)

    def _piece(self, digest: bytes, start: int) -> bytes:
        state = self._states.get(digest)
        if state is None:
            raise StaleRound("the state that is being fetched has made room for later ones: fetch that of now")
        self._states.move_to_end(digest)
        return state[start : start + MAX_CHUNK_BYTES]

    def _end(self, device: PeerId, stream: object) -> None:
        """Keep no state that nobody fetches."""
        if self._newest.get(device) is stream:
            del self._newest[device]
        digest = self._fetched.pop(stream, None)
        if digest not in self._fetched.values():
            self._states.pop(digest or b"", None)
