"""Paths, NAT, relays and the DHT's own cost, each from its seed."""

from __future__ import annotations

import asyncio
import statistics
from collections.abc import Callable

import pytest

from gossamer.protocol.errors import PeerTimeout, PeerUnreachable
from gossamer.protocol.identity import PeerId
from gossamer.protocol.network import MAX_MESSAGE_BYTES
from gossamer.simulator.host import Host
from gossamer.simulator.nat import PUNCH_SUCCESS, Nat, Reach, reach
from gossamer.simulator.paths import Path
from gossamer.simulator.world import Simulation


async def swallow(peer: PeerId, request: bytes) -> bytes:
    return b""


def _host(sim: Simulation, name: str, *, nat: Nat = Nat.OPEN, relay: bool = False, up: float | None = None) -> Host:
    host = sim.host(name, nat=nat, relay=relay, up_bytes_per_s=up)
    host.network.set_gate(lambda peer: True)
    host.network.serve("swallow", swallow)
    return host


async def _seconds(sim: Simulation, a: Host, b: Host, n_bytes: int = 1) -> float:
    begun_s = sim.now_s
    await a.network.call(b.peer_id, "swallow", bytes(n_bytes), timeout_s=600)
    return sim.now_s - begun_s


# --------------------------------------------------------------------------------------------------------------- paths


def test_latency_comes_from_a_matrix_and_need_not_be_symmetric() -> None:
    matrix = {("a", "b"): 0.1, ("b", "a"): 0.3, ("a", "c"): 0.01, ("c", "a"): 0.01}
    sim = Simulation(seed=1, paths=lambda source, target: Path(latency_s=matrix[source, target], jitter_s=0.0))
    a, b, c = (_host(sim, name) for name in "abc")

    async def main() -> list[float]:
        return [await _seconds(sim, a, b), await _seconds(sim, a, c)]

    assert sim.run(main()) == pytest.approx([0.4, 0.02], abs=1e-3)


def test_middle_of_the_path_may_be_the_bottleneck() -> None:
    sim = Simulation(seed=1, latency_s=0.0, jitter_s=0.0, up_bytes_per_s=1e7)
    a, b, c = (_host(sim, name) for name in "abc")
    sim.set_path(a, b, bytes_per_s=1e6)

    async def main() -> list[float]:
        calls = [asyncio.create_task(_seconds(sim, a, peer, MAX_MESSAGE_BYTES)) for peer in (b, c)]
        return [await call for call in calls]

    slow_s, fast_s = sim.run(main())
    assert slow_s == pytest.approx(MAX_MESSAGE_BYTES / 1e6, rel=0.01)
    assert fast_s == pytest.approx(MAX_MESSAGE_BYTES / 9e6, rel=0.01)


def test_jitter_lets_requests_overtake_each_other_but_each_is_served_once() -> None:
    sim = Simulation(seed=3, latency_s=0.01, jitter_s=0.5)
    a, b = _host(sim, "a"), _host(sim, "b")
    served: list[int] = []

    async def note(peer: PeerId, request: bytes) -> bytes:
        served.append(int(request))
        return b""

    async def main() -> None:
        b.network.serve("note", note)
        async with asyncio.TaskGroup() as group:
            for number in range(50):
                group.create_task(a.network.call(b.peer_id, "note", b"%d" % number, timeout_s=60))

    sim.run(main())

    assert sorted(served) == list(range(50))
    assert served != sorted(served)


def test_lost_packets_cost_retransmission_timeouts_at_their_rate() -> None:
    sim = Simulation(seed=4, latency_s=0.05, jitter_s=0.0, loss=0.1)
    a, b = _host(sim, "a"), _host(sim, "b")

    async def main() -> list[float]:
        return [await _seconds(sim, a, b) for _ in range(400)]

    taken_s = sim.run(main())
    late = sum(seconds > 0.2 for seconds in taken_s) / len(taken_s)
    assert statistics.median(taken_s) == pytest.approx(0.1, abs=1e-3)
    assert late == pytest.approx(1 - 0.9**2, abs=0.05)


def test_flapping_partition_loses_what_arrives_while_it_is_there() -> None:
    sim = Simulation(seed=5, latency_s=0.01, jitter_s=0.0)
    a, b = _host(sim, "a"), _host(sim, "b")

    async def flap() -> None:
        while True:
            sim.partition([a], [b])
            await asyncio.sleep(10.0)
            sim.heal([a], [b])
            await asyncio.sleep(10.0)

    async def main() -> list[bool]:
        flapping = asyncio.create_task(flap())
        answered = []
        for _ in range(4):
            await asyncio.sleep(2.0)
            try:
                await a.network.call(b.peer_id, "swallow", b"", timeout_s=5.0)
                answered.append(True)
                await asyncio.sleep(7.9)
            except PeerTimeout:
                answered.append(False)
                await asyncio.sleep(3.0)
        flapping.cancel()
        return answered

    assert sim.run(main()) == [False, True, False, True]


# ----------------------------------------------------------------------------------------------------------------- NAT


def test_seven_of_ten_pairs_behind_cone_nats_punch_a_hole() -> None:
    ways = [reach(7, f"a{number}", Nat.CONE, f"b{number}", Nat.CONE) for number in range(2000)]

    assert ways.count(Reach.PUNCHED) / len(ways) == pytest.approx(PUNCH_SUCCESS, abs=0.03)
    assert ways.count(Reach.DIRECT) == 0


@pytest.mark.parametrize(
    ("nats", "way"),
    [
        ((Nat.OPEN, Nat.SYMMETRIC), Reach.DIRECT),
        ((Nat.SYMMETRIC, Nat.CONE), Reach.RELAYED),
        ((Nat.SYMMETRIC, Nat.SYMMETRIC), Reach.RELAYED),
    ],
)
def test_one_dialable_end_is_enough_and_symmetric_nats_need_a_relay(nats: tuple[Nat, Nat], way: Reach) -> None:
    assert reach(1, "a", nats[0], "b", nats[1]) is reach(1, "b", nats[1], "a", nats[0]) is way


def test_relayed_bytes_go_over_the_relays_lines_and_take_both_latencies() -> None:
    sim = Simulation(seed=1, latency_s=0.1, jitter_s=0.0, up_bytes_per_s=1e7)
    a, b = _host(sim, "a", nat=Nat.SYMMETRIC), _host(sim, "b", nat=Nat.SYMMETRIC)

    async def main() -> float:
        with pytest.raises(PeerUnreachable, match="no relay"):
            await _seconds(sim, a, b)
        _host(sim, "relay", relay=True, up=1e6)
        return await _seconds(sim, a, b, 1_000_000)

    assert sim.run(main()) == pytest.approx(1.0 + 0.4, rel=0.01)


@pytest.mark.parametrize("ends_when", ["it is cut off", "it is off", "the path to it is cut"])
def test_pairs_are_as_far_apart_as_their_relay_is(ends_when: str) -> None:
    sim = Simulation(seed=1, latency_s=0.1, jitter_s=0.0)
    a, b = _host(sim, "a", nat=Nat.SYMMETRIC), _host(sim, "b", nat=Nat.SYMMETRIC)
    relay = _host(sim, "relay", relay=True)

    async def main() -> tuple[float, float]:
        sim.set_path(a, relay, latency_s=0.3)
        slower_s = await _seconds(sim, a, b)
        if ends_when == "it is off":
            relay.kill()
        elif ends_when == "it is cut off":
            sim.partition([relay], [a, b])
        else:
            sim.partition([b], [relay], one_way=True)
        with pytest.raises(PeerTimeout):
            await a.network.call(b.peer_id, "swallow", b"", timeout_s=5.0)
        with pytest.raises(PeerTimeout):
            await b.network.call(a.peer_id, "swallow", b"", timeout_s=5.0)
        if ends_when == "it is off":
            relay.restart()
        else:
            sim.heal()
        return slower_s, await _seconds(sim, a, b)

    assert sim.run(main()) == pytest.approx((0.8, 0.8), abs=1e-3)


def _punched() -> tuple[Simulation, Host, Host]:
    sim = Simulation(seed=1, latency_s=0.1, jitter_s=0.0)
    hosts = [_host(sim, f"{number}", nat=Nat.CONE) for number in range(10)]
    _host(sim, "relay", relay=True)
    lucky = next(host for host in hosts[1:] if reach(1, "0", Nat.CONE, host.name, Nat.CONE) is Reach.PUNCHED)
    return sim, hosts[0], lucky


def test_punching_costs_the_first_request_of_a_pair_some_round_trips() -> None:
    sim, a, b = _punched()

    async def main() -> list[float]:
        return [await _seconds(sim, *ends) for ends in [(a, b), (a, b), (b, a)]]

    assert sim.run(main()) == pytest.approx([0.7, 0.2, 0.2], abs=1e-3)


def test_requests_of_the_same_moment_wait_for_the_same_hole() -> None:
    sim, a, b = _punched()

    async def main() -> list[float]:
        return list(await asyncio.gather(_seconds(sim, a, b), _seconds(sim, a, b), _seconds(sim, b, a)))

    assert sim.run(main()) == pytest.approx([0.7, 0.7, 0.7], abs=1e-3)


def test_a_process_that_comes_back_has_to_punch_anew() -> None:
    sim, a, b = _punched()

    async def main() -> list[float]:
        first_s = await _seconds(sim, a, b)
        b.kill()
        await asyncio.sleep(10.0)
        b.restart()
        b.network.set_gate(lambda peer: True)
        b.network.serve("swallow", swallow)
        return [first_s, await _seconds(sim, a, b), await _seconds(sim, a, b)]

    assert sim.run(main()) == pytest.approx([0.7, 0.7, 0.2], abs=1e-3)


# ----------------------------------------------------------------------------------------------------------------- DHT


def test_nobody_searches_over_lines_on_which_nothing_moves() -> None:
    sim = Simulation(seed=1, latency_s=0.05, jitter_s=0.0)
    stalled = sim.host("stalled")
    sim.host("other")

    async def main() -> list[float]:
        sim.set_line(stalled, up_bytes_per_s=0.0)
        search = asyncio.create_task(stalled.network.lookup("key"))
        publishing = asyncio.create_task(stalled.network.publish("key", b"", ttl_s=600.0))
        await asyncio.sleep(30.0)
        waited = [search.done(), publishing.done()]
        sim.set_line(stalled, up_bytes_per_s=1e6)
        await asyncio.gather(search, publishing)
        return [*waited, sim.now_s]

    assert sim.run(main()) == [False, False, 30.0]


def _search_s(n_hosts: int) -> float:
    sim = Simulation(seed=1, latency_s=0.05, jitter_s=0.0)
    hosts = [sim.host(f"host {number}") for number in range(n_hosts)]

    async def main() -> float:
        for _ in range(40):
            await hosts[0].network.lookup("key")
        return sim.now_s / 40

    return sim.run(main())


def test_searches_take_longer_with_the_logarithm_of_the_hosts() -> None:
    small_s, large_s = _search_s(8), _search_s(512)

    assert 1.5 < large_s / small_s < 4.0


def _finds(
    during: Callable[[Simulation, list[Host]], None], *, stale: float = 0.0, ttl_s: float = 600.0
) -> list[bytes]:
    """What a host finds a minute after another published twice and something happened."""
    sim = Simulation(seed=2, stale=stale)
    hosts = [sim.host(f"host {number}") for number in range(40)]

    async def main() -> list[bytes]:
        await hosts[0].network.publish("key", b"old", ttl_s=ttl_s)
        await asyncio.sleep(5.0)
        await hosts[0].network.publish("key", b"new", ttl_s=ttl_s)
        await asyncio.sleep(5.0)
        during(sim, hosts)
        await asyncio.sleep(50.0)
        viewer = next(host for host in hosts[1:] if not host.network.closed)
        return [record.value for _ in range(50) for record in await viewer.network.lookup("key")]

    return sim.run(main())


def test_record_is_gone_with_its_holders_but_not_with_its_publisher() -> None:
    def holders(sim: Simulation, hosts: list[Host]) -> list[Host]:
        return [sim.hosts[name] for name, _ in sim._directory.holders("key")]

    def kill_holders(sim: Simulation, hosts: list[Host]) -> None:
        for host in holders(sim, hosts):
            host.kill()

    def kill_publisher(sim: Simulation, hosts: list[Host]) -> None:
        assert hosts[0] not in holders(sim, hosts)
        hosts[0].kill()

    def restart_all_but_one_holder(sim: Simulation, hosts: list[Host]) -> None:
        for host in holders(sim, hosts)[1:]:
            host.restart()

    assert _finds(kill_holders) == []
    assert _finds(kill_publisher) == [b"new"] * 50
    assert _finds(restart_all_but_one_holder) == [b"new"] * 50


def test_answers_may_be_stale_and_records_expire() -> None:
    found = _finds(lambda sim, hosts: None, stale=0.3)

    assert 5 < found.count(b"old") < 25
    assert found.count(b"old") + found.count(b"new") == 50
    assert _finds(lambda sim, hosts: None, ttl_s=30.0) == []
