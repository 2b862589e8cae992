"""One part of a dense round being reduced here: slices come in as they may, sums go out as they are ready."""

from __future__ import annotations

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass

from ...protocol.errors import StaleRound
from ...protocol.network import MAX_CHUNK_BYTES, Cost
from .decision import Item
from .pieces import U8, Slice

Reduction = Callable[[Sequence[U8], int], U8]
"""(uint8 [n_contributors][n], number of the first unit) -> uint8 [n], each unit by itself, in roster order.

Raises BadPart for a contributor's bytes that are of no use.
"""

BLOCK_BYTES = 1 << 18
"""Reduced, checked and hashed in one go: a few of these fit a processor's cache."""
STEPS = 16
"""Of a part, so that its sum is on its way back while the last of the slices still come in."""
CHUNK_BYTES_MIN = 64 << 10
HEARTBEAT_S = 0.5
"""A reducer that waits for slices says this often that it is alive."""


@dataclass(frozen=True)
class Units:
    """What a vector is made of: the least that can be reduced by itself."""

    n_bytes: int
    """Of each of them."""
    length: int
    """How many there are."""

    def of(self, data: U8, start: int, stop: int) -> U8:
        """These units of the vector, sharing its memory."""
        return data[start * self.n_bytes : stop * self.n_bytes]


class Reducing:
    """A part whose reducer this peer is.

    Args:
        slices: in roster order.
        start: number of the part's first unit.
        unit_bytes: of each unit.
        result: uint8 [n], where the reduced units go.
    """

    def __init__(self, slices: Sequence[Slice], start: int, unit_bytes: int, result: U8, reduction: Reduction) -> None:
        self._slices = slices
        self._start = start
        self._unit = unit_bytes
        self._n_units = len(result) // unit_bytes
        self._result = result
        self._step = max(1, chunk_bytes(len(result)) // unit_bytes)
        self._reduction = reduction
        self._hash = hashlib.sha256()
        self._n_reduced = 0
        self._abandoned = False
        self._changed = asyncio.Event()

    @property
    def done(self) -> bool:
        return self._n_reduced == self._n_units

    @property
    def item(self) -> Item:
        """The reduced part, once done."""
        return Item(self._hash.digest(), len(self._result))

    def wake(self) -> None:
        """Something came in, or went wrong."""
        changed, self._changed = self._changed, asyncio.Event()
        changed.set()

    def abandon(self) -> None:
        """Another plan has taken the place of this one."""
        self._abandoned = True
        self.wake()

    async def ready(self) -> int | None:
        """Wait until there is something to reduce: the unit to which it can be done. None: done, or abandoned."""
        while not (self.done or self._abandoned):
            stop = min(slice_.n_bytes for slice_ in self._slices) // self._unit
            if stop - self._n_reduced >= min(self._step, self._n_units - self._n_reduced):
                return stop
            await self._changed.wait()
        return None

    def cost(self, stop: int) -> Cost:
        """Of `advance`."""
        return reducing_cost((stop - self._n_reduced) * self._unit * len(self._slices))

    def advance(self, stop: int) -> None:
        """Check, reduce and hash up to a unit; for a worker thread. Raises BadPart."""
        step = max(1, BLOCK_BYTES // self._unit)
        for first in range(self._n_reduced, stop, step):
            end = min(stop, first + step)
            block = slice(first * self._unit, end * self._unit)
            parts = [slice_.data[block] for slice_ in self._slices]
            self._result[block] = self._reduction(parts, self._start + first)
            self._hash.update(self._result[block].data)
        self._n_reduced = stop

    async def stream(self, reading: asyncio.Task[None]) -> AsyncIterator[bytes]:
        """The reduced part in chunks, and its SHA-256 behind it. Empty chunks say that this peer is alive.

        Args:
            reading: takes in the slice of whoever this goes to.
        Raises: StaleRound if the plan is given up; what `reading` failed with.
        """
        view, sent = self._result.data, 0
        while not (self.done and sent == len(view)):
            if reading.done():
                reading.result()
            if self._abandoned and not self.done:
                raise StaleRound("another plan has taken the place of this one: follow it")
            end = min(self._unit * self._n_reduced, sent + self._unit * self._step)
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


def reducing_cost(n_bytes: int) -> Cost:
    """Of reducing so many bytes of contributions, all contributors' together."""
    return Cost(flops=n_bytes // 4, memory_bytes=n_bytes, what="reduce")


def chunk_bytes(part_bytes: int) -> int:
    """How much of a part travels, and is reduced, at a time; a multiple of 4."""
    return max(CHUNK_BYTES_MIN, min(MAX_CHUNK_BYTES, -(-part_bytes // STEPS) // 4 * 4))
