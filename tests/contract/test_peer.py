"""A peer's own side: what it counts, computes, and how it ends."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import AsyncIterator

import pytest

from gossamer.protocol.errors import NetworkClosed
from gossamer.protocol.identity import PeerId
from gossamer.protocol.network import Cost, Network

from .world import PATIENCE_S, World, admit_all, collect, each, eventually


def test_traffic_counts_what_was_sent_and_received_by_method(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)

        async def halve(peer: PeerId, request: bytes) -> bytes:
            return request[::2]

        async def double(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
            async for chunk in chunks:
                yield chunk * 2

        b.serve("halve", halve)
        b.serve_stream("double", double)

        await a.call(b.peer_id, "halve", bytes(100_000), timeout_s=PATIENCE_S)
        await collect(a.stream(b.peer_id, "double", each([bytes(50_000)] * 4), timeout_s=PATIENCE_S))

        await eventually(lambda: b.traffic.sent["double"] >= 400_000)
        for counted, payload in (
            (a.traffic.sent["halve"], 100_000),
            (b.traffic.received["halve"], 100_000),
            (b.traffic.sent["halve"], 50_000),
            (a.traffic.received["halve"], 50_000),
            (a.traffic.sent["double"], 200_000),
            (b.traffic.received["double"], 200_000),
            (b.traffic.sent["double"], 400_000),
            (a.traffic.received["double"], 400_000),
        ):
            assert payload <= counted <= payload * 1.05 + 1000

    world.run(scenario)


def test_records_count_as_traffic(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        before = networks[0].traffic.sent["dht"]

        await networks[0].publish("key", bytes(5000), ttl_s=60)

        assert networks[0].traffic.sent["dht"] - before >= 5000

    world.run(scenario)


def test_heavy_maths_leaves_the_loop_free_and_keeps_its_order(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        order: list[int] = []

        def work(number: int) -> int:
            time.sleep(0.05)  # stands for maths that holds no lock
            order.append(number)
            return number

        async def tick() -> int:
            n_ticks = 0
            while len(order) < 4:
                await asyncio.sleep(0.01)
                n_ticks += 1
            return n_ticks

        ticking = asyncio.create_task(tick())
        pieces: list[asyncio.Task[int]] = []
        for number in range(4):
            piece = networks[0].compute(functools.partial(work, number), Cost(flops=2.5e9))
            pieces.append(asyncio.create_task(piece))
            await asyncio.sleep(0.001)

        assert await asyncio.gather(*pieces) == [0, 1, 2, 3]
        assert order == [0, 1, 2, 3]
        assert await ticking >= 5

    world.run(scenario, n_peers=1)


def test_error_of_the_maths_is_raised_where_it_was_asked_for(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        with pytest.raises(ZeroDivisionError):
            await networks[0].compute(lambda: 1 // 0, Cost())
        assert await networks[0].compute(lambda: "goes on", Cost()) == "goes on"

    world.run(scenario, n_peers=1)


def test_closed_network_refuses_everything_and_closes_again_quietly(world: World) -> None:
    async def scenario(networks: list[Network]) -> None:
        a, b = networks
        admit_all(networks)

        await a.close()
        await a.close()

        with pytest.raises(NetworkClosed):
            await a.call(b.peer_id, "echo", b"", timeout_s=PATIENCE_S)
        with pytest.raises(NetworkClosed):
            await collect(a.stream(b.peer_id, "echo", each([]), timeout_s=PATIENCE_S))
        with pytest.raises(NetworkClosed):
            await a.publish("key", b"", ttl_s=60)
        with pytest.raises(NetworkClosed):
            await a.lookup("key")
        with pytest.raises(NetworkClosed):
            await a.compute(lambda: None, Cost())

    world.run(scenario)


def test_closing_ends_calls_and_handlers_under_way(world: World) -> None:
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

        for network in networks:
            network.serve("ponder", ponder)
        mine = asyncio.create_task(a.call(b.peer_id, "ponder", b"", timeout_s=600))
        other = asyncio.create_task(b.call(a.peer_id, "ponder", b"", timeout_s=PATIENCE_S))
        await eventually(lambda: states == ["begun", "begun"])

        await a.close()

        with pytest.raises(NetworkClosed):
            await mine
        await asyncio.gather(other, return_exceptions=True)
        await eventually(lambda: states == ["begun", "begun", "ended", "ended"])

    world.run(scenario)
