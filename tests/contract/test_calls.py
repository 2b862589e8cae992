"""Calls: one message there, one back."""

from __future__ import annotations

import asyncio

import pytest

from gossamer.protocol.errors import MessageTooLarge, PeerTimeout, PeerUnreachable, UnknownMethod
from gossamer.protocol.identity import Identity, PeerId
from gossamer.protocol.network import MAX_MESSAGE_BYTES, Network

from .world import PATIENCE_S, World, admit_all, each, eventually


async def echo(peer: PeerId, request: bytes) -> bytes:
    return request


def test_handler_gets_the_message_and_the_true_caller(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b, c = networks
        admit_all(networks)
        seen: list[tuple[PeerId, bytes]] = []

        async def note(peer: PeerId, request: bytes) -> bytes:
            seen.append((peer, request))
            return b"to " + request

        b.serve("note", note)

        assert await a.call(b.peer_id, "note", b"from a", timeout_s=PATIENCE_S) == b"to from a"
        assert await c.call(b.peer_id, "note", b"from c", timeout_s=PATIENCE_S) == b"to from c"
        assert seen == [(a.peer_id, b"from a"), (c.peer_id, b"from c")]

    world.run(scenario, n_peers=3)


def test_concurrent_calls_keep_their_answers_apart(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)

        async def late(peer: PeerId, request: bytes) -> bytes:
            await asyncio.sleep(0.01 * (int(request) % 7))
            return b"answer " + request

        for network in networks:
            network.serve("late", late)

        there = [a.call(b.peer_id, "late", b"%d" % n, timeout_s=PATIENCE_S) for n in range(50)]
        back = [b.call(a.peer_id, "late", b"%d" % n, timeout_s=PATIENCE_S) for n in range(50)]

        assert await asyncio.gather(*there, *back) == [b"answer %d" % n for n in range(50)] * 2

    world.run(scenario)


def test_empty_and_longest_messages_pass(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)
        b.serve("echo", echo)
        longest = bytes(range(256)) * (MAX_MESSAGE_BYTES // 256)

        assert await a.call(b.peer_id, "echo", b"", timeout_s=PATIENCE_S) == b""
        assert await a.call(b.peer_id, "echo", longest, timeout_s=PATIENCE_S) == longest

    world.run(scenario)


def test_too_long_messages_are_refused_where_they_begin(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)
        served = 0

        async def babble(peer: PeerId, request: bytes) -> bytes:
            nonlocal served
            served += 1
            return bytes(MAX_MESSAGE_BYTES + 1)

        b.serve("babble", babble)

        with pytest.raises(MessageTooLarge):
            await a.call(b.peer_id, "babble", bytes(MAX_MESSAGE_BYTES + 1), timeout_s=PATIENCE_S)
        assert served == 0
        with pytest.raises(MessageTooLarge):
            await a.call(b.peer_id, "babble", b"", timeout_s=PATIENCE_S)
        assert served == 1

    world.run(scenario)


def test_unknown_methods_are_named_as_such(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)
        b.serve("echo", echo)

        with pytest.raises(UnknownMethod, match=b.peer_id):
            await a.call(b.peer_id, "ehco", b"", timeout_s=PATIENCE_S)
        with pytest.raises(UnknownMethod):
            async for _ in a.stream(b.peer_id, "echo", each([b"a call's method"]), timeout_s=PATIENCE_S):
                pass

    world.run(scenario)


def test_serving_a_name_twice_is_an_error(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        networks[0].serve("echo", echo)

        with pytest.raises(ValueError, match="echo"):
            networks[0].serve("echo", echo)

    world.run(scenario)


def test_late_answer_is_a_timeout_and_cancels_the_handler(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)
        cancelled = False

        async def ponder(peer: PeerId, request: bytes) -> bytes:
            nonlocal cancelled
            try:
                await asyncio.sleep(3600)
            except asyncio.CancelledError:
                cancelled = True
                raise
            return b""

        b.serve("ponder", ponder)
        b.serve("echo", echo)
        await a.call(b.peer_id, "echo", b"connect", timeout_s=PATIENCE_S)

        with pytest.raises(PeerTimeout, match=b.peer_id):
            await a.call(b.peer_id, "ponder", b"", timeout_s=0.5)
        await eventually(lambda: cancelled)
        assert await a.call(b.peer_id, "echo", b"still there", timeout_s=PATIENCE_S) == b"still there"

    world.run(scenario)


def test_cancelled_call_cancels_the_handler(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)
        states: list[str] = []

        async def ponder(peer: PeerId, request: bytes) -> bytes:
            states.append("begun")
            try:
                await asyncio.sleep(3600)
            finally:
                states.append("ended")
            return b""

        b.serve("ponder", ponder)
        call = asyncio.create_task(a.call(b.peer_id, "ponder", b"", timeout_s=600))
        await eventually(lambda: states == ["begun"])

        call.cancel()

        await eventually(lambda: states == ["begun", "ended"])
        with pytest.raises(asyncio.CancelledError):
            await call

    world.run(scenario)


def test_peers_that_are_gone_or_unheard_of_are_unreachable(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)
        b.serve("echo", echo)
        await a.call(b.peer_id, "echo", b"", timeout_s=PATIENCE_S)
        nobody = Identity(b"nobody".ljust(32)).peer_id

        await b.close()

        with pytest.raises(PeerUnreachable, match=b.peer_id):
            await a.call(b.peer_id, "echo", b"", timeout_s=PATIENCE_S)
        with pytest.raises(PeerUnreachable, match=nobody):
            await a.call(nobody, "echo", b"", timeout_s=PATIENCE_S)

    world.run(scenario)


def test_peer_that_closes_during_a_call_is_unreachable(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)
        begun = asyncio.Event()

        async def ponder(peer: PeerId, request: bytes) -> bytes:
            begun.set()
            await asyncio.sleep(3600)
            return b""

        b.serve("ponder", ponder)
        call = asyncio.create_task(a.call(b.peer_id, "ponder", b"", timeout_s=PATIENCE_S))
        await begun.wait()

        await b.close()

        with pytest.raises(PeerUnreachable, match=b.peer_id):
            await call

    world.run(scenario)
