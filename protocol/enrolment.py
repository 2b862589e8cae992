"""Enrolment tokens: one line of text with which one device is enrolled at one gateway, once.

As with invites, the token's secret is the seed of an Ed25519 key: the device proves that it has the secret by signing
its own id with that key, and the gateway keeps only the public half. The line also carries the gateway's own key and
the hash of its certificate, so that the device knows whom it talks to from the first byte on.

    line = "gossamer-edge1:" + base64url(body | first 4 bytes of SHA-256(body))
"""

from __future__ import annotations

import base64
import binascii
import hashlib
from dataclasses import dataclass, field

from .edge_pb2 import EnrolmentRequest, RotationRequest, TokenBody
from .errors import InvalidMessage, UsageError
from .identity import Identity, PeerId, parse_peer_id, peer_id_of, public_key_of, verify
from .wire import parse

PREFIX = "gossamer-edge1:"
ENROLMENT_DOMAIN = "enrolment"
ROTATION_DOMAIN = "rotation"
SECRET_BYTES = 32
HASH_BYTES = 32
RUN_ID_BYTES = 16
REQUEST_BYTES_MAX = 512

_CHECKSUM_BYTES = 4
_LINE_CHARS_MAX = 400


@dataclass(frozen=True, kw_only=True)
class Token:
    """All that a device needs, besides the gateway's address. Whoever holds the line can enrol: treat it as a secret.

    Raises: InvalidMessage.
    """

    run_id: str
    """32 hex digits."""
    gateway: PeerId
    certificate_hash: bytes
    """SHA-256 of the gateway's certificate (DER)."""
    secret: bytes = field(repr=False)
    """32 random bytes, used for this token only."""

    def __post_init__(self) -> None:
        lengths = (len(self.secret), len(self.certificate_hash), len(self.run_id))
        if lengths != (SECRET_BYTES, HASH_BYTES, 2 * RUN_ID_BYTES):
            raise InvalidMessage("an enrolment token with fields of the wrong length: ask the gateway's owner for one")
        parse_peer_id(self.gateway)

    @property
    def name(self) -> PeerId:
        """The token's public name, which the gateway's book knows it by."""
        return Identity(self.secret).peer_id

    def line(self) -> str:
        """The text to type on the device."""
        body = TokenBody(
            run_id=bytes.fromhex(self.run_id),
            gateway=public_key_of(self.gateway),
            certificate_hash=self.certificate_hash,
            secret=self.secret,
        ).SerializeToString()
        return PREFIX + base64.urlsafe_b64encode(body + _checksum(body)).decode().rstrip("=")

    def request(self, device: PeerId) -> bytes:
        """The message by which `device` asks to be enrolled."""
        key = Identity(self.secret)
        signature = key.sign(ENROLMENT_DOMAIN, _claim(self.run_id, self.gateway, device))
        return EnrolmentRequest(token=key.public_key, signature=signature).SerializeToString()


def parse_token(line: str) -> Token:
    """Read a token line; white space that crept in is ignored.

    Raises: UsageError saying what is wrong with it.
    """
    text = "".join(line.split())
    if not text.startswith(PREFIX):
        raise UsageError(f"{text[:20]!r} is not an enrolment token: paste the whole line, which starts with {PREFIX}")
    try:
        if len(text) > _LINE_CHARS_MAX:
            raise ValueError("too long")
        encoded = text[len(PREFIX) :]
        packed = base64.b64decode(encoded + "=" * (-len(encoded) % 4), altchars=b"-_", validate=True)
        body, checksum = packed[:-_CHECKSUM_BYTES], packed[-_CHECKSUM_BYTES:]
        if checksum != _checksum(body):
            raise ValueError("checksum")
    except (binascii.Error, ValueError):
        raise UsageError("the enrolment token is cut off or damaged: copy the whole line again") from None
    try:
        message = parse(TokenBody, body, bytes_max=_LINE_CHARS_MAX, what="an enrolment token")
        return Token(
            run_id=message.run_id.hex(),
            gateway=peer_id_of(message.gateway),
            certificate_hash=message.certificate_hash,
            secret=message.secret,
        )
    except InvalidMessage as error:
        raise UsageError(f"the enrolment token cannot be used ({error}): ask the gateway's owner for another") from None


def check_request(data: bytes, *, run_id: str, gateway: PeerId, device: PeerId) -> PeerId:
    """The name of the token that `device`, whose identity is proven, shows. Raises InvalidMessage, BadSignature."""
    message = parse(EnrolmentRequest, data, bytes_max=REQUEST_BYTES_MAX, what="an enrolment request")
    if len(message.token) != SECRET_BYTES:
        raise InvalidMessage(f"{device} shows a token of {len(message.token)} bytes: expected {SECRET_BYTES}")
    name = peer_id_of(message.token)
    verify(name, ENROLMENT_DOMAIN, _claim(run_id, gateway, device), message.signature)
    return name


def rotation_request(new: Identity, *, run_id: str, gateway: PeerId, old: PeerId) -> bytes:
    """The message by which `old` hands its place to a new key, which signs that it wants it."""
    signature = new.sign(ROTATION_DOMAIN, _claim(run_id, gateway, old))
    return RotationRequest(device=new.peer_id, signature=signature).SerializeToString()


def check_rotation(data: bytes, *, run_id: str, gateway: PeerId, old: PeerId) -> PeerId:
    """The device's new id. Raises InvalidMessage, BadSignature."""
    message = parse(RotationRequest, data, bytes_max=REQUEST_BYTES_MAX, what="a key rotation")
    new = parse_peer_id(message.device)
    verify(new, ROTATION_DOMAIN, _claim(run_id, gateway, old), message.signature)
    return new


def _claim(run_id: str, gateway: PeerId, device: PeerId) -> bytes:
    return f"{run_id}/{gateway}/{device}".encode()


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECKSUM_BYTES]
