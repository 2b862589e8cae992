"""What waits to be computed at a stage: bounded, gradients first, forward passes several at a time."""

from __future__ import annotations

import enum
from collections import deque
from dataclasses import dataclass
from typing import Generic, TypeVar

from ...protocol.errors import Busy

T = TypeVar("T")


class Phase(enum.Enum):
    """What a trainer can ask for."""

    FORWARD = "forward"
    BACKWARD = "backward"
    EVALUATE = "evaluate"
    """A forward pass of the model as it is used; at the last stage the loss."""


@dataclass(frozen=True, kw_only=True)
class Job(Generic[T]):
    """One pass that was asked for."""

    phase: Phase
    n_samples: int
    n_bytes: int
    """Memory that it takes while it waits."""
    content: T


class Backlog(Generic[T]):
    """Two queues in the order of arrival.

    Args:
        jobs_max, bytes_max: what is above is refused: memory stays bounded and callers go elsewhere.
        together_max: samples of forward passes that are taken as one; a pass never splits.
    """

    def __init__(self, *, jobs_max: int, bytes_max: int, together_max: int) -> None:
        self._jobs_max = jobs_max
        self._bytes_max = bytes_max
        self._together_max = together_max
        self._forward: deque[Job[T]] = deque()
        self._backward: deque[Job[T]] = deque()
        self._n_bytes = 0

    def __len__(self) -> int:
        return len(self._forward) + len(self._backward)

    @property
    def n_bytes(self) -> int:
        return self._n_bytes

    def put(self, job: Job[T]) -> None:
        """Raises: Busy, and the job is not here then."""
        if len(self) >= self._jobs_max or self._n_bytes + job.n_bytes > self._bytes_max:
            raise Busy(
                f"{len(self)} passes of {self._n_bytes} bytes wait here, at most {self._jobs_max} of {self._bytes_max} "
                "may: ask another replica, or again later"
            )
        self._n_bytes += job.n_bytes
        (self._forward if job.phase is Phase.FORWARD else self._backward).append(job)

    def take(self) -> list[Job[T]]:
        """What to compute next: the oldest backward pass, for others wait for it and it is the last that its microbatch
        wants here; else the oldest forward passes. Empty: nothing waits."""
        if self._backward:
            return [self._took(self._backward)]
        jobs: list[Job[T]] = []
        n_samples = 0
        while self._forward and (not jobs or n_samples + self._forward[0].n_samples <= self._together_max):
            jobs.append(self._took(self._forward))
            n_samples += jobs[-1].n_samples
        return jobs

    def drop(self, content: T) -> bool:
        """Forget a job whose caller has gone; False if it does not wait."""
        for queue in (self._forward, self._backward):
            for job in queue:
                if job.content is content:
                    queue.remove(job)
                    self._n_bytes -= job.n_bytes
                    return True
        return False

    def _took(self, queue: deque[Job[T]]) -> Job[T]:
        job = queue.popleft()
        self._n_bytes -= job.n_bytes
        return job
