"""The lives of a simulated swarm: what happened to each machine, how daemons ended, and what is kept of the dead."""

from __future__ import annotations

import gc
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field

from ..peer.daemon import Daemon, Result
from ..peer.rounds.roster import WHOLE
from .virtual_times import Starts

UNCOLLECTED_MAX = 1 << 22
"""Parameters of dead replicas. Each weighs 30 bytes of a newcomer, and 80 of who was in dense rounds."""


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


@dataclass(kw_only=True)
class Remains:
    """What is kept of all daemons that have died, for their replicas are large."""

    sent: Counter[str] = field(default_factory=Counter)
    """Bytes, by method."""
    step: int = 0
    """Most updates that one of them had applied."""
    samples: int = 0
    """Likewise, those it had learnt from."""
    starts: Starts = field(default_factory=dict)
    _n_uncollected: int = 0
    """Parameters."""

    def take(self, daemon: Daemon) -> None:
        """Of a daemon that has ended. Its parts hold each other, and Python does not know what they weigh."""
        self.sent.update(daemon.network.traffic.sent)
        self.step = max(self.step, daemon.replica.step)
        if daemon.log.has_told:
            self.starts.setdefault(daemon.log.path.parent.name, []).append(daemon.log.start_s)
        self.samples = max(self.samples, daemon.replica.samples)
        self._n_uncollected += sum(parameter.numel() for parameter in daemon.replica.parameters.values())
        if self._n_uncollected > UNCOLLECTED_MAX:
            self._n_uncollected = 0
            gc.collect()
