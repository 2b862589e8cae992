"""A peer's TLS certificate: made when it starts, pinned by whoever calls it.

gRPC refuses Ed25519 certificates, so this one has a key of its own (ECDSA P-256). What ties it to the peer is that the
peer's signed contact record holds it: the client trusts this certificate and no other.
"""

from __future__ import annotations

import datetime
from dataclasses import dataclass

import grpc
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ..errors import InvalidMessage

SERVER_NAME = "peer.gossamer.invalid"
"""The same in all certificates: the pin says who it is, not the name."""

CERTIFICATE_BYTES_MAX = 2048
_CLOCK_SKEW = datetime.timedelta(days=2)
_VALID = datetime.timedelta(days=3650)


@dataclass(frozen=True)
class Certificate:
    """DER, with the private key in PEM; both live in memory only."""

    der: bytes
    private_key_pem: bytes


def create_certificate() -> Certificate:
    """A fresh self-signed certificate."""
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER_NAME)])
    now = datetime.datetime.now(datetime.UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Certificate(certificate.public_bytes(serialization.Encoding.DER), pem)


def server_credentials(certificate: Certificate) -> grpc.ServerCredentials:
    return grpc.ssl_server_credentials([(certificate.private_key_pem, _pem(certificate.der))])


def pinned_credentials(der: bytes) -> grpc.ChannelCredentials:
    """Credentials that accept a server with exactly this certificate. Raises InvalidMessage."""
    return grpc.ssl_channel_credentials(root_certificates=_pem(der))


def _pem(der: bytes) -> bytes:
    if len(der) > CERTIFICATE_BYTES_MAX:
        raise InvalidMessage(f"a contact's certificate has {len(der)} bytes: {CERTIFICATE_BYTES_MAX} are allowed")
    try:
        return x509.load_der_x509_certificate(der).public_bytes(serialization.Encoding.PEM)
    except ValueError:
        raise InvalidMessage("a contact's certificate cannot be read: its peer must publish it again") from None
