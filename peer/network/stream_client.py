"""Calling over libp2p: one stream a request, on a connection that either side opened."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import suppress

from ...protocol.errors import GossamerError, InvalidMessage, PeerUnreachable
from ...protocol.identity import PeerId
from ...protocol.transport.messages import raised_by
from ...protocol.transport.progress import Progress
from .frames import Kind, opening, read_failure, read_frame, write_frame


class Pipe:
    """One open libp2p stream to a peer, for one request."""

    def __init__(self, peer: PeerId, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._peer = peer
        self._reader = reader
        self._writer = writer

    async def call(self, method: str, request: bytes) -> bytes:
        """Send one message. Raises PeerUnreachable, and what the peer refused with."""
        try:
            with suppress(PeerUnreachable):  # reading says why, and from whom
                await write_frame(self._writer, Kind.OPEN, opening(method, streaming=False))
                await write_frame(self._writer, Kind.CHUNK, request)
            response = await self._read(method)
        finally:
            self._writer.close()
        if response is None:
            raise InvalidMessage(f"{self._peer} ended its answer to {method!r} before it began")
        return response

    async def stream(
        self, method: str, chunks: AsyncIterator[bytes], progress: Progress
    ) -> AsyncGenerator[bytes, None]:
        """Send chunks and yield the answer's; `progress` watches over both directions."""
        sender = asyncio.create_task(self._send_all(method, chunks, progress))
        try:
            while (chunk := await self._next(method, sender, progress)) is not None:
                yield chunk
        finally:
            self._writer.close()
            sender.cancel()
            await asyncio.gather(sender, return_exceptions=True)

    async def _send_all(self, method: str, chunks: AsyncIterator[bytes], progress: Progress) -> None:
        try:
            await write_frame(self._writer, Kind.OPEN, opening(method, streaming=True))
            async for chunk in chunks:
                await write_frame(self._writer, Kind.CHUNK, chunk)
                progress.made()
            await write_frame(self._writer, Kind.END)
        except PeerUnreachable:
            return  # whoever reads the answer sees it too, and says why
        except Exception:
            self._writer.close()  # wakes the reader, who raises this error
            raise

    async def _next(self, method: str, sender: asyncio.Task[None], progress: Progress) -> bytes | None:
        try:
            async with progress.watch():
                return await self._read(method)
        except GossamerError:
            if sender.done() and not sender.cancelled() and (error := sender.exception()) is not None:
                raise error from None
            raise

    async def _read(self, method: str) -> bytes | None:
        """The next chunk of the answer; None at its end."""
        try:
            kind, payload = await read_frame(self._reader)
        except PeerUnreachable as error:
            raise PeerUnreachable(
                f"the connection to {self._peer} failed during {method!r}: {error}; is it still running?"
            ) from None
        if kind is Kind.FAIL:
            raise raised_by(self._peer, *read_failure(payload))
        if kind is Kind.OPEN:
            raise InvalidMessage(f"{self._peer} answered {method!r} with an opening: does it run the same version?")
        return payload if kind is Kind.CHUNK else None
