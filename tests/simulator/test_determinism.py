"""A seed is the whole run."""

from __future__ import annotations

import asyncio
import io
import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

from gossamer.simulator.loop import VirtualLoop
from gossamer.simulator.messages import CALL, Message
from gossamer.simulator.trace import Trace

from .gossip import gossip
from .traces import traces


def test_equal_seeds_give_equal_traces_and_others_do_not() -> None:
    assert gossip(1) == gossip(1)
    assert gossip(1) != gossip(2)


def test_asking_for_the_trace_on_the_way_changes_nothing_and_writes_each_delivery_once() -> None:
    deliveries = [Message(CALL, bytes(number)) for number in range(2500)]
    asked, unasked, sink = Trace(), Trace(), io.StringIO()
    asked.sink = sink
    on_the_way = set()
    for number, message in enumerate(deliveries):
        for trace in (asked, unasked):
            trace.record(number / 7, "a", "b", "method", message)
        if number % 300 == 0:
            on_the_way.add(asked.hexdigest())

    assert asked.hexdigest() == unasked.hexdigest()
    assert asked.hexdigest() not in on_the_way
    assert [line.split()[4] for line in sink.getvalue().splitlines()] == [str(number) for number in range(2500)]


def test_shuffled_runs_are_reproducible_too() -> None:
    # That shuffling changes an order at all is shown in test_loop; here nothing happens twice at one instant.
    assert gossip(1, shuffle_seed=5) == gossip(1, shuffle_seed=5)


@pytest.fixture(scope="module")
def told() -> dict[str, str]:
    """As this process finds them."""
    return traces(1)


@pytest.mark.parametrize("hash_seed", ["1", "4000"])
def test_trace_does_not_depend_on_the_process(told: dict[str, str], hash_seed: str) -> None:
    done = subprocess.run(
        [sys.executable, "-m", "tests.simulator.traces", "1"],
        cwd=Path(__file__).parents[2],
        env={**os.environ, "PYTHONHASHSEED": hash_seed},
        capture_output=True,
        text=True,
        timeout=55,
        check=True,
    )

    assert json.loads(done.stdout) == told


def test_every_kind_of_run_differs_with_its_seed(told: dict[str, str]) -> None:
    others = traces(3)

    assert set(others) == set(told)
    assert not {*others.values()} & {*told.values()}


def _order(shuffle_seed: int | None) -> list[int]:
    order: list[int] = []

    async def note(number: int) -> None:
        await asyncio.sleep(1.0)
        order.append(number)

    async def main() -> None:
        await asyncio.gather(*(note(number) for number in range(30)))

    loop = VirtualLoop(shuffle_seed=shuffle_seed)
    loop.run(main())
    loop.close()
    return order


def test_shuffling_permutes_what_is_ready_by_its_seed() -> None:
    assert _order(None) == list(range(30))
    assert _order(1) == _order(1) != list(range(30))
    assert _order(1) != _order(2)
    assert sorted(_order(2)) == list(range(30))
