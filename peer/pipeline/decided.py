"""What a round decided for one stage, and what became of it there."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from ...algorithms import Slots
from ..rounds.counts import Count
from ..rounds.roster import Roster
from .microbatches import MicrobatchId


@dataclass(frozen=True, kw_only=True)
class Stepped:
    """What an update made of the stage."""

    digest: bytes
    n_discarded: int
    """Gradients that were held here and did not count."""


@dataclass(frozen=True, kw_only=True)
class Decided:
    """What a round decided for one stage."""

    payloads: Sequence[bytes | memoryview]
    """Of the stage's contributors, in roster order."""
    mine: int | None
    """Index of this replica's own payload; None: it has none among them."""
    counted: tuple[MicrobatchId, ...]
    """What that sums."""
    slots: Slots
    """Contributors as places among the stage's members."""
    n_samples: int
    """Behind the whole step."""
    counts: tuple[Count, ...] = ()
    """Of all stages, with the roster that they index."""
    roster: Roster | None = None
    delay: float = 0.0
    """Updates between the weights of the counted microbatches' passes and the present ones, in the mean."""
