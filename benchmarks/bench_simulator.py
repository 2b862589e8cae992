"""How fast the simulated world is: messages a second through latency, jitter, loss and exactly shared lines.

    python -m benchmarks.bench_simulator [--seconds 3] [--profile]

Every peer keeps 1 to 4 requests of its own under way, each to a random other peer, of 200 bytes to 20 kB, and begins
the next when one is over. Two workloads: `stream`, requests of 16 chunks that are answered in 16 (bulk transfers), and
`call`, one message there and one back under a deadline of its own (how rounds are agreed on). A message counts when
it was delivered; each of them occupied a sender's line up and a receiver's line down, whose bandwidth was shared
max-min fairly with all others that did, then travelled for the latency of its path, and was written into the trace.

Beside it, in the same run: what the loop does at best, tasks that sleep and nothing else (`floor`). Figures are per
second of this process's CPU time, since other processes share the machine, and the best of several counts.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import pstats
import random
import time
from collections.abc import AsyncIterator, Callable

from gossamer.protocol.identity import PeerId
from gossamer.simulator.host import Host
from gossamer.simulator.loop import VirtualLoop
from gossamer.simulator.world import Simulation

SIZES = (10, 100, 1000)
LINES_BYTES_PER_S = (2.5e6, 5e6, 12.5e6)
CHUNKS = 16
MESSAGE_BYTES = (200, 20_000)
PAYLOAD = bytes(MESSAGE_BYTES[1])


def world(n_peers: int) -> tuple[Simulation, list[Host]]:
    """Peers with unlike lines, all admitted everywhere."""
    sim = Simulation(seed=1, latency_s=0.03, jitter_s=0.005, loss=0.001)
    choose = random.Random(1)
    hosts = []
    for number in range(n_peers):
        up, down = choose.choice(LINES_BYTES_PER_S), choose.choice(LINES_BYTES_PER_S)
        host = sim.host(f"peer {number}", up_bytes_per_s=up, down_bytes_per_s=down)
        host.network.set_gate(lambda peer: True)
        host.network.serve("call", _answer)
        host.network.serve_stream("stream", _echo)
        hosts.append(host)
    return sim, hosts


async def _answer(peer: PeerId, request: bytes) -> bytes:
    return request


async def _echo(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk


async def call(host: Host, peers: list[PeerId]) -> None:
    """One requester of the `call` workload."""
    while True:
        request = PAYLOAD[: host.random.randint(*MESSAGE_BYTES)]
        await host.network.call(host.random.choice(peers), "call", request, timeout_s=60.0)


async def stream(host: Host, peers: list[PeerId]) -> None:
    """One requester of the `stream` workload."""
    while True:
        request = PAYLOAD[: host.random.randint(*MESSAGE_BYTES)]
        async for _ in host.network.stream(host.random.choice(peers), "stream", _chunks(request), timeout_s=60.0):
            pass


async def _chunks(chunk: bytes) -> AsyncIterator[bytes]:
    for _ in range(CHUNKS):
        yield chunk


def messages_per_s(n_peers: int, workload: Callable[..., object], seconds: float) -> float:
    """Deliveries per CPU second, after 0.3 virtual seconds to get going."""
    sim, hosts = world(n_peers)

    async def main() -> tuple[int, float]:
        for number, host in enumerate(hosts):
            others = [other.peer_id for other in hosts if other is not host]
            for _ in range(1 + number % 4):
                host.spawn(workload(host, others))  # type: ignore[arg-type]
        await asyncio.sleep(0.3)
        before, begun_s = sim.n_deliveries, time.process_time()
        while time.process_time() - begun_s < seconds:  # noqa: ASYNC110 - the loop's time is virtual
            await asyncio.sleep(5.0 / n_peers)
        return sim.n_deliveries - before, time.process_time() - begun_s

    n_messages, taken_s = sim.run(main(), timeout_s=1e9)
    return n_messages / taken_s


def sleeps_per_s(n_tasks: int, seconds: float) -> float:
    """What the loop alone does: timers that wake tasks."""
    count = 0

    async def sleeper(choose: random.Random) -> None:
        nonlocal count
        while True:
            await asyncio.sleep(choose.random())
            count += 1

    async def main() -> float:
        tasks = [asyncio.create_task(sleeper(random.Random(number))) for number in range(n_tasks)]
        begun_s = time.process_time()
        while time.process_time() - begun_s < seconds:  # noqa: ASYNC110 - likewise
            await asyncio.sleep(500.0 / n_tasks)
        for task in tasks:
            task.cancel()
        return count / (time.process_time() - begun_s)

    return VirtualLoop().run(main())


def _one_run(n_peers: int, seconds: float) -> tuple[float, float, float]:
    return (
        messages_per_s(n_peers, stream, seconds),
        messages_per_s(n_peers, call, seconds),
        sleeps_per_s(n_peers, seconds),
    )


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="CPU time of each measurement")
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many counts: others disturb")
    parser.add_argument("--profile", choices=["call", "stream"], help="where the time goes, at 1,000 peers")
    chosen = parser.parse_args()
    workloads = {"call": call, "stream": stream}
    if chosen.profile:
        profile = cProfile.Profile()
        profile.runcall(messages_per_s, 1000, workloads[chosen.profile], chosen.seconds)
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)
        return
    print(f"{'peers':>7} {'stream':>12} {'call':>12} {'floor':>12}   (messages, messages, sleeps per CPU second)")
    for n_peers in SIZES:
        runs = [_one_run(n_peers, chosen.seconds) for _ in range(chosen.repeat)]
        figures = [max(figure) for figure in zip(*runs, strict=True)]
        print(f"{n_peers:>7}" + "".join(f" {figure:>12,.0f}" for figure in figures), flush=True)


if __name__ == "__main__":
    main()
