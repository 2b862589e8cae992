"""Measures what calls and streams between two real networks take of a core: gRPC over TLS on the loopback device."""

from __future__ import annotations

import asyncio
import tempfile
import time
import warnings
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from pathlib import Path

from ..peer.network import NetworkConfig, RealNetwork
from ..protocol.identity import Identity, PeerId
from .costs import Handling, rounded

_CALLS = 400
_LARGE_BYTES = 512 << 10


def measure_transport() -> Handling:
    """A core's time for a message at one of its ends, without what daemons do with it."""
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)  # hivemind's use of importlib.resources
        return asyncio.run(_two_networks())


async def _two_networks() -> Handling:
    async with AsyncExitStack() as stack:
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="gossamer-calibrate-")))
        near = await _network(stack, folder, ())
        far = await _network(stack, folder, tuple(near.addresses()))
        far.set_gate(lambda peer: True)
        far.serve("calibrate", _length)
        far.serve_stream("calibrate-stream", _echo)
        small_s = await _call_s(near, far.peer_id, bytes(200), _CALLS)
        large_s = await _call_s(near, far.peer_id, bytes(_LARGE_BYTES), _CALLS // 8)
        stream_s = await _stream_s(near, far.peer_id, _CALLS // 2)
    return handling_from(small_s, large_s, stream_s, n_bytes=_LARGE_BYTES)


def handling_from(short_s: float, long_s: float, stream_s: float, *, n_bytes: int) -> Handling:
    """From the processor time of three kinds of calls, both ends together.

    Args:
        short_s: of a call of hardly any bytes.
        long_s: of one that brings n_bytes.
        stream_s: of a stream with one short chunk in each direction.
    """
    # A call is two messages, each handled at two ends; the answer is short. A stream opens as half of a call, and two
    # chunks and two ends follow.
    return Handling(
        message_s=rounded(short_s / 4),
        chunk_s=rounded(max(0.0, stream_s - short_s / 2) / 8),
        byte_s=rounded(max(0.0, long_s - short_s) / 2 / n_bytes),
    )


async def _network(stack: AsyncExitStack, folder: Path, bootstrap: tuple[str, ...]) -> RealNetwork:
    identity = Identity.generate()
    path = folder / identity.peer_id
    identity.save(path)
    network = await RealNetwork.open(
        identity, NetworkConfig(run_id="calibrate", identity_path=path, bootstrap=bootstrap)
    )
    stack.push_async_callback(network.close)
    return network


async def _call_s(network: RealNetwork, peer: PeerId, request: bytes, n_calls: int) -> float:
    """This process's processor time for a call, in which both ends are."""
    for _ in range(n_calls // 8):
        await network.call(peer, "calibrate", request, timeout_s=20)
    begun_s = time.process_time()
    for _ in range(n_calls):
        await network.call(peer, "calibrate", request, timeout_s=20)
    return (time.process_time() - begun_s) / n_calls


async def _stream_s(network: RealNetwork, peer: PeerId, n_streams: int) -> float:
    """The same for a stream of one short chunk there and one back."""
    begun_s = time.process_time()
    for _ in range(n_streams):
        async for _chunk in network.stream(peer, "calibrate-stream", _one_chunk(), timeout_s=20):
            pass
    return (time.process_time() - begun_s) / n_streams


async def _one_chunk() -> AsyncIterator[bytes]:
    yield bytes(200)


async def _echo(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk


async def _length(peer: PeerId, request: bytes) -> bytes:
    return len(request).to_bytes(8, "little")
