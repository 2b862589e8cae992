"""One request between two networks: a call, or a stream in both directions.

Each end has a `Port`. Messages from port to port are transferred one after the other, share the hosts' lines with
everything else, and arrive in order. A sender is at most `WINDOW_BYTES` ahead of what the other end has read.
"""

from __future__ import annotations

import asyncio
import enum
from collections import deque
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from ..protocol.errors import NetworkClosed, PeerUnreachable
from ..protocol.identity import PeerId
from ..protocol.network import Traffic
from .cores import Thread
from .costs import NOTHING, CostModel
from .flows import Flow
from .loop import RESOLUTION_S, VirtualLoop
from .paths import Route
from .trace import Trace
from .wires import Wires

WINDOW_BYTES = 4 << 20
CALL_OVERHEAD_BYTES = 64
CHUNK_OVERHEAD_BYTES = 16

_SPACING_S = 2 * RESOLUTION_S

KEEPALIVE_S = 20.0
"""After this long a server gives up on a caller that vanished without a word."""


class Kind(enum.Enum):
    CALL = "call"
    STREAM = "stream"
    ANSWER = "answer"
    CHUNK = "chunk"
    END = "end"
    FAIL = "fail"


class Message:
    """One message of a session."""

    __slots__ = ("code", "kind", "n_bytes", "payload")

    def __init__(self, kind: Kind, payload: bytes = b"", *, code: str = "") -> None:
        """Args: code: the error's class, of a FAIL."""
        self.kind = kind
        self.payload = payload
        self.code = code
        self.n_bytes = 0
        """On the wire, once it has been sent."""

    def wire_bytes(self, method: str) -> int:
        if self.kind is Kind.CHUNK or self.kind is Kind.END:
            return len(self.payload) + CHUNK_OVERHEAD_BYTES
        return len(method) + len(self.code) + len(self.payload) + CALL_OVERHEAD_BYTES


Tamper = Callable[[str, bytes], bytes]
"""(method, payload) -> what a faulty machine sends in its place, of the same length."""


class Endpoint(Protocol):
    """What a session needs to know of the networks at its ends."""

    host: str
    peer_id: PeerId
    traffic: Traffic
    ports: dict[Port, None]
    closed: bool
    silent: bool
    """Closed without telling anybody."""
    tamper: Tamper | None
    thread: Thread | None
    """That of its event loop; None: what it does takes no time."""

    def accept(self, port: Port, opening: Message) -> None:
        """A request has arrived."""


@dataclass(eq=False, kw_only=True)
class Fabric:
    """What all networks of a simulation share."""

    loop: VirtualLoop
    wires: Wires
    trace: Trace
    costs: CostModel = NOTHING
    grains: Mapping[str, int] = field(default_factory=dict)
    """By method: bytes on the lines for each byte of its messages, of which only a part is held; default 1."""
    endpoints: dict[PeerId, Endpoint] = field(default_factory=dict)
    """The latest network of every peer, open or not."""


def dial(fabric: Fabric, caller: Endpoint, target: Endpoint, method: str) -> Port:
    """The caller's port of a new session. Nothing is sent yet. Raises PeerUnreachable if there is no way."""
    there, back = None, None
    if caller.host != target.host:
        there = fabric.wires.route(caller.host, target.host)
        back = fabric.wires.route(target.host, caller.host)
        if there.is_blocked:
            raise PeerUnreachable(
                f"{target.peer_id} is behind NAT, as we are; no hole can be punched and there is no relay"
            )
    near = Port(fabric, caller.host, method, route=there, is_caller=True)
    far = Port(fabric, target.host, method, route=back, is_caller=False)
    near.peer, far.peer = target.peer_id, caller.peer_id
    near.far, far.far = far, near
    near.attach(caller)
    if there is not None and back is not None and there.connect_s:
        near.delay(there.connect_s + there.path.latency_s)
        there.connect_s = back.connect_s = 0.0
    return near


class Port:
    """One end of a session."""

    __slots__ = (
        *("_closed", "_credits", "_error", "_fabric", "_flow", "_inbox", "_last_arrival_s", "_lost", "_owner"),
        *("_progress_s", "_reader", "_route", "_unread_bytes", "_writer"),
        *("far", "host", "is_caller", "method", "on_failure", "peer"),
    )

    peer: PeerId
    """Who is at the other end."""
    far: Port

    def __init__(self, fabric: Fabric, host: str, method: str, *, route: Route | None, is_caller: bool) -> None:
        """Args: route: to the other end; None within a host, where nothing takes time."""
        self.host = host
        self.method = method
        self.is_caller = is_caller
        self.on_failure: Callable[[], object] | None = None
        self._fabric = fabric
        self._route = route
        self._owner: Endpoint | None = None
        self._inbox: deque[Message] | None = None
        self._credits: deque[tuple[float, int]] | None = None
        self._unread_bytes = 0
        self._progress_s = fabric.loop.now_s
        self._last_arrival_s = 0.0
        self._flow: Flow | None = None
        self._lost = False
        self._closed = False
        self._error: Exception | None = None
        self._reader: asyncio.Future[None] | None = None
        self._writer: asyncio.Future[None] | None = None

    def attach(self, owner: Endpoint) -> None:
        self._owner = owner
        owner.ports[self] = None

    # ------------------------------------------------------------------------------------------------- for the owner

    async def send(self, message: Message) -> None:
        """Transfer a message once the other end has room; returns when the last byte has left. One at a time.

        Raises: what the session failed with.
        """
        held_bytes = message.wire_bytes(self.method)
        n_bytes = message.n_bytes = held_bytes * self._fabric.grains.get(self.method, 1)
        if self._unread_bytes and self._unread_bytes + held_bytes > WINDOW_BYTES:
            await self._room_for(held_bytes)
        if self._error is not None:
            raise self._error
        owner = self._owner
        assert owner is not None
        if owner.tamper is not None:
            message.payload = owner.tamper(self.method, message.payload)
        owner.traffic.sent[self.method] += n_bytes
        self._unread_bytes += held_bytes
        if owner.thread is not None:
            await self._handled(owner.thread, n_bytes)
        if self._route is not None:
            flow = self._flow = self._fabric.wires.start(self._route, n_bytes)
            try:
                await flow
            finally:
                self._flow = None
                if flow.is_running:
                    self._fabric.wires.stop(flow)
            if self._error is not None:
                raise self._error
        self._progress_s = self._fabric.loop.now_s
        self._fabric.loop.post(self._arrival_s(n_bytes), self._arrive, message)

    async def receive(self) -> Message:
        """The next message, in order. One at a time. Raises what the session failed with, after what came before."""
        while not self._inbox:
            if self._error is not None:
                raise self._error
            self._reader = self._fabric.loop.create_future()
            try:
                await self._reader
            finally:
                self._reader = None
        message = self._inbox.popleft()
        if message.kind is Kind.CHUNK:
            self._give_credit(message)
        return message

    def progress_s(self) -> float:
        """When something last moved in either direction."""
        self._take_credits()
        return self._progress_s

    def fail(self, error: Exception) -> None:
        """End the session at this end, with an error for whoever sends or receives."""
        if self._closed or self._error is not None:
            return
        self._error = error
        _wake(self._flow)
        _wake(self._reader)
        _wake(self._writer)
        if self.on_failure is not None:
            self.on_failure()

    def close(self) -> None:
        """Part from the other end; if it has not done so itself, it sees a reset."""
        if self._leave() and not self.far._closed:
            self._fabric.loop.post(self._arrival_s(0), self._reset_far)

    def finish(self) -> None:
        """Part after the last message: the other end needs no other news."""
        self._leave()

    def sever(self, *, silent: bool) -> None:
        """The owner goes away; nothing that it still does leaves this port."""
        self.fail(NetworkClosed(f"this network closed during {self.method!r} with {self.peer}: open a new one"))
        if not silent:
            self.close()
        elif self._leave() and self.is_caller:
            self._later(KEEPALIVE_S, self._reset_far)

    def delay(self, seconds: float) -> None:
        """Nothing that is sent from now on arrives sooner than so much later."""
        self._last_arrival_s = max(self._last_arrival_s, self._fabric.loop.now_s + seconds)

    def _leave(self) -> bool:
        """False if it has left before."""
        if self._closed:
            return False
        self._closed = True
        if self._owner is not None:
            self._owner.ports.pop(self, None)
        if self.far._closed:  # part for good, so that neither keeps the other's memory
            self.far.far = self.far = _NOWHERE
        return True

    # ---------------------------------------------------------------------------------------------- between the ends

    def _arrival_s(self, n_bytes: int) -> float:
        """When something that leaves now gets there; never before what left earlier, nor in the same instant."""
        arrival_s = self._fabric.loop.now_s
        if self._route is not None:
            arrival_s += self._route.draw_delay_s(n_bytes)
        earliest_s = self._last_arrival_s + _SPACING_S
        if arrival_s < earliest_s:
            arrival_s = earliest_s
        self._last_arrival_s = arrival_s
        return arrival_s

    async def _handled(self, thread: Thread, n_bytes: int) -> None:
        """Let the loop do what it takes to send; raises what the session failed with meanwhile."""
        done = self._fabric.loop.create_future()
        thread.do(self._fabric.costs.handling_s(n_bytes), partial(_wake, done))
        await done
        if self._error is not None:
            raise self._error

    def _arrive(self, message: Message) -> None:
        if self._vanishes():
            return
        if message.kind in _OPENING and not self._connect():
            return
        owner = self.far._owner
        if owner is None or owner.thread is None:
            self._deliver(message)
        else:
            owner.thread.do(self._fabric.costs.handling_s(message.n_bytes), partial(self._deliver, message))

    def _deliver(self, message: Message) -> None:
        opens, far = message.kind in _OPENING, self.far
        owner = far._owner
        if owner is None or owner.closed or far._closed:
            return
        now_s = self._fabric.loop.now_s
        self._fabric.trace.record(now_s, self.host, owner.host, self.method, message.payload)
        owner.traffic.received[self.method] += message.n_bytes
        far._progress_s = now_s
        if opens:
            owner.accept(far, message)
        else:
            if far._inbox is None:
                far._inbox = deque()
            far._inbox.append(message)
            _wake(far._reader)

    def _vanishes(self) -> bool:
        """What a partition swallowed leaves a gap, so nothing that follows can be delivered either."""
        if not self._lost and self._is_cut():
            self._lost = True
            if not self.far.is_caller:
                self._later(KEEPALIVE_S, self._reset_far)
        return self._lost

    def _is_cut(self) -> bool:
        return self._route is not None and self._route.is_cut

    def _connect(self) -> bool:
        """Meet whoever is at home where the request arrives."""
        there = self._fabric.endpoints[self.peer]
        if not there.closed:
            self.far.attach(there)
            return True
        if not there.silent:
            far = self.far
            self._fabric.loop.post(far._arrival_s(0), far._reset_far)
        return False

    def _reset_far(self) -> None:
        """Runs when news of this end's departure get there."""
        if self._is_cut():
            if not self.far.is_caller:
                self._later(KEEPALIVE_S, self._fail_far)
            return
        self._fail_far()

    def _fail_far(self) -> None:
        owner = self.far._owner
        if owner is None or owner.thread is None:
            self._failed_far()
        else:  # what arrived before comes first
            owner.thread.do(0.0, self._failed_far)

    def _failed_far(self) -> None:
        if self.far._closed:
            return
        own = self.far.peer
        self.far.fail(PeerUnreachable(f"the connection to {own} failed during {self.method!r}: is it still running?"))

    def _later(self, seconds: float, callback: Callable[[], object]) -> None:
        loop = self._fabric.loop
        loop.post(loop.now_s + seconds, callback)

    # ------------------------------------------------------------------------------------------------ flow control

    def _give_credit(self, message: Message) -> None:
        """Tell the sender that a chunk has been read. It looks when it needs to know; if it waits, it is woken."""
        arrival_s, sender = self._arrival_s(0), self.far
        if sender._closed:
            return
        if sender._credits is None:
            sender._credits = deque()
        sender._credits.append((arrival_s, message.wire_bytes(self.method)))
        if sender._writer is not None:
            self._fabric.loop.post(arrival_s, _wake_writer, sender)

    def _take_credits(self) -> None:
        """Count what the other end has read, as far as the news have arrived; a partition swallows news."""
        read, now_s = self._credits, self._fabric.loop.now_s
        way_back = self.far._route
        while read and read[0][0] <= now_s:
            arrived_s, n_bytes = read.popleft()
            if way_back is not None and way_back.was_cut(arrived_s):
                continue
            self._unread_bytes -= n_bytes
            self._progress_s = max(self._progress_s, arrived_s)

    async def _room_for(self, n_bytes: int) -> None:
        loop = self._fabric.loop
        self._take_credits()
        while self._unread_bytes and self._unread_bytes + n_bytes > WINDOW_BYTES:
            if self._error is not None:
                raise self._error
            self._writer = loop.create_future()
            for arrives_s, _ in self._credits or ():
                loop.post(arrives_s, _wake_writer, self)
            try:
                await self._writer
            finally:
                self._writer = None
            self._take_credits()


_OPENING = (Kind.CALL, Kind.STREAM)


class _Nowhere(Port):
    """What a port has at its other end once both have closed."""

    __slots__ = ()

    def __init__(self) -> None:
        self.is_caller, self._closed, self._owner, self._route = True, True, None, None


_NOWHERE = _Nowhere()


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


def _wake_writer(port: Port) -> None:
    _wake(port._writer)
