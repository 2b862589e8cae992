"""How a peer joins the real network, and what it can say about its state."""

from __future__ import annotations

import ipaddress
import re
from dataclasses import dataclass
from pathlib import Path

from ...protocol.errors import UsageError
from .addresses import parse_address

_RUN_ID_LENGTH_MAX = 96
_PORT_MAX = 65535
_HOST = re.compile(r"[0-9A-Za-z][0-9A-Za-z.:-]{0,252}|::[0-9A-Fa-f:]*")
"""Names (RFC 1123) and addresses; those that are neither are for the resolver to find out."""


@dataclass(frozen=True, kw_only=True)
class NetworkConfig:
    """Validated when made; raises UsageError."""

    run_id: str
    """Prefix of every record, and part of what a session's proof signs."""
    identity_path: Path
    """The key file that `Identity.save` wrote; the libp2p daemon reads it too."""
    bootstrap: tuple[str, ...] = ()
    """libp2p multiaddrs with their /p2p/ suffix. May hold our own address and dead ones. Empty: the first peer."""
    listen_host: str = "127.0.0.1"
    """IP address to listen on; 0.0.0.0 for every interface."""
    p2p_port: int = 0
    """0: any free one."""
    grpc_port: int = 0
    """0: any free one."""
    announce_host: str | None = None
    """What others dial, where it is not `listen_host`: a public address or a DNS name."""
    dialable: bool = True
    """False: nobody can reach us; others come over the libp2p connections that we open and keep."""
    grpc: bool = True
    """False: serve no gRPC, so that all that others send comes over libp2p."""
    startup_timeout_s: float = 20.0
    """Longest wait for the libp2p daemon, and for a first answer of the bootstrap addresses."""
    contact_ttl_s: float = 300.0
    """How long our address outlives us in the DHT; it is published anew at a third of that."""

    def __post_init__(self) -> None:
        if not 0 < len(self.run_id) <= _RUN_ID_LENGTH_MAX:
            raise UsageError(f"a run id has 1..{_RUN_ID_LENGTH_MAX} characters, not {len(self.run_id)}")
        for name, port in (("p2p_port", self.p2p_port), ("grpc_port", self.grpc_port)):
            if not 0 <= port <= _PORT_MAX:
                raise UsageError(f"{name} is {port}: use 0..{_PORT_MAX} (0 takes any free port)")
        if self.startup_timeout_s <= 0 or self.contact_ttl_s < 1:
            raise UsageError("startup_timeout_s must be above 0 and contact_ttl_s at least 1")
        _check_ip(self.listen_host)
        if self.announce_host is not None and not _HOST.fullmatch(self.announce_host):
            raise UsageError(
                f"announce_host {self.announce_host!r} is no address: give an IP address or a name, as my.host.example"
            )
        for text in self.bootstrap:
            parse_address(text)

    @property
    def serves_grpc(self) -> bool:
        return self.dialable and self.grpc


@dataclass(frozen=True, kw_only=True)
class BootstrapState:
    """What became of one bootstrap address."""

    address: str
    answered: bool
    """Whether the last attempt found a DHT node there."""
    error: str
    """Why not; empty when it answered."""


@dataclass(frozen=True, kw_only=True)
class NetworkHealth:
    """One look at the real network, for `status` and `doctor`."""

    p2pd_alive: bool
    p2pd_pid: int | None
    p2pd_restarts: int
    """How often the libp2p daemon died by itself and was started anew."""
    dht_neighbours: int
    connected_peers: int
    """libp2p connections, whoever opened them."""
    bootstrap: tuple[BootstrapState, ...]
    grpc_address: str | None
    """host:port that others dial; None when we serve none."""
    addresses: tuple[str, ...]
    """Our own libp2p multiaddrs."""


def _check_ip(host: str) -> None:
    try:
        ipaddress.ip_address(host)
    except ValueError:
        raise UsageError(f"listen_host {host!r} is not an IP address: names belong in announce_host") from None
