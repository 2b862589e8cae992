"""A peer's TLS certificate as gRPC takes it, pinned by whoever calls the peer.

What a calling daemon needs, without a library for certificates: that alone takes megabytes (see `certificates`).
"""

from __future__ import annotations

import base64
import textwrap
from dataclasses import dataclass

import grpc

from ..errors import InvalidMessage

SERVER_NAME = "peer.gossamer.invalid"
"""The same in all certificates: the pin says who it is, not the name."""

CERTIFICATE_BYTES_MAX = 2048


@dataclass(frozen=True)
class Certificate:
    """DER, with the private key in PEM."""

    der: bytes
    private_key_pem: bytes


def server_credentials(certificate: Certificate) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials([(certificate.private_key_pem, pem_of(certificate.der))])


def pinned_credentials(der: bytes) -> grpc.ChannelCredentials:
    """Credentials that accept a server with exactly this certificate. Raises InvalidMessage."""
    return grpc.ssl_channel_credentials(root_certificates=pem_of(der))


def pem_of(der: bytes) -> bytes:
    """The certificate as text. Raises InvalidMessage for what is too long or no DER."""
    if len(der) > CERTIFICATE_BYTES_MAX:
        raise InvalidMessage(f"a contact's certificate has {len(der)} bytes: {CERTIFICATE_BYTES_MAX} are allowed")
    # A sequence of more than 255 bytes, as every certificate is: 30 82 and its length.
    if der[:2] != b"\x30\x82" or int.from_bytes(der[2:4], "big") != len(der) - 4:
        raise InvalidMessage("a contact's certificate cannot be read: its peer must publish it again")
    lines = textwrap.wrap(base64.b64encode(der).decode(), 64)
    return "\n".join(["-----BEGIN CERTIFICATE-----", *lines, "-----END CERTIFICATE-----", ""]).encode()
