"""The real worlds of the contract suite: gRPC, and libp2p alone."""

from __future__ import annotations

import asyncio
import tempfile
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

from gossamer.peer.network import NetworkConfig, RealNetwork
from gossamer.protocol.identity import Identity
from gossamer.protocol.network import Network

from .world import left_running

_TIMEOUT_S = 50.0


@dataclass(frozen=True)
class RealWorld:
    """Every scenario gets libp2p daemons and an event loop of its own, and must leave nothing behind in it."""

    name: str
    grpc: bool

    def run(self, scenario: Callable[[list[Network]], Awaitable[None]], *, n_peers: int = 2) -> None:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)  # hivemind's use of importlib.resources
            asyncio.run(self._run(scenario, n_peers))

    async def _run(self, scenario: Callable[[list[Network]], Awaitable[None]], n_peers: int) -> None:
        unhandled: list[str] = []
        asyncio.get_running_loop().set_exception_handler(lambda loop, context: unhandled.append(repr(context)))
        async with asyncio.timeout(_TIMEOUT_S):
            with tempfile.TemporaryDirectory() as folder:
                networks: list[RealNetwork] = []
                try:
                    await self._open(networks, Path(folder), n_peers)
                    await scenario(list(networks))
                finally:
                    await asyncio.gather(*(network.close() for network in networks))
        left = await left_running()
        assert (unhandled, left) == ([], []), f"unhandled: {unhandled}, left over: {left}"

    async def _open(self, networks: list[RealNetwork], folder: Path, n_peers: int) -> None:
        identities = sorted((Identity.generate() for _ in range(n_peers)), key=lambda identity: identity.peer_id)
        networks.append(await self._start(identities[0], folder, ()))
        seed = tuple(networks[0].addresses())
        networks += await asyncio.gather(*(self._start(identity, folder, seed) for identity in identities[1:]))

    async def _start(self, identity: Identity, folder: Path, bootstrap: tuple[str, ...]) -> RealNetwork:
        path = folder / identity.peer_id
        identity.save(path)
        config = NetworkConfig(run_id="contract", identity_path=path, bootstrap=bootstrap, grpc=self.grpc)
        return await RealNetwork.open(identity, config)


WORLDS = (RealWorld("grpc", grpc=True), RealWorld("libp2p", grpc=False))
