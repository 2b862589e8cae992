"""Hosts that share lines, die, come back and are cut off from each other."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator

import pytest

from gossamer.protocol.errors import NetworkClosed, PeerTimeout, PeerUnreachable, UnknownName
from gossamer.protocol.identity import PeerId
from gossamer.protocol.network import MAX_MESSAGE_BYTES, Cost
from gossamer.simulator.host import Host
from gossamer.simulator.world import Simulation


async def echo(peer: PeerId, request: bytes) -> bytes:
    return request


async def sleep_well(peer: PeerId, request: bytes) -> bytes:
    await asyncio.sleep(3600)
    return b""


def _serving(sim: Simulation, *names: str) -> list[Host]:
    hosts = [sim.host(name) for name in names]
    for host in hosts:
        _serve(host)
    return hosts


def _serve(host: Host) -> None:
    host.network.set_gate(lambda peer: True)
    host.network.serve("echo", echo)
    host.network.serve("sleep", sleep_well)


async def _ask(a: Host, b: Host, *, timeout_s: float = 5.0) -> bytes:
    return await a.network.call(b.peer_id, "echo", b"?", timeout_s=timeout_s)


# -------------------------------------------------------------------------------------------------------------- wires


def test_small_call_takes_one_latency_each_way() -> None:
    sim = Simulation(seed=1, latency_s=0.1, jitter_s=0.0)
    a, b = _serving(sim, "a", "b")
    sim.set_path("a", "b", latency_s=0.3, one_way=True)

    sim.run(_ask(a, b))

    assert sim.now_s == pytest.approx(0.4, abs=1e-3)


def test_concurrent_transfers_share_the_senders_line() -> None:
    sim = Simulation(seed=1, latency_s=0.0, jitter_s=0.0, up_bytes_per_s=1e6)
    a, b, c = _serving(sim, "a", "b", "c")
    for host in (b, c):

        async def swallow(peer: PeerId, request: bytes) -> bytes:
            return b""

        host.network.serve("swallow", swallow)

    async def main() -> None:
        calls = (a.network.call(h.peer_id, "swallow", bytes(MAX_MESSAGE_BYTES), timeout_s=9) for h in (b, c))
        await asyncio.gather(*calls)

    sim.run(main())

    assert sim.now_s == pytest.approx(2 * MAX_MESSAGE_BYTES / 1e6, rel=1e-3)


def test_losses_cost_time_and_no_data() -> None:
    def took_s(loss: float) -> float:
        sim = Simulation(seed=1, loss=loss)
        a, b = _serving(sim, "a", "b")

        async def main() -> list[bytes]:
            return [await _ask(a, b, timeout_s=60) for _ in range(100)]

        assert sim.run(main()) == [b"?"] * 100
        return sim.now_s

    assert took_s(0.2) > took_s(0.02) > took_s(0.0)


def test_stalled_host_times_out_and_goes_on_when_its_line_does() -> None:
    sim = Simulation(seed=1)
    a, b = _serving(sim, "a", "b")

    async def main() -> None:
        sim.set_line(b, up_bytes_per_s=0)
        with pytest.raises(PeerTimeout):
            await _ask(a, b)
        sim.set_line("b", up_bytes_per_s=1e6)
        assert await _ask(a, b) == b"?"

    sim.run(main())


# ---------------------------------------------------------------------------------------------------------------- kill


def test_killed_host_resets_its_connections_after_one_latency() -> None:
    sim = Simulation(seed=1, latency_s=0.1, jitter_s=0.0)
    a, b = _serving(sim, "a", "b")

    async def main() -> None:
        call = asyncio.create_task(a.network.call(b.peer_id, "sleep", b"", timeout_s=60))
        await asyncio.sleep(1.0)
        b.kill()
        with pytest.raises(PeerUnreachable):
            await call
        assert sim.now_s == pytest.approx(1.1)
        with pytest.raises(PeerUnreachable):
            await _ask(a, b)
        assert sim.now_s == pytest.approx(1.3, abs=1e-3)

    sim.run(main())


def test_silently_killed_host_only_lets_its_callers_wait() -> None:
    sim = Simulation(seed=1)
    a, b = _serving(sim, "a", "b")

    async def main() -> None:
        call = asyncio.create_task(a.network.call(b.peer_id, "sleep", b"", timeout_s=7.0))
        await asyncio.sleep(1.0)
        b.kill(silent=True)
        with pytest.raises(PeerTimeout):
            await call
        assert sim.now_s == pytest.approx(7.0)
        with pytest.raises(PeerTimeout):
            await _ask(a, b, timeout_s=3.0)
        assert sim.now_s == pytest.approx(10.0)

    sim.run(main())


def test_server_gives_up_on_callers_that_die() -> None:
    ended_s: dict[str, float] = {}
    sim = Simulation(seed=1, latency_s=0.1, jitter_s=0.0)
    a, b, server = _serving(sim, "a", "b", "server")

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
    a, b = _serving(sim, "a", "b")
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
    a, b = _serving(sim, "a", "b")
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
    a, b = _serving(sim, "a", "b")

    async def main() -> None:
        old, entropy = b.network, b.random.random()
        b.kill()
        b.restart()
        assert (b.incarnation, b.alive, b.network.peer_id) == (1, True, old.peer_id)
        assert b.random.random() != entropy
        with pytest.raises(NetworkClosed):
            await old.lookup("key")
        _serve(b)
        assert await _ask(a, b) == b"?"

    sim.run(main())


# ---------------------------------------------------------------------------------------------------------- partition


def test_partition_is_silence_until_it_heals() -> None:
    sim = Simulation(seed=1)
    a, b, c = _serving(sim, "a", "b", "c")

    async def main() -> None:
        sim.partition([a], ["b"])
        for source, target in ((a, b), (b, a)):
            with pytest.raises(PeerTimeout):
                await _ask(source, target)
        assert await _ask(a, c) == await _ask(c, b) == b"?"
        sim.heal()
        assert await _ask(a, b) == await _ask(b, a) == b"?"

    sim.run(main())


@pytest.mark.parametrize(("heals_after_s", "answered"), [(60.0, True), (5000.0, False)])
def test_call_survives_a_partition_in_which_it_had_nothing_to_say(heals_after_s: float, answered: bool) -> None:
    sim = Simulation(seed=1)
    a, b = _serving(sim, "a", "b")

    async def main() -> bool:
        call = asyncio.create_task(a.network.call(b.peer_id, "sleep", b"", timeout_s=6000))
        await asyncio.sleep(1.0)
        sim.partition([a], [b])
        await asyncio.sleep(heals_after_s)
        sim.heal()
        try:
            return await call == b""
        except PeerTimeout:
            return False

    assert sim.run(main(), timeout_s=1e4) is answered


def test_one_way_partition_lets_requests_through_but_no_answers() -> None:
    sim = Simulation(seed=1)
    a, b = _serving(sim, "a", "b")
    served: list[PeerId] = []

    async def note(peer: PeerId, request: bytes) -> bytes:
        served.append(peer)
        return b""

    async def main() -> None:
        for host in (a, b):
            host.network.serve("note", note)
        sim.partition([a], [b], one_way=True)
        for source, target in ((a, b), (b, a)):
            with pytest.raises(PeerTimeout):
                await source.network.call(target.peer_id, "note", b"", timeout_s=5)

    sim.run(main())

    assert served == [b.peer_id]


def test_records_cross_a_partition_only_when_it_has_healed() -> None:
    sim = Simulation(seed=1)
    a, b, c = _serving(sim, "a", "b", "c")

    async def values(host: Host) -> list[bytes]:
        return [record.value for record in await host.network.lookup("key")]

    async def main() -> None:
        await a.network.publish("key", b"before", ttl_s=600)
        await asyncio.sleep(1.0)
        sim.partition([a], [b])
        await a.network.publish("key", b"meanwhile", ttl_s=600)
        await asyncio.sleep(1.0)
        assert (await values(a), await values(b), await values(c)) == ([b"meanwhile"], [b"before"], [b"meanwhile"])
        sim.heal()
        await asyncio.sleep(1.0)
        assert await values(b) == [b"meanwhile"]

    sim.run(main())


def test_lookup_may_be_stale_for_a_while_but_not_for_the_publisher() -> None:
    sim = Simulation(seed=1, spread_s=10.0)
    a, b = _serving(sim, "a", "b")

    async def main() -> None:
        await a.network.publish("key", b"value", ttl_s=600)
        assert len(await a.network.lookup("key")) == 1
        assert await b.network.lookup("key") == []
        await asyncio.sleep(15.0)
        assert len(await b.network.lookup("key")) == 1

    sim.run(main())


# ------------------------------------------------------------------------------------------------------------ machines


def test_maths_takes_the_time_that_the_host_would_need() -> None:
    sim = Simulation(seed=1)
    host = sim.host("a", flops_per_s=1e9, memory_bytes_per_s=1e8)

    async def main() -> list[float]:
        ended_s = []
        for cost in (Cost(flops=2e9), Cost(memory_bytes=1e8), Cost()):
            await host.network.compute(lambda: None, cost)
            ended_s.append(sim.now_s)
        host.flops_per_s /= 10
        both = [asyncio.create_task(host.network.compute(lambda: None, Cost(flops=1e9))) for _ in range(2)]
        await asyncio.sleep(1.0)
        both[0].cancel()
        await both[1]
        return [*ended_s, sim.now_s]

    assert sim.run(main()) == pytest.approx([2.0, 3.0, 3.0, 23.0])


def test_clocks_may_be_wrong() -> None:
    sim = Simulation(seed=1)
    a, b = sim.host("a"), sim.host("b", clock_skew_s=-30.0)

    assert a.network.unix_time_s() - b.network.unix_time_s() == 30.0


def test_unknown_hosts_and_twins_are_refused() -> None:
    sim = Simulation(seed=1)
    sim.host("alpha")

    with pytest.raises(UnknownName, match="did you mean 'alpha'"):
        sim.set_line("alhpa", up_bytes_per_s=1)
    with pytest.raises(ValueError, match="already"):
        sim.host("alpha")


def test_hosts_lose_their_power_when_the_run_is_over() -> None:
    sim = Simulation(seed=1)
    (a,) = _serving(sim, "a")
    ended_s: list[float] = []

    async def daemon() -> None:
        try:
            await asyncio.sleep(3600)
        finally:
            ended_s.append(sim.now_s)

    async def main() -> None:
        a.spawn(daemon())
        await asyncio.sleep(1.0)

    sim.run(main())

    assert ended_s == [1.0]
    assert not a.alive
