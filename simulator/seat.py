"""A machine of a simulated swarm: whether it may run, as its fleet has it and as faults leave it."""

from __future__ import annotations

import asyncio
import hashlib
import math
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

from ..peer.daemon import Daemon
from ..protocol.identity import Identity
from .fleets import Machine
from .host import Host
from .world import Simulation

Live = Callable[["Seat"], Coroutine[Any, Any, None]]
"""What runs there while it is on."""
Tell = Callable[[str, Host, str], None]
"""(what happened, to whom, more)"""


class Seat:
    """Switches the hosts of one machine on and off. Whoever wants it on asks here, so that all others are asked too."""

    def __init__(
        self,
        number: int,
        machine: Machine,
        host: Host,
        front: Host | None,
        sim: Simulation,
        root: Path,
        *,
        live: Live,
        tell: Tell,
    ) -> None:
        """Args:
        front: what devices see of it if it is a gateway.
        root: for its folders.
        """
        self.number, self.machine, self.host, self.front = number, machine, host, front
        self.hosts = [host] if front is None else [host, front]
        self.folder = root / str(number)
        self.daemon: Daemon | None = None
        """Of who runs there, or has finished the run."""
        self.is_over = False
        """Nobody is switched on any more."""
        self._sim, self._root, self._live, self._tell = sim, root, live, tell
        self._life: asyncio.Task[None] | None = None
        self._is_due = False
        """Its fleet has it on."""
        self._n_down = 0
        """Faults that keep it down."""
        self._disk_is_lost = False
        """Another machine comes back in its place."""
        self._on_until_s = -math.inf

    @property
    def is_on(self) -> bool:
        """Whether a daemon runs there now, or is about to."""
        return self._life is not None and not self._life.done() and self.host.alive

    def was_on(self, since_s: float) -> bool:
        """Whether one did at any time since then."""
        return self.is_on or self._on_until_s >= since_s

    async def follow_sessions(self) -> None:
        """Switch it on and off as its fleet has it."""
        sessions = self.machine.sessions
        if not sessions or sessions[0].start_s > self._sim.now_s:
            self._kill()  # hosts are made switched on
        for session in sessions:
            if session.start_s > self._sim.now_s:
                await asyncio.sleep(session.start_s - self._sim.now_s)
            self._is_due = True
            self._switch_on()
            if math.isinf(session.end_s):
                return
            await asyncio.sleep(session.end_s - self._sim.now_s)
            self._is_due = False
            self._tell("off", self.host, "its session is over")
            self._kill()

    def take_down(self, *, silent: bool = False, disk_is_lost: bool = False) -> bool:
        """Kill what runs there and keep it down, until it was given back as often as it was taken.

        Args: disk_is_lost: another comes back, with a key and a folder of its own. Not in the place of the owner's.
        Returns: False if it was off anyway.
        """
        if not self.is_on and not self._n_down:
            return False
        self._n_down += 1
        self._disk_is_lost |= disk_is_lost and self.number != 0
        self._kill(silent=silent)
        return True

    def give_back(self) -> None:
        """A fault that has taken it down is over: it comes back if no other keeps it down."""
        self._n_down -= 1
        self._switch_on()

    def has_ended(self) -> None:
        """Its daemon has ended by itself."""
        self._on_until_s = self._sim.now_s

    def _switch_on(self) -> None:
        """Start a daemon, unless one runs there, a fault keeps it down, or its fleet has it off."""
        host = self.host
        if self.is_over or self.is_on or self._n_down or not self._is_due:
            return
        if self._disk_is_lost:
            host.restart(identity=identity_of(self._sim.seed, self.number, host.incarnation + 1))
            self.folder = self._root / f"{self.number}.{host.incarnation}"
            self._disk_is_lost = False
        elif not host.alive:
            host.restart()
        self._tell("on", host, f"incarnation {host.incarnation}")
        self._life = host.spawn(self._live(self))

    def _kill(self, *, silent: bool = False) -> None:
        if self.is_on:
            self._on_until_s = self._sim.now_s
        for host in self.hosts:
            host.kill(silent=silent)


def identity_of(seed: int, number: int, life: int) -> Identity:
    """The key of a machine that is the first in its place (life 0), or has come in the place of another."""
    return Identity(hashlib.sha256(f"scenario {seed} {number} {life}".encode()).digest())
