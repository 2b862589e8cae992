"""Serving over libp2p, to peers that gRPC cannot connect with us.

Who is at the other end is libp2p's to prove: its connections are encrypted with the keys that peer ids are made of.
"""

from __future__ import annotations

import asyncio
import os
import tempfile
from collections.abc import AsyncIterator
from contextlib import suppress
from pathlib import Path

from hivemind.p2p import PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import read_pbmsg_safe
from hivemind.proto import p2pd_pb2

from ...protocol.errors import GossamerError, InvalidMessage, PeerUnreachable
from ...protocol.identity import PeerId, parse_peer_id
from .frames import Kind, failure, read_frame, read_opening, write_frame
from .handlers import Admitted, MethodTable, close_iterator, failure_of
from .p2pd import P2pd

PROTOCOL = "/gossamer/1"
_OPENING_TIMEOUT_S = 10.0
_LINGER_S = 2.0
_STREAMS_MAX = 512
_BUFFER_BYTES = 1 << 20


class StreamServer:
    """The unix socket to which the daemon brings incoming streams. It survives the daemon's restarts."""

    def __init__(self, table: MethodTable) -> None:
        self._table = table
        self._server: asyncio.Server | None = None
        self._tasks: dict[int, asyncio.Task[None]] = {}
        self._path = _socket_path()

    async def start(self) -> None:
        self._server = await asyncio.start_unix_server(self._accept, path=self._path, limit=_BUFFER_BYTES)

    async def register(self, p2pd: P2pd) -> None:
        """Have a (new) daemon bring streams here."""
        await p2pd.serve_streams(PROTOCOL, self._path)

    async def close(self) -> None:
        """Stop listening and cancel the handlers under way."""
        if self._server is None:
            return
        self._server.close()
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self._server.wait_closed()
        self._server = None
        with suppress(OSError):
            os.unlink(self._path)  # noqa: PTH108 - a pathlib call here is taken for blocking I/O

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= _STREAMS_MAX:
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks[id(task)] = task
        task.add_done_callback(lambda done: self._served(done, writer))

    def _served(self, task: asyncio.Task[None], writer: asyncio.StreamWriter) -> None:
        self._tasks.pop(id(task), None)
        writer.close()  # a task that was cancelled before its first step has not done so

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            peer, method, streaming = await _read_request(reader)
        except (GossamerError, TimeoutError, ValueError, asyncio.IncompleteReadError, OSError):
            writer.close()  # libp2p nonsense, or a caller that left at once: nobody to tell
            return
        arriving = Arriving(reader)
        try:
            admitted = self._table.admit(peer, method, streaming=streaming)
            arriving.start()
            await (self._answer_stream if streaming else self._answer)(admitted, arriving, writer)
        except Exception as error:  # noqa: BLE001 - whatever the handler raises goes to the caller, as its class
            with suppress(PeerUnreachable):
                await write_frame(writer, Kind.FAIL, failure(*failure_of(error, method, peer)))
        except asyncio.CancelledError:
            writer.close()
            await arriving.close()
            raise
        await _part(arriving, writer)

    async def _answer(self, admitted: Admitted, arriving: Arriving, writer: asyncio.StreamWriter) -> None:
        request = await arriving.message()
        response = await self._table.answer(admitted, request)
        await write_frame(writer, Kind.CHUNK, response)

    async def _answer_stream(self, admitted: Admitted, arriving: Arriving, writer: asyncio.StreamWriter) -> None:
        answer = self._table.answer_stream(admitted, arriving.chunks())
        try:
            async for chunk in answer:
                await write_frame(writer, Kind.CHUNK, chunk)
            await write_frame(writer, Kind.END)
        finally:
            await close_iterator(answer)


class Arriving:
    """The chunks of a request, read one ahead of the handler; when the caller leaves, the handler is cancelled."""

    def __init__(self, reader: asyncio.StreamReader) -> None:
        self._reader = reader
        self._handler = asyncio.current_task()
        self._queue: asyncio.Queue[bytes | GossamerError | None] = asyncio.Queue(1)
        self._pump: asyncio.Task[None] | None = None
        self._answered = False

    def start(self) -> None:
        """Begin to read: not before the caller was admitted."""
        self._pump = asyncio.create_task(self._run())

    async def message(self) -> bytes:
        """The single chunk of a call. Raises InvalidMessage."""
        async for chunk in self.chunks():
            return chunk
        raise InvalidMessage("a call without a message: does the other side run the same version?")

    async def chunks(self) -> AsyncIterator[bytes]:
        while (item := await self._queue.get()) is not None:
            if isinstance(item, GossamerError):
                raise item
            yield item

    async def drain(self) -> None:
        """Discard what still arrives until the caller, who has its answer, closes the stream.

        Closing with bytes unread would reset the stream and could lose the answer's last frame.
        """
        self._answered = True
        if self._pump is None:
            while await self._reader.read(_BUFFER_BYTES):
                pass
            return
        while not self._queue.empty():
            self._queue.get_nowait()
        await asyncio.shield(self._pump)

    async def close(self) -> None:
        self._answered = True
        if self._pump is not None:
            self._pump.cancel()
            await asyncio.gather(self._pump, return_exceptions=True)

    async def _run(self) -> None:
        try:
            await self._read_chunks()
            while await self._reader.read(_BUFFER_BYTES):
                pass  # nothing is due after the end; wait for the caller to close
        except (PeerUnreachable, OSError):
            pass
        except GossamerError as error:
            await self._queue.put(error)
            return
        if not self._answered and self._handler is not None:
            self._handler.cancel()

    async def _read_chunks(self) -> None:
        while True:
            kind, payload = await read_frame(self._reader)
            if kind not in (Kind.CHUNK, Kind.END):
                raise InvalidMessage(f"a request has a frame of kind {kind.name}: does the other side run our version?")
            if not self._answered:
                await self._queue.put(payload if kind is Kind.CHUNK else None)
            if kind is Kind.END:
                return


async def _read_request(reader: asyncio.StreamReader) -> tuple[PeerId, str, bool]:
    async with asyncio.timeout(_OPENING_TIMEOUT_S):
        info = p2pd_pb2.StreamInfo()
        await read_pbmsg_safe(reader, info)
        kind, payload = await read_frame(reader)
    if kind is not Kind.OPEN:
        raise InvalidMessage("a stream does not begin with its opening")
    method, streaming = read_opening(payload)
    return parse_peer_id(PeerID(info.peer).to_base58()), method, streaming


async def _part(arriving: Arriving, writer: asyncio.StreamWriter) -> None:
    """Let the caller take the last frame before the stream is closed."""
    try:
        async with asyncio.timeout(_LINGER_S):
            await arriving.drain()
    except (TimeoutError, OSError):
        pass
    finally:
        writer.close()
        await arriving.close()


def _socket_path() -> str:
    """A new name in the temporary folder, short enough for a unix socket; only its owner may connect."""
    name = f"gossamer-{os.getpid()}-{os.urandom(6).hex()}.sock"
    folder = tempfile.gettempdir()
    return str(Path(folder if len(folder) < 64 else "/tmp") / name)  # a socket's path must be short
