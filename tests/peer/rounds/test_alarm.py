"""An alarm that is set anew all the time rings when it should."""

from __future__ import annotations

import asyncio

from gossamer.peer.rounds.alarm import Alarm
from gossamer.simulator.world import Simulation


def test_rings_at_the_time_that_was_set_last() -> None:
    sim, rung_s = Simulation(seed=0), []

    async def main() -> None:
        loop = asyncio.get_running_loop()
        alarm = Alarm(lambda: rung_s.append(loop.time()))
        now_s = loop.time()
        for wait_s in (5.0, 2.0, 2.0, 3.0):
            alarm.set(now_s + wait_s)
        await asyncio.sleep(10.0)
        alarm.set(now_s + 12.0)
        alarm.set(None)
        await asyncio.sleep(10.0)
        rung_s[:] = [time - now_s for time in rung_s]

    sim.run(main())

    assert rung_s == [3.0]


def test_rings_once_more_if_the_same_time_is_set_after_it_rang() -> None:
    # As real loops do, which ring up to their clock's resolution before the time.
    sim, n_rung = Simulation(seed=0), 0

    async def main() -> None:
        nonlocal n_rung
        rung = asyncio.Event()
        alarm, due_s = Alarm(rung.set), asyncio.get_running_loop().time() + 1.0
        for _ in range(2):
            alarm.set(due_s)
            async with asyncio.timeout(5.0):
                await rung.wait()
            rung.clear()
            n_rung += 1

    sim.run(main())

    assert n_rung == 2
