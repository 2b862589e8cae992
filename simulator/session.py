"""One request between two networks: a call, or a stream in both directions.

Each end has a `Port`. Messages from port to port are transferred one after the other, share the hosts' lines with
everything else, and arrive in order. A sender is at most `WINDOW_BYTES` ahead of what the other end has read.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Callable
from contextvars import Context
from dataclasses import dataclass, field
from typing import Protocol

from ..protocol.errors import NetworkClosed, PeerUnreachable
from ..protocol.identity import PeerId
from ..protocol.network import Traffic
from .sharing import Flow
from .trace import Trace
from .wires import Wires

WINDOW_BYTES = 4 << 20
CALL_OVERHEAD_BYTES = 64
CHUNK_OVERHEAD_BYTES = 16

KEEPALIVE_S = 20.0
"""After this long a server gives up on a caller that vanished without a word."""


class Kind(enum.Enum):
    CALL = "call"
    STREAM = "stream"
    ANSWER = "answer"
    CHUNK = "chunk"
    END = "end"
    FAIL = "fail"


@dataclass(frozen=True, kw_only=True)
class Message:
    kind: Kind
    payload: bytes = b""
    code: str = ""
    """The error's class, of a FAIL."""

    def wire_bytes(self, method: str) -> int:
        if self.kind in (Kind.CALL, Kind.STREAM, Kind.ANSWER, Kind.FAIL):
            return len(method) + len(self.code) + len(self.payload) + CALL_OVERHEAD_BYTES
        return len(self.payload) + CHUNK_OVERHEAD_BYTES


class Endpoint(Protocol):
    """What a session needs to know of the networks at its ends."""

    host: str
    peer_id: PeerId
    traffic: Traffic
    ports: dict[Port, None]
    closed: bool
    silent: bool
    """Closed without telling anybody."""

    def accept(self, port: Port, opening: Message) -> None:
        """A request has arrived."""


@dataclass(eq=False, kw_only=True)
class Fabric:
    """What all networks of a simulation share."""

    loop: asyncio.AbstractEventLoop
    wires: Wires
    trace: Trace
    endpoints: dict[PeerId, Endpoint] = field(default_factory=dict)
    """The latest network of every peer, open or not."""


def dial(fabric: Fabric, caller: Endpoint, target: Endpoint, method: str) -> Port:
    """The caller's port of a new session. Nothing is sent yet."""
    near = Port(fabric, caller.host, method, is_caller=True)
    far = Port(fabric, target.host, method, is_caller=False)
    near.peer, far.peer = target.peer_id, caller.peer_id
    near.far, far.far = far, near
    near.attach(caller)
    return near


class Port:
    """One end of a session."""

    peer: PeerId
    """Who is at the other end."""
    far: Port

    def __init__(self, fabric: Fabric, host: str, method: str, *, is_caller: bool) -> None:
        self.host = host
        self.method = method
        self.is_caller = is_caller
        self.progress_s = fabric.loop.time()
        """When something last moved in either direction."""
        self.on_failure: Callable[[], object] | None = None
        self._fabric = fabric
        self._owner: Endpoint | None = None
        self._inbox: deque[Message] = deque()
        self._travelling: deque[Message] = deque()
        self._unread_bytes = 0
        self._last_arrival_s = 0.0
        self._flow: Flow | None = None
        self._lost = False
        self._closed = False
        self._error: Exception | None = None
        self._waiting: list[asyncio.Future[None]] = []

    def attach(self, owner: Endpoint) -> None:
        self._owner = owner
        owner.ports[self] = None

    # ------------------------------------------------------------------------------------------------- for the owner

    async def send(self, message: Message) -> None:
        """Transfer a message once the other end has room; returns when the last byte has left.

        Raises: what the session failed with.
        """
        n_bytes = message.wire_bytes(self.method)
        while self._unread_bytes and self._unread_bytes + n_bytes > WINDOW_BYTES:
            await self._change()
        self._check()
        assert self._owner is not None
        self._owner.traffic.sent[self.method] += n_bytes
        self._unread_bytes += n_bytes
        await self._transfer(n_bytes)
        self._check()
        self.progress_s = self._fabric.loop.time()
        self._travelling.append(message)
        self._call_there(self._arrive, n_bytes)

    async def receive(self) -> Message:
        """The next message, in order. Raises what the session failed with, after what came before."""
        while not self._inbox:
            await self._change()
        message = self._inbox.popleft()
        if message.kind is Kind.CHUNK:
            n_bytes = message.wire_bytes(self.method)
            self._call_there(lambda: self.far.credit(n_bytes), 0)
        return message

    def fail(self, error: Exception) -> None:
        """End the session at this end, with an error for whoever sends or receives."""
        if self._closed or self._error is not None:
            return
        self._error = error
        if self._flow is not None and not self._flow.done.done():
            self._flow.done.set_result(None)
        self._wake()
        if self.on_failure is not None:
            self.on_failure()

    def close(self) -> None:
        """Part from the other end; if it has not done so itself, it sees a reset."""
        if self._leave() and not self.far._closed:
            self._call_there(self._reset_far, 0)

    def finish(self) -> None:
        """Part after the last message: the other end needs no other news."""
        self._leave()

    def sever(self, *, silent: bool) -> None:
        """The owner goes away; nothing that it still does leaves this port."""
        self.fail(NetworkClosed(f"this network closed during {self.method!r} with {self.peer}: open a new one"))
        if not silent:
            self.close()
        elif self._leave() and self.is_caller:
            self._fabric.loop.call_later(KEEPALIVE_S, self._reset_far)

    def _leave(self) -> bool:
        """False if it has left before."""
        if self._closed:
            return False
        self._closed = True
        if self._owner is not None:
            self._owner.ports.pop(self, None)
        return True

    # ---------------------------------------------------------------------------------------------- between the ends

    async def _transfer(self, n_bytes: int) -> None:
        flow = self._fabric.wires.start(self.host, self.far.host, n_bytes)
        if flow is None:
            return
        self._flow = flow
        try:
            await flow.done
        finally:
            self._fabric.wires.stop(flow)
            self._flow = None

    def _call_there(self, arrival: Callable[[], object], n_bytes: int) -> None:
        """Call when something that leaves now gets there; never before what left earlier."""
        now = self._fabric.loop.time()
        delay_s = self._fabric.wires.draw_delay_s(self.host, self.far.host, n_bytes)
        self._last_arrival_s = max(self._last_arrival_s, now + delay_s)
        self._fabric.loop.call_at(self._last_arrival_s, arrival, context=Context())

    def _arrive(self) -> None:
        message = self._travelling.popleft()
        if self._vanishes():
            return
        if message.kind in (Kind.CALL, Kind.STREAM) and not self._connect():
            return
        owner = self.far._owner
        if owner is None or owner.closed or self.far._closed:
            return
        self._fabric.trace.record(self._fabric.loop.time(), self.host, owner.host, self.method, message.payload)
        owner.traffic.received[self.method] += message.wire_bytes(self.method)
        self.far.progress_s = self._fabric.loop.time()
        if message.kind in (Kind.CALL, Kind.STREAM):
            owner.accept(self.far, message)
        else:
            self.far._inbox.append(message)
            self.far._wake()

    def _vanishes(self) -> bool:
        """What a partition swallowed leaves a gap, so nothing that follows can be delivered either."""
        if not self._lost and self._fabric.wires.is_cut(self.host, self.far.host):
            self._lost = True
            if not self.far.is_caller:
                self._fabric.loop.call_later(KEEPALIVE_S, self._reset_far)
        return self._lost

    def _connect(self) -> bool:
        """Meet whoever is at home where the request arrives."""
        there = self._fabric.endpoints[self.peer]
        if not there.closed:
            self.far.attach(there)
            return True
        if not there.silent:
            self.far._call_there(self.far._reset_far, 0)
        return False

    def _reset_far(self) -> None:
        """Runs when news of this end's departure get there."""
        wires = self._fabric.wires
        if wires.is_cut(self.host, self.far.host):
            if not self.far.is_caller:
                self._fabric.loop.call_later(KEEPALIVE_S, self._fail_far)
            return
        self._fail_far()

    def _fail_far(self) -> None:
        own = self.far.peer
        self.far.fail(PeerUnreachable(f"the connection to {own} failed during {self.method!r}: is it still running?"))

    def credit(self, n_bytes: int) -> None:
        """The other end has read so much."""
        if self._fabric.wires.is_cut(self.far.host, self.host):
            return
        self._unread_bytes -= n_bytes
        self.progress_s = self._fabric.loop.time()
        self._wake()

    # ------------------------------------------------------------------------------------------------------- waiting

    def _check(self) -> None:
        if self._error is not None:
            raise self._error

    async def _change(self) -> None:
        self._check()
        waiter: asyncio.Future[None] = self._fabric.loop.create_future()
        self._waiting.append(waiter)
        try:
            await waiter
        finally:
            if waiter in self._waiting:
                self._waiting.remove(waiter)

    def _wake(self) -> None:
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            if not waiter.done():
                waiter.set_result(None)
