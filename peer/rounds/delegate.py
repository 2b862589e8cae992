"""What a group asks of whoever trains, and tells it."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Sequence

import numpy as np
import numpy.typing as npt

from ...protocol.identity import PeerId
from .outcome import Outcome
from .roster import Roster
from .snapshots import Standing

Agree = Callable[[npt.NDArray[np.float32]], Awaitable[npt.NDArray[np.float32]]]


class Delegate(ABC):
    """Whoever trains: told when a round opens and what became of it."""

    @abstractmethod
    async def contribute(self, round_index: int, roster: Roster, slot: int, agree: Agree) -> bytes:
        """This peer's payload for a round. Cancelled if the round ends without it.

        Args:
            agree: the maximum of some floats over the members of the round.
        """

    @abstractmethod
    async def concluded(self, outcome: Outcome, roster: Roster) -> None:
        """A round was applied, or failed. `roster` is the next round's. The next round waits for this to return."""

    @abstractmethod
    def unadmitted(self, peer: PeerId) -> None:
        """A member does not know our ticket: it was restarted, perhaps."""

    @abstractmethod
    def refused(self, peer: PeerId, reason: str) -> None:
        """Something that a peer sent was refused."""

    @abstractmethod
    def warned(self, message: str) -> None:
        """Something is amiss, and the run goes on."""

    @abstractmethod
    def paused(self, standing: Standing, reachable: Sequence[PeerId]) -> None:
        """A round's outcome is unknown: too few members can be reached. Nothing is lost; the round waits."""

    @abstractmethod
    def forked(self, old: Standing, new: Standing) -> None:
        """The group lost its quorum, and this part of it goes on as a new lineage."""
