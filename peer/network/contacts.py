"""Where peers can be reached: signed contact records, from the DHT or handed over with a session's proof."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import dataclass

from ...protocol.errors import InvalidMessage, UsageError
from ...protocol.identity import PeerId
from ...protocol.records import CheckedRecord, check_record
from ...protocol.transport.tls import CERTIFICATE_BYTES_MAX
from ...protocol.transport_pb2 import Contact as ContactMessage
from ...protocol.wire import parse
from .addresses import Address, parse_address

_HOST_LENGTH_MAX = 253
_ADDRESSES_MAX = 16
_CONTACT_BYTES_MAX = 8192
_PEERS_MAX = 8192


@dataclass(frozen=True, kw_only=True)
class Contact:
    """How to reach one peer. Checked when read: every address is the peer's own."""

    peer: PeerId
    host: str
    grpc_port: int
    """0: it serves no gRPC."""
    certificate: bytes
    """DER."""
    addresses: tuple[Address, ...]
    """Where its libp2p daemon listens; none when it cannot be dialled."""
    dialable: bool

    @property
    def grpc_target(self) -> str:
        host = f"[{self.host}]" if ":" in self.host else self.host
        return f"{host}:{self.grpc_port}"

    @property
    def serves_grpc(self) -> bool:
        return self.dialable and self.grpc_port > 0

    def encode(self) -> bytes:
        return ContactMessage(
            host=self.host,
            grpc_port=self.grpc_port,
            certificate=self.certificate,
            multiaddrs=[str(address) for address in self.addresses],
            dialable=self.dialable,
        ).SerializeToString()


def contact_key(peer: PeerId) -> str:
    return f"contact/{peer}"


def decode_contact(peer: PeerId, data: bytes) -> Contact:
    """Read what `peer` published about itself. Raises InvalidMessage."""
    message = parse(ContactMessage, data, bytes_max=_CONTACT_BYTES_MAX, what="a contact")
    if message.grpc_port >= 1 << 16 or len(message.host) > _HOST_LENGTH_MAX or set(message.host) & set("/ \n"):
        raise InvalidMessage(f"the contact of {peer} has no usable host and port: it must publish it again")
    if len(message.multiaddrs) > _ADDRESSES_MAX or len(message.certificate) > CERTIFICATE_BYTES_MAX:
        raise InvalidMessage(f"the contact of {peer} is larger than allowed: discard it")
    try:
        addresses = tuple(parse_address(text) for text in message.multiaddrs)
    except UsageError as error:
        raise InvalidMessage(f"the contact of {peer} has a bad address: {error}") from None
    if any(address.peer != peer for address in addresses):
        raise InvalidMessage(f"the contact of {peer} names another peer's address: discard it")
    return Contact(
        peer=peer,
        host=message.host,
        grpc_port=message.grpc_port,
        certificate=message.certificate,
        addresses=addresses,
        dialable=message.dialable,
    )


class ContactBook:
    """The contacts known so far, the newest of each peer; asks the DHT for the others."""

    def __init__(self, run_id: str, look_up: Callable[[str], Awaitable[list[CheckedRecord]]]) -> None:
        self._run_id = run_id
        self._look_up = look_up
        self._known: dict[PeerId, tuple[int, Contact]] = {}
        self.on_new: Callable[[Contact], None] = lambda contact: None

    def get(self, peer: PeerId) -> Contact | None:
        known = self._known.get(peer)
        return known[1] if known else None

    def all(self) -> list[Contact]:
        """Ordered by peer id."""
        return [self._known[peer][1] for peer in sorted(self._known)]

    def learn(self, peer: PeerId, signed: bytes, *, now_s: float) -> None:
        """Take a signed record that a peer handed over about itself. Raises InvalidMessage and its kind."""
        record = check_record(signed, key=f"{self._run_id}/{contact_key(peer)}", now_s=now_s)
        if record.signer != peer:
            raise InvalidMessage(f"{peer} handed over a contact signed by {record.signer}: discard it")
        self._take(record)

    async def resolve(self, peer: PeerId, *, fresh: bool = False) -> Contact | None:
        """The contact of a peer; `fresh` asks the DHT even when one is known. None if nobody knows it."""
        if fresh or peer not in self._known:
            for record in await self._look_up(contact_key(peer)):
                if record.signer == peer:
                    self._take(record)
        return self.get(peer)

    def _take(self, record: CheckedRecord) -> None:
        known = self._known.get(record.signer)
        if known is not None and known[0] >= record.sequence:
            return
        contact = decode_contact(record.signer, record.value)
        if known is None and len(self._known) >= _PEERS_MAX:
            del self._known[next(iter(self._known))]
        self._known[record.signer] = (record.sequence, contact)
        if known is None or known[1] != contact:
            self.on_new(contact)
