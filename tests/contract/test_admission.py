"""Who may call what."""

from __future__ import annotations

from collections.abc import AsyncIterator

import pytest

from gossamer.protocol.errors import MessageTooLarge, NotAdmitted
from gossamer.protocol.identity import PeerId
from gossamer.protocol.network import MAX_PUBLIC_BYTES, Network

from .world import PATIENCE_S, World, admit_all, collect, each


async def echo(peer: PeerId, request: bytes) -> bytes:
    return request


async def echo_stream(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk


def test_before_a_gate_is_set_nobody_is_admitted(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        b.serve("echo", echo)

        with pytest.raises(NotAdmitted, match=b.peer_id):
            await a.call(b.peer_id, "echo", b"", timeout_s=PATIENCE_S)

    world.run(scenario)


def test_gate_decides_by_peer_and_handlers_of_the_refused_never_run(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b, c = networks
        served: list[PeerId] = []

        async def note(peer: PeerId, request: bytes) -> bytes:
            served.append(peer)
            return b""

        async def note_stream(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            served.append(peer)
            async for chunk in chunks:
                yield chunk

        b.serve("note", note)
        b.serve_stream("note stream", note_stream)
        b.set_gate(lambda peer: peer == a.peer_id)

        await a.call(b.peer_id, "note", b"", timeout_s=PATIENCE_S)
        with pytest.raises(NotAdmitted):
            await c.call(b.peer_id, "note", b"", timeout_s=PATIENCE_S)
        with pytest.raises(NotAdmitted):
            await collect(c.stream(b.peer_id, "note stream", each([b"x"] * 3), timeout_s=PATIENCE_S))
        assert served == [a.peer_id]

        b.set_gate(lambda peer: peer == c.peer_id)
        await c.call(b.peer_id, "note", b"", timeout_s=PATIENCE_S)
        with pytest.raises(NotAdmitted):
            await a.call(b.peer_id, "note", b"", timeout_s=PATIENCE_S)
        assert served == [a.peer_id, c.peer_id]

    world.run(scenario, n_peers=3)


def test_public_methods_take_short_messages_from_anybody(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        b.serve("echo", echo, public=True)
        b.serve_stream("echo stream", echo_stream, public=True)
        longest, too_long = bytes(MAX_PUBLIC_BYTES), bytes(MAX_PUBLIC_BYTES + 1)

        assert await a.call(b.peer_id, "echo", longest, timeout_s=PATIENCE_S) == longest
        echoed = await collect(a.stream(b.peer_id, "echo stream", each([longest] * 2), timeout_s=PATIENCE_S))
        assert echoed == [longest] * 2
        with pytest.raises(MessageTooLarge):
            await a.call(b.peer_id, "echo", too_long, timeout_s=PATIENCE_S)
        with pytest.raises(MessageTooLarge):
            await collect(a.stream(b.peer_id, "echo stream", each([b"", too_long]), timeout_s=PATIENCE_S))

    world.run(scenario)


def test_public_methods_take_long_messages_from_the_admitted(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)
        b.serve("echo", echo, public=True)
        message = bytes(MAX_PUBLIC_BYTES + 1)

        assert await a.call(b.peer_id, "echo", message, timeout_s=PATIENCE_S) == message

    world.run(scenario)
