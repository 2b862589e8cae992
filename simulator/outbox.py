"""The sending half of a port: its messages leave one after the other, travel, and arrive at the other end.

A message is an event, not a task: all that happens to it on its way are callbacks of the world's own.
"""

from __future__ import annotations

from asyncio import Future
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING

from ..protocol.errors import PeerUnreachable
from ..protocol.identity import PeerId
from .fabric import Endpoint, Fabric
from .messages import OPENING, Message
from .paths import Route
from .trace import checksum

if TYPE_CHECKING:
    from .port import Port

_SPACING_S = 2e-6
"""Messages of one session are not delivered in one instant."""

KEEPALIVE_S = 20.0
"""After this long a server gives up on a caller that vanished without a word."""

AHEAD_BYTES = 512 << 10
"""What a stream's sender may have sent that has not left yet, as gRPC and the kernel take it in before the line carries
it: 530,000 to 840,000 bytes by `benchmarks/one_connection.py`, lines of 100 and 10 Mbit/s."""


class Outbox:
    """What leaves one end of a session. A port sets all of it, at once, for there are two for each call."""

    __slots__ = (
        *("_behind", "_closed", "_error", "_fabric", "_inbox", "_is_parting", "_last_arrival_s", "_lost"),
        *("_outgoing", "_owner", "_progress_s", "_reader", "_route", "_sender", "_unsent_bytes"),
        *("far", "host", "is_caller", "method", "peer"),
    )

    host: str
    method: str
    is_caller: bool
    peer: PeerId
    """Who is at the other end."""
    far: Port
    _fabric: Fabric
    _route: Route | None
    """To the other end; None within a host, where nothing takes time."""
    _owner: Endpoint | None
    _inbox: deque[Message] | None
    _progress_s: float
    _last_arrival_s: float
    _outgoing: Message | None
    """The first that has not left."""
    _behind: deque[Message] | None
    """Those after it."""
    _unsent_bytes: int
    """Of all these."""
    _lost: bool
    _is_parting: bool
    _closed: bool
    _error: Exception | None
    _reader: Future[None] | None
    _sender: Future[None] | None

    def fail(self, error: Exception) -> None:
        """End the session at this end, with an error for whoever sends or receives."""
        raise NotImplementedError

    def _leave(self) -> bool:
        """Part from the other end. False if it has before."""
        raise NotImplementedError

    def begin(self, message: Message) -> None:
        """`send` what is no chunk, without waiting until it has left. Raises: what the session failed with."""
        if self._error is not None:
            raise self._error
        owner = self._owner
        assert owner is not None
        n_bytes = message.n_bytes = message.wire_bytes(self.method) * self._fabric.grains.get(self.method, 1)
        if owner.tamper is not None:
            message.payload = owner.tamper(self.method, message.payload)
        message.checksum = checksum(message.payload)
        owner.traffic.sent[self.method] += n_bytes
        message.sender = self
        self._unsent_bytes += n_bytes
        if self._outgoing is None:
            self._outgoing = message
        elif self._behind is None:
            self._behind = deque((message,))
        else:
            self._behind.append(message)
        if owner.thread is None:
            self._transfer(message)
        else:
            handling_s = self._fabric.costs.handling_s(n_bytes, is_chunk=message.is_chunk)
            owner.thread.do(handling_s, partial(self._transfer, message))

    def not_before(self, when_s: float) -> None:
        """Nothing that is sent from now on arrives sooner."""
        self._last_arrival_s = max(self._last_arrival_s, when_s)

    # ---------------------------------------------------------------------------------------------------- on the way

    def _transfer(self, message: Message) -> None:
        if message.sender is None:
            return  # it was given up while it waited for the thread
        route = self._route
        if route is None:
            self.has_left(message)
        else:
            self._fabric.wires.send(route, message, is_caller=self.is_caller)

    def begins(self, message: Message) -> None:
        """Its first byte leaves. The other end handles bytes as they come, not at the end."""
        if self._route is not None:
            self._later(self._route.path.latency_s, partial(self._take_in, message.n_bytes))

    def _take_in(self, n_bytes: int) -> None:
        if self._is_cut():
            return
        owner = self.far._owner or self._fabric.endpoints.get(self.peer)
        if owner is not None and owner.thread is not None and not owner.closed:
            owner.thread.do(n_bytes * self._fabric.costs.handling.byte_s, _nothing)

    def has_left(self, message: Message) -> None:
        """The last byte of the outgoing message has left."""
        message.sender = message.connection = None
        self._outgoing = self._behind.popleft() if self._behind else None
        self._unsent_bytes -= message.n_bytes
        loop = self._fabric.loop
        self._progress_s = loop.now_s
        loop.post(self._arrival_s(message.n_bytes), self._arrive, message)
        if self._sender is not None:
            if not self._is_far_ahead():
                wake(self._sender)
        elif self._is_parting and self._outgoing is None:
            self._leave()

    def _is_far_ahead(self) -> bool:
        """Whether a stream's sender has to wait. A grain makes chunks larger on the lines: it is ahead by as many."""
        return self._unsent_bytes > AHEAD_BYTES * self._fabric.grains.get(self.method, 1)

    def _stop_sending(self) -> None:
        if self._outgoing is None:
            return
        unsent = [self._outgoing, *(self._behind or ())]
        self._outgoing, self._behind, self._unsent_bytes = None, None, 0
        for message in reversed(unsent):
            connection, message.sender, message.connection = message.connection, None, None
            if connection is not None:
                connection.drop(message)

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

    def _arrive(self, message: Message) -> None:
        route = self._route
        if self._lost or (route is not None and route.is_cut):
            self._vanish()
            return
        if message.kind in OPENING and not self._connect():
            return
        owner = self.far._owner
        if owner is None or owner.thread is None:
            self._deliver(message)
        else:
            costs = self._fabric.costs
            n_bytes = 0 if self._route is not None else message.n_bytes  # else they were taken in as they came
            handling_s = costs.handling_s(n_bytes, is_chunk=message.is_chunk)
            if message.kind in OPENING:
                handling_s += costs.handling.request_s.get(self.method, 0.0)
            owner.thread.do(handling_s, partial(self._deliver, message))

    def _deliver(self, message: Message) -> None:
        far = self.far
        owner = far._owner
        if owner is None or owner.closed or far._closed:
            return
        now_s = self._fabric.loop.now_s
        self._fabric.trace.record(now_s, self.host, owner.host, self.method, message)
        owner.traffic.received[self.method] += message.n_bytes
        far._progress_s = now_s
        if message.kind in OPENING:
            owner.accept(far, message)
        else:
            if far._inbox is None:
                far._inbox = deque()
            far._inbox.append(message)
            wake(far._reader)

    # ------------------------------------------------------------------------------------------------------ failures

    def _vanish(self) -> None:
        """What a partition swallowed leaves a gap, so nothing that follows can be delivered either."""
        if not self._lost:
            self._lost = True
            if not self.far.is_caller:
                self._later(KEEPALIVE_S, self._reset_far)

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


def _nothing() -> None:
    """When bytes are taken in nothing happens yet."""


def wake(waiter: Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)
