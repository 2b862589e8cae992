"""Making and checking certificates.

gRPC refuses Ed25519 certificates, so a peer's has a key of its own (ECDSA P-256). What ties it to the peer is that the
peer's signed contact record holds it: a caller trusts this certificate and no other. A gateway's certificate outlives
its process; it carries the gateway's own signature over its key, so that devices can go over to a new one.
"""

from __future__ import annotations

import datetime
import os
from pathlib import Path

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from ..errors import InvalidMessage, StateError
from ..identity import Identity, PeerId, verify
from .tls import SERVER_NAME, Certificate, pem_of

VOUCHER_DOMAIN = "certificate"
_VOUCHER = x509.ObjectIdentifier("2.25.93210734011237654210987")
_CLOCK_SKEW = datetime.timedelta(days=2)
_VALID = datetime.timedelta(days=3650)


def create_certificate(voucher: Identity | None = None) -> Certificate:
    """A fresh self-signed certificate.

    Args:
        voucher: signs its key, for `check_vouched`.
    """
    key = ec.generate_private_key(ec.SECP256R1())
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, SERVER_NAME)])
    now = datetime.datetime.now(datetime.UTC)
    builder = (
        x509.CertificateBuilder()
        .subject_name(name)
        .issuer_name(name)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - _CLOCK_SKEW)
        .not_valid_after(now + _VALID)
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(SERVER_NAME)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
    )
    if voucher is not None:
        extension = x509.UnrecognizedExtension(_VOUCHER, voucher.sign(VOUCHER_DOMAIN, _spki(key.public_key())))
        builder = builder.add_extension(extension, critical=False)
    certificate = builder.sign(key, hashes.SHA256())
    pem = key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    return Certificate(certificate.public_bytes(serialization.Encoding.DER), pem)


def check_vouched(der: bytes, peer: PeerId) -> None:
    """Raise BadSignature unless `peer` signed this certificate's key; InvalidMessage if it says nothing of the kind."""
    try:
        certificate = x509.load_der_x509_certificate(der)
        extension = certificate.extensions.get_extension_for_oid(_VOUCHER).value
        key = certificate.public_key()
    except (ValueError, x509.ExtensionNotFound):
        raise InvalidMessage(f"a certificate that {peer} has not signed: is something between you and it?") from None
    if not isinstance(extension, x509.UnrecognizedExtension) or not isinstance(key, ec.EllipticCurvePublicKey):
        raise InvalidMessage(f"a certificate that {peer} has not signed: is something between you and it?")
    verify(peer, VOUCHER_DOMAIN, _spki(key), extension.value)


def kept_certificate(folder: Path, voucher: Identity) -> Certificate:
    """The certificate that is kept in a folder, made if there is none. Raises StateError."""
    path = folder / "certificate.pem"
    if not path.exists():
        renew_certificate(folder, voucher)
    try:
        key_part, _, rest = path.read_bytes().partition(b"-----END PRIVATE KEY-----\n")
        key_pem = key_part + b"-----END PRIVATE KEY-----\n"
        serialization.load_pem_private_key(key_pem, password=None)
        der = x509.load_pem_x509_certificate(rest).public_bytes(serialization.Encoding.DER)
    except (ValueError, OSError) as error:
        raise StateError(f"{path} cannot be used ({error}): restore it, or remove it to have a new one made") from None
    return Certificate(der, key_pem)


def renew_certificate(folder: Path, voucher: Identity) -> Certificate:
    """Put a new certificate in place of the one that is kept. Devices go over to it by themselves."""
    made = create_certificate(voucher)
    folder.mkdir(parents=True, exist_ok=True)
    temporary = folder / "certificate.pem.new"
    descriptor = os.open(temporary, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600)
    with os.fdopen(descriptor, "wb") as file:
        file.write(made.private_key_pem + pem_of(made.der))
        file.flush()
        os.fsync(file.fileno())
    temporary.replace(folder / "certificate.pem")
    return made


def _spki(key: ec.EllipticCurvePublicKey) -> bytes:
    return key.public_bytes(serialization.Encoding.DER, serialization.PublicFormat.SubjectPublicKeyInfo)
