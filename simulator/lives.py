"""What a simulated swarm tells of its machines: what happened to each, and how a daemon's life ended."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass

from ..peer.daemon import Result
from ..peer.rounds.roster import WHOLE


@dataclass(frozen=True, kw_only=True)
class Note:
    """Something that happened to a machine, as the simulator knows it."""

    t_s: float
    what: str
    peer: str
    """Empty for what happens to no machine in particular."""
    text: str = ""


@dataclass(frozen=True, kw_only=True)
class End:
    """How a daemon's life ended, if it was not cut short."""

    peer: str
    result: Result | None
    error: str = ""
    stage: int = WHOLE
    """Of a pipeline, that it served in the end."""

    @property
    def is_finish(self) -> bool:
        """Whether the run was over."""
        return self.result is not None and self.result.outcome == "finished"


def n_finished(ends: Iterable[End]) -> int:
    """How many peers have seen the run finished, in one life of theirs or in several."""
    return len({end.peer for end in ends if end.is_finish})
