"""What the ends of all sessions of a simulated world share, and what they know of the networks at either end."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, NamedTuple, Protocol

from ..protocol.identity import PeerId
from ..protocol.network import Traffic
from .cores import Thread
from .costs import NOTHING, CostModel
from .loop import VirtualLoop
from .messages import Message
from .trace import Trace
from .wires import Wires

if TYPE_CHECKING:
    from .port import Port

Tamper = Callable[[str, bytes], bytes]
"""(method, payload) -> what a faulty machine sends in its place, of the same length."""


class HandlerFailure(NamedTuple):
    """A handler of requests raised what is no GossamerError: a bug, of which its caller learns no more than that."""

    method: str
    host: str
    text: str
    """The end of its traceback."""


class Endpoint(Protocol):
    """What a session needs to know of the networks at its ends."""

    host: str
    peer_id: PeerId
    life: int
    """A number that no other network of this world has."""
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
    failures: list[HandlerFailure] = field(default_factory=list)
    endpoints: dict[PeerId, Endpoint] = field(default_factory=dict)
    """The latest network of every peer, open or not."""
    n_networks: int = 0
    """That there were so far."""

    def enter(self, endpoint: Endpoint) -> int:
        """A process has come up; its life's number."""
        self.n_networks += 1
        self.endpoints[endpoint.peer_id] = endpoint
        self.wires.relays.switch(endpoint.host, is_on=True)
        return self.n_networks
