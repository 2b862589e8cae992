"""The serving end of the data plane: TLS, sessions, then methods.

A request's path and metadata are all that is looked at before session and gate have said yes. One that is refused gets
a handler that never reads its body; one that is not gets bytes, which nothing here deserialises.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from functools import partial
from typing import Any
from urllib.parse import unquote

import grpc
import grpc.aio

from ...protocol.errors import GossamerError, NotAdmitted, PortInUse, UnknownMethod
from ...protocol.identity import PeerId
from ...protocol.transport.messages import (
    CALL_PREFIX,
    CODE_KEY,
    HELLO_PATH,
    SESSION_KEY,
    STREAM_PREFIX,
    TRANSPORT_BYTES_MAX,
)
from ...protocol.transport.session import Ends, Session, Sessions, challenge, check_proof, welcome
from ...protocol.transport.tls import Certificate, server_credentials
from .handlers import Admitted, MethodTable, close_iterator, failure_of

_HELLO_TIMEOUT_S = 10.0
_HELLOS_MAX = 64

_OPTIONS = (
    ("grpc.so_reuseport", 0),  # otherwise a taken port is shared silently
    ("grpc.max_receive_message_length", TRANSPORT_BYTES_MAX),
    ("grpc.max_send_message_length", TRANSPORT_BYTES_MAX),
    ("grpc.keepalive_permit_without_calls", 1),
    ("grpc.http2.min_recv_ping_interval_without_data_ms", 5_000),
)

Context = Any  # grpc.aio.ServicerContext, whose type parameters say nothing about raw bytes
Learn = Callable[[PeerId, bytes], None]


class GrpcServer(grpc.GenericRpcHandler):
    """Answers Hello, Call and Stream on one TLS port."""

    def __init__(self, table: MethodTable, ends: Ends, learn: Learn) -> None:
        """Args: learn: takes a proven caller's signed contact record; raises GossamerError if it is no good."""
        self._table = table
        self._ends = ends
        self._learn = learn
        self._sessions = Sessions(asyncio.get_running_loop().time)
        self._hellos = 0
        self._server: grpc.aio.Server | None = None

    async def start(self, host: str, port: int, certificate: Certificate) -> int:
        """Listen, and return the port. Raises PortInUse."""
        server = grpc.aio.server(handlers=(self,), options=_OPTIONS)
        place = f"[{host}]:{port}" if ":" in host else f"{host}:{port}"
        try:
            bound = server.add_secure_port(place, server_credentials(certificate))
        except RuntimeError as error:
            raise PortInUse(
                f"cannot listen on {place} ({str(error).splitlines()[0]}): stop what listens there or choose another "
                "gRPC port (0 takes any free one)"
            ) from None
        await server.start()
        self._server = server
        return bound

    async def close(self) -> None:
        """Stop listening and cancel the handlers under way."""
        if self._server is not None:
            await self._server.stop(None)
            self._server = None

    def service(self, handler_call_details: grpc.HandlerCallDetails) -> grpc.RpcMethodHandler[Any, Any]:
        path = handler_call_details.method
        if path == HELLO_PATH:
            return grpc.stream_stream_rpc_method_handler(self._hello)
        session = self._session(handler_call_details)
        if session is None:
            return _refusal(NotAdmitted("no session: prove who you are first"), grpc.StatusCode.UNAUTHENTICATED)
        try:
            if path.startswith(CALL_PREFIX):
                admitted = self._table.admit(session.peer, unquote(path[len(CALL_PREFIX) :]), streaming=False)
                return grpc.unary_unary_rpc_method_handler(partial(self._call, session, admitted))
            if path.startswith(STREAM_PREFIX):
                admitted = self._table.admit(session.peer, unquote(path[len(STREAM_PREFIX) :]), streaming=True)
                return grpc.stream_stream_rpc_method_handler(partial(self._stream, session, admitted))
            return _refusal(UnknownMethod("no such service here: do both run the same version?"))
        except GossamerError as error:
            return _refusal(error)

    def _session(self, details: grpc.HandlerCallDetails) -> Session | None:
        for key, value in details.invocation_metadata or ():
            if key == SESSION_KEY:
                return self._sessions.find(str(value))
        return None

    async def _hello(self, proofs: AsyncIterator[bytes], context: Context) -> None:
        if self._hellos >= _HELLOS_MAX:
            await context.abort(grpc.StatusCode.RESOURCE_EXHAUSTED, "too many handshakes at once: try again")
        self._hellos += 1
        try:
            async with asyncio.timeout(_HELLO_TIMEOUT_S):
                await self._greet(proofs, context)
        except GossamerError as error:
            await _abort(context, error.code, str(error), grpc.StatusCode.UNAUTHENTICATED)
        except TimeoutError:
            await context.abort(grpc.StatusCode.DEADLINE_EXCEEDED, "the handshake took too long")
        finally:
            self._hellos -= 1

    async def _greet(self, proofs: AsyncIterator[bytes], context: Context) -> None:
        nonce, message = challenge(self._ends.run_id)
        await context.write(message)
        async for proof in proofs:
            peer, contact = check_proof(proof, self._ends, nonce)
            if contact:
                self._learn(peer, contact)
            await context.write(welcome(self._sessions.open(peer, context.peer())))
            return

    async def _call(self, session: Session, admitted: Admitted, request: bytes, context: Context) -> bytes:
        await _check_connection(session, context)
        try:
            return await self._table.answer(admitted, request)
        except Exception as error:
            await _abort(context, *failure_of(error, admitted.served.method, admitted.peer))
            raise

    async def _stream(
        self, session: Session, admitted: Admitted, chunks: AsyncIterator[bytes], context: Context
    ) -> None:
        await _check_connection(session, context)
        answer = self._table.answer_stream(admitted, chunks)
        try:
            async for chunk in answer:
                if not await _write(context, chunk):
                    return
        except Exception as error:  # noqa: BLE001 - as above
            await _abort(context, *failure_of(error, admitted.served.method, admitted.peer))
        finally:
            await close_iterator(answer)


async def _write(context: Context, chunk: bytes) -> bool:
    """False if the caller is gone: then there is nobody to tell, and it is no fault of the handler's."""
    try:
        await context.write(chunk)
    except Exception:  # noqa: BLE001 - gRPC has no public name for what it raises of a call that is over
        return False
    return True


async def _check_connection(session: Session, context: Context) -> None:
    if context.peer() != session.connection:
        await _abort(
            context,
            NotAdmitted.code,
            "this session belongs to another connection: prove who you are again",
            grpc.StatusCode.UNAUTHENTICATED,
        )


async def _abort(
    context: Context, code: str, message: str, status: grpc.StatusCode = grpc.StatusCode.FAILED_PRECONDITION
) -> None:
    await context.abort(status, message, trailing_metadata=((CODE_KEY, code),))


def _refusal(
    error: GossamerError, status: grpc.StatusCode = grpc.StatusCode.FAILED_PRECONDITION
) -> grpc.RpcMethodHandler[Any, Any]:
    async def refuse(unread: AsyncIterator[bytes], context: Context) -> None:
        await _abort(context, error.code, str(error), status)

    handler: Callable[[AsyncIterator[bytes], Context], Awaitable[None]] = refuse
    return grpc.stream_stream_rpc_method_handler(handler)
