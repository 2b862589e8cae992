"""The lives of a simulated swarm: what happened to each machine, how daemons ended, and what is kept of the dead."""

from __future__ import annotations

import gc
from collections import Counter
from dataclasses import dataclass, field

from ..peer.daemon import Daemon, Result
from ..peer.rounds.roster import WHOLE

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


@dataclass(kw_only=True)
class Remains:
    """What is kept of all daemons that have died, for their replicas are large."""

    sent: Counter[str] = field(default_factory=Counter)
    """Bytes, by method."""
    step: int = 0
    """Most updates that one of them had applied."""
    samples: int = 0
    """Likewise, those it had learnt from."""
    _n_uncollected: int = 0
    """Parameters."""

    def take(self, daemon: Daemon) -> None:
        """Of a daemon that has ended. Its parts hold each other, and Python does not know what they weigh."""
        self.sent.update(daemon.network.traffic.sent)
        self.step = max(self.step, daemon.replica.step)
        self.samples = max(self.samples, daemon.replica.samples)
        self._n_uncollected += sum(parameter.numel() for parameter in daemon.replica.parameters.values())
        if self._n_uncollected > UNCOLLECTED_MAX:
            self._n_uncollected = 0
            gc.collect()
