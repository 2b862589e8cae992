"""Sums of rounds that failed, and what a round of sums waits for."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from gossamer.algorithms import Schedule
from gossamer.algorithms.baffle import Baffle
from gossamer.algorithms.forward import BaffleOptions
from gossamer.peer.gateway.answers import Answers
from gossamer.peer.gateway.options import GatewayOptions
from gossamer.peer.gateway.spool import Spool
from gossamer.peer.gateway.summing import SummingCollector
from gossamer.protocol.edge_pb2 import Assignment, JournalEntry, OpenedRound, Summed
from gossamer.protocol.identity import Identity

GATEWAY = Identity(b"gateway".ljust(32))
HERE = b"a" * 32
K = 2


async def write(entries: object) -> None:
    """The disk takes everything."""


def collector_with_sums_of(tmp_path: Path, rounds: list[int], warned: list[str], **options: Any) -> SummingCollector:
    chosen = BaffleOptions(K=K, perturbations="shared", secure=True, **options)
    method = Baffle({"w": torch.zeros(4)}, chosen, Schedule(lr=0.1, total_steps=9))
    network: Any = None  # nothing is computed
    answers = Answers(
        gateway=GATEWAY.peer_id,
        run_id="0" * 32,
        method=method,
        network=network,
        spool=Spool(tmp_path / "answers"),
        staleness_max=3,
        write=write,
        tell=lambda device, reason: None,
    )
    collector = SummingCollector(
        method=method,
        network=network,
        warn=warned.append,
        identity=GATEWAY,
        run_id="0" * 32,
        options=GatewayOptions(),
        answers=answers,
        write=write,
    )
    for index in rounds:
        collector.restore(JournalEntry(opened=OpenedRound(round=index, base=HERE)))
        mean = np.full(K, index, "<f4").tobytes()
        collector.restore(JournalEntry(summed=Summed(round=index, base=HERE, mean=mean, devices=[bytes(32)] * 3)))
    return collector


@pytest.mark.parametrize(("options", "expected"), [({}, [1, 2]), ({"dp_clip": 1.0, "dp_noise": 1.0}, [2])])
async def test_sum_of_a_round_that_failed_is_part_of_the_next(
    tmp_path: Path, options: dict[str, Any], expected: list[int]
) -> None:
    collector = collector_with_sums_of(tmp_path, [1, 2], [], **options)

    taken = await collector.collect(2, (1, HERE), lambda attendance: Assignment())

    assert [one.key.round_index for one in taken] == expected
    assert collector.n_answers == 3 * len(expected)


async def test_round_waits_for_its_devices_also_while_another_rounds_sum_is_pending(tmp_path: Path) -> None:
    warned: list[str] = []
    collector = collector_with_sums_of(tmp_path, [1], warned)

    collecting = asyncio.create_task(collector.collect(2, (1, HERE), lambda attendance: Assignment()))
    done, _ = await asyncio.wait([collecting], timeout=0.05)
    collecting.cancel()
    await asyncio.gather(collecting, return_exceptions=True)

    assert not done
    assert warned == []
