"""One part of a dense round being reduced here: slices come in as they may, sums go out as they are ready."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence

import numpy as np

from ...protocol.errors import StaleRound
from ...protocol.network import MAX_CHUNK_BYTES, Cost
from .decision import Item
from .pieces import F32, Slice, raw

Reduction = Callable[[Sequence[F32]], F32]
"""float32 [n_contributors][n] -> float32 [n], each element by itself, in roster order."""

BLOCK_ELEMENTS = 1 << 16
"""Reduced, checked and hashed in one go: a few of these fit a processor's cache."""
STEPS = 16
"""Of a part, so that its sum is on its way back while the last of the slices still come in."""
CHUNK_BYTES_MIN = 64 << 10
HEARTBEAT_S = 0.5
"""A reducer that waits for slices says this often that it is alive."""


class NotFinite(Exception):
    """A contributor's slice holds NaN or infinity."""

    def __init__(self, position: int) -> None:
        super().__init__(position)
        self.position = position
        """Of the contributor among the plan's."""


class Reducing:
    """A part whose reducer this peer is.

    Args:
        slices: in roster order.
        own: which of them is this peer's, if any.
        result: float32 [n], where the sum goes.
    """

    def __init__(self, slices: Sequence[Slice], own: int | None, result: F32, reduction: Reduction) -> None:
        self._slices = slices
        self._own = own
        self._result = result
        self._step = chunk_bytes(result.nbytes) // 4
        self._reduction = reduction
        self._hash = hashlib.sha256()
        self._n_reduced = 0
        self._abandoned = False
        self._changed = asyncio.Event()

    @property
    def done(self) -> bool:
        return self._n_reduced == len(self._result)

    @property
    def item(self) -> Item:
        """The reduced part, once done."""
        return Item(self._hash.digest(), self._result.nbytes)

    def wake(self) -> None:
        """Something came in, or went wrong."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def abandon(self) -> None:
        """Another plan has taken the place of this one."""
        self._abandoned = True
        self.wake()

    async def ready(self) -> int | None:
        """Wait until there is something to reduce: the element to which it can be done. None: done, or abandoned."""
        while not (self.done or self._abandoned):
            stop = min(slice_.n_bytes for slice_ in self._slices) // 4
            if stop - self._n_reduced >= min(self._step, len(self._result) - self._n_reduced):
                return stop
            await self._changed.wait()
        return None

    def cost(self, stop: int) -> Cost:
        """Of `advance`."""
        n = (stop - self._n_reduced) * len(self._slices)
        return Cost(flops=n, memory_bytes=4 * n)

    def advance(self, stop: int) -> None:
        """Check, reduce and hash up to an element; for a worker thread. Raises NotFinite."""
        for start in range(self._n_reduced, stop, BLOCK_ELEMENTS):
            end = min(stop, start + BLOCK_ELEMENTS)
            blocks = [slice_.elements[start:end] for slice_ in self._slices]
            for position, block in enumerate(blocks):
                if position != self._own and not np.isfinite(block).all():
                    raise NotFinite(position)
            self._result[start:end] = self._reduction(blocks)
            self._hash.update(self._result[start:end].data)
        self._n_reduced = stop

    async def stream(self, reading: asyncio.Task[None]) -> AsyncIterator[bytes]:
        """The reduced part in chunks, and its SHA-256 behind it. Empty chunks say that this peer is alive.

        Args:
            reading: takes in the slice of whoever this goes to.
        Raises: StaleRound if the plan is given up; what `reading` failed with.
        """
        view, sent = raw(self._result), 0
        while not (self.done and sent == len(view)):
            if reading.done():
                reading.result()
            if self._abandoned and not self.done:
                raise StaleRound("another plan has taken the place of this one: follow it")
            end = min(4 * self._n_reduced, sent + 4 * self._step)
            if end > sent:
                chunk, sent = bytes(view[sent:end]), end
                yield chunk
            elif not await self._change():
                yield b""
        yield self.item.hash

    async def _change(self) -> bool:
        """Wait for news; False if there are none for a while."""
        try:
            async with asyncio.timeout(HEARTBEAT_S):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True


def chunk_bytes(part_bytes: int) -> int:
    """How much of a part travels, and is reduced, at a time; a multiple of 4."""
    return max(CHUNK_BYTES_MIN, min(MAX_CHUNK_BYTES, -(-part_bytes // STEPS) // 4 * 4))
