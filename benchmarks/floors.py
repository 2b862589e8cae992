"""What this machine could do at best: memory, SHA-256, and bytes over gRPC with TLS between processes.

    python -m benchmarks.floors

`loopback_tls` is a ring of processes, each of which streams to the next in chunks of 1 MiB and does nothing with what
it gets: all that an exchange of so many bytes could cost if agreeing, adding and hashing were free.
"""

from __future__ import annotations

import asyncio
import hashlib
import multiprocessing
import time
from collections.abc import AsyncIterator
from typing import Any

import grpc
import grpc.aio
import numpy as np

from gossamer.protocol.network import MAX_CHUNK_BYTES
from gossamer.protocol.transport.certificates import create_certificate
from gossamer.protocol.transport.tls import SERVER_NAME, pinned_credentials, server_credentials

BYTES = 40_000_000
STREAMED_CHUNKS = 60
OPTIONS = (("grpc.max_receive_message_length", 2 * MAX_CHUNK_BYTES), ("grpc.ssl_target_name_override", SERVER_NAME))


def memcpy_bytes_per_s() -> float:
    source, target = np.ones(BYTES, np.uint8), np.zeros(BYTES, np.uint8)
    return BYTES / _least_s(lambda: np.copyto(target, source))


def sha256_bytes_per_s() -> float:
    data = bytes(BYTES)
    return BYTES / _least_s(lambda: hashlib.sha256(data).digest())


def loopback_tls_bytes_per_s(n_peers: int) -> float:
    """Bytes that all peers together got across, per second; the best of three turns."""
    context = multiprocessing.get_context("spawn")
    places: Any = context.Queue()
    doors = [context.Queue() for _ in range(n_peers)]
    spans: Any = context.Queue()
    barrier: Any = context.Barrier(n_peers)
    peers = [context.Process(target=_peer, args=(i, places, doors[i], spans, barrier)) for i in range(n_peers)]
    for peer in peers:
        peer.start()
    try:
        at = dict(places.get(timeout=300) for _ in peers)
        for i, door in enumerate(doors):
            door.put(at[(i + 1) % n_peers])
        turns = [[spans.get(timeout=300) for _ in peers] for _ in range(3)]
    finally:
        for peer in peers:
            peer.join(timeout=10)
            if peer.is_alive():
                peer.kill()
    sent = n_peers * STREAMED_CHUNKS * MAX_CHUNK_BYTES
    return max(float(sent / (max(end for _, end in turn) - min(begin for begin, _ in turn))) for turn in turns)


def _peer(number: int, places: Any, door: Any, spans: Any, barrier: Any) -> None:
    asyncio.run(_stream(number, places, door, spans, barrier))


async def _stream(number: int, places: Any, door: Any, spans: Any, barrier: Any) -> None:
    certificate = create_certificate()
    server = grpc.aio.server(handlers=(_Sink(),), options=OPTIONS[:1])
    port = server.add_secure_port("127.0.0.1:0", server_credentials(certificate))
    await server.start()
    places.put((number, (port, certificate.der)))
    next_port, der = await asyncio.to_thread(door.get, True, 300)
    async with grpc.aio.secure_channel(f"127.0.0.1:{next_port}", pinned_credentials(der), options=OPTIONS) as channel:
        chunk = bytes(MAX_CHUNK_BYTES)
        for _ in range(3):
            call: Any = channel.stream_stream("/sink")()
            await call.wait_for_connection()
            await asyncio.to_thread(barrier.wait, 60)
            begun_s = time.monotonic()
            for _ in range(STREAMED_CHUNKS):
                await call.write(chunk)
            await call.done_writing()
            await call.read()
            spans.put((begun_s, time.monotonic()))
            await asyncio.to_thread(barrier.wait, 60)
    await server.stop(None)


class _Sink(grpc.GenericRpcHandler):
    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        return grpc.stream_stream_rpc_method_handler(_sink)


async def _sink(chunks: AsyncIterator[bytes], context: Any) -> None:
    async for _ in chunks:
        pass
    await context.write(b"all")


def _least_s(work: Any) -> float:
    taken = []
    for _ in range(5):
        begun_s = time.perf_counter()
        work()
        taken.append(time.perf_counter() - begun_s)
    return min(taken)


if __name__ == "__main__":
    print(f"memcpy          {memcpy_bytes_per_s() / 1e6:8,.0f} MB/s")
    print(f"SHA-256         {sha256_bytes_per_s() / 1e6:8,.0f} MB/s")
    print(f"TLS, 4 in ring  {loopback_tls_bytes_per_s(4) / 1e6:8,.0f} MB/s")
