"""Microbatches of trainers that have one each."""

from __future__ import annotations

import random
from collections import Counter

import pytest

from gossamer.peer.pipeline.backlog import Phase
from gossamer.peer.pipeline.candidates import Announcement
from gossamer.peer.pipeline.spreading import owner, position_of
from gossamer.peer.pipeline.wiring import StageWiring, WiringOptions
from gossamer.protocol.identity import Identity

A, B, C = sorted(Identity(bytes([i]) * 32).peer_id for i in range(3))


@pytest.mark.parametrize("rates", [(1.0, 1.0, 1.0), (5.0, 2.0, 1.0), (1.0, 0.01, 3.0)])
def test_a_replicas_number_differs_from_its_share_by_less_than_one(rates: tuple[float, ...]) -> None:
    n, by_peer = 7, dict(zip((A, B, C), rates, strict=True))

    for step in range(100):
        counts = Counter(owner(position_of(step, index, n), by_peer) for index in range(n))
        for peer, rate in by_peer.items():
            assert abs(counts[peer] - n * rate / sum(rates)) < 1


def test_each_trainer_comes_to_every_replica() -> None:
    rates = dict.fromkeys((A, B, C), 1.0)

    counts = Counter(owner(position_of(step, 4, 7), rates) for step in range(300))

    assert all(abs(count - 100) <= 3 for count in counts.values())


def test_trainers_that_do_not_know_of_each_other_leave_no_replica_without_work() -> None:
    draw = random.Random(3)
    wirings = [StageWiring(0, WiringOptions(), draw) for _ in range(7)]
    for wiring in wirings:
        wiring.update(Announcement(peer=peer, stage=0, sequence=1, samples_per_s=50.0) for peer in (A, B, C))

    n_uneven = 0
    for step in range(200):
        counts: Counter[str] = Counter()
        for index, wiring in enumerate(wirings):
            wiring.expect(2.5, 0.0)
            peer = wiring.choose(Phase.BACKWARD, 1, float(step), position=position_of(step, index, 7))
            wiring.succeeded(peer, Phase.BACKWARD, 1, draw.uniform(0.04, 0.06))
            counts[peer] += 1
        n_uneven += min(counts[peer] for peer in (A, B, C)) < 2

    # Taking turns each by itself, more than half of the steps are so.
    assert n_uneven <= 20
