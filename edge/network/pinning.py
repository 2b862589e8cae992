"""Whom a device trusts: the gateway's own key from the token, and the certificate that key vouches for."""

from __future__ import annotations

import asyncio
import hashlib
from dataclasses import dataclass

from ...protocol.errors import BadSignature, PeerUnreachable, UsageError
from ...protocol.identity import PeerId
from ...protocol.transport.tls import SERVER_NAME


@dataclass(frozen=True, kw_only=True)
class Gateway:
    """Where the gateway is, who it is, and the certificate that it must show."""

    peer: PeerId
    run_id: str
    host: str
    port: int
    certificate: bytes
    """DER."""

    @property
    def target(self) -> str:
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_target(text: str) -> tuple[str, int]:
    """Host and port of HOST:PORT or [IPV6]:PORT. Raises UsageError."""
    host, colon, port = text.rpartition(":")
    host = host.removeprefix("[").removesuffix("]")
    if not colon or not host or not port.isdigit() or not 0 < int(port) < 1 << 16:
        raise UsageError(f"{text!r} is no gateway address: write HOST:PORT")
    return host, int(port)


async def fetch_certificate(host: str, port: int, *, timeout_s: float) -> bytes:
    """The certificate (DER) that whoever listens there shows. Nothing is believed of it yet.

    Raises: PeerUnreachable.
    """
    import ssl  # takes memory, and is seldom needed

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # what is fetched is compared with the pin by the caller
    context.set_alpn_protocols(["h2"])
    try:
        async with asyncio.timeout(timeout_s):
            _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=SERVER_NAME)
    except (OSError, TimeoutError) as error:
        reason = str(error) or f"no answer within {timeout_s:g} s"
        raise PeerUnreachable(f"no gateway answers at {host}:{port} ({reason}): is the address right?") from None
    try:
        der: bytes | None = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    finally:
        writer.transport.abort()
    if not der:
        raise PeerUnreachable(f"what listens at {host}:{port} shows no certificate: is the port the gateway's?")
    return der


async def pin_by_hash(host: str, port: int, *, expected_hash: bytes, gateway: PeerId, timeout_s: float) -> bytes:
    """The gateway's certificate, which must be the one that a token names or one that the gateway's key has signed.

    Raises: PeerUnreachable, BadSignature, InvalidMessage.
    """
    from ...protocol.transport.certificates import check_vouched  # takes memory, and is seldom needed

    der = await fetch_certificate(host, port, timeout_s=timeout_s)
    if hashlib.sha256(der).digest() != expected_hash:
        check_vouched(der, gateway)
    return der


async def follow_rotation(gateway: Gateway, *, timeout_s: float) -> Gateway | None:
    """The gateway with its new certificate, if it shows one that its key has signed; None if it shows the old one.

    Raises: PeerUnreachable, BadSignature, InvalidMessage.
    """
    der = await fetch_certificate(gateway.host, gateway.port, timeout_s=timeout_s)
    if der == gateway.certificate:
        return None
    from ...protocol.transport.certificates import check_vouched  # takes memory, and is seldom needed

    try:
        check_vouched(der, gateway.peer)
    except BadSignature:
        raise BadSignature(
            f"{gateway.target} shows a certificate that {gateway.peer} has not signed: is it still the same gateway?"
        ) from None
    return Gateway(peer=gateway.peer, run_id=gateway.run_id, host=gateway.host, port=gateway.port, certificate=der)
