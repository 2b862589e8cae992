"""Spreads the microbatches of trainers that have too few of them to take turns by themselves.

Seven trainers with one microbatch each, and three replicas: each trainer goes round, but they do not know of each
other, and in many steps a replica gets none while another gets four. So microbatch i of a step's n has a position
(i + 1/2) / n on a circle, turned a little further in each step, and each replica an arc as long as its share of the
throughput. Who owns the arc gets it (systematic sampling, Madow 1949): as far as trainers agree about throughput, the
number of a replica's microbatches differs from its share by less than one, without a word among them.
"""

from __future__ import annotations

import math
from collections.abc import Mapping

from ...protocol.identity import PeerId

TURN = (math.sqrt(5) - 1) / 2
"""From step to step; the golden ratio, so that each trainer comes to all replicas in turn."""


def position_of(step: int, index: int, n: int) -> float:
    """Of a microbatch, in [0, 1)."""
    return ((index + 0.5) / n + step * TURN) % 1.0


def owner(position: float, rates: Mapping[PeerId, float]) -> PeerId:
    """Whose arc a position lies in; arcs are in the order of peer ids, so that all trainers see the same ones."""
    peers = sorted(rates)
    left = position * math.fsum(rates.values())
    for peer in peers:
        left -= rates[peer]
        if left < 0:
            return peer
    return peers[-1]
