"""A trainer's microbatches of the next step, begun before the present one is decided (asynchronous mode).

They are named after the round in which they were begun, and keep to the weights of that time. When their step's round
opens, it takes them over: what has come back counts as whole, what is on its way goes on, and what no member of the new
roster holds is passed again.
"""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any

from ...protocol.identity import PeerId
from ..rounds.place import Place
from ..rounds.round import Round
from .courier import Carried, Courier
from .flow import Flow, Load
from .microbatches import MicrobatchId

Spawn = Callable[[Coroutine[Any, Any, None]], None]


class Between:
    """In place of a round, while that of the step is not open yet."""

    def __init__(self, place: Place, spawn: Spawn) -> None:
        self.place = place
        self.spawn = spawn


class AheadFlow(Flow):
    """The microbatches of one trainer that are a step ahead.

    Args:
        place: of the present round.
        load: of the next step.
        spawn: runs what outlives the present round.
    """

    def __init__(
        self, place: Place, courier: Courier, load: Load, waiting: Callable[[str], None], spawn: Spawn
    ) -> None:
        super().__init__(Between(place, spawn), courier, load, lambda: None, waiting)
        self.step = load.step
        self._version = load.step - 1
        self._here: frozenset[PeerId] | None = None
        """Who is on the roster of the step's own round; None: that is not open yet."""

    def join(self, round_: Round, changed: Callable[[], None]) -> None:
        """The step's own round has opened."""
        before = set(self._round.place.roster.members)
        self._gone.update(one.peer for one in before - set(round_.place.roster.members))
        self._round, self._changed, self._version = round_, changed, self.step
        self._here = frozenset(round_.place.roster.peers)
        self.mend(())

    def _name(self, index: int, attempt: int) -> tuple[MicrobatchId, int]:
        name, _ = super()._name(index, attempt)
        return name, self._version

    def _is_gone(self, holder: PeerId | None) -> bool:
        # A replica may have come, taken a pass and died while no step was decided: no roster of ours ever named it.
        return super()._is_gone(holder) or (self._here is not None and holder not in self._here)

    def _gives_up(self, carried: Carried) -> bool:
        """Nobody has the weights of that time any more."""
        return carried.version < self._version
