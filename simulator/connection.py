"""One direction of a connection between two hosts: its messages leave one after the other, as one flow."""

from __future__ import annotations

from collections import deque

from .costs import CostModel
from .flows import Flow, Flows
from .messages import Message
from .paths import Route


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

    __slots__ = ("_carriage", "_fed_bytes", "_head", "_is_callers", "_left", "_route", "_waiting")

    def __init__(self, carriage: Carriage, route: Route, message: Message, *, is_caller: bool) -> None:
        """Args:
        message: the first, which is sent at once.
        is_caller: it carries requests of the end that opened the connection; else the answers to such.
        """
        self.number, self.is_running, self.has_next = -1, False, False
        self._carriage = carriage
        self._route = route
        self._is_callers = is_caller
        self._left: Message | None = None
        """Has left, and its sender is about to be told."""
        self._waiting: deque[Message] | None = None
        self._fed_bytes = 0.0
        """Of the first that waits, if the flow goes on with it by itself; else 0."""
        if is_caller:
            route.requests = self
        else:
            route.answers = self
        self._begin(message)

    def put(self, message: Message) -> None:
        """Send a message when all before it have left."""
        if self._waiting:
            self._waiting.append(message)
        else:
            self._waiting = deque((message,))
            self._feed()

    def drop(self, message: Message) -> None:
        """A message is not wanted any more: what has not left of it never does."""
        waiting = self._waiting
        if message is not self._head:
            assert waiting
            is_next = waiting[0] is message
            waiting.remove(message)
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
        """Both halves in one, as nearly all messages have it."""
        message = self._head
        if self.is_running:
            self._go_on()
        else:
            self._begin_next()
        message.sender.has_left(message)  # type: ignore[union-attr]

    def move_on(self) -> None:
        message = self._left = self._head
        message.connection = None
        if self.is_running:
            self._go_on()
        else:
            self._begin_next()

    def tell(self) -> None:
        message, self._left = self._left, None
        if message is not None and message.sender is not None:  # else it died as others were told, just now
            message.sender.has_left(message)

    def _begin(self, message: Message) -> None:
        carriage, route, self._head = self._carriage, self._route, message
        n_bytes = self._line_bytes(message.n_bytes)
        carriage.n_bytes += n_bytes
        carriage.flows.run(self, route.links, n_bytes, route.path.bytes_per_s)
        if carriage.tells_beginnings:
            message.sender.begins(message)  # type: ignore[union-attr]

    def _line_bytes(self, n_bytes: int) -> float:
        """Of a message, headers and what is sent again included; as `CostModel.wire_bytes`."""
        carriage, loss = self._carriage, self._route.path.loss
        sent = n_bytes * carriage.byte_factor + carriage.message_bytes
        return sent / (1 - loss) if loss else sent

    def _begin_next(self) -> None:
        if self._waiting:
            self._begin(self._waiting.popleft())
            self._feed()
        elif self._is_callers:
            self._route.requests = None
        else:
            self._route.answers = None

    def _go_on(self) -> None:
        """The flow is at the next message by now."""
        assert self._waiting
        self._carriage.n_bytes += self._fed_bytes
        self._head = message = self._waiting.popleft()
        self._feed()
        if self._carriage.tells_beginnings:
            message.sender.begins(message)  # type: ignore[union-attr]

    def _feed(self) -> None:
        """Tell the flow what comes next: it then keeps its share of the lines, and nothing is to be shared out anew."""
        n_bytes = 0.0
        if self._waiting:
            n_bytes = self._line_bytes(self._waiting[0].n_bytes)
        if n_bytes or self._fed_bytes:
            self._fed_bytes = n_bytes
            self._carriage.flows.feed(self, n_bytes)
