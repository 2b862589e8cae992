"""How to reach a peer: a gRPC link where it can be dialled, a libp2p stream otherwise."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from ...protocol.errors import PeerUnreachable
from ...protocol.identity import Identity, PeerId
from ...protocol.transport.link import Link
from ...protocol.transport.session import Ends
from .contacts import Contact, ContactBook
from .libp2p import Libp2p
from .stream_client import Pipe

_LINK_TIMEOUT_S = 5.0
_AVOID_S = 30.0


class Routes:
    """The links that are open, and the way to new ones."""

    def __init__(
        self,
        identity: Identity,
        run_id: str,
        contacts: ContactBook,
        libp2p: Libp2p,
        own_contact: Callable[[], bytes],
    ) -> None:
        """Args: own_contact: our signed contact record, which every handshake hands over."""
        self._identity = identity
        self._run_id = run_id
        self._contacts = contacts
        self._libp2p = libp2p
        self._own_contact = own_contact
        self._links: dict[PeerId, Link] = {}
        self._opening: dict[PeerId, asyncio.Task[Link | None]] = {}
        self._failed: dict[PeerId, str] = {}
        self._avoid: dict[PeerId, tuple[Contact | None, float]] = {}

    async def reach(self, peer: PeerId) -> Link | Pipe:
        """Raises PeerUnreachable saying what was tried; BadSignature when the peer belongs to another run."""
        link = await self._link(peer)
        if link is not None:
            return link
        pipe = await self._pipe(peer)
        if isinstance(pipe, Pipe) and peer in self._failed:
            self._avoid[peer] = (self._contacts.get(peer), asyncio.get_running_loop().time() + _AVOID_S)
        return pipe

    async def forget_session(self, peer: PeerId) -> None:
        """The peer does not know our session: the next call opens the link anew."""
        link = self._links.pop(peer, None)
        if link is not None:
            await link.close()

    async def close(self) -> None:
        tasks = list(self._opening.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        links = list(self._links.values())
        self._links.clear()
        await asyncio.gather(*(link.close() for link in links))

    async def _link(self, peer: PeerId) -> Link | None:
        link = self._links.get(peer)
        if link is not None and link.usable:
            return link
        avoided, until_s = self._avoid.get(peer, (None, 0.0))
        if avoided is self._contacts.get(peer) and asyncio.get_running_loop().time() < until_s:
            return None
        # Callers share one attempt; one that is cancelled does not take it from the others.
        task = self._opening.get(peer)
        if task is None:
            task = asyncio.create_task(self._open(peer))
            self._opening[peer] = task
            task.add_done_callback(lambda done: self._opened(peer, done))
        return await asyncio.shield(task)

    def _opened(self, peer: PeerId, task: asyncio.Task[Link | None]) -> None:
        del self._opening[peer]
        if not task.cancelled():
            task.exception()  # seen, even if every caller has left

    async def _open(self, peer: PeerId) -> Link | None:
        """A link, or None where only libp2p can help."""
        link = self._links.get(peer)
        if link is not None and link.connected:
            await link.open(self._own_contact(), timeout_s=_LINK_TIMEOUT_S)
            return link
        await self.forget_session(peer)
        self._failed.pop(peer, None)
        known = self._contacts.get(peer)
        contact = await self._contacts.resolve(peer)
        link = await self._connect(contact)
        if link is None and known is not None and known.serves_grpc:
            contact = await self._contacts.resolve(peer, fresh=True)
            link = await self._connect(contact) if contact != known else None
        if link is not None:
            self._links[peer] = link
        return link

    async def _connect(self, contact: Contact | None) -> Link | None:
        if contact is None or not contact.serves_grpc:
            return None
        ends = Ends(run_id=self._run_id, server=contact.peer, certificate=contact.certificate)
        link = Link(self._identity, ends, contact.grpc_target)
        try:
            await link.open(self._own_contact(), timeout_s=_LINK_TIMEOUT_S)
        except PeerUnreachable as error:
            self._failed[contact.peer] = str(error)
            await link.close()
            return None
        except BaseException:
            await link.close()
            raise
        return link

    async def _pipe(self, peer: PeerId) -> Link | Pipe:
        contact = self._contacts.get(peer)
        try:
            return await self._libp2p.open(peer, contact.addresses if contact else ())
        except PeerUnreachable as error:
            reason = str(error)
        if contact is not None and not contact.serves_grpc:
            newer = await self._contacts.resolve(peer, fresh=True)
            if newer is not None and newer != contact and newer.serves_grpc:
                link = await self._link(peer)
                if link is not None:
                    return link
        over_grpc = self._failed.get(peer) or ("it serves no gRPC" if contact else "it has published no contact")
        raise PeerUnreachable(f"{peer} cannot be reached (gRPC: {over_grpc}; libp2p: {reason}): is it still running?")
