"""Calls and streams over libp2p, for peers that cannot be dialled and where gRPC cannot connect.

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

from ...protocol.errors import GossamerError, InvalidMessage
from ...protocol.identity import PeerId, parse_peer_id
from .frames import Kind, failure, opening, read_failure, read_frame, read_opening, write_frame
from .handlers import Admitted, MethodTable, close_iterator, failure_of, raised_by
from .p2pd import P2pd
from .progress import Progress

PROTOCOL = "/gossamer/1"
_OPENING_TIMEOUT_S = 10.0
_REQUEST_TIMEOUT_S = 60.0
_LINGER_S = 2.0
_STREAMS_MAX = 512
_BUFFER_BYTES = 1 << 20
_UNIX_PATH_MAX = 100

Pipe = tuple[asyncio.StreamReader, asyncio.StreamWriter]


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
            Path(self._path).unlink()

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if len(self._tasks) >= _STREAMS_MAX:
            writer.close()
            return
        task = asyncio.get_running_loop().create_task(self._serve(reader, writer))
        self._tasks[id(task)] = task
        task.add_done_callback(lambda done: self._tasks.pop(id(done), None))

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            peer, method, streaming = await _read_request(reader)
        except (GossamerError, TimeoutError, asyncio.IncompleteReadError, OSError):
            writer.close()  # nothing of ours: libp2p nonsense, or a caller that left at once
            return
        try:
            admitted = self._table.admit(peer, method, streaming=streaming)
            await (self._answer_stream if streaming else self._answer)(admitted, reader, writer)
        except Exception as error:  # noqa: BLE001 - whatever the handler raises goes to the caller, as its class
            await _send_failure(reader, writer, *failure_of(error, method, peer))
        finally:
            writer.close()

    async def _answer(self, admitted: Admitted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        async with asyncio.timeout(_REQUEST_TIMEOUT_S):
            request = await _read_message(reader)
        response = await _until_gone(reader, self._table.answer(admitted, request))
        if response is not None:
            await write_frame(writer, Kind.CHUNK, response)
            await _linger(reader)

    async def _answer_stream(
        self, admitted: Admitted, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        arriving = _Arriving(reader)
        answer = self._table.answer_stream(admitted, arriving.chunks())
        try:
            async with arriving:
                async for chunk in answer:
                    await write_frame(writer, Kind.CHUNK, chunk)
                await write_frame(writer, Kind.END)
                arriving.discard()
                await arriving.gone(_LINGER_S)
        finally:
            await close_iterator(answer)
