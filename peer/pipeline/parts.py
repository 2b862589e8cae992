"""A step that is counted in parts: what rounds have decided of it, before the one that makes the update.

Whatever is counted is safe from the deaths that follow: its items lie at all replicas of the stage, and the update is
made of the items of all parts, in their order. It follows from decisions alone, so all replicas have the same.
"""

from __future__ import annotations

from dataclasses import dataclass, field

from ..rounds.snapshots import Standing
from ..rounds.transfer import Data


@dataclass(eq=False)
class Parts:
    """Of the present step, as one replica knows them."""

    standing: Standing | None = None
    """Before the first of them; None: there is none yet. Newcomers begin there, since copies of the state have none."""
    counted: set[int] = field(default_factory=set)
    """Microbatches."""
    payloads: list[Data] = field(default_factory=list)
    """Of my stage."""
