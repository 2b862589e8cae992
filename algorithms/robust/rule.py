"""What a robust rule for dense contributions is."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from ..method import F32


@dataclass(frozen=True, kw_only=True)
class Aggregated:
    """One vector made of many."""

    vector: F32
    """float32 [dim], fresh."""
    dropped: tuple[int, ...] = ()
    """Indices of vectors that did not count at all, ascending."""


class Rule(ABC):
    """Makes one vector of several, of which some may be arbitrary.

    The result does not depend on the order of the vectors, to the bit: where floats are added, they are put in order
    of size first.
    """

    per_coordinate: ClassVar[bool] = False
    """Whether parts of the vectors can be aggregated apart from each other."""
    keeps_reference: ClassVar[bool] = False
    """Whether the result of the round before is needed."""

    def __init__(self, n_liars: int) -> None:
        self.n_liars = n_liars

    @property
    def n_min(self) -> int:
        """With fewer vectors the rule says nothing: the honest must outnumber the liars."""
        return 2 * self.n_liars + 1

    @abstractmethod
    def aggregate(self, vectors: Sequence[F32], reference: F32) -> Aggregated:
        """Make one vector of at least `n_min`.

        Args:
            vectors: float32 [n][dim], finite, at most 2^100 in magnitude.
            reference: float32 [dim], the result of the round before, zeros at first; [0] unless `keeps_reference`.
        """
