"""Hosts that share lines, compute, and are cut off from each other."""

from __future__ import annotations

import asyncio

import pytest

from gossamer.protocol.errors import PeerTimeout, UnknownName
from gossamer.protocol.identity import PeerId
from gossamer.protocol.network import MAX_MESSAGE_BYTES, Cost
from gossamer.simulator.host import Host
from gossamer.simulator.nat import Nat
from gossamer.simulator.world import Simulation

from .hosts import ask, serving


def test_small_call_takes_one_latency_each_way() -> None:
    sim = Simulation(seed=1, latency_s=0.1, jitter_s=0.0)
    a, b = serving(sim, "a", "b")
    sim.set_path("a", "b", latency_s=0.3, one_way=True)

    sim.run(ask(a, b))

    assert sim.now_s == pytest.approx(0.4, abs=1e-3)


def test_concurrent_transfers_share_the_senders_line() -> None:
    sim = Simulation(seed=1, latency_s=0.0, jitter_s=0.0, up_bytes_per_s=1e6)
    a, b, c = serving(sim, "a", "b", "c")
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
        a, b = serving(sim, "a", "b")

        async def main() -> list[bytes]:
            return [await ask(a, b, timeout_s=60) for _ in range(100)]

        assert sim.run(main()) == [b"?"] * 100
        return sim.now_s

    assert took_s(0.2) > took_s(0.02) > took_s(0.0)


def test_stalled_host_times_out_and_goes_on_when_its_line_does() -> None:
    sim = Simulation(seed=1)
    a, b = serving(sim, "a", "b")

    async def main() -> None:
        sim.set_line(b, up_bytes_per_s=0)
        with pytest.raises(PeerTimeout):
            await ask(a, b)
        sim.set_line("b", up_bytes_per_s=1e6)
        assert await ask(a, b) == b"?"

    sim.run(main())


# ---------------------------------------------------------------------------------------------------------- partition


def test_partition_is_silence_until_it_heals() -> None:
    sim = Simulation(seed=1)
    a, b, c = serving(sim, "a", "b", "c")

    async def main() -> None:
        sim.partition([a], ["b"])
        for source, target in ((a, b), (b, a)):
            with pytest.raises(PeerTimeout):
                await ask(source, target)
        assert await ask(a, c) == await ask(c, b) == b"?"
        sim.heal()
        assert await ask(a, b) == await ask(b, a) == b"?"

    sim.run(main())


@pytest.mark.parametrize(("heals_after_s", "answered"), [(60.0, True), (5000.0, False)])
def test_call_survives_a_partition_in_which_it_had_nothing_to_say(heals_after_s: float, answered: bool) -> None:
    sim = Simulation(seed=1)
    a, b = serving(sim, "a", "b")

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
    a, b = serving(sim, "a", "b")
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
    a, b, c = serving(sim, "a", "b", "c")

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
    a, b = serving(sim, "a", "b")

    async def main() -> None:
        await a.network.publish("key", b"value", ttl_s=600)
        assert len(await a.network.lookup("key")) == 1
        assert await b.network.lookup("key") == []
        await asyncio.sleep(15.0)
        assert len(await b.network.lookup("key")) == 1

    sim.run(main())


# ----------------------------------------------------------------------------------------------------------- machines


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
    (a,) = serving(sim, "a")
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


def test_peers_of_two_runs_share_a_world_but_no_records() -> None:
    sim = Simulation(seed=1)
    a, b, other = (sim.host(name, run_id=run_id) for name, run_id in (("a", "one"), ("b", "one"), ("c", "two")))

    async def main() -> list[list[PeerId]]:
        for host in (a, other):
            await host.network.publish("peers", b"here", ttl_s=60)
        await asyncio.sleep(1.0)
        return [[record.signer for record in await host.network.lookup("peers")] for host in (b, other)]

    assert sim.run(main()) == [[a.peer_id], [other.peer_id]]


# --------------------------------------------------------------------------------------------------------- impossible


@pytest.mark.parametrize(
    "settings", [{"spread_s": -5.0}, {"spread_s": float("inf")}, {"stale": 3.0}, {"stale": float("nan")}]
)
def test_an_impossible_dht_is_refused(settings: dict[str, float]) -> None:
    with pytest.raises(ValueError, match=f"{next(iter(settings))} = "):
        Simulation(seed=1, **settings)  # type: ignore[arg-type]


def test_a_relay_that_nobody_can_dial_is_refused() -> None:
    sim = Simulation(seed=1)

    with pytest.raises(ValueError, match="nobody can dial it: give it nat="):
        sim.host("a", nat=Nat.SYMMETRIC, relay=True)

    assert sim.hosts == {}
