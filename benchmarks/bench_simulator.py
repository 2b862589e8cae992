"""How fast the simulated world is: messages a second through latency, jitter, loss and exactly shared lines.

    python -m benchmarks.bench_simulator [--seconds 3] [--plot FILE.svg] [--profile call]
    python -m venv /tmp/rival && /tmp/rival/bin/pip install simpy
    python -m benchmarks.bench_simulator --simpy /tmp/rival/lib/python3*/site-packages

Every peer keeps 1 to 4 requests of its own under way, each to a random other peer, of 200 bytes to 20 kB, and begins
the next when one is over. Two workloads: `stream`, requests of 16 chunks that are answered in 16 (bulk transfers), and
`call`, one message there and one back under a deadline of its own (how rounds are agreed on). A message counts when
it was delivered; each of them occupied a sender's line up and a receiver's line down, whose bandwidth was shared
max-min fairly with all others that did, then travelled for the latency of its path, and was written into the trace.

Beside them, in the same run: the events of `call` and nothing else on our loop and in SimPy (`lean`, `simpy`; see
benchmarks/lean_calls.py), and tasks that sleep (`sleeps`). Figures are per second of this process's CPU time, since
other processes share the machine, and the best of several counts.
"""

from __future__ import annotations

import argparse
import asyncio
import cProfile
import importlib
import pstats
import random
import sys
import time
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from gossamer.protocol.identity import PeerId
from gossamer.simulator.host import Host
from gossamer.simulator.loop import VirtualLoop
from gossamer.simulator.world import Simulation

from . import lean_calls
from .growth import Curve, drawn

SIZES = (10, 100, 1000)
SIZES_OF_PLOT = (10, 32, 100, 316, 1000, 3162)
LINES_BYTES_PER_S = (2.5e6, 5e6, 12.5e6)
CHUNKS = 16
MESSAGE_BYTES = (200, 20_000)
PAYLOAD = bytes(MESSAGE_BYTES[1])


def world(n_peers: int) -> tuple[Simulation, list[Host]]:
    """Peers with unlike lines, all admitted everywhere."""
    sim = Simulation(seed=1, latency_s=0.03, jitter_s=0.005, loss=0.001)
    hosts = []
    for number, (up, down) in enumerate(lines(n_peers)):
        host = sim.host(f"peer {number}", up_bytes_per_s=up, down_bytes_per_s=down)
        host.network.set_gate(lambda peer: True)
        host.network.serve("call", _answer)
        host.network.serve_stream("stream", _echo)
        hosts.append(host)
    return sim, hosts


def lines(n_peers: int) -> list[tuple[float, float]]:
    """Up and down, bytes per second."""
    choose = random.Random(1)
    return [(choose.choice(LINES_BYTES_PER_S), choose.choice(LINES_BYTES_PER_S)) for _ in range(n_peers)]


async def _answer(peer: PeerId, request: bytes) -> bytes:
    return request


async def _echo(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk


async def call(host: Host, peers: list[PeerId]) -> None:
    """One requester of the `call` workload."""
    while True:
        await host.network.call(_drawn(host, peers), "call", _request(host), timeout_s=60.0)


async def stream(host: Host, peers: list[PeerId]) -> None:
    """One requester of the `stream` workload."""
    while True:
        async for _ in host.network.stream(_drawn(host, peers), "stream", _chunks(_request(host)), timeout_s=60.0):
            pass


def _drawn(host: Host, peers: list[PeerId]) -> PeerId:
    return peers[int(host.random.random() * len(peers))]


def _request(host: Host) -> bytes:
    return PAYLOAD[: draw_bytes(host.random)]


def draw_bytes(choose: random.Random) -> int:
    """The size of a request."""
    least, most = MESSAGE_BYTES
    return least + int(choose.random() * (most + 1 - least))


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


def measure(n_peers: int, seconds: float, simpy: Any | None) -> dict[str, float]:
    """Each figure once."""
    figures = {
        "stream": messages_per_s(n_peers, stream, seconds),
        "call": messages_per_s(n_peers, call, seconds),
        "lean": lean_calls.on_our_loop(lines(n_peers), seconds, draw_bytes),
        "sleeps": sleeps_per_s(n_peers, seconds),
    }
    if simpy is not None:
        figures["simpy"] = lean_calls.in_simpy(simpy, lines(n_peers), seconds, draw_bytes)
    return figures


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seconds", type=float, default=3.0, help="CPU time of each measurement")
    parser.add_argument("--repeat", type=int, default=3, help="the best of so many counts: others disturb")
    parser.add_argument("--profile", choices=["call", "stream"], help="where the time goes, at 1,000 peers")
    parser.add_argument("--simpy", type=Path, help="the folder in which SimPy is installed")
    parser.add_argument("--plot", type=Path, help="measure more sizes and draw an SVG here")
    chosen = parser.parse_args()
    workloads = {"call": call, "stream": stream}
    if chosen.profile:
        profile = cProfile.Profile()
        profile.runcall(messages_per_s, 1000, workloads[chosen.profile], chosen.seconds)
        pstats.Stats(profile).sort_stats("tottime").print_stats(40)
        return
    simpy = None
    if chosen.simpy is not None:
        sys.path.append(str(chosen.simpy))
        simpy = importlib.import_module("simpy")
    curves: dict[str, Curve] = {}
    for n_peers in SIZES_OF_PLOT if chosen.plot is not None else SIZES:
        runs = [measure(n_peers, chosen.seconds, simpy) for _ in range(chosen.repeat)]
        best = {name: max(run[name] for run in runs) for name in runs[0]}
        if not curves:
            print(f"{'peers':>7}" + "".join(f"{name:>12}" for name in best) + "   (per CPU second)")
        ratio = f"   lean / simpy {best['lean'] / best['simpy']:.2f}" if simpy is not None else ""
        print(f"{n_peers:>7}" + "".join(f"{figure:>12,.0f}" for figure in best.values()) + ratio, flush=True)
        for name, figure in best.items():
            curves.setdefault(name, []).append((n_peers, figure))
    if chosen.plot is not None:
        named = {"stream": "chunks of streams", "call": "calls' messages", "lean": "the same events, bare"}
        named |= {"simpy": "the same events, bare, in SimPy"} if simpy is not None else {}
        plot = {label: curves[name] for name, label in named.items()}
        chosen.plot.write_text(drawn(plot, x_title="peers", y_title="messages per CPU second"), encoding="utf-8")


if __name__ == "__main__":
    main()
