"""The events of bench_simulator's `call` workload and nothing else, on our loop and in SimPy.

Each requester is one process: transfer the request, travel, transfer the answer, travel, over the same lines, shared
max-min fairly by the same compiled kernel. There is nobody to serve: no tasks at the server, no deadlines, no peers
that could fail, no flow control, no trace. So this is the least that a model of these messages costs in either, and
the difference to `call` is what the daemons' own `Network` costs, which is the point of this simulator.

In SimPy the kernel is asked when to stop, as in our loop, so that transfers need no timers that cannot be cancelled.
"""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Callable, Generator, Sequence
from typing import Any

from gossamer.simulator.flows import Flows
from gossamer.simulator.loop import VirtualLoop

STEPS_PER_LOOK = 2000
LATENCY_S, JITTER_S, LOSS = 0.03, 0.005, 0.001
Lines = Sequence[tuple[float, float]]
"""Up and down of each peer, bytes per second."""
DrawBytes = Callable[[random.Random], int]


class Internet:
    """The lines, and who shares them."""

    def __init__(self, flows: Flows, lines: Lines) -> None:
        self._flows = flows
        self._up = [flows.add_link(speed) for speed, _ in lines]
        self._down = [flows.add_link(speed) for _, speed in lines]

    def transfer(self, source: int, target: int, n_bytes: int, then: Callable[[], object]) -> None:
        self._flows.start((self._up[source], self._down[target]), n_bytes / (1 - LOSS), then)


def requesters(n_peers: int) -> list[tuple[int, random.Random]]:
    """1 to 4 at each peer."""
    return [(me, random.Random(f"{me} {number}")) for me in range(n_peers) for number in range(1 + me % 4)]


def on_our_loop(lines: Lines, seconds: float, draw_bytes: DrawBytes) -> float:
    """Deliveries per CPU second."""
    loop = VirtualLoop()
    internet = Internet(Flows(loop), lines)
    n_delivered = 0

    async def requester(me: int, choose: random.Random) -> None:
        nonlocal n_delivered
        while True:
            n_bytes, target = draw_bytes(choose), int(choose.random() * len(lines))
            for source, there in ((me, target), (target, me)):
                done = loop.create_future()
                internet.transfer(source, there, n_bytes, lambda done=done: done.set_result(None))  # type: ignore[misc]
                await done
                await asyncio.sleep(LATENCY_S + JITTER_S * choose.random())
                n_delivered += 1

    async def main() -> float:
        tasks = [asyncio.create_task(requester(*one)) for one in requesters(len(lines))]
        await asyncio.sleep(0.3)
        before, begun_s = n_delivered, time.process_time()
        while time.process_time() - begun_s < seconds:  # noqa: ASYNC110 - the loop's time is virtual
            await asyncio.sleep(20.0 / len(lines))
        rate = (n_delivered - before) / (time.process_time() - begun_s)
        for task in tasks:
            task.cancel()
        return rate

    return loop.run(main())


class _Clock:
    """What `Flows` needs of a loop."""

    def __init__(self) -> None:
        self.now_s = 0.0
        self.fluid: Flows | None = None


def in_simpy(simpy: Any, lines: Lines, seconds: float, draw_bytes: DrawBytes) -> float:
    """Deliveries per CPU second. Args: simpy: the module."""
    env, clock = simpy.Environment(), _Clock()
    flows = Flows(clock)  # type: ignore[arg-type]  # all that it asks of a loop
    internet = Internet(flows, lines)
    n_delivered = 0

    def requester(me: int, choose: random.Random) -> Generator[Any, Any, None]:
        nonlocal n_delivered
        while True:
            n_bytes, target = draw_bytes(choose), int(choose.random() * len(lines))
            for source, there in ((me, target), (target, me)):
                done = env.event()
                internet.transfer(source, there, n_bytes, done.succeed)
                yield done
                yield env.timeout(LATENCY_S + JITTER_S * choose.random())
                n_delivered += 1

    for one in requesters(len(lines)):
        env.process(requester(*one))

    def steps(n: int) -> None:
        for _ in range(n):
            when = env.peek()
            if flows.dirty and when > clock.now_s:
                flows.settle()
            if flows.next_s < when:
                clock.now_s = env._now = flows.next_s
                flows.happen()
            else:
                env.step()
                clock.now_s = env.now

    steps(20 * len(lines))
    before, begun_s = n_delivered, time.process_time()
    while time.process_time() - begun_s < seconds:
        steps(STEPS_PER_LOOK)
    return (n_delivered - before) / (time.process_time() - begun_s)
