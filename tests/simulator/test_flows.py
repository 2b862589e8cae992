"""Transfers over time, with numbers that can be checked by hand."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine, Iterator
from typing import Any

import pytest

from gossamer.simulator.flows import Flows
from gossamer.simulator.loop import VirtualLoop


@pytest.fixture
def loop() -> Iterator[VirtualLoop]:
    made = VirtualLoop()
    yield made
    made.close()


async def _transfer(
    flows: Flows, links: tuple[int, ...], n_bytes: int, *, after_s: float = 0.0, bytes_per_s_max: float = math.inf
) -> float:
    await asyncio.sleep(after_s)
    over = asyncio.Event()
    flows.start(links, n_bytes, over.set, bytes_per_s_max=bytes_per_s_max)
    await over.wait()
    return round(asyncio.get_running_loop().time(), 6)


async def _all(*transfers: Coroutine[Any, Any, float]) -> list[float]:
    return await asyncio.gather(*transfers)


def test_two_transfers_share_a_line_and_the_rest_has_it_alone(loop: VirtualLoop) -> None:
    flows = Flows(loop)
    up = flows.add_link(100)

    async def main() -> list[float]:
        return await _all(
            _transfer(flows, (up,), 100),
            _transfer(flows, (up,), 100, after_s=0.5),
        )

    assert loop.run(main()) == [1.5, 2.0]


def test_slow_receiver_leaves_the_senders_line_to_others(loop: VirtualLoop) -> None:
    flows = Flows(loop)
    up = flows.add_link(100)
    slow, fast = flows.add_link(10), flows.add_link(1000)

    async def main() -> list[float]:
        return await _all(_transfer(flows, (up, slow), 10), _transfer(flows, (up, fast), 90))

    assert loop.run(main()) == [1.0, 1.0]


def test_stalled_line_holds_its_transfers_until_it_moves_again(loop: VirtualLoop) -> None:
    flows = Flows(loop)
    up = flows.add_link(100)

    async def main() -> float:
        loop.call_later(0.5, flows.set_speed, up, 0)
        loop.call_later(10.0, flows.set_speed, up, 50)
        return await _transfer(flows, (up,), 100)

    assert loop.run(main()) == 11.0


def test_stopped_transfer_gives_its_share_back_and_never_ends(loop: VirtualLoop) -> None:
    flows = Flows(loop)
    up = flows.add_link(100)

    async def main() -> tuple[float, bool]:
        over = asyncio.Event()
        loop.call_later(1.0, flows.stop, flows.start((up,), 100, over.set))
        ended_s = await _transfer(flows, (up,), 100)
        await asyncio.sleep(10.0)
        return ended_s, over.is_set()

    assert loop.run(main()) == (1.5, False)


def test_many_transfers_carry_as_much_as_the_line_can(loop: VirtualLoop) -> None:
    flows = Flows(loop)
    up = flows.add_link(1000)

    async def main() -> list[float]:
        return await _all(*(_transfer(flows, (up,), 10 * n, after_s=0.01 * n) for n in range(1, 100)))

    ended_s = loop.run(main())

    assert max(ended_s) == pytest.approx(0.01 + sum(10 * n for n in range(1, 100)) / 1000, abs=1e-3)
    assert flows.n_flows == 0


def test_transfer_keeps_within_a_limit_of_its_own(loop: VirtualLoop) -> None:
    flows = Flows(loop)
    up = flows.add_link(100)

    async def main() -> list[float]:
        return await _all(
            _transfer(flows, (up,), 100, bytes_per_s_max=20),
            _transfer(flows, (up,), 400),
        )

    assert loop.run(main()) == [5.0, 5.0]
