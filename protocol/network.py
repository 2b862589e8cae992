"""All that a daemon knows of the outside world.

One interface, two worlds: `peer/network/` speaks hivemind, gRPC and libp2p; `simulator/` models a network on
virtual time. Daemons never touch sockets, threads or clocks themselves: time is the running event loop's.
Every implementation passes `tests/contract`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections import Counter
from collections.abc import AsyncIterator, Awaitable, Callable
from dataclasses import dataclass, field
from typing import TypeVar

from .identity import PeerId

T = TypeVar("T")

MAX_MESSAGE_BYTES = 1 << 20
"""Longest request or answer of `Network.call`."""

MAX_CHUNK_BYTES = 1 << 20
"""Longest single chunk of `Network.stream`; a stream may have any number."""

MAX_PUBLIC_BYTES = 16 << 10
"""Longest message that a peer without admission may send."""

MAX_RECORD_BYTES = 64 << 10
"""Longest value of a published record."""

Handler = Callable[[PeerId, bytes], Awaitable[bytes]]
"""Answers one message. The peer id is proven; the bytes are not to be trusted."""

StreamHandler = Callable[[PeerId, AsyncIterator[bytes]], AsyncIterator[bytes]]
"""Answers a stream of chunks with a stream of chunks."""

Gate = Callable[[PeerId], bool]
"""Says whether a peer is admitted."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Record:
    """A published value whose signature was checked and which had not expired when it was looked up."""

    key: str
    signer: PeerId
    value: bytes
    expires_at_s: float
    """Unix time."""


@dataclass(frozen=True, kw_only=True)
class Cost:
    """What a piece of heavy maths costs; the simulator charges virtual time for it."""

    flops: float = 0.0
    memory_bytes: float = 0.0
    """Bytes read and written."""
    what: str = ""
    """Name of the work, by which a cost model may know better than these estimates."""


@dataclass
class Traffic:
    """Bytes that this peer sent and received, by method ("dht" for records). Names and envelopes included."""

    sent: Counter[str] = field(default_factory=Counter)
    received: Counter[str] = field(default_factory=Counter)


class Client(ABC):
    """Asks others, without being found by them: all that a device has of a network. Use `close` when done.

    Errors that cross the wire: a handler's `GossamerError` is raised at the caller as the same class with the
    handler's message, prefixed by the peer's id; any other exception of a handler is raised as `RemoteFailure`
    without its text. Cancelling a call or closing a stream's iterator early cancels the handler.
    """

    peer_id: PeerId
    traffic: Traffic

    @abstractmethod
    async def call(self, peer: PeerId, method: str, request: bytes, *, timeout_s: float) -> bytes:
        """Send one message and await its answer.

        Raises: PeerUnreachable, PeerTimeout, MessageTooLarge, NetworkClosed; NotAdmitted, UnknownMethod and
        whatever else the other side refused with. After PeerTimeout the message may have been served.
        """

    @abstractmethod
    def stream(
        self, peer: PeerId, method: str, chunks: AsyncIterator[bytes], *, timeout_s: float
    ) -> AsyncIterator[bytes]:
        """Send chunks and yield the answer's chunks, both ways at once, in order.

        Args:
            timeout_s: longest time without progress in either direction.
        Raises: as `call`.
        """

    @abstractmethod
    async def compute(self, work: Callable[[], T], cost: Cost) -> T:
        """Run heavy maths without blocking the loop. One piece at a time, in order of arrival."""

    @abstractmethod
    def unix_time_s(self) -> float:
        """Wall clock, for expiry dates and logs only; never for deadlines."""

    @abstractmethod
    async def close(self) -> None:
        """Stop, cancel what is under way, free every process and socket. Idempotent."""


class Server(ABC):
    """Answers others: a peer does, and so does a gateway towards its devices."""

    peer_id: PeerId
    traffic: Traffic

    @abstractmethod
    def serve(self, method: str, handler: Handler, *, public: bool = False) -> None:
        """Answer `method`. Unless `public`, callers that the gate refuses get `NotAdmitted` and
        nothing of what they sent is read. Serving a name twice is a programming error (ValueError)."""

    @abstractmethod
    def serve_stream(self, method: str, handler: StreamHandler, *, public: bool = False) -> None:
        """Answer `method` with a stream; otherwise as `serve`. Chunks arrive in order, with back-pressure."""

    @abstractmethod
    def set_gate(self, gate: Gate) -> None:
        """Decide who is admitted. Before the first call nobody is."""


class Network(Client, Server):
    """One peer's access to the others. Opened by its implementation; use `close` when done."""

    @abstractmethod
    async def publish(self, key: str, value: bytes, *, ttl_s: float) -> None:
        """Make a record findable under (key, my peer id), signed by me, until it expires.

        A later record of mine replaces an earlier one. Raises MessageTooLarge, InvalidMessage for a lifetime that is
        not above 0 or beyond `records.MAX_LIFETIME_S`, NetworkClosed.
        """

    @abstractmethod
    async def lookup(self, key: str) -> list[Record]:
        """The valid records under a key, one per signer, ordered by signer. A view: it may be stale or partial."""
