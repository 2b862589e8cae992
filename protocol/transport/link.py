"""The calling end of the data plane: one TLS connection and one session to one peer."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any
from urllib.parse import quote

import grpc
import grpc.aio

from ..errors import MessageTooLarge, NetworkError, PeerUnreachable
from ..identity import Identity
from ..network import MAX_CHUNK_BYTES
from .messages import (
    CALL_PREFIX,
    CODE_KEY,
    HELLO_PATH,
    SESSION_KEY,
    STREAM_PREFIX,
    TRANSPORT_BYTES_MAX,
    raised_by,
)
from .progress import Progress
from .session import Ends, prove, read_welcome
from .tls import SERVER_NAME, pinned_credentials

_OPTIONS = (
    ("grpc.ssl_target_name_override", SERVER_NAME),
    ("grpc.enable_http_proxy", 0),
    ("grpc.use_local_subchannel_pool", 1),  # closing a link closes its connection
    ("grpc.enable_retries", 0),  # a message is sent once; who repeats it is the caller's decision
    ("grpc.max_receive_message_length", TRANSPORT_BYTES_MAX),
    ("grpc.max_send_message_length", TRANSPORT_BYTES_MAX),
    ("grpc.keepalive_timeout_ms", 10_000),
)
KEEPALIVE_S = 20.0
"""How soon a vanished peer is noticed while something is awaited from it."""
_RENEW_AFTER = 0.8
"""Share of a session's lifetime after which it is opened anew."""

Call = Any  # grpc.aio's call objects, whose type parameters say nothing about raw bytes


class SessionLost(NetworkError):
    """The server does not know our session: nothing was served, so prove and send again."""


class Link:
    """A connection to a peer whose certificate was pinned and to whom we have proven who we are."""

    def __init__(self, identity: Identity, ends: Ends, target: str, *, keepalive_s: float = KEEPALIVE_S) -> None:
        """Args: target: host:port to dial."""
        self.target = target
        self._identity = identity
        self._ends = ends
        credentials = pinned_credentials(ends.certificate)
        options = (*_OPTIONS, ("grpc.keepalive_time_ms", int(1000 * keepalive_s)))
        self._channel = grpc.aio.secure_channel(target, credentials, options=options)
        self._metadata: tuple[tuple[str, str], ...] = ()
        self._renew_at_s = 0.0
        self._calls: dict[str, Call] = {}
        self._streams: dict[str, Call] = {}

    @property
    def connected(self) -> bool:
        return self._channel.get_state() is grpc.ChannelConnectivity.READY

    @property
    def usable(self) -> bool:
        return self.connected and asyncio.get_running_loop().time() < self._renew_at_s

    async def open(self, contact_record: bytes, *, timeout_s: float) -> None:
        """Connect, if need be, and prove who we are. Raises PeerUnreachable, BadSignature, InvalidMessage."""
        try:
            async with asyncio.timeout(timeout_s):
                await self._hello(contact_record)
        except TimeoutError:
            raise PeerUnreachable(
                f"{self._ends.server} did not answer at {self.target} within {timeout_s:g} s: is it "
                "still running, and can it be dialled?"
            ) from None
        except grpc.aio.AioRpcError as error:
            raise self._mapped(error, "a handshake") from None

    async def close(self) -> None:
        await self._channel.close()

    async def call(self, method: str, request: bytes) -> bytes:
        """Send one message. Raises SessionLost, PeerUnreachable, and what the peer refused with."""
        try:
            response: bytes = await self._call_of(method)(request, metadata=self._metadata)
            return response
        except grpc.aio.AioRpcError as error:
            raise self._mapped(error, repr(method)) from None
        except asyncio.CancelledError:
            self._raise_unless_cancelled(method)
            raise

    async def stream(
        self, method: str, chunks: AsyncIterator[bytes], progress: Progress
    ) -> AsyncGenerator[bytes, None]:
        """Send chunks and yield the answer's; `progress` watches over both directions."""
        call = self._stream_of(method)(metadata=self._metadata)
        sender = asyncio.create_task(_send_all(call, chunks, progress))
        try:
            while (chunk := await self._next(call, sender, method, progress)) is not grpc.aio.EOF:
                _check_received(chunk, method)
                yield chunk
        finally:
            call.cancel()
            await _stop(sender)

    async def _hello(self, contact_record: bytes) -> None:
        call: Call = self._channel.stream_stream(HELLO_PATH)()
        try:
            challenged = await call.read()
            await call.write(prove(self._identity, self._ends, _some(challenged), contact_record))
            token, lifetime_s = read_welcome(_some(await call.read()))
        finally:
            call.cancel()
        self._metadata = ((SESSION_KEY, token),)
        self._renew_at_s = asyncio.get_running_loop().time() + _RENEW_AFTER * lifetime_s

    def _call_of(self, method: str) -> Call:
        if method not in self._calls:
            self._calls[method] = self._channel.unary_unary(CALL_PREFIX + quote(method, safe=""))
        return self._calls[method]

    def _stream_of(self, method: str) -> Call:
        if method not in self._streams:
            self._streams[method] = self._channel.stream_stream(STREAM_PREFIX + quote(method, safe=""))
        return self._streams[method]

    async def _next(self, call: Call, sender: asyncio.Task[None], method: str, progress: Progress) -> Any:
        try:
            async with progress.watch():
                return await call.read()
        except grpc.aio.AioRpcError as error:
            raise self._mapped(error, repr(method)) from None
        except asyncio.CancelledError:
            _raise_error_of(sender)
            self._raise_unless_cancelled(method)
            raise

    def _mapped(self, error: grpc.aio.AioRpcError, what: str) -> Exception:
        peer, details = self._ends.server, (error.details() or "").splitlines() or [""]
        code = dict(error.trailing_metadata() or ()).get(CODE_KEY)
        if error.code() is grpc.StatusCode.UNAUTHENTICATED and self._metadata:
            return SessionLost(f"{peer} does not know our session any more: connect again")
        if isinstance(code, str):
            return raised_by(peer, code, error.details() or "")
        if error.code() is grpc.StatusCode.RESOURCE_EXHAUSTED:
            return MessageTooLarge(f"{peer} refused {what}: {details[0][:200]}")
        return PeerUnreachable(
            f"the connection to {peer} at {self.target} failed during {what} ({error.code().name}: "
            f"{details[0][:200]}): is it still running?"
        )

    def _raise_unless_cancelled(self, method: str) -> None:
        """grpc reports a call that somebody else cancelled as if our own task had been."""
        task = asyncio.current_task()
        if task is not None and not task.cancelling():
            raise PeerUnreachable(f"the connection to {self._ends.server} was closed during {method!r}: call again")


def _some(message: Any) -> bytes:
    """A handshake's next message; empty, and so refused as nonsense, if the server has nothing more to say."""
    return b"" if message is grpc.aio.EOF else bytes(message)


async def _send_all(call: Call, chunks: AsyncIterator[bytes], progress: Progress) -> None:
    try:
        await call.wait_for_connection()
        async for chunk in chunks:
            # Not call.write: when the server ends the stream first, that puts an error of its own, without a reason,
            # in place of the status that the server sent.
            await call._cython_call.send_serialized_message(chunk)
            progress.made()
        await call.done_writing()
    except (grpc.aio.AioRpcError, grpc.aio.InternalError):
        return  # the call is over: whoever reads it says why
    except Exception:
        call.cancel()
        raise


async def _stop(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)


def _raise_error_of(sender: asyncio.Task[None]) -> None:
    """The local error, if any, for which a stream was given up."""
    if sender.done() and not sender.cancelled():
        error = sender.exception()
        if error is not None:
            raise error


def _check_received(chunk: bytes, method: str) -> None:
    if len(chunk) > MAX_CHUNK_BYTES:
        raise MessageTooLarge(f"a chunk of the answer to {method!r} has {len(chunk)} bytes: {MAX_CHUNK_BYTES} may come")
