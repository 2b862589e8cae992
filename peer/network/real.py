"""The real network: hivemind's DHT and libp2p for discovery, gRPC over TLS for bulk, libp2p where gRPC cannot go."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncIterator, Callable
from concurrent.futures import ThreadPoolExecutor
from typing import TypeVar

from ...protocol.errors import GossamerError, NetworkClosed, PeerUnreachable
from ...protocol.identity import Identity, PeerId
from ...protocol.network import Cost, Gate, Handler, Network, Record, StreamHandler, Traffic
from ...protocol.transport.calling import Caller
from ...protocol.transport.certificates import create_certificate
from ...protocol.transport.session import Ends
from .addresses import Address, check_port_free, is_unspecified, parse_address
from .bootstrap import Bootstrap
from .config import NetworkConfig, NetworkHealth
from .connections import Connections
from .contacts import Contact, ContactBook, contact_key
from .dht import RecordStore
from .grpc_server import GrpcServer
from .handlers import MethodTable, Served
from .libp2p import Libp2p
from .p2pd import P2pd
from .routes import Routes

T = TypeVar("T")

log = logging.getLogger(__name__)


class RealNetwork(Network):
    """One peer's access to the others over the internet. Make it with `open`; end it with `close`.

    `traffic` counts what was handed to the transports: messages, names, and an estimate of the frames around them
    (without TLS and TCP). "dht" counts records: as sent to every replica that a store attempts, and as found.
    """

    def __init__(self, identity: Identity, config: NetworkConfig) -> None:
        """For `open`, which also starts it."""
        self.peer_id = identity.peer_id
        self.traffic = Traffic()
        self.on_lost: Callable[[str], None] = log.warning
        """Told in one line when the libp2p daemon died by itself. It is replaced without further ado; gRPC goes on."""
        self._config = config
        self._table = MethodTable(self.traffic)
        self._libp2p = Libp2p(self.peer_id, config, self._table)
        self._records = RecordStore(identity, config.run_id, self.traffic, self.unix_time_s)
        self._contacts = ContactBook(config.run_id, self._records.lookup)
        self._routes = Routes(identity, config.run_id, self._contacts, self._libp2p, self._own_contact)
        self._connections = Connections(self.peer_id, self._contacts, self._records, self._libp2p)
        addresses = [parse_address(text) for text in config.bootstrap]
        self._bootstrap = Bootstrap(self.peer_id, addresses, self._meet, self._merged)
        self._certificate = create_certificate()
        ends = Ends(run_id=config.run_id, server=self.peer_id, certificate=self._certificate.der)
        self._grpc = GrpcServer(self._table, ends, self._learn)
        self._grpc_port = 0
        self._worker = ThreadPoolExecutor(max_workers=1, thread_name_prefix="compute")
        self._tasks: list[asyncio.Task[None]] = []
        self._closed = False
        self._caller = Caller(
            self.traffic,
            reach=self._routes.reach,
            forget=self._routes.forget_session,
            check_open=self._check_open,
        )

    @classmethod
    async def open(cls, identity: Identity, config: NetworkConfig) -> RealNetwork:
        """Start serving and join the others.

        Raises: PortInUse, BootstrapFailed, NetworkError when the libp2p daemon does not start, StateError when the
        identity is not the one in `config.identity_path`.
        """
        network = cls(identity, config)
        try:
            await network._start()
        except BaseException:
            await network.close()
            raise
        return network

    def addresses(self) -> list[str]:
        """What others can use as bootstrap addresses; none for a peer that cannot be dialled."""
        return [str(address) for address in self._libp2p.addresses]

    async def health(self) -> NetworkHealth:
        """A look at the state of the network. Never raises for what it finds."""
        daemon = self._libp2p.p2pd
        contact = self._contact()
        return NetworkHealth(
            p2pd_alive=daemon is not None and daemon.alive,
            p2pd_pid=daemon.pid if daemon is not None else None,
            p2pd_restarts=self._libp2p.restarts,
            dht_neighbours=len(self._records.neighbours()),
            connected_peers=len(await self._libp2p.connected()),
            bootstrap=self._bootstrap.states(),
            grpc_address=contact.grpc_target if contact.serves_grpc else None,
            addresses=tuple(self.addresses()),
        )

    def serve(self, method: str, handler: Handler, *, public: bool = False) -> None:
        self._check_open()
        self._table.add(Served(method=method, handler=handler, public=public))

    def serve_stream(self, method: str, handler: StreamHandler, *, public: bool = False) -> None:
        self._check_open()
        self._table.add(Served(method=method, stream_handler=handler, public=public))

    def set_gate(self, gate: Gate) -> None:
        self._check_open()
        self._table.set_gate(gate)

    async def call(self, peer: PeerId, method: str, request: bytes, *, timeout_s: float) -> bytes:
        return await self._caller.call(peer, method, request, timeout_s=timeout_s)

    def stream(
        self, peer: PeerId, method: str, chunks: AsyncIterator[bytes], *, timeout_s: float
    ) -> AsyncIterator[bytes]:
        return self._caller.stream(peer, method, chunks, timeout_s=timeout_s)

    async def publish(self, key: str, value: bytes, *, ttl_s: float) -> None:
        self._check_open()
        await self._records.publish(key, value, ttl_s=ttl_s)

    async def lookup(self, key: str) -> list[Record]:
        self._check_open()
        return [
            Record(key=key, signer=record.signer, value=record.value, expires_at_s=record.expires_at_s)
            for record in await self._records.lookup(key)
        ]

    async def compute(self, work: Callable[[], T], cost: Cost) -> T:
        self._check_open()
        return await asyncio.get_running_loop().run_in_executor(self._worker, work)

    def unix_time_s(self) -> float:
        return time.time()

    async def close(self) -> None:
        if self._closed:
            return
        self._closed = True
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self._bootstrap.close()
        await self._routes.close()
        await self._grpc.close()
        await self._records.close()
        await self._libp2p.close()
        self._worker.shutdown(wait=False, cancel_futures=True)

    # -- starting ------------------------------------------------------------------------------------------------

    async def _start(self) -> None:
        config = self._config
        if config.serves_grpc:
            check_port_free(config.listen_host, config.grpc_port, option="gRPC port")
            self._grpc_port = await self._grpc.start(config.listen_host, config.grpc_port, self._certificate)
        await self._records.attach(await self._libp2p.start(), client=not config.dialable)
        self._libp2p.watch(self._lost, self._restarted)
        await self._bootstrap.start(timeout_s=config.startup_timeout_s)
        await self._announce()
        self._tasks.append(asyncio.create_task(self._keep_announcing()))
        if not config.dialable:
            self._contacts.on_new = lambda contact: self._connections.check_soon()
            self._tasks.append(asyncio.create_task(self._connections.run()))

    async def _meet(self, address: Address) -> None:
        await self._libp2p.connect((address,))
        if not await self._records.ping(address.peer):
            raise PeerUnreachable(f"{address.peer} is connected, but no DHT node answers there (yet)")

    async def _merged(self) -> None:
        await self._records.explore()
        await self._records.republish()

    async def _rejoin(self) -> None:
        """Find the others again: the bootstrap addresses, and everybody we know."""
        await self._bootstrap.try_all()
        for contact in self._contacts.all():
            for address in contact.addresses[:1] if contact.peer != self.peer_id else ():
                try:
                    await self._meet(address)
                except GossamerError as error:
                    log.debug("%s is not there any more: %s", contact.peer, error)
        await self._merged()

    def _lost(self, what: str) -> None:
        self._bootstrap.again()
        self.on_lost(what)

    async def _restarted(self, daemon: P2pd) -> None:
        await self._records.attach(daemon, client=not self._config.dialable)
        await self._rejoin()
        await self._announce()
        self._connections.check_soon()

    # -- our own address -----------------------------------------------------------------------------------------

    def _contact(self) -> Contact:
        listening = self._libp2p.addresses
        host = self._config.announce_host or self._config.listen_host
        if is_unspecified(self._config.listen_host) and not self._config.announce_host and listening:
            # The last is the most public one: libp2p lists loopback first.
            host = listening[-1].host
        return Contact(
            peer=self.peer_id,
            host=host,
            grpc_port=self._grpc_port,
            certificate=self._certificate.der if self._grpc_port else b"",
            addresses=listening,
            dialable=self._config.dialable,
        )

    def _own_contact(self) -> bytes:
        return self._records.signed(contact_key(self.peer_id))

    async def _announce(self) -> None:
        await self._records.publish(
            contact_key(self.peer_id), self._contact().encode(), ttl_s=self._config.contact_ttl_s
        )

    async def _keep_announcing(self) -> None:
        while True:
            await asyncio.sleep(self._config.contact_ttl_s / 3)
            try:
                if not self._records.neighbours():
                    await self._rejoin()
                await self._announce()
            except GossamerError as error:
                log.warning("could not publish where we are: %s", error)

    def _learn(self, peer: PeerId, record: bytes) -> None:
        self._contacts.learn(peer, record, now_s=self.unix_time_s())

    def _check_open(self) -> None:
        if self._closed:
            raise NetworkClosed(f"the network of {self.peer_id} is closed: open a new one")
