"""The libp2p daemon of this peer: a child process, started with our key, spoken to over unix sockets.

hivemind starts it and keeps the persistent connection that its DHT uses. Control requests are made here, on sockets
that are closed whatever happens.
"""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any

from hivemind.p2p import P2P, PeerID
from hivemind.p2p.p2p_daemon_bindings.utils import P2PDaemonError, read_pbmsg_safe, write_pbmsg
from hivemind.proto import p2pd_pb2
from hivemind.utils.logging import use_hivemind_log_handler
from hivemind.utils.multiaddr import Multiaddr

from ...protocol.errors import NetworkError, PeerUnreachable, UsageError
from ...protocol.identity import PeerId
from .addresses import Address, is_loopback, parse_address, transport_of

_IDLE_TIMEOUT_S = 10.0
_REQUEST_TIMEOUT_S = 5.0
_STOP_TIMEOUT_S = 3.0
_BUFFER_BYTES = 1 << 20


def silence_hivemind() -> None:
    """Keep hivemind's log, and its daemon's, off the terminal, unless HIVEMIND_LOGLEVEL asks for it."""
    if "HIVEMIND_LOGLEVEL" not in os.environ:
        use_hivemind_log_handler("nowhere")
        logging.getLogger("hivemind").setLevel(logging.CRITICAL + 1)


class P2pd:
    """One running daemon. It ends when we do, even by SIGKILL; `died` tells when it ends before."""

    def __init__(self, p2p: P2P) -> None:
        self.p2p = p2p
        self.pid: int = p2p._child.pid

    @classmethod
    async def start(
        cls, identity_path: Path, *, host: str, port: int, announce: str | None, listen: bool, timeout_s: float
    ) -> P2pd:
        """Args:
            port: must be given (not 0) when `announce` is.
            announce: what others dial instead of `host`.
            listen: False for a peer that nobody can dial.
        Raises: NetworkError.
        """
        silence_hivemind()
        places = {"host_maddrs": [transport_of(host, port)], "dht_mode": "server"} if listen else _CLIENT
        begun: list[P2P] = []
        try:
            p2p = await _remembering(begun).create(
                identity_path=str(identity_path),
                check_if_identity_free=False,  # it reads RSA keys only
                idle_timeout=_IDLE_TIMEOUT_S,
                startup_timeout=timeout_s,
                announce_maddrs=[transport_of(announce, port)] if announce and listen else None,
                auto_nat=not is_loopback(host),
                nat_port_map=listen and not is_loopback(host),
                use_relay=False,
                **places,
            )
        except (P2PDaemonError, OSError, asyncio.IncompleteReadError) as error:
            await _end(begun)
            raise NetworkError(
                f"the libp2p daemon did not start: {_first_line(error)}; `gossamer doctor` checks what it needs"
            ) from None
        except BaseException:
            await _end(begun)
            raise
        return cls(p2p)

    @property
    def alive(self) -> bool:
        return self.p2p._child.returncode is None

    async def died(self) -> int:
        """Wait until the process has ended, and return its exit status."""
        return int(await self.p2p._child.wait())

    async def addresses(self) -> list[Address]:
        """Where it listens, as far as it is TCP: the rest is of no use to us."""
        response = await self.request(p2pd_pb2.Request(type=p2pd_pb2.Request.IDENTIFY))
        peer = PeerID(response.identify.id).to_base58()
        found: list[Address] = []
        for raw in response.identify.addrs:
            with suppress(UsageError):
                found.append(parse_address(f"{Multiaddr(raw)}/p2p/{peer}"))
        return found

    async def connected(self) -> list[PeerId]:
        """Peers with a libp2p connection to us, whoever opened it, ordered."""
        response = await self.request(p2pd_pb2.Request(type=p2pd_pb2.Request.LIST_PEERS))
        return sorted(PeerId(PeerID(peer.id).to_base58()) for peer in response.peers)

    async def connect(self, address: Address) -> None:
        """Open a connection, unless there is one. Raises PeerUnreachable."""
        request = p2pd_pb2.ConnectRequest(
            peer=PeerID.from_base58(address.peer).to_bytes(), addrs=[Multiaddr(address.transport).to_bytes()]
        )
        await self.request(p2pd_pb2.Request(type=p2pd_pb2.Request.CONNECT, connect=request))

    async def serve_streams(self, protocol: str, socket_path: str) -> None:
        """Have incoming streams of `protocol` brought to a unix socket."""
        request = p2pd_pb2.StreamHandlerRequest(
            addr=Multiaddr(f"/unix{socket_path}").to_bytes(), proto=[protocol], balanced=False
        )
        await self.request(p2pd_pb2.Request(type=p2pd_pb2.Request.STREAM_HANDLER, streamHandler=request))

    async def open_stream(
        self, peer: PeerId, protocol: str, *, timeout_s: float
    ) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        """Open a stream over a connection, made now if the daemon knows where to. Raises PeerUnreachable."""
        opening = p2pd_pb2.StreamOpenRequest(peer=PeerID.from_base58(peer).to_bytes(), proto=[protocol])
        request = p2pd_pb2.Request(type=p2pd_pb2.Request.STREAM_OPEN, streamOpen=opening)
        async with self._socket() as (reader, writer, keep):
            await _ask(reader, writer, request, timeout_s)
            keep.append(True)
        return reader, writer

    async def request(self, request: Any) -> Any:
        """One control request. Raises PeerUnreachable."""
        async with self._socket() as (reader, writer, _):
            return await _ask(reader, writer, request, _REQUEST_TIMEOUT_S)

    async def stop(self) -> None:
        """End the process and wait for it."""
        self.fail_pending()
        await _end([self.p2p])

    def fail_pending(self) -> None:
        """Fail what hivemind still waits for: with the daemon gone no answer will come, and nothing tells it so."""
        control = self.p2p._client.control
        self.p2p._client.call_unary_handler = _refuse_call
        for task in list(control._handler_tasks.values()):
            task.cancel()
        for pending in list(control._pending_calls.values()):
            if not pending.done():
                pending.set_exception(P2PDaemonError("the libp2p daemon ended"))

    @asynccontextmanager
    async def _socket(self) -> AsyncIterator[tuple[asyncio.StreamReader, asyncio.StreamWriter, list[bool]]]:
        """A connection to the daemon, closed at the end unless something was put into the list."""
        path = self.p2p.daemon_listen_maddr["unix"]
        try:
            reader, writer = await asyncio.open_unix_connection(path, limit=_BUFFER_BYTES)
        except OSError as error:
            raise PeerUnreachable(f"our libp2p daemon is down ({_first_line(error)}): it is being restarted") from None
        keep: list[bool] = []
        try:
            yield reader, writer, keep
        finally:
            if not keep:
                writer.close()


_CLIENT = {"no_listen": True, "dht_mode": "client", "host_maddrs": None}


def _remembering(begun: list[P2P]) -> type[P2P]:
    """P2P, noting every instance: `create` does not clean up when it fails or is cancelled half-way."""

    class Remembered(P2P):  # type: ignore[misc]  # hivemind is untyped
        def __init__(self) -> None:
            super().__init__()
            begun.append(self)

    return Remembered


async def _end(begun: list[P2P]) -> None:
    """End daemons, started fully or not, and what hivemind left running for them."""
    for p2p in begun:
        child, tasks = p2p._child, [p2p._reader_task]
        if p2p._client is not None:
            tasks += [p2p._client.control._read_task, p2p._client.control._write_task]
        try:
            async with asyncio.timeout(_STOP_TIMEOUT_S):
                await p2p.shutdown()
        except TimeoutError:
            child.kill()
            await child.wait()
        await asyncio.gather(*(task for task in tasks if task is not None), return_exceptions=True)
        if child is not None:
            child._transport.close()


async def _ask(reader: asyncio.StreamReader, writer: asyncio.StreamWriter, request: Any, timeout_s: float) -> Any:
    response = p2pd_pb2.Response()
    try:
        async with asyncio.timeout(timeout_s):
            await write_pbmsg(writer, request)
            await read_pbmsg_safe(reader, response)
    except TimeoutError:
        raise PeerUnreachable(f"the libp2p daemon found nobody within {timeout_s:g} s") from None
    except (OSError, asyncio.IncompleteReadError):
        raise PeerUnreachable("our libp2p daemon went down: it is being restarted") from None
    if response.type == p2pd_pb2.Response.ERROR:
        raise PeerUnreachable(_last_reason(response.error.msg))
    return response


async def _refuse_call(peer: Any, name: str, data: bytes) -> bytes:
    raise P2PDaemonError("the libp2p daemon ended")


def _first_line(error: Exception) -> str:
    return (str(error) or repr(error)).splitlines()[0][:200]


def _last_reason(text: str) -> str:
    """libp2p's errors have one line a dial; the last has the reason."""
    lines = [line.strip(" *") for line in text.splitlines() if line.strip()]
    return lines[-1][:200] if lines else "no reason given"
