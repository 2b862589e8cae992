"""The last updates as devices need them: from whatever recent state a device holds to the present one."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass

from ...protocol.edge_pb2 import Step

STEPS_MAX = 256
REPLY_BYTES_MAX = 768 << 10
"""Longer ways are not sent step by step: the device fetches a snapshot."""


@dataclass(frozen=True, kw_only=True)
class Kept:
    """One update."""

    before: tuple[int, bytes]
    """Step and digest."""
    after: tuple[int, bytes]
    step: Step

    @property
    def n_bytes(self) -> int:
        """Of its payloads, which may be longer together than a message."""
        return sum(map(len, self.step.payloads))


class History:
    """An unbroken line of updates, bounded in number and bytes."""

    def __init__(self, *, bytes_max: int) -> None:
        self._kept: deque[Kept] = deque()
        self._bytes = 0
        self._bytes_max = bytes_max

    def add(self, kept: Kept) -> None:
        if kept.n_bytes > REPLY_BYTES_MAX:
            self.clear()  # no way leads over it
            return
        if self._kept and self._kept[-1].after != kept.before:
            self.clear()
        self._kept.append(kept)
        self._bytes += kept.n_bytes
        while len(self._kept) > STEPS_MAX or (self._bytes > self._bytes_max and len(self._kept) > 1):
            self._bytes -= self._kept.popleft().n_bytes

    def clear(self) -> None:
        self._kept.clear()
        self._bytes = 0

    def way(
        self, known: tuple[int, bytes] | None, target: tuple[int, bytes], *, snapshot_bytes: int
    ) -> Sequence[Step] | None:
        """The updates from one state to another; None if they are not kept, or longer than a snapshot."""
        if known == target:
            return []
        steps: list[Step] = []
        n_bytes = 0
        for kept in reversed(self._kept):
            if not steps and kept.after != target:
                continue
            steps.append(kept.step)
            n_bytes += kept.n_bytes
            if n_bytes > min(REPLY_BYTES_MAX, snapshot_bytes + 4096):
                return None
            if kept.before == known:
                return steps[::-1]
        return None
