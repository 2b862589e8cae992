"""Answers of millions of weights: kept in a file, and sent in pieces on a stream of their own.

The gateway says where to begin, so what broke off goes on from there. A piece is read when the stream takes it: the
stream's own flow control sets the pace, and a piece at a time is in memory.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Iterable
from functools import partial
from pathlib import Path

from ..protocol.atomic import write_atomically
from ..protocol.devices import LONG_ANSWER, Submission
from ..protocol.edge_pb2 import LongAnswerWord, Receipt, Signed
from ..protocol.errors import InvalidMessage, StateError
from ..protocol.identity import PeerId
from ..protocol.network import MAX_CHUNK_BYTES, Client, Cost
from ..protocol.wire import parse

SILENCE_S = 60.0
"""Longest time in which no piece gets on its way; the gateway writes what it got to its disk meanwhile."""


class LongAnswers:
    """A folder of them, by the digests of their contents."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder

    def has(self, submission: Submission) -> bool:
        return self._path(submission).exists()

    def keep(self, submission: Submission, scalars: bytes | memoryview) -> None:
        """Put one on disk, so that it outlasts this process. Raises StateError, DiskFull.

        A loss of power may cost it, and with it a round's work: the disks of small devices are slow to sync, and wear.
        """
        self._folder.mkdir(mode=0o700, exist_ok=True)
        write_atomically(self._path(submission), scalars, mode=0o600, durable=False)

    def remove(self, submission: Submission) -> None:
        """It was answered for, or gives way."""
        if submission.is_long:
            self._path(submission).unlink(missing_ok=True)

    def keep_only(self, submissions: Iterable[Submission]) -> None:
        """Remove what a crash left behind."""
        kept = {self._path(submission) for submission in submissions if submission.is_long}
        for path in list(self._folder.glob("*")):
            if path not in kept:
                path.unlink(missing_ok=True)

    async def send(self, client: Client, gateway: PeerId, submission: Submission, signed: Signed) -> Receipt:
        """Offer one, and return what became of it. Raises as `Client.stream`, InvalidMessage, StateError."""
        wanted: asyncio.Future[int] = asyncio.get_running_loop().create_future()
        words = self._pieces(client, submission, signed, wanted)
        answer = client.stream(gateway, LONG_ANSWER, words, timeout_s=SILENCE_S)
        try:
            async for chunk in answer:
                word = parse(LongAnswerWord, chunk, bytes_max=1024, what="a word about a long answer")
                if word.HasField("receipt"):
                    return word.receipt
                if word.offset > submission.length or wanted.done():
                    raise InvalidMessage(f"{gateway} wants a long answer from byte {word.offset} on: discard it")
                wanted.set_result(word.offset)
        finally:
            wanted.cancel()
            if isinstance(answer, AsyncGenerator):
                await answer.aclose()
        raise InvalidMessage(f"{gateway} ended a long answer's stream without a word on what became of it")

    async def _pieces(
        self, client: Client, submission: Submission, signed: Signed, wanted: asyncio.Future[int]
    ) -> AsyncIterator[bytes]:
        yield signed.SerializeToString()
        at = await wanted
        while at < submission.length:
            piece = await client.compute(partial(_read, self._path(submission), at), Cost())
            yield piece
            at += len(piece)

    def _path(self, submission: Submission) -> Path:
        return self._folder / submission.digest.hex()


def _read(path: Path, at: int) -> bytes:
    try:
        with path.open("rb") as file:
            file.seek(at)
            piece = file.read(MAX_CHUNK_BYTES)
    except OSError as error:
        raise StateError(f"{path} cannot be read any more ({error.strerror}): its round is lost") from None
    if not piece:
        raise StateError(f"{path} is shorter than it was written: its round is lost")
    return piece
