"""What messages and heavy maths cost: on the wire, on a loop's thread, on cores that several share."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from gossamer.protocol.errors import UsageError
from gossamer.protocol.identity import PeerId
from gossamer.protocol.network import Cost
from gossamer.simulator.costs import CostModel, Handling, Maths, Wire, load_costs, save_costs
from gossamer.simulator.host import Host
from gossamer.simulator.world import Simulation

BARE = Wire(message_bytes=0, byte_share=0)
SECOND = Cost(flops=1e9)


def _world(costs: CostModel, n_hosts: int = 2, **settings: float) -> tuple[Simulation, list[Host]]:
    sim = Simulation(seed=1, latency_s=0.0, jitter_s=0.0, costs=costs, **settings)  # type: ignore[arg-type]
    hosts = [sim.host(f"h{number}", flops_per_s=1e9) for number in range(n_hosts)]
    for host in hosts:
        host.network.set_gate(lambda peer: True)
        host.network.serve("take", _take)
    return sim, hosts


async def _take(peer: PeerId, request: bytes) -> bytes:
    return b""


async def _compute(host: Host, cost: Cost = SECOND) -> float:
    await host.network.compute(lambda: None, cost)
    return asyncio.get_running_loop().time()


def test_work_on_one_machine_shares_its_cores() -> None:
    sim, hosts = _world(CostModel(wire=BARE), n_hosts=4, n_cores=2)

    async def main() -> list[float]:
        return list(await asyncio.gather(*(host.spawn(_compute(host)) for host in hosts)))

    assert sim.run(main()) == pytest.approx([2.0] * 4)


def test_a_thread_has_no_more_than_one_core() -> None:
    sim, hosts = _world(CostModel(wire=BARE), n_hosts=1, n_cores=8)

    assert sim.run(_compute(hosts[0])) == pytest.approx(1.0)


def test_other_programs_take_their_share_of_the_cores() -> None:
    sim, hosts = _world(CostModel(wire=BARE), n_hosts=1, n_cores=1, n_others=1.5)

    # Whoever wants half a core at most leaves the rest to the two others: a third each.
    assert sim.run(_compute(hosts[0])) == pytest.approx(3.0)


def test_work_of_the_dead_frees_its_core() -> None:
    sim, hosts = _world(CostModel(wire=BARE), n_hosts=2, n_cores=1)

    async def main() -> float:
        hosts[0].spawn(_compute(hosts[0]))
        survivor = hosts[1].spawn(_compute(hosts[1]))
        await asyncio.sleep(1.0)
        hosts[0].kill()
        return await survivor

    assert sim.run(main()) == pytest.approx(1.5)


def test_known_work_takes_what_was_measured() -> None:
    costs = CostModel(wire=BARE, maths=Maths(factor={"apply": 3.0}))
    sim, hosts = _world(costs)

    async def main() -> tuple[float, float]:
        applied_s = await _compute(hosts[0], Cost(flops=1e9, what="apply"))
        return applied_s, await _compute(hosts[0], Cost(flops=1e9, what="work"))

    assert sim.run(main()) == pytest.approx((3.0, 4.0))


def test_handling_a_message_takes_both_ends_their_time_one_after_the_other() -> None:
    costs = CostModel(wire=BARE, handling=Handling(message_s=0.01))
    sim, (near, far) = _world(costs)
    sim.set_line(near, up_bytes_per_s=float("inf"), down_bytes_per_s=float("inf"))
    sim.set_line(far, up_bytes_per_s=float("inf"), down_bytes_per_s=float("inf"))

    async def main() -> tuple[float, float]:
        call = near.network.call
        await call(far.peer_id, "take", b"", timeout_s=5)
        one_s = sim.now_s
        await asyncio.gather(*(call(far.peer_id, "take", b"", timeout_s=5) for _ in range(10)))
        return one_s, sim.now_s - one_s

    one_s, ten_s = sim.run(main())
    assert one_s == pytest.approx(0.04, rel=0.01)
    assert ten_s > 10 * 0.02  # each loop handles twenty messages


def test_bookkeeping_is_of_every_message() -> None:
    costs = CostModel(handling=Handling(message_s=0.01, chunk_s=0.001, bookkeeping_s=0.1, byte_s=1.0))

    assert costs.handling_s(2) == pytest.approx(2.11)
    assert costs.handling_s(2, is_chunk=True) == pytest.approx(2.101)


def test_messages_within_a_stream_cost_what_is_said_of_them() -> None:
    costs = CostModel(wire=BARE, handling=Handling(message_s=0.01, chunk_s=0.001))
    sim, (near, far) = _world(costs)
    sim.set_line(near, up_bytes_per_s=float("inf"), down_bytes_per_s=float("inf"))
    sim.set_line(far, up_bytes_per_s=float("inf"), down_bytes_per_s=float("inf"))

    async def echo(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
        async for chunk in chunks:
            yield chunk

    async def three() -> AsyncIterator[bytes]:
        for _ in range(3):
            yield b"x"

    async def main() -> float:
        far.network.serve_stream("echo", echo)
        assert [c async for c in near.network.stream(far.peer_id, "echo", three(), timeout_s=5)] == [b"x"] * 3
        return sim.now_s

    # Opened for 10 ms at each end. Of three chunks and an end, there and back, 16 messages are handled at two loops,
    # which work at the same time.
    assert 0.02 + 8 * 0.001 <= sim.run(main()) < 0.02 + 16 * 0.001


@pytest.mark.parametrize(("byte_s", "takes_s"), [(0.5e-6, 0.5 + 1.0), (2e-6, 2.0 + 2.0)])
def test_bytes_are_handled_at_the_far_end_while_they_come(byte_s: float, takes_s: float) -> None:
    sim, (near, far) = _world(CostModel(wire=BARE, handling=Handling(byte_s=byte_s)))
    sim.set_line(near, up_bytes_per_s=1e6, down_bytes_per_s=float("inf"))
    sim.set_line(far, up_bytes_per_s=float("inf"), down_bytes_per_s=float("inf"))

    sim.run(near.network.call(far.peer_id, "take", bytes(1_000_000), timeout_s=9))

    assert sim.now_s == pytest.approx(takes_s, rel=0.01)


def test_what_a_request_brings_is_dealt_with_where_it_comes_in() -> None:
    sim, (near, far) = _world(CostModel(wire=BARE, handling=Handling(request_s={"take": 2.0})))
    far.network.serve("glance", _take)

    async def main() -> tuple[float, float]:
        await near.network.call(far.peer_id, "glance", b"", timeout_s=9)
        glanced_s = sim.now_s
        await near.network.call(far.peer_id, "take", b"", timeout_s=9)
        return glanced_s, sim.now_s - glanced_s

    assert sim.run(main()) == pytest.approx((0.0, 2.0), abs=0.01)


def test_lines_carry_headers_as_well() -> None:
    costs = CostModel(wire=Wire(message_bytes=100, byte_share=0.1))
    sim, (near, far) = _world(costs)

    sim.run(near.network.call(far.peer_id, "take", bytes(10_000), timeout_s=5))

    counted = sum(near.network.traffic.sent.values()) + sum(far.network.traffic.sent.values())
    assert sim.wire_bytes == pytest.approx(1.1 * counted + 2 * 100)


def test_a_cost_model_survives_its_file(tmp_path: Path) -> None:
    costs = CostModel(
        machine="one", cores=3, handling=Handling(request_s={"round/offer": 1e-3}), maths=Maths(flops_per_s=2e9)
    )

    save_costs(costs, tmp_path / "costs.toml")

    assert load_costs(tmp_path / "costs.toml") == costs


@pytest.mark.parametrize(
    ("text", "complaint"),
    [
        ("[handling]\nmesage_s = 1", "mesage_s"),
        ("cores = 0", "cores"),
        ("x =", "not TOML"),
        ("[maths.factor]\nwork = -3", "maths.factor.work: Input should be greater than or equal to 0"),
        ("[maths.factor]\naply = 2", "unknown name in maths.factor of .* 'aply': did you mean 'apply'"),
        (
            '[handling.request_s]\n"round/ofer" = 1',
            "unknown name in handling.request_s of .*did you mean 'round/offer'",
        ),
    ],
)
def test_a_cost_model_with_mistakes_is_refused_by_name(tmp_path: Path, text: str, complaint: str) -> None:
    (tmp_path / "costs.toml").write_text(text)

    with pytest.raises(UsageError, match=complaint):
        load_costs(tmp_path / "costs.toml")
