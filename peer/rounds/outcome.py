"""What became of a round, told without silent partial success."""

from __future__ import annotations

import enum
from dataclasses import dataclass

from ...protocol.identity import PeerId
from .stage_changes import Restoration


@dataclass(frozen=True, kw_only=True)
class Outcome:
    """A round that is over."""

    round_index: int
    step: int
    """Updates applied to the model so far."""
    steps: int
    """How many of them this round brought; 0 unless committed."""
    committed: bool
    """False: the round failed, nothing was applied, and everybody keeps its work."""
    goes_on: bool = False
    """The round has not failed, but counted a part of a step or changed the roster: the step goes on in the next."""
    contributors: tuple[PeerId, ...]
    excluded: dict[PeerId, str]
    """Who was left out, and why."""
    dropped: tuple[PeerId, ...]
    """Contributors that a robust method left out of the update."""
    payload_bytes: int
    """Of my own contribution; 0 if I offered none."""
    duration_s: float
    overhead_s: float
    """From the moment that the last contribution was here until the round was decided here."""
    exchange_s: float
    """From my contribution being ready until what was decided was here; 0 if I offered none."""
    update_s: float
    """From then until the state was updated and hashed."""
    ballots: int
    leader: PeerId
    digest: bytes
    """Of the state after the round."""
    restored: tuple[Restoration, ...] = ()
    """Of a pipeline: stages that were lost and go on, with the updates that they lost."""


class Ending(enum.Enum):
    """Why a group's rounds ended for this peer."""

    STOPPED = "stopped"
    """The stop of the run was committed."""
    LEFT = "left"
    """This peer's removal from the roster was committed."""
    LOST = "lost"
    """The rounds that this peer missed are not kept any more, or its state differs: it must resynchronise."""
    MOVED = "moved"
    """This peer's move to another stage of a pipeline was committed: it must take over that stage's state."""
    SUPERSEDED = "superseded"
    """Another lineage of the split run has more samples behind it: this peer must go over to it."""
