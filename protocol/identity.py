"""Who a peer is: an Ed25519 key whose public half is its name.

A peer id is libp2p's: the base58 of an identity multihash over the public key's protobuf. So a signature is checked
from the name alone, and the key file is one that libp2p daemons read too.
"""

from __future__ import annotations

import os
import stat
from functools import lru_cache
from pathlib import Path
from typing import NewType

from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

from . import base58
from .errors import BadSignature, InsecureKeyFile, InvalidMessage, StateError, disk_error

PeerId = NewType("PeerId", str)

_ID_PREFIX = b"\x00\x24\x08\x01\x12\x20"  # identity multihash, 36 bytes: protobuf {type: Ed25519, data: 32 bytes}
_KEY_PREFIX = b"\x08\x01\x12\x40"  # protobuf {type: Ed25519, data: 64 bytes = seed + public key}
_ID_LENGTH_MAX = 64
SIGNATURE_BYTES = 64
NAMES_REMEMBERED = 1 << 15
"""Peer ids whose keys are not worked out again each time: every member of every roster is read by its name."""
SIGNATURES_REMEMBERED, REMEMBERED_BYTES_MAX = 4096, 1024
"""Good signatures of short texts that are not worked out again: votes come with each certificate, tickets with each
look at the DHT."""


def peer_id_of(public_key: bytes) -> PeerId:
    """The peer id of a raw 32-byte Ed25519 public key."""
    return PeerId(base58.encode(_ID_PREFIX + public_key))


@lru_cache(maxsize=NAMES_REMEMBERED)
def public_key_of(peer: str) -> bytes:
    """The raw 32-byte public key inside a peer id. Raises InvalidMessage for anything that is not one."""
    try:
        raw = base58.decode(peer.strip()) if len(peer) <= _ID_LENGTH_MAX else b""
    except ValueError:
        raw = b""
    if len(raw) != len(_ID_PREFIX) + 32 or not raw.startswith(_ID_PREFIX):
        raise InvalidMessage(f"{peer[:_ID_LENGTH_MAX]!r} is not an Ed25519 peer id (expected 12D3KooW...)")
    return raw[len(_ID_PREFIX) :]


@lru_cache(maxsize=NAMES_REMEMBERED)
def parse_peer_id(text: str) -> PeerId:
    """Check a peer id that came from outside. Raises InvalidMessage."""
    return peer_id_of(public_key_of(text))


def verify(peer: PeerId, domain: str, payload: bytes, signature: bytes) -> None:
    """Check that `peer` signed `payload` for this use. Raises BadSignature."""
    framed = _framed(domain, payload)
    try:
        if len(framed) <= REMEMBERED_BYTES_MAX:
            _check_again(public_key_of(peer), framed, signature)
        else:
            _check(public_key_of(peer), framed, signature)
    except InvalidSignature:
        raise BadSignature(f"a {domain} is not signed by {peer} as it claims: discard it") from None


def _check(public_key: bytes, framed: bytes, signature: bytes) -> None:
    Ed25519PublicKey.from_public_bytes(public_key).verify(signature, framed)


_check_again = lru_cache(maxsize=SIGNATURES_REMEMBERED)(_check)
"""What raises is not remembered."""


def forget_signatures() -> None:
    """Work all of them out again. Where many peers live in one process, what one has seen spares the others the work,
    which is nice for a simulation and wrong for measuring what a peer of its own does."""
    _check_again.cache_clear()


class Identity:
    """A peer's private key. Signatures are bound to a domain, so that one never serves for another use."""

    def __init__(self, seed: bytes) -> None:
        """Args: seed: the 32-byte Ed25519 private key."""
        self._key = Ed25519PrivateKey.from_private_bytes(seed)
        self.public_key = self._key.public_key().public_bytes_raw()
        self.peer_id = peer_id_of(self.public_key)

    @classmethod
    def generate(cls) -> Identity:
        key = Ed25519PrivateKey.generate()
        return cls(key.private_bytes_raw())

    @classmethod
    def load(cls, path: Path) -> Identity:
        """Read a libp2p private-key file. Raises InsecureKeyFile, StateError."""
        try:
            mode = stat.S_IMODE(path.stat().st_mode)
            data = path.read_bytes()
        except OSError as error:
            raise StateError(
                f"cannot read the identity {path}: {error.strerror}; create one with another path"
            ) from None
        if mode & 0o077:
            raise InsecureKeyFile(f"others can read the private key {path} (mode {mode:o}): chmod 600 {path}")
        if len(data) != 68 or not data.startswith(_KEY_PREFIX):
            raise StateError(f"{path} is not an Ed25519 key in libp2p's format: move it away to have a new one made")
        return cls(data[4:36])

    @classmethod
    def load_or_create(cls, path: Path) -> Identity:
        """The identity kept in a file, made if there is none yet."""
        if path.exists():
            return cls.load(path)
        identity = cls.generate()
        identity.save(path)
        return identity

    def save(self, path: Path) -> None:
        """Write the key file, mode 0600. Raises StateError, DiskFull; FileExistsError rather than overwrite one."""
        seed = self._key.private_bytes_raw()
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
            with os.fdopen(descriptor, "wb") as file:
                file.write(_KEY_PREFIX + seed + self.public_key)
                file.flush()
                os.fsync(file.fileno())
        except FileExistsError:
            raise
        except OSError as error:
            raise disk_error(error, f"cannot write the identity {path}") from None

    def sign(self, domain: str, payload: bytes) -> bytes:
        """A 64-byte signature over (domain, payload)."""
        return self._key.sign(_framed(domain, payload))


def _framed(domain: str, payload: bytes) -> bytes:
    name = domain.encode()
    return b"gossamer/" + bytes([len(name)]) + name + payload
