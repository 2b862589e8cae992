"""Mutual proof of identity over TLS, and the sessions that follow from it.

The server is proven by its certificate, which stands in its signed contact record. The client then signs a nonce that
the server made for this one handshake, together with the run, the server and the certificate, so that a proof serves
nowhere else and never again.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Callable
from dataclasses import dataclass

from ..errors import BadSignature, InvalidMessage
from ..identity import Identity, PeerId, parse_peer_id, verify
from ..records import MAX_SIGNED_RECORD_BYTES
from ..transport_pb2 import Challenge, Proof, Welcome
from ..wire import parse

DOMAIN = "session"
NONCE_BYTES = 32
TOKEN_BYTES = 32
LIFETIME_S = 3600.0
_CHALLENGE_BYTES_MAX = 512
_PROOF_BYTES_MAX = MAX_SIGNED_RECORD_BYTES + 512
_SESSIONS_MAX = 4096
_SESSIONS_PER_PEER_MAX = 8


@dataclass(frozen=True, kw_only=True)
class Ends:
    """What a proof is bound to."""

    run_id: str
    server: PeerId
    certificate: bytes
    """The server's, DER."""


@dataclass(frozen=True, kw_only=True)
class Session:
    """A proven caller on one connection."""

    peer: PeerId
    connection: str
    """gRPC's name of the transport connection; the token is worth nothing on another."""
    expires_at_s: float
    """Event loop time."""


class Sessions:
    """The server's table of sessions, bounded in all and per peer; the oldest give way."""

    def __init__(self, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._by_token: dict[str, Session] = {}

    def open(self, peer: PeerId, connection: str) -> bytes:
        """Begin a session and return its secret token."""
        mine = [token for token, session in self._by_token.items() if session.peer == peer]
        for token in mine[: max(0, len(mine) - _SESSIONS_PER_PEER_MAX + 1)]:
            del self._by_token[token]
        if len(self._by_token) >= _SESSIONS_MAX:
            del self._by_token[next(iter(self._by_token))]
        secret = os.urandom(TOKEN_BYTES)
        self._by_token[secret.hex()] = Session(
            peer=peer, connection=connection, expires_at_s=self._clock() + LIFETIME_S
        )
        return secret

    def find(self, token: str) -> Session | None:
        """The live session of a token; its connection is for the caller to compare."""
        session = self._by_token.get(token)
        if session is not None and session.expires_at_s <= self._clock():
            del self._by_token[token]
            return None
        return session


def challenge(run_id: str) -> tuple[bytes, bytes]:
    """A fresh nonce, and the message that brings it to the client."""
    nonce = os.urandom(NONCE_BYTES)
    return nonce, Challenge(nonce=nonce, run_id=run_id).SerializeToString()


def prove(identity: Identity, ends: Ends, challenged: bytes, contact: bytes) -> bytes:
    """Answer a challenge. Raises InvalidMessage, BadSignature when the server belongs to another run."""
    message = parse(Challenge, challenged, bytes_max=_CHALLENGE_BYTES_MAX, what="a session's challenge")
    if len(message.nonce) != NONCE_BYTES:
        raise InvalidMessage(f"{ends.server} sent a nonce of {len(message.nonce)} bytes: expected {NONCE_BYTES}")
    if message.run_id != ends.run_id:
        raise BadSignature(f"{ends.server} belongs to the run {message.run_id[:96]!r}, not to ours ({ends.run_id!r})")
    signature = identity.sign(DOMAIN, _payload(ends, message.nonce))
    return Proof(peer=identity.peer_id, signature=signature, contact=contact).SerializeToString()


def check_proof(data: bytes, ends: Ends, nonce: bytes) -> tuple[PeerId, bytes]:
    """Who the client is, and its signed contact record (unchecked, may be empty).

    Raises: InvalidMessage, BadSignature.
    """
    message = parse(Proof, data, bytes_max=_PROOF_BYTES_MAX, what="a session's proof")
    peer = parse_peer_id(message.peer)
    verify(peer, DOMAIN, _payload(ends, nonce), message.signature)
    return peer, message.contact


def welcome(token: bytes) -> bytes:
    return Welcome(token=token, lifetime_s=LIFETIME_S).SerializeToString()


def read_welcome(data: bytes) -> tuple[str, float]:
    """The token as the text that goes into call metadata, and how many seconds it lives. Raises InvalidMessage."""
    message = parse(Welcome, data, bytes_max=_CHALLENGE_BYTES_MAX, what="a session's welcome")
    if len(message.token) != TOKEN_BYTES or not 1 <= message.lifetime_s <= 1e6:
        raise InvalidMessage("a session's welcome has no usable token: does the other side run the same version?")
    return message.token.hex(), message.lifetime_s


def _payload(ends: Ends, nonce: bytes) -> bytes:
    parts = (ends.run_id.encode(), ends.server.encode(), hashlib.sha256(ends.certificate).digest(), nonce)
    return b"".join(len(part).to_bytes(2, "big") + part for part in parts)
