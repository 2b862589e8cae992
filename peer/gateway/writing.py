"""Entries on their way to the journal: what comes while the disk is busy is written together."""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path

from ...protocol.edge_pb2 import JournalEntry
from ...protocol.errors import StateError
from ...protocol.network import Cost, Network
from .journal import Journal, Keep


class JournalWriter:
    """The journal of one life of a gateway.

    Args:
        before: makes durable what entries speak of; called before each write. Raises OSError.
    """

    def __init__(self, path: Path, network: Network, before: Callable[[], None]) -> None:
        """Raises StateError if it cannot be read."""
        self._journal, self._network, self._before = Journal(path), network, before
        self._unwritten: list[tuple[Sequence[JournalEntry], asyncio.Future[None]]] = []
        self._flushing: asyncio.Task[None] | None = None

    @property
    def size_bytes(self) -> int:
        return self._journal.size_bytes

    def entries(self) -> Iterator[JournalEntry]:
        """What is there, one by one."""
        return self._journal.entries()

    async def write(self, entries: Sequence[JournalEntry]) -> None:
        """Put entries on disk, together with what others want written meanwhile. Raises StateError, NetworkClosed."""
        done: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        self._unwritten.append((entries, done))
        if self._flushing is None or self._flushing.done():
            # A task of its own: whoever asked first may leave before the others' entries are written.
            self._flushing = asyncio.create_task(self._flush(), name="the gateway's journal")
        await done

    async def compact(self, keep: Keep) -> None:
        """Rewrite the journal with only what is still of use. Raises StateError."""
        await self._network.compute(lambda: self._journal.compact(keep), Cost())

    async def close(self) -> None:
        """End what is being written, and close the file."""
        if self._flushing is not None:
            await asyncio.gather(self._flushing, return_exceptions=True)
        self.abandon()

    def abandon(self) -> None:
        """Close the file as it is, like a kernel that cleans up after a process."""
        self._journal.close()

    async def _flush(self) -> None:
        while self._unwritten:
            await self._write_all()

    async def _write_all(self) -> None:
        batch, self._unwritten = self._unwritten, []
        entries = [entry for some, _ in batch for entry in some]
        failure: Exception | None = None
        try:
            await self._network.compute(lambda: self._append(entries), Cost())
        except OSError as error:
            failure = StateError(f"the gateway's journal cannot be written ({error.strerror}): make room on its disk")
        except Exception as error:  # noqa: BLE001 - whatever it is, those who wait must hear of it
            failure = error
        for _, done in batch:
            if done.done():
                continue
            if failure is not None:
                done.set_exception(failure)
            else:
                done.set_result(None)

    def _append(self, entries: Sequence[JournalEntry]) -> None:
        self._before()
        self._journal.append(entries)
