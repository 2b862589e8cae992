"""A trainer's microbatches of the next step, begun before the present one is decided (asynchronous mode).

They are named after the round in which they were begun, and keep to the weights of that time. When their step's round
opens, it takes them over: what has come back counts as whole, what is on its way goes on, and what no member of the new
roster holds is passed again.
"""

from __future__ import annotations

from collections.abc import Callable

from ..rounds.place import Place
from .courier import Carried, Courier
from .flow import Flow, Load, Spawn
from .microbatches import MicrobatchId


class AheadFlow(Flow):
    """The microbatches of one trainer that are a step ahead.

    Args:
        place: in the present round.
        load: of the next step.
    """

    def __init__(
        self, place: Place, courier: Courier, load: Load, waiting: Callable[[str], None], spawn: Spawn
    ) -> None:
        super().__init__(place, courier, load, lambda: None, waiting, spawn)
        self._version = load.step - 1
        self._here = None

    def join(self, place: Place, changed: Callable[[], None] | None = None) -> None:
        """The step's own round has opened."""
        self._version = self.step
        super().join(place, changed)

    def _name(self, index: int, attempt: int) -> tuple[MicrobatchId, int]:
        name, _ = super()._name(index, attempt)
        return name, self._version

    def _gives_up(self, carried: Carried) -> bool:
        """Nobody has the weights of that time any more."""
        return carried.version < self._version
