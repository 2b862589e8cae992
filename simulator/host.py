"""A machine of the simulated world, and the life of the process on it."""

from __future__ import annotations

import asyncio
import random
from asyncio import Task
from collections.abc import Callable, Coroutine
from contextvars import Context, ContextVar
from typing import Any, TypeVar

from ..protocol.identity import Identity, PeerId
from .cores import Cores, Thread
from .fabric import Tamper
from .network import Machine, SimulatedNetwork
from .processor import Processor

T = TypeVar("T")

_LIFE: ContextVar[Life | None] = ContextVar("gossamer_life", default=None)


class Life:
    """All tasks of one incarnation of a host's process."""

    def __init__(self) -> None:
        self.alive = True
        self.context = Context()
        self.context.run(_LIFE.set, self)
        self._tasks: dict[Task[Any], None] = {}

    def adopt(self, task: Task[Any]) -> None:
        self._tasks[task] = None
        if not self.alive:
            task.cancel()

    def end(self) -> None:
        self.alive = False
        for task in list(self._tasks):
            task.cancel()

    def part_from(self, task: Task[Any]) -> None:
        self._tasks.pop(task, None)
        if not self.alive and not task.cancelled():
            task.exception()  # nobody is there to miss it


class Host:
    """Made by `Simulation.host`. `flops_per_s` and `memory_bytes_per_s` may be changed at any time."""

    def __init__(
        self,
        *,
        name: str,
        identity: Identity,
        seed: int,
        processor: Processor,
        cores: Cores | None,
        epoch_unix_s: float,
        connect: Callable[[Machine], SimulatedNetwork],
        loop: asyncio.AbstractEventLoop,
        run_id: str = "",
    ) -> None:
        self.name = name
        self.identity = identity
        self.incarnation = 0
        self.random: random.Random
        """Entropy for the daemon; follows from the simulation's seed, the host's name and its incarnation."""
        self.network: SimulatedNetwork
        self._seed = seed
        self._processor = processor
        self._cores = cores
        self.tamper: Tamper | None = None
        """What its messages go through before they leave, in this and later lives; see `set_tamper`."""
        self.clock_skew_s = 0.0
        """How far its wall clock is ahead."""
        self._epoch_unix_s = epoch_unix_s
        self._connect = connect
        self._loop = loop
        self._run_id = run_id
        self._begin()

    @property
    def peer_id(self) -> PeerId:
        return self.identity.peer_id

    @property
    def alive(self) -> bool:
        return self._life.alive and not self.network.closed

    @property
    def flops_per_s(self) -> float:
        return self._processor.flops_per_s

    @flops_per_s.setter
    def flops_per_s(self, value: float) -> None:
        self._processor.flops_per_s = value

    @property
    def memory_bytes_per_s(self) -> float:
        return self._processor.memory_bytes_per_s

    @memory_bytes_per_s.setter
    def memory_bytes_per_s(self, value: float) -> None:
        self._processor.memory_bytes_per_s = value

    @property
    def busy_s(self) -> float:
        """Time that its processor has computed, in all lives."""
        return self._processor.busy_s

    @property
    def worked_s(self) -> float:
        """What that has taken of the processor on which the simulation runs."""
        return self._processor.worked_s

    def spawn(self, coro: Coroutine[Any, Any, T], *, name: str | None = None) -> Task[T]:
        """Start a task on this host. It dies with the host, and so does every task that it starts."""
        return self._loop.create_task(coro, name=name or f"{self.name}", context=self._life.context.copy())

    def kill(self, *, silent: bool = False) -> None:
        """End the process at once: first its network, so that nothing which the dying tasks still do reaches
        anybody, then its tasks, by cancellation.

        Args:
            silent: as when the power fails: others notice nothing but silence. Otherwise the operating system
                resets the connections, which others see one latency later.
        """
        self.network.sever(silent=silent)
        self._processor.end()
        if self.network.thread is not None:
            self.network.thread.end()
        self._life.end()

    def set_tamper(self, tamper: Tamper | None) -> None:
        """Turn it into a faulty machine, or back."""
        self.tamper = self.network.tamper = tamper

    @property
    def disk_is_full(self) -> bool:
        return self._processor.disk_is_full

    @disk_is_full.setter
    def disk_is_full(self, value: bool) -> None:
        self._processor.disk_is_full = value

    def restart(self, *, identity: Identity | None = None) -> SimulatedNetwork:
        """A new process, after a kill if the old one still runs. Starts no task.

        Args: identity: of the machine that takes its place; None: it is the same one.
        """
        self.kill()
        self.incarnation += 1
        if identity is not None:
            self.identity = identity
        self._begin()
        return self.network

    def _begin(self) -> None:
        self._life = Life()
        self._processor = self._processor.successor()
        self.random = random.Random(f"host {self._seed} {self.name} {self.incarnation}")
        self.network = self._connect(
            Machine(
                name=self.name,
                identity=self.identity,
                processor=self._processor,
                thread=None if self._cores is None else Thread(self._cores),
                unix_time_s=self._unix_time_s,
                run_id=self._run_id,
                context=self._life.context,
            )
        )
        self.network.tamper = self.tamper

    def _unix_time_s(self) -> float:
        return self._epoch_unix_s + self._loop.time() + self.clock_skew_s

    def __repr__(self) -> str:
        return f"Host({self.name!r}, incarnation={self.incarnation}, alive={self.alive})"


def owner_of(context: Context | None) -> Life | None:
    """The host's life that a task belongs to: that of the task which starts it."""
    return _LIFE.get() if context is None else context.get(_LIFE)
