"""The libp2p side of a peer: its daemon, started again when it dies, and streams over its connections."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from ...protocol.errors import GossamerError, PeerUnreachable, StateError
from ...protocol.identity import PeerId
from .addresses import Address, check_port_free, free_port, knock
from .config import NetworkConfig
from .handlers import MethodTable
from .p2pd import P2pd
from .stream_client import Pipe
from .stream_server import PROTOCOL, StreamServer

_OPEN_TIMEOUT_S = 3.0
_KNOCK_TIMEOUT_S = 2.0
_RESTART_FIRST_S = 0.1
_RESTART_LONGEST_S = 5.0

log = logging.getLogger(__name__)


class Libp2p:
    """Keeps a daemon running under one identity and, once known, one port."""

    def __init__(self, own: PeerId, config: NetworkConfig, table: MethodTable) -> None:
        self._own = own
        self._config = config
        self._port = config.p2p_port
        self._server = StreamServer(table)
        self._watcher: asyncio.Task[None] | None = None
        self.p2pd: P2pd | None = None
        self.addresses: tuple[Address, ...] = ()
        self.restarts = 0

    async def start(self) -> P2pd:
        """Raises PortInUse, NetworkError, StateError."""
        if self._config.dialable:
            # The daemon would share a taken port silently.
            check_port_free(self._config.listen_host, self._port, option="libp2p port")
            if self._config.announce_host and not self._port:
                self._port = free_port(self._config.listen_host)
        await self._server.start()
        return await self._start_daemon()

    def watch(self, lost: Callable[[str], None], restarted: Callable[[P2pd], Awaitable[None]]) -> None:
        """Replace the daemon whenever it dies by itself.

        Args:
            lost: told at once, with what happened.
            restarted: puts the new daemon to use; raises GossamerError.
        """
        self._watcher = asyncio.create_task(self._watch(lost, restarted))

    async def open(self, peer: PeerId, addresses: tuple[Address, ...]) -> Pipe:
        """A stream to a peer, over the connection that there is or one made now. Raises PeerUnreachable."""
        daemon = self._daemon()
        try:
            return Pipe(peer, *await daemon.open_stream(peer, PROTOCOL, timeout_s=_OPEN_TIMEOUT_S))
        except PeerUnreachable:
            if not addresses:
                raise
        await self.connect(addresses)
        return Pipe(peer, *await daemon.open_stream(peer, PROTOCOL, timeout_s=_OPEN_TIMEOUT_S))

    async def connect(self, addresses: tuple[Address, ...]) -> None:
        """Connect to the first of a peer's addresses that answers. Raises PeerUnreachable naming them all."""
        failed: list[str] = []
        for address in addresses:
            reason = await knock(address, timeout_s=_KNOCK_TIMEOUT_S)
            if not reason:
                try:
                    await self._daemon().connect(address)
                    return
                except PeerUnreachable as error:
                    reason = str(error)
            failed.append(f"{address}: {reason}")
        raise PeerUnreachable("no address answers: " + "; ".join(failed))

    async def connected(self) -> list[PeerId]:
        """Peers with a connection to us, ordered; none while the daemon is down."""
        try:
            return await self._daemon().connected()
        except PeerUnreachable:
            return []

    async def close(self) -> None:
        """Stop serving, end the daemon, and wait for it."""
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        await self._server.close()
        if self.p2pd is not None:
            await self.p2pd.stop()
            self.p2pd = None

    def _daemon(self) -> P2pd:
        if self.p2pd is None:
            raise PeerUnreachable("our libp2p daemon is down: it is being restarted")
        return self.p2pd

    async def _start_daemon(self) -> P2pd:
        config = self._config
        daemon = await P2pd.start(
            config.identity_path,
            host=config.listen_host,
            port=self._port,
            announce=config.announce_host,
            listen=config.dialable,
            timeout_s=config.startup_timeout_s,
        )
        self.p2pd = daemon
        if daemon.p2p.peer_id.to_base58() != self._own:
            raise StateError(f"{config.identity_path} holds another identity than {self._own}: name its file")
        self.addresses = tuple(await daemon.addresses()) if config.dialable else ()
        if self.addresses:
            self._port = self.addresses[0].port
        await self._server.register(daemon)
        return daemon

    async def _watch(self, lost: Callable[[str], None], restarted: Callable[[P2pd], Awaitable[None]]) -> None:
        while self.p2pd is not None:
            status = await self.p2pd.died()
            dead, self.p2pd = self.p2pd, None
            lost(f"the libp2p daemon (process {dead.pid}) ended by itself with status {status}: starting it again")
            await dead.stop()
            await self._restart(restarted)

    async def _restart(self, restarted: Callable[[P2pd], Awaitable[None]]) -> None:
        delay_s = _RESTART_FIRST_S
        while True:
            try:
                await restarted(await self._start_daemon())
                self.restarts += 1
                return
            except GossamerError as error:
                log.warning("the libp2p daemon cannot be used yet: %s", error)
            if self.p2pd is not None:
                daemon, self.p2pd = self.p2pd, None
                await daemon.stop()
            await asyncio.sleep(delay_s)
            delay_s = min(2 * delay_s, _RESTART_LONGEST_S)
