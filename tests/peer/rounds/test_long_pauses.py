"""A group below its quorum may wait for days: what gets longer with every try must not do so for ever."""

from __future__ import annotations

from types import SimpleNamespace
from typing import cast

from gossamer.peer.rounds.round import BACKOFF_MAX_S, Round
from gossamer.simulator.world import Simulation


def test_waits_are_bounded_after_thousands_of_tries_and_ballots() -> None:
    sim = Simulation(seed=0)
    paused = cast(Round, SimpleNamespace(patience_s=30.0, ballot=40_000, place=SimpleNamespace(roster=range(4))))

    sim.run(Round.pause(paused, 5_000))

    assert sim.now_s <= 15.0
    assert Round._backoff_s(paused) == BACKOFF_MAX_S
