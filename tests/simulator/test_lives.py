"""Hosts that die, come back, and what others notice of it."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gossamer.protocol.errors import NetworkClosed, PeerTimeout, PeerUnreachable
from gossamer.protocol.identity import PeerId
from gossamer.simulator.host import Host
from gossamer.simulator.world import Simulation

from .hosts import ask, serve, serving


def test_killed_host_resets_its_connections_after_one_latency() -> None:
    sim = Simulation(seed=1, latency_s=0.1, jitter_s=0.0)
    a, b = serving(sim, "a", "b")

    async def main() -> None:
        call = asyncio.create_task(a.network.call(b.peer_id, "sleep", b"", timeout_s=60))
        await asyncio.sleep(1.0)
        b.kill()
        with pytest.raises(PeerUnreachable):
            await call
        assert sim.now_s == pytest.approx(1.1)
        with pytest.raises(PeerUnreachable):
            await ask(a, b)
        assert sim.now_s == pytest.approx(1.3, abs=1e-3)

    sim.run(main())


def test_silently_killed_host_only_lets_its_callers_wait() -> None:
    sim = Simulation(seed=1)
    a, b = serving(sim, "a", "b")

    async def main() -> None:
        call = asyncio.create_task(a.network.call(b.peer_id, "sleep", b"", timeout_s=7.0))
        await asyncio.sleep(1.0)
        b.kill(silent=True)
        with pytest.raises(PeerTimeout):
            await call
        assert sim.now_s == pytest.approx(7.0)
        with pytest.raises(PeerTimeout):
            await ask(a, b, timeout_s=3.0)
        assert sim.now_s == pytest.approx(10.0)

    sim.run(main())


def test_server_gives_up_on_callers_that_die() -> None:
    ended_s: dict[str, float] = {}
    sim = Simulation(seed=1, latency_s=0.1, jitter_s=0.0)
    a, b, server = serving(sim, "a", "b", "server")

    async def note_end(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        name = "a" if peer == a.peer_id else "b"
        try:
            async for chunk in chunks:
                yield chunk
        finally:
            ended_s[name] = sim.now_s

    async def wait_for_ever() -> AsyncIterator[bytes]:
        yield b"first"
        await asyncio.Event().wait()

    async def listen(host: Host) -> None:
        async for _ in host.network.stream(server.peer_id, "note end", wait_for_ever(), timeout_s=3600):
            pass

    async def main() -> None:
        server.network.serve_stream("note end", note_end)
        for host in (a, b):
            host.spawn(listen(host))
        await asyncio.sleep(1.0)
        a.kill()
        b.kill(silent=True)
        await asyncio.sleep(60.0)

    sim.run(main())

    assert ended_s["a"] == pytest.approx(1.1)
    assert 10.0 < ended_s["b"] < 60.0


def test_kill_ends_every_task_of_the_host_and_nothing_they_do_gets_out() -> None:
    sim = Simulation(seed=1)
    a, b = serving(sim, "a", "b")
    heard: list[bytes] = []
    ended: list[str] = []

    async def hear(peer: PeerId, request: bytes) -> bytes:
        heard.append(request)
        return b""

    async def say(word: bytes) -> None:
        await a.network.call(b.peer_id, "hear", word, timeout_s=5)

    async def child() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended.append("child")
            with pytest.raises(NetworkClosed):
                await say(b"the child's last words")

    async def daemon() -> None:
        sub = asyncio.create_task(child())
        await say(b"hello")
        try:
            await sub
        finally:
            ended.append("daemon")
            asyncio.create_task(say(b"from beyond"))  # noqa: RUF006 - it must die too
            raise KeyError("dying tasks may fail as they like")

    async def main() -> None:
        b.network.serve("hear", hear)
        a.spawn(daemon())
        await asyncio.sleep(1.0)
        a.kill()
        await asyncio.sleep(10.0)

    sim.run(main())

    assert heard == [b"hello"]
    assert sorted(ended) == ["child", "daemon"]


def test_handlers_of_a_killed_host_die_with_it() -> None:
    sim = Simulation(seed=1)
    a, b = serving(sim, "a", "b")
    states: list[str] = []

    async def work(peer: PeerId, request: bytes) -> bytes:
        async def step() -> None:
            await asyncio.sleep(2.0)
            states.append("worked")

        await asyncio.create_task(step())
        return b""

    async def main() -> None:
        b.network.serve("work", work)
        call = asyncio.create_task(a.network.call(b.peer_id, "work", b"", timeout_s=60))
        await asyncio.sleep(1.0)
        b.kill()
        with pytest.raises(PeerUnreachable):
            await call
        await asyncio.sleep(10.0)

    sim.run(main())

    assert states == []


def test_restarted_host_is_the_same_peer_with_nothing_left_of_before() -> None:
    sim = Simulation(seed=1)
    a, b = serving(sim, "a", "b")

    async def main() -> None:
        old, entropy = b.network, b.random.random()
        b.kill()
        b.restart()
        assert (b.incarnation, b.alive, b.network.peer_id) == (1, True, old.peer_id)
        assert b.random.random() != entropy
        with pytest.raises(NetworkClosed):
            await old.lookup("key")
        serve(b)
        assert await ask(a, b) == b"?"

    sim.run(main())
