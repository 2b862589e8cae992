"""How the payloads of one round travel. One implementation for each `algorithms.Exchange`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import AsyncGenerator, AsyncIterator, Hashable, Mapping, Sequence
from typing import TYPE_CHECKING

from ...protocol import rounds_pb2 as pb
from .decision import Decision, Item
from .place import Report

if TYPE_CHECKING:
    from .leading import Leadership

Proposal = tuple[tuple[int, ...], tuple[Item, ...]]
"""Contributors' slots in order, and the items that make up the result."""

Data = bytes | memoryview
"""An item's bytes."""


class Transfer(ABC):
    """One member's side of moving one round's payloads. It decides nothing."""

    @abstractmethod
    def offer(self, payload: bytes) -> None:
        """My contribution is encoded: let the others have it."""

    @property
    @abstractmethod
    def offered(self) -> Item | None:
        """My contribution, once offered."""

    @property
    @abstractmethod
    def attempt(self) -> int:
        """Number of the leader's plan that `held` speaks of; 0 where there are no plans."""

    @abstractmethod
    def held(self) -> dict[int, Item]:
        """What I have fully received and checked, by contributor's slot (gather) or part (reduce)."""

    @abstractmethod
    def complete(self, live: Sequence[int]) -> bool:
        """Whether a report to the leader is worth sending at once."""

    @abstractmethod
    def proposal(
        self, reports: Mapping[int, Report], live: Sequence[int], quorum: int, *, late: bool
    ) -> Proposal | None:
        """What the leader may propose, given the reports of members that share my base.

        Args:
            live: slots that are not known to be out of reach.
            late: the deadline has passed: settle for what a quorum holds.
        """

    @abstractmethod
    def bytes_of(self, item_hash: bytes) -> Data | None:
        """A held item's bytes."""

    def whole(self, items: Sequence[Item]) -> Data | None:
        """All of these items' bytes one after the other, if they lie here so."""
        return None

    def ready(self, reports: Mapping[int, Report]) -> Sequence[int]:
        """Slots whose contribution is there, as far as a leader can tell."""
        return [slot for slot in sorted(reports) if reports[slot].ready]

    def stuck(self, live: Sequence[int]) -> bool:
        """Whether nothing can come of the round, however long it is waited for."""
        return False

    def amendment(self, leadership: Leadership) -> Decision | None:
        """What the leader should propose to change the roster alone, while members go on with what they are doing."""
        return None

    def alarms_s(self, patience_s: float) -> Sequence[float]:
        """Loop times at which a leader has to look again even if nothing happens.

        Args:
            patience_s: the deadline by which it goes.
        """
        return ()

    def stalled_s(self, elapsed_s: float) -> float:
        """For how long a leader has seen nothing come of the round.

        Args:
            elapsed_s: since it began.
        """
        return elapsed_s

    def oversee(self, reports: Mapping[int, Report]) -> None:
        """What a leader does whenever anything changes, whether or not a quorum has reported."""
        return

    def lead(self, reports: Mapping[int, Report], awaited: Sequence[int], *, late: bool) -> None:
        """What the leader must do before there is anything to propose."""
        return

    @property
    def refused(self) -> Sequence[int]:
        """Contributors whose bytes I refused."""
        return ()

    @property
    def lost(self) -> Sequence[int]:
        """Members whom I need and cannot reach: the leader wants to know."""
        return ()

    @property
    def bytes_per_s(self) -> float | None:
        """How fast I can send, if that matters and is known."""
        return None

    def complete_hold(self, hold: pb.Hold) -> None:
        """Add to a report what else the leader must know."""
        return

    @property
    def news(self) -> Hashable:
        """What is worth another report when it changes, besides what every report says."""
        return ()

    def refuse(self, decision: Decision, ballot: int) -> None:
        """Look at a proposal before it is accepted. Raises InvalidMessage."""
        return

    def close(self) -> None:
        """The round is over."""
        return

    def last_arrival_s(self) -> float | None:
        """Loop time at which the last payload came in."""
        return None


async def close_iterator(iterator: AsyncIterator[bytes]) -> None:
    """Run the clean-up of a stream that is not read to its end."""
    if isinstance(iterator, AsyncGenerator):
        await iterator.aclose()
