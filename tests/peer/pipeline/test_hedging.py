"""Who answers first."""

from __future__ import annotations

import asyncio

import pytest

from gossamer.peer.pipeline.hedging import Asking, hedged
from gossamer.protocol.errors import NetworkClosed
from gossamer.simulator.world import Simulation


class Race:
    """What was asked, and what became of it."""

    def __init__(self, first_s: float, second_s: float, *, second_gives: str | None = "second") -> None:
        self.first_s, self.second_s, self.second_gives = first_s, second_s, second_gives
        self.cancelled: list[str] = []
        self.n_begun = 0
        self.n_refusals = 0

    async def _ask(self, name: str, seconds: float, gives: str | None) -> str | None:
        try:
            await asyncio.sleep(seconds)
        except asyncio.CancelledError:
            self.cancelled.append(name)
            raise
        return gives

    def second(self) -> Asking[str] | None:
        if self.n_refusals:
            self.n_refusals -= 1
            return None
        self.n_begun += 1
        return self._ask("second", self.second_s, self.second_gives)

    def run(self, *, first_gives: str | None = "first", after_s: float = 1.0) -> tuple[str | None, float]:
        """What came of it, and after how long."""

        async def main() -> tuple[str | None, float]:
            found = await hedged(self._ask("first", self.first_s, first_gives), self.second, after_s)
            return found, round(asyncio.get_running_loop().time(), 6)

        return Simulation(seed=0).run(main())


def test_nobody_else_is_asked_while_the_first_is_in_time() -> None:
    race = Race(0.9, 0.1)

    assert race.run() == ("first", 0.9)

    assert race.n_begun == 0


def test_looking_for_somebody_else_is_not_done_all_the_time() -> None:
    race = Race(1.0, 0.1)
    race.n_refusals = 1000

    assert race.run(after_s=1e-6) == ("first", 1.0)

    assert race.n_begun == 0
    assert 890 < race.n_refusals < 1000


def test_the_second_overtakes_a_first_that_is_overdue() -> None:
    race = Race(100.0, 0.5)

    assert race.run() == ("second", 1.5)

    assert race.cancelled == ["first"]


def test_a_first_that_answers_after_all_ends_the_second() -> None:
    race = Race(1.2, 10.0)

    assert race.run() == ("first", 1.2)

    assert race.cancelled == ["second"]


def test_one_that_comes_to_nothing_leaves_it_to_the_other() -> None:
    assert Race(1.2, 10.0).run(first_gives=None) == ("second", 11.0)
    assert Race(20.0, 0.5, second_gives=None).run() == ("first", 20.0)
    assert Race(1.2, 0.5, second_gives=None).run(first_gives=None) == (None, 1.5)


def test_the_second_is_tried_again_while_there_is_nobody() -> None:
    race = Race(100.0, 0.5)
    race.n_refusals = 2

    assert race.run() == ("second", 3.5)
    assert race.n_begun == 1


def test_whoever_is_cancelled_leaves_nothing_running() -> None:
    race = Race(100.0, 100.0)

    async def main() -> None:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(2.0):
                await hedged(race._ask("first", 100.0, "first"), race.second, 1.0)
        assert len(asyncio.all_tasks()) == 1

    Simulation(seed=0).run(main())

    assert sorted(race.cancelled) == ["first", "second"]


def test_errors_of_the_first_are_raised_and_end_the_second() -> None:
    race = Race(100.0, 100.0)

    async def closed() -> str | None:
        await asyncio.sleep(2.0)
        raise NetworkClosed("closed")

    async def main() -> None:
        with pytest.raises(NetworkClosed):
            await hedged(closed(), race.second, 1.0)

    Simulation(seed=0).run(main())

    assert race.cancelled == ["second"]
