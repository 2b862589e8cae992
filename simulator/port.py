"""One end of a session: sends, receives, fails and parts."""

from __future__ import annotations

from asyncio import Future
from collections.abc import Callable

from ..protocol.errors import NetworkClosed
from .fabric import Endpoint, Fabric
from .messages import CHUNK, Message
from .outbox import AHEAD_BYTES, KEEPALIVE_S, Outbox, wake
from .paths import Route
from .window import Window


class Port(Outbox):
    """One end of a session."""

    __slots__ = ("_window", "on_failure")

    def __init__(self, fabric: Fabric, host: str, method: str, *, route: Route | None, is_caller: bool) -> None:
        """Args: route: to the other end; None within a host, where nothing takes time."""
        self.host = host
        self.method = method
        self.is_caller = is_caller
        self.on_failure: Callable[[], object] | None = None
        self._fabric = fabric
        self._route = route
        self._owner = None
        self._inbox = None
        self._progress_s = fabric.loop.now_s
        self._last_arrival_s = 0.0
        self._outgoing = None
        self._behind = None
        self._unsent_bytes = 0
        self._lost = False
        self._is_parting = False
        self._closed = False
        self._error = None
        self._reader = None
        self._sender = None
        self._window: Window | None = None

    def attach(self, owner: Endpoint) -> None:
        self._owner = owner
        owner.ports[self] = None

    async def send(self, message: Message) -> None:
        """Send a message after those before it, a chunk only once the other end has room; returns when no more than
        AHEAD_BYTES are left to be sent. One at a time. Raises: what the session failed with.
        """
        if message.kind is CHUNK:
            window = self._window
            if window is None:
                window = self._window = Window(self._fabric.loop, self.far._route)
            n_bytes = message.wire_bytes(self.method)
            while not window.count(n_bytes):
                if self._error is not None:
                    raise self._error
                await window.wait()
        self.begin(message)
        if self._unsent_bytes > AHEAD_BYTES and self._is_far_ahead():
            self._sender = Future(loop=self._fabric.loop)
            try:
                await self._sender
            finally:
                self._sender = None
        if self._error is not None:
            raise self._error

    async def receive(self) -> Message:
        """The next message, in order. One at a time. Raises what the session failed with, after what came before."""
        while not self._inbox:
            if self._error is not None:
                raise self._error
            self._reader = Future(loop=self._fabric.loop)
            try:
                await self._reader
            finally:
                self._reader = None
        message = self._inbox.popleft()
        if message.kind is CHUNK:
            window = self.far._window
            if window is not None and not self.far._closed:
                window.was_read(message.wire_bytes(self.method))
        return message

    def progress_s(self) -> float:
        """When something last moved in either direction."""
        if self._window is not None:
            self._window.take_news()
            self._progress_s = max(self._progress_s, self._window.progress_s)
        return self._progress_s

    @property
    def has_failed(self) -> bool:
        return self._error is not None

    def fail(self, error: Exception) -> None:
        """End the session at this end, with an error for whoever sends or receives."""
        if self._closed or self._error is not None:
            return
        self._error = error
        self._stop_sending()
        wake(self._sender)
        wake(self._reader)
        if self._window is not None:
            self._window.wake()
        if self.on_failure is not None:
            self.on_failure()
        if self._is_parting:
            self.close()

    def close(self) -> None:
        """Part from the other end; if it has not done so itself, it sees a reset."""
        if self._is_parting and self._error is None:
            return
        self._stop_sending()
        if self._leave() and not self.far._closed:
            self._fabric.loop.post(self._arrival_s(0), self._reset_far)

    def finish(self) -> None:
        """Part when the last message has left: the other end needs no other news."""
        if self._outgoing is None:
            self._leave()
        else:
            self._is_parting, self.on_failure = True, None

    def sever(self, *, silent: bool) -> None:
        """The owner goes away; nothing that it still does leaves this port."""
        self._is_parting = False
        self.fail(NetworkClosed(f"this network closed during {self.method!r} with {self.peer}: open a new one"))
        if not silent:
            self.close()
        elif self._leave() and self.is_caller:
            self._later(KEEPALIVE_S, self._reset_far)

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


class _Nowhere(Port):
    """What a port has at its other end once both have closed."""

    __slots__ = ()

    def __init__(self) -> None:
        self.is_caller, self._closed, self._owner, self._route, self._window = True, True, None, None, None


_NOWHERE = _Nowhere()
