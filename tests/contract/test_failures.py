"""What a caller learns when the other side fails."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gossamer.protocol.errors import BadTensor, Diverged, PeerTimeout, RemoteFailure, StaleRound
from gossamer.protocol.identity import PeerId
from gossamer.protocol.network import Network

from .world import PATIENCE_S, World, admit_all, collect, each


def test_error_of_ours_arrives_as_its_class_with_the_peers_id(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)

        async def fail(peer: PeerId, request: bytes) -> bytes:
            if request == b"stale":
                raise StaleRound("round 3 is over: ask for round 4")
            if request == b"timeout":
                raise PeerTimeout("somebody else did not answer")
            raise BadTensor("3 floats where 4 belong")

        b.serve("fail", fail)

        with pytest.raises(StaleRound, match=f"{b.peer_id}: round 3 is over: ask for round 4"):
            await a.call(b.peer_id, "fail", b"stale", timeout_s=PATIENCE_S)
        with pytest.raises(PeerTimeout, match="somebody else"):
            await a.call(b.peer_id, "fail", b"timeout", timeout_s=PATIENCE_S)
        with pytest.raises(BadTensor, match=b.peer_id):
            await a.call(b.peer_id, "fail", b"other", timeout_s=PATIENCE_S)

    world.run(scenario)


def test_bug_in_a_handler_arrives_without_its_text(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)

        async def crash(peer: PeerId, request: bytes) -> bytes:
            raise KeyError("a secret")

        async def crash_stream(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            yield b"one"
            raise KeyError("a secret")

        b.serve("crash", crash)
        b.serve_stream("crash stream", crash_stream)

        with pytest.raises(RemoteFailure, match=b.peer_id) as call_error:
            await a.call(b.peer_id, "crash", b"", timeout_s=PATIENCE_S)
        with pytest.raises(RemoteFailure, match=b.peer_id) as stream_error:
            await collect(a.stream(b.peer_id, "crash stream", each([]), timeout_s=PATIENCE_S))
        assert "secret" not in f"{call_error.value} {stream_error.value}"

    world.run(scenario)


def test_error_in_mid_stream_comes_after_the_chunks_before_it(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)

        async def fail(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            yield b"one"
            yield b"two"
            raise Diverged("our states differ: resynchronise")

        b.serve_stream("fail", fail)
        stream = a.stream(b.peer_id, "fail", each([b"x"]), timeout_s=PATIENCE_S)

        assert await anext(stream) == b"one"
        assert await anext(stream) == b"two"
        with pytest.raises(Diverged, match=f"{b.peer_id}: our states differ"):
            await anext(stream)

    world.run(scenario)


def test_failing_source_reaches_the_reader_and_ends_the_handler(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)
        n_received = 0

        async def count(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            nonlocal n_received
            async for _ in chunks:
                n_received += 1
            yield b"never: the request had no end"

        async def broken() -> AsyncIterator[bytes]:
            yield b"one"
            raise ZeroDivisionError

        b.serve_stream("count", count)

        with pytest.raises(ZeroDivisionError):
            await collect(a.stream(b.peer_id, "count", broken(), timeout_s=PATIENCE_S))
        assert n_received <= 1

    world.run(scenario)
