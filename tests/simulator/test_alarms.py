"""Deadlines that share a timer come when they are due, or not at all."""

from __future__ import annotations

import asyncio

from gossamer.simulator.alarms import Alarms
from gossamer.simulator.loop import VirtualLoop


def test_alarms_ring_in_their_time_unless_they_are_dropped() -> None:
    loop = VirtualLoop()
    rung: list[tuple[str, float]] = []

    async def main() -> None:
        alarms = Alarms(loop)

        def ring(name: str) -> None:
            rung.append((name, loop.now_s))
            if name == "first":
                alarms.set("again", loop.now_s + 1.5, ring, "again")

        alarms.set("late", 5.0, ring, "late")
        alarms.set("first", 1.0, ring, "first")
        alarms.set("dropped", 2.0, ring, "dropped")
        alarms.set("moved", 2.0, ring, "moved")
        await asyncio.sleep(1.25)
        alarms.drop("dropped")
        alarms.set("moved", 3.0, ring, "moved")
        alarms.drop("never set")
        await asyncio.sleep(10.0)

    loop.run(main())
    loop.close()

    assert rung == [("first", 1.0), ("again", 2.5), ("moved", 3.0), ("late", 5.0)]


def test_what_drops_an_alarm_of_the_same_instant_is_obeyed() -> None:
    loop = VirtualLoop()
    rung: list[str] = []

    async def main() -> None:
        alarms = Alarms(loop)
        alarms.set("a", 1.0, alarms.drop, "b")
        alarms.set("b", 1.0, rung.append, "b")
        await asyncio.sleep(2.0)

    loop.run(main())
    loop.close()

    assert rung == []
