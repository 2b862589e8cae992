"""Streams: any number of chunks both ways at once, in order, no faster than the other side reads."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncGenerator, AsyncIterator

import pytest

from gossamer.protocol.errors import MessageTooLarge, PeerTimeout, PeerUnreachable
from gossamer.protocol.identity import PeerId
from gossamer.protocol.network import MAX_CHUNK_BYTES, Network

from .world import PATIENCE_S, World, admit_all, collect, each, endless, eventually, settled

N_AHEAD_MAX = 40
"""Chunks of the longest kind that may lie between a source and a reader who does not read."""


async def echo(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk


async def drop(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for _ in chunks:
        pass
    yield b"dropped"


def test_twenty_megabytes_pass_both_ways_in_order(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)
        sent, received = hashlib.sha256(), hashlib.sha256()

        async def source() -> AsyncIterator[bytes]:
            for number in range(20):
                chunk = bytes([number]) * (MAX_CHUNK_BYTES - number)
                sent.update(chunk)
                yield chunk

        b.serve_stream("echo", echo)

        async for chunk in a.stream(b.peer_id, "echo", source(), timeout_s=PATIENCE_S):
            received.update(chunk)
        assert received.digest() == sent.digest()

    world.run(scenario)


def test_short_empty_and_absent_chunks_arrive_as_they_were_sent(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)
        b.serve_stream("echo", echo)

        for chunks in ([], [b""], [b"a", b"", b"b"], [b"%d" % n for n in range(300)]):
            assert await collect(a.stream(b.peer_id, "echo", each(chunks), timeout_s=PATIENCE_S)) == chunks

    world.run(scenario)


def test_answer_can_depend_on_the_answer_before(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)
        answers: asyncio.Queue[bytes] = asyncio.Queue()

        async def increments() -> AsyncIterator[bytes]:
            chunk = b"0"
            while chunk != b"10":
                yield chunk
                chunk = b"%d" % (int(await answers.get()) + 1)

        b.serve_stream("echo", echo)

        async with asyncio.timeout(PATIENCE_S):
            async for chunk in a.stream(b.peer_id, "echo", increments(), timeout_s=PATIENCE_S):
                answers.put_nowait(chunk)
                last = chunk
        assert last == b"9"

    world.run(scenario)


def test_handler_knows_its_caller_and_streams_do_not_mix(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b, c = networks
        admit_all(networks)

        async def sign(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            async for chunk in chunks:
                yield peer.encode() + chunk

        b.serve_stream("sign", sign)

        async def ask(network: Network, letter: bytes) -> None:
            answer = await collect(network.stream(b.peer_id, "sign", each([letter] * 20), timeout_s=PATIENCE_S))
            assert answer == [network.peer_id.encode() + letter] * 20

        await asyncio.gather(ask(a, b"p"), ask(c, b"q"), ask(a, b"r"))

    world.run(scenario, n_peers=3)


def test_sender_waits_for_a_handler_that_reads_slowly(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)
        n_pulled = 0
        read_on = asyncio.Event()

        def note(number: int) -> None:
            nonlocal n_pulled
            n_pulled = number

        async def slow(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            await anext(chunks)
            yield b"read one"
            await read_on.wait()
            for _ in range(2 * N_AHEAD_MAX):
                await anext(chunks)
            yield b"read many"

        b.serve_stream("slow", slow)
        stream = a.stream(b.peer_id, "slow", endless(bytes(MAX_CHUNK_BYTES), note), timeout_s=PATIENCE_S)

        assert await anext(stream) == b"read one"
        assert await settled(lambda: n_pulled) <= N_AHEAD_MAX
        read_on.set()
        assert await anext(stream) == b"read many"
        assert n_pulled > 2 * N_AHEAD_MAX
        await _close(stream)

    world.run(scenario)


def test_handler_waits_for_a_caller_that_reads_slowly(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)
        n_yielded = 0

        def note(number: int) -> None:
            nonlocal n_yielded
            n_yielded = number

        async def flood(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            async for chunk in endless(bytes(MAX_CHUNK_BYTES), note):
                yield chunk

        b.serve_stream("flood", flood)
        stream = a.stream(b.peer_id, "flood", each([]), timeout_s=PATIENCE_S)

        await anext(stream)
        assert await settled(lambda: n_yielded) <= N_AHEAD_MAX
        for _ in range(2 * N_AHEAD_MAX):
            await anext(stream)
        assert n_yielded > 2 * N_AHEAD_MAX
        await _close(stream)

    world.run(scenario)


def test_closing_early_cancels_the_handler_and_the_source(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)
        ended: list[str] = []

        async def flood(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            try:
                async for chunk in chunks:
                    yield chunk
            finally:
                ended.append("handler")

        async def source() -> AsyncIterator[bytes]:
            try:
                async for chunk in endless(b"x" * 1000):
                    yield chunk
            finally:
                ended.append("source")

        b.serve_stream("flood", flood)
        stream = a.stream(b.peer_id, "flood", source(), timeout_s=PATIENCE_S)
        await anext(stream)

        await _close(stream)

        await eventually(lambda: sorted(ended) == ["handler", "source"])

    world.run(scenario)


def test_answer_that_ends_before_the_request_ends_the_stream(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)

        async def first(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            yield await anext(chunks)

        b.serve_stream("first", first)

        assert await collect(a.stream(b.peer_id, "first", endless(b"x" * 1000), timeout_s=PATIENCE_S)) == [b"x" * 1000]

    world.run(scenario)


def test_too_long_chunks_are_refused_on_either_side(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)
        too_long = bytes(MAX_CHUNK_BYTES + 1)

        async def babble(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            yield too_long

        b.serve_stream("drop", drop)
        b.serve_stream("babble", babble)

        with pytest.raises(MessageTooLarge):
            await collect(a.stream(b.peer_id, "drop", each([b"fits", too_long]), timeout_s=PATIENCE_S))
        with pytest.raises(MessageTooLarge):
            await collect(a.stream(b.peer_id, "babble", each([]), timeout_s=PATIENCE_S))

    world.run(scenario)


def test_timeout_counts_from_the_last_progress(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)

        async def tire(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            for _ in range(5):
                await asyncio.sleep(0.3)
                yield b"tick"
            await asyncio.sleep(3600)

        b.serve_stream("drop", drop)
        b.serve_stream("tire", tire)
        await collect(a.stream(b.peer_id, "drop", each([b"connect"]), timeout_s=PATIENCE_S))
        stream = a.stream(b.peer_id, "tire", each([]), timeout_s=1.0)

        for _ in range(5):
            assert await anext(stream) == b"tick"
        with pytest.raises(PeerTimeout, match=b.peer_id):
            await anext(stream)

    world.run(scenario)


def test_peer_that_closes_in_mid_stream_is_unreachable(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)
        b.serve_stream("echo", echo)
        stream = a.stream(b.peer_id, "echo", endless(b"x" * 1000), timeout_s=PATIENCE_S)
        await anext(stream)

        await b.close()

        with pytest.raises(PeerUnreachable, match=b.peer_id):
            await collect(stream)

    world.run(scenario)


async def _close(stream: AsyncIterator[bytes]) -> None:
    assert isinstance(stream, AsyncGenerator)
    await stream.aclose()
