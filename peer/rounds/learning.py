"""What a round that is over teaches about the next: how long rounds take, and how fast the members are."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .outcome import Outcome
from .round import Round

if TYPE_CHECKING:
    from .group import Group


def learn(group: Group, round_: Round, outcome: Outcome, n_steps: int) -> None:
    """A round in which this peer took part was applied, or failed."""
    if outcome.committed or not round_.transfer.stuck(round_.live()):
        group.patience.learn(outcome, waited_s=group.waited_s(round_), n_steps=n_steps)
    if round_.decided_s is None:
        return
    peers = round_.place.roster.peers
    group.backup.saw(
        peers,
        {peers[slot]: time_s for slot, time_s in round_.arrived_s.items()},
        outcome.contributors,
        waited_s=round_.decided_s - round_.started_s,
        duration_s=outcome.duration_s,
        n_steps=n_steps,
    )
