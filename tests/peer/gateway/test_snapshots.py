"""States on their way to devices, and what slow readers cost."""

from __future__ import annotations

import hashlib
from collections.abc import AsyncIterator

import pytest

from gossamer.peer.gateway import snapshots as snapshots_module
from gossamer.peer.gateway.snapshots import Snapshot, Snapshots
from gossamer.peer.gateway.streams import STREAMS_MAX, few_streams
from gossamer.protocol.edge_pb2 import SnapshotHead, SnapshotRequest
from gossamer.protocol.errors import Busy, InvalidMessage, StaleRound
from gossamer.protocol.identity import Identity
from gossamer.protocol.network import MAX_CHUNK_BYTES

ONE, TWO, THREE = (Identity(name.ljust(32)).peer_id for name in (b"one", b"two", b"three"))
STATE_BYTES = 2 * MAX_CHUNK_BYTES + 1000


class Model:
    """What a gateway hands out: it changes with every step."""

    def __init__(self) -> None:
        self.step = 0

    async def of_now(self) -> Snapshot:
        state = bytes([self.step]) * STATE_BYTES
        return self.step, hashlib.sha256(state).digest(), state


async def asking(digest: bytes = b"", offset: int = 0) -> AsyncIterator[bytes]:
    yield SnapshotRequest(digest=digest, offset=offset).SerializeToString()


async def rest(stream: AsyncIterator[bytes]) -> bytes:
    return b"".join([chunk async for chunk in stream])


async def test_state_comes_whole_or_from_where_it_broke_off() -> None:
    model = Model()
    snapshots = Snapshots(model.of_now)

    stream = snapshots.serve(ONE, asking())
    head = SnapshotHead.FromString(await anext(stream))
    assert (head.length, head.offset) == (STATE_BYTES, 0)
    assert await rest(stream) == bytes(STATE_BYTES)

    stream = snapshots.serve(ONE, asking(head.digest, 1000))
    assert SnapshotHead.FromString(await anext(stream)).offset == 1000
    assert len(await rest(stream)) == STATE_BYTES - 1000


async def test_newer_stream_of_a_device_ends_the_one_before() -> None:
    snapshots = Snapshots(Model().of_now)
    stale, other = snapshots.serve(ONE, asking()), snapshots.serve(TWO, asking())
    await anext(stale)
    await anext(other)

    newer = snapshots.serve(ONE, asking())
    await anext(newer)

    with pytest.raises(InvalidMessage, match="newer stream"):
        await anext(stale)
    assert len(await rest(newer)) == len(await rest(other)) == STATE_BYTES


async def test_devices_that_do_not_read_on_hold_no_states(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(snapshots_module, "STATES_BYTES_MAX", 3 * STATE_BYTES)
    model = Model()
    snapshots = Snapshots(model.of_now)
    reader = snapshots.serve(ONE, asking())
    await anext(reader)
    idle = []
    for model.step in range(1, 20):
        idle.append(snapshots.serve(Identity(bytes([model.step]) * 32).peer_id, asking()))
        await anext(idle[-1])
        if model.step in (2, 4):
            await anext(reader)  # what is read stays in spite of all
        assert len(snapshots._states) <= 3

    with pytest.raises(StaleRound, match="that of now"):
        await anext(idle[0])
    assert await rest(idle[-1]) == bytes([19]) * STATE_BYTES
    for stream in [reader, *idle]:
        await stream.aclose()  # type: ignore[attr-defined]  # it is a generator
    assert not snapshots._states


async def test_device_has_few_streams_at_once() -> None:
    ended: list[str] = []

    async def handler(device: str, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        try:
            while True:
                yield b"more"
        finally:
            ended.append(device)

    serve = few_streams(handler)
    streams = [serve(ONE, asking()) for _ in range(STREAMS_MAX + 1)]
    for stream in streams[:-1]:
        await anext(stream)

    with pytest.raises(Busy):
        await anext(streams[-1])
    await anext(serve(TWO, asking()))
    await streams[0].aclose()  # type: ignore[attr-defined]  # it is a generator
    assert ended == [ONE]

    assert await anext(serve(ONE, asking())) == b"more"
