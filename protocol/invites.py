"""Invites: one line of text with which a newcomer gets a ticket, once.

An invite's secret is the seed of an Ed25519 key. The newcomer proves that it has the secret by signing its own peer
id with that key; the owner keeps only the public half. So neither the owner's book nor what is sent lets anybody
else redeem the invite.

    line = "gossamer1:" + base64url(length of body (2 bytes, big-endian) | body | first 4 bytes of SHA-256(body))
"""

from __future__ import annotations

import base64
import binascii
import hashlib
import re
from collections.abc import Sequence
from dataclasses import dataclass, field

from .admission import check_run_id
from .admission_pb2 import InviteBody, Redemption
from .errors import InvalidMessage, UsageError
from .identity import Identity, PeerId, parse_peer_id, peer_id_of, public_key_of
from .wire import parse

DOMAIN = "redemption"
PREFIX = "gossamer1:"
SECRET_BYTES = 32
MAX_ADDRESSES = 8
MAX_ADDRESS_BYTES = 256
MAX_BODY_BYTES = 4096
MAX_REDEMPTION_BYTES = 512

_LENGTH_BYTES = 2
_CHECKSUM_BYTES = 4
_ADDRESS = re.compile(r"(?:/[A-Za-z0-9_.:%-]+)+/p2p/([A-Za-z0-9]+)")


@dataclass(frozen=True, kw_only=True)
class Invite:
    """All that a newcomer needs. Whoever holds the line can redeem it: treat it like a password."""

    run_id: str
    owner: PeerId
    addresses: tuple[str, ...]
    """libp2p multiaddrs of peers of the run, each ending in /p2p/<peer id>."""
    secret: bytes = field(repr=False)
    """32 random bytes, used for this invite only."""

    def __post_init__(self) -> None:
        """Raises InvalidMessage."""
        check_run_id(self.run_id)
        parse_peer_id(self.owner)
        if len(self.secret) != SECRET_BYTES:
            raise InvalidMessage(f"an invite's secret has {len(self.secret)} bytes: use {SECRET_BYTES} random ones")
        check_addresses(self.addresses)

    @property
    def name(self) -> PeerId:
        """The invite's public name, which the owner's book knows it by."""
        return Identity(self.secret).peer_id

    def line(self) -> str:
        """The line of text to hand to the newcomer."""
        owner = public_key_of(self.owner)
        body = InviteBody(run_id=self.run_id, owner=owner, addresses=self.addresses, secret=self.secret)
        data = body.SerializeToString()
        packed = len(data).to_bytes(_LENGTH_BYTES, "big") + data + _checksum(data)
        return PREFIX + base64.urlsafe_b64encode(packed).decode().rstrip("=")

    def redemption(self, peer: PeerId) -> bytes:
        """The message by which `peer` asks the owner for its ticket."""
        key = Identity(self.secret)
        signature = key.sign(DOMAIN, redemption_claim(self.run_id, peer))
        return Redemption(invite=key.peer_id, signature=signature).SerializeToString()


def parse_invite(line: str) -> Invite:
    """Read an invite line; white space that crept in while it was copied is ignored.

    Raises: UsageError saying whether it is cut off, damaged, or no invite at all.
    """
    data = _unpack("".join(line.split()))
    try:
        body = parse(InviteBody, data, bytes_max=MAX_BODY_BYTES, what="an invite")
        return Invite(
            run_id=body.run_id,
            owner=peer_id_of(body.owner),
            addresses=tuple(body.addresses),
            secret=body.secret,
        )
    except InvalidMessage as error:
        raise UsageError(f"the invite cannot be used ({error}): ask the run's owner for another") from None


def check_addresses(addresses: Sequence[str]) -> None:
    """Raises InvalidMessage unless these are 1 to 8 multiaddrs, each with a peer id at its end."""
    if not 1 <= len(addresses) <= MAX_ADDRESSES:
        raise InvalidMessage(f"an invite with {len(addresses)} bootstrap addresses: use 1..{MAX_ADDRESSES}")
    for address in addresses:
        match = _ADDRESS.fullmatch(address) if len(address) <= MAX_ADDRESS_BYTES else None
        if match is None:
            raise InvalidMessage(
                f"{address[:80]!r} is not a bootstrap address: expected like /ip4/192.0.2.1/tcp/4001/p2p/12D3KooW..."
            )
        parse_peer_id(match[1])


def redemption_claim(run_id: str, peer: PeerId) -> bytes:
    """What a redemption's signature covers: it serves one peer and one run."""
    return f"{run_id}/{peer}".encode()


def _unpack(line: str) -> bytes:
    if not line.startswith(PREFIX):
        raise UsageError(f"{line[:20]!r} is not an invite: paste the whole line, which starts with {PREFIX}")
    text = line[len(PREFIX) :]
    packed = _decode(text)
    head = packed[:_LENGTH_BYTES]
    n_body = int.from_bytes(head, "big")
    n_expected = _LENGTH_BYTES + n_body + _CHECKSUM_BYTES
    if len(head) < _LENGTH_BYTES or len(packed) < n_expected:
        raise UsageError(f"the invite is cut off after {len(line)} characters: paste the whole line")
    body = packed[_LENGTH_BYTES : _LENGTH_BYTES + n_body]
    if len(packed) > n_expected or packed[_LENGTH_BYTES + n_body :] != _checksum(body):
        raise UsageError("the invite is damaged (its checksum is wrong): copy the line again")
    return body


def _decode(text: str) -> bytes:
    whole = text[: len(text) - (len(text) % 4 == 1)]  # one character left over can only come from a cut line
    try:
        return base64.b64decode(whole + "=" * (-len(whole) % 4), altchars=b"-_", validate=True)
    except (binascii.Error, ValueError):
        raise UsageError(
            "the invite is damaged (it holds characters that no invite has): copy the line again"
        ) from None


def _checksum(body: bytes) -> bytes:
    return hashlib.sha256(body).digest()[:_CHECKSUM_BYTES]
