"""One direction of a connection between two hosts: its messages leave one after the other, as one flow."""

from __future__ import annotations

from collections import deque
from typing import Protocol

from .costs import CostModel
from .flows import Flow, Flows
from .paths import Route


class Sender(Protocol):
    """An end of a session, which has one message at a time to send."""

    def weight(self) -> int:
        """Bytes of that message."""

    def begins(self) -> None:
        """Its first byte leaves."""

    def has_left(self) -> None:
        """Its last byte has left."""


class Carriage:
    """What all connections of a world have in common."""

    def __init__(self, flows: Flows, costs: CostModel) -> None:
        """Args: costs: what a message occupies on a line."""
        self.flows = flows
        self.n_bytes = 0.0
        """Put on lines so far, by messages that have begun to be sent."""
        self.byte_factor, self.message_bytes = 1 + costs.wire.byte_share, costs.wire.message_bytes
        self.tells_beginnings = costs.handling.byte_s > 0
        """Whether it matters to senders when their messages begin."""


class Connection(Flow):
    """As gRPC has it: a message is written whole before the next one (docs/design/0006-simulator.md).

    Lives from the first message until none is left; its route knows it meanwhile.
    """

    __slots__ = ("_carriage", "_fed_bytes", "_head", "_is_callers", "_route", "_waiting")

    def __init__(self, carriage: Carriage, route: Route, sender: Sender, n_bytes: int, *, is_caller: bool) -> None:
        """Args:
        sender, n_bytes: of the first message, which is sent at once.
        is_caller: it carries requests of the end that opened the connection; else the answers to such.
        """
        self.number, self.is_running, self.has_next = -1, False, False
        self._carriage = carriage
        self._route = route
        self._is_callers = is_caller
        self._waiting: deque[Sender] | None = None
        self._fed_bytes = 0.0
        """Of the first that waits, if the flow goes on with it by itself; else 0."""
        if is_caller:
            route.requests = self
        else:
            route.answers = self
        self._begin(sender, self._line_bytes(n_bytes))

    def put(self, sender: Sender) -> None:
        """Send a message when all before it have left."""
        if self._waiting:
            self._waiting.append(sender)
        else:
            self._waiting = deque((sender,))
            self._feed()

    def drop(self, sender: Sender) -> None:
        """A message is not wanted any more: what has not left of it never does."""
        waiting = self._waiting
        if sender is not self._head:
            assert waiting
            is_next = waiting[0] is sender
            waiting.remove(sender)
            if is_next:
                self._feed()
        elif self._fed_bytes:
            self._carriage.flows.skip(self)
            self._go_on()
        else:
            self._carriage.flows.stop(self)
            self._begin_next()

    def renew(self) -> None:
        """The path has changed: the next message begins as a flow of its own."""
        if self._fed_bytes:
            self._fed_bytes = 0.0
            self._carriage.flows.feed(self, 0.0)

    def over(self) -> None:
        sender = self._head
        if self.is_running:
            self._go_on()
        else:
            self._begin_next()
        sender.has_left()

    def _begin(self, sender: Sender, n_bytes: float) -> None:
        carriage, route, self._head = self._carriage, self._route, sender
        carriage.n_bytes += n_bytes
        carriage.flows.run(self, route.links, n_bytes, route.path.bytes_per_s)
        if carriage.tells_beginnings:
            sender.begins()

    def _line_bytes(self, n_bytes: int) -> float:
        """Of a message, headers and what is sent again included; as `CostModel.wire_bytes`."""
        carriage, loss = self._carriage, self._route.path.loss
        sent = n_bytes * carriage.byte_factor + carriage.message_bytes
        return sent / (1 - loss) if loss else sent

    def _begin_next(self) -> None:
        if self._waiting:
            sender = self._waiting.popleft()
            self._begin(sender, self._line_bytes(sender.weight()))
            self._feed()
        elif self._is_callers:
            self._route.requests = None
        else:
            self._route.answers = None

    def _go_on(self) -> None:
        """The flow is at the next message by now."""
        assert self._waiting
        self._carriage.n_bytes += self._fed_bytes
        self._head = sender = self._waiting.popleft()
        self._feed()
        if self._carriage.tells_beginnings:
            sender.begins()

    def _feed(self) -> None:
        """Tell the flow what comes next: it then keeps its share of the lines, and nothing is to be shared out anew."""
        n_bytes = 0.0
        if self._waiting:
            n_bytes = self._line_bytes(self._waiting[0].weight())
        if n_bytes or self._fed_bytes:
            self._fed_bytes = n_bytes
            self._carriage.flows.feed(self, n_bytes)
