"""When the parts of a split run meet again, all but one give way: see "Fork" in docs/design/0002-rounds.md."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from ..protocol import rounds_pb2 as pb
from ..protocol.errors import GossamerError, NetworkClosed
from ..protocol.identity import PeerId
from ..protocol.network import MAX_MESSAGE_BYTES, Network
from ..protocol.wire import parse
from .membership import Announcement
from .rounds.group import Group
from .rounds.outcome import Ending

AHEAD_ROUNDS = 3
"""A peer that announces a round so much later than ours knows something that we missed."""
EQUAL_ROUNDS = 4
"""Lineages whose samples differ by no more than this many of our rounds count as equal."""


class Rivals:
    """Looks at what other peers announce, on behalf of one peer's group.

    Args:
        group: as it is now; None while this peer has no place.
        samples: behind this peer's state.
    """

    def __init__(self, network: Network, group: Callable[[], Group | None], samples: Callable[[], int]) -> None:
        self._network = network
        self._group = group
        self._samples = samples
        self._calm: tuple[Mapping[PeerId, Announcement], bytes, int] | None = None
        """A view, and what was held against it: nobody in it claims anything else."""

    def look(self, view: Mapping[PeerId, Announcement]) -> None:
        """Ask whoever is ahead of us for what we missed, and a lineage with more samples whether it is alive."""
        group = self._group()
        if group is None or group.round is None:
            return
        lineage, index_max = group.lineage, group.index + AHEAD_ROUNDS
        if self._calm is not None and self._calm[0] is view and self._calm[1:] == (lineage, index_max):
            return
        claims = [one for one in view.values() if one.lineage != lineage or one.round_index > index_max]
        self._calm = (view, lineage, index_max) if not claims else None
        ahead = [one.member.peer for one in claims if one.active and one.lineage == lineage]
        if ahead:
            group.catch_up.nudge(min(ahead))
            return
        # Announcements lag behind, so what they count is no reason not to ask.
        rivals = [one for one in claims if one.decides]
        if rivals:
            best = min(rivals, key=lambda claim: (-claim.samples, claim.lineage, claim.member.peer))
            group.spawn(self._meet(group, best.member.peer))

    def _wins(self, samples: int, lineage: bytes, group: Group) -> bool:
        """More samples win, then the smaller name. Both counts grow while they are compared, so about equal is equal:
        else each of two lineages that keep step could find itself ahead for ever, or behind at once."""
        replica = group.replica
        a_round = replica.steps * replica.manifest.data.batch_size * len(group.roster)
        ahead, equal = samples - self._samples(), EQUAL_ROUNDS * a_round
        return ahead > equal or (ahead >= -equal and lineage < group.lineage)

    async def _meet(self, group: Group, rival: PeerId) -> None:
        """Make sure that a rival lineage can go on before going over to it: who merely follows one whose quorum is gone
        answers, too, and would for ever."""
        try:
            answer = await self._network.call(rival, "round/status", b"", timeout_s=5.0)
            status = parse(pb.Status, answer, bytes_max=MAX_MESSAGE_BYTES, what="a status")
        except NetworkClosed:
            raise
        except GossamerError:
            return
        if status.decides and status.lineage != group.lineage and self._wins(status.samples, status.lineage, group):
            group.end(Ending.SUPERSEDED)
