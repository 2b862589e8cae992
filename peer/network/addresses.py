"""libp2p multiaddrs: reading, writing, and finding out whether anybody listens there."""

from __future__ import annotations

import asyncio
import errno
import ipaddress
import socket
from dataclasses import dataclass

from ...protocol.errors import InvalidMessage, PortInUse, UsageError
from ...protocol.identity import PeerId, parse_peer_id

_HOST_KINDS = ("ip4", "ip6", "dns", "dns4", "dns6")


@dataclass(frozen=True)
class Address:
    """A place where a libp2p peer listens over TCP."""

    transport: str
    """The multiaddr without its /p2p/ suffix."""
    host: str
    port: int
    peer: PeerId

    def __str__(self) -> str:
        return f"{self.transport}/p2p/{self.peer}"


def parse_address(text: str) -> Address:
    """Read `/ip4/1.2.3.4/tcp/4001/p2p/12D3KooW...`. Raises UsageError."""
    parts = text.strip().split("/")
    if len(parts) != 7 or parts[0] or parts[1] not in _HOST_KINDS or parts[3] != "tcp" or parts[5] != "p2p":
        raise UsageError(f"{text[:120]!r} is no peer's address: expected /ip4/HOST/tcp/PORT/p2p/PEER_ID")
    if not parts[4].isdecimal() or not 0 < int(parts[4]) < 1 << 16:
        raise UsageError(f"{text[:120]!r} has the port {parts[4]!r}: expected 1..65535")
    try:
        if parts[1] in ("ip4", "ip6"):
            ipaddress.ip_address(parts[2])
        peer = parse_peer_id(parts[6])
    except (ValueError, InvalidMessage) as error:
        raise UsageError(f"{text[:120]!r} is no peer's address: {error}") from None
    return Address("/".join(parts[:5]), parts[2], int(parts[4]), peer)


def transport_of(host: str, port: int) -> str:
    """The multiaddr of a host name or IP address and a TCP port."""
    try:
        kind = f"ip{ipaddress.ip_address(host).version}"
    except ValueError:
        kind = "dns"
    return f"/{kind}/{host}/tcp/{port}"


def is_loopback(host: str) -> bool:
    return ipaddress.ip_address(host).is_loopback


def is_unspecified(host: str) -> bool:
    return ipaddress.ip_address(host).is_unspecified


async def knock(address: Address, *, timeout_s: float) -> str:
    """Whether a TCP connection can be made: empty, or why not, in a few words.

    Asked before libp2p dials, because a dial that fails makes the daemon refuse that address for seconds.
    """
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(address.host, address.port)
    except TimeoutError:
        return f"no answer within {timeout_s:g} s"
    except OSError as error:
        return _reason(error)
    writer.close()
    return ""


def check_port_free(host: str, port: int, *, option: str) -> None:
    """Raises PortInUse naming the option to change. Port 0 is always free."""
    if not port:
        return
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            raise PortInUse(
                f"cannot listen on {host}:{port}: {_reason(error)}; stop what listens there or choose another {option} "
                "(0 takes any free port)"
            ) from None


def free_port(host: str) -> int:
    """A TCP port that nobody listens on right now."""
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family, socket.SOCK_STREAM) as probe:
        probe.bind((host, 0))
        return int(probe.getsockname()[1])


def _reason(error: OSError) -> str:
    if isinstance(error, socket.gaierror):
        return "the host name is unknown"
    names = {errno.ECONNREFUSED: "connection refused", errno.EADDRINUSE: "the port is in use"}
    # asyncio joins the errors of several tries into one without a number.
    return names.get(error.errno or 0) or (error.strerror or str(error)).splitlines()[0][:120]
