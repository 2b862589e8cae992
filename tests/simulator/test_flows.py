"""Transfers over time, with numbers that can be checked by hand."""

from __future__ import annotations

import asyncio
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


async def _transfer(flows: Flows, links: tuple[int, ...], n_bytes: int, *, after_s: float = 0.0) -> float:
    await asyncio.sleep(after_s)
    flow = flows.start(links, n_bytes)
    await flow
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
        unwanted = flows.start((up,), 100)
        loop.call_later(1.0, flows.stop, unwanted)
        ended_s = await _transfer(flows, (up,), 100)
        await asyncio.sleep(10.0)
        return ended_s, unwanted.done()

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

    async def main() -> tuple[float, float]:
        limited, other = flows.start((up,), 100, bytes_per_s_max=20), flows.start((up,), 400)
        rates = flows.rate(limited), flows.rate(other)
        await asyncio.gather(limited, other)
        return rates

    assert loop.run(main()) == (20.0, 80.0)
    assert loop.time() == pytest.approx(5.0)
