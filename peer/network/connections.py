"""What a peer that nobody can dial does about it: it keeps connections open, and others come back over them."""

from __future__ import annotations

import asyncio
import logging

from ...protocol.errors import GossamerError
from ...protocol.identity import PeerId
from .contacts import ContactBook
from .dht import RecordStore
from .libp2p import Libp2p

_CHECK_EVERY_S = 2.0
_PEERS_MAX = 64

log = logging.getLogger(__name__)


class Connections:
    """Holds a libp2p connection to every dialable peer that we know, and opens it again when it is lost."""

    def __init__(self, own: PeerId, contacts: ContactBook, records: RecordStore, libp2p: Libp2p) -> None:
        self._own = own
        self._contacts = contacts
        self._records = records
        self._libp2p = libp2p
        self._due = asyncio.Event()

    def check_soon(self) -> None:
        """Something changed: a new contact, or a lost daemon."""
        self._due.set()

    async def run(self) -> None:
        """Until cancelled."""
        while True:
            self._due.clear()
            await self._open_missing()
            try:
                async with asyncio.timeout(_CHECK_EVERY_S):
                    await self._due.wait()
            except TimeoutError:
                continue

    async def _open_missing(self) -> None:
        connected = await self._libp2p.connected()
        wanted = [contact.peer for contact in self._contacts.all() if contact.dialable]
        wanted += [peer for peer in self._records.neighbours() if self._contacts.get(peer) is None]
        missing = [peer for peer in wanted if peer not in connected and peer != self._own]
        await asyncio.gather(*(self._open(peer) for peer in missing[:_PEERS_MAX]))

    async def _open(self, peer: PeerId) -> None:
        try:
            contact = await self._contacts.resolve(peer)
            if contact is not None and contact.addresses:
                await self._libp2p.connect(contact.addresses)
        except GossamerError as error:
            log.debug("no libp2p connection to %s: %s", peer, error)
