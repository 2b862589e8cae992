"""Real networks in one process, for tests: opened on free ports, closed whatever happens."""

from __future__ import annotations

import asyncio
import tempfile
import warnings
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from gossamer.peer.network import NetworkConfig, RealNetwork
from gossamer.protocol.identity import Identity

RUN_ID = "a-run"


class Fleet:
    """`async with Fleet() as fleet: a = await fleet.open()`; everybody is admitted everywhere."""

    def __init__(self) -> None:
        self._folder = tempfile.TemporaryDirectory()
        self._open: list[RealNetwork] = []

    async def __aenter__(self) -> Fleet:
        return self

    async def __aexit__(self, *failure: object) -> None:
        await asyncio.gather(*(network.close() for network in self._open))
        self._folder.cleanup()

    async def open(self, identity: Identity | None = None, **options: Any) -> RealNetwork:
        """Options are those of `NetworkConfig`."""
        identity = identity or Identity.generate()
        settings: dict[str, Any] = {"run_id": RUN_ID, "identity_path": self.key_file(identity), **options}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # hivemind's use of importlib.resources
            network = await RealNetwork.open(identity, NetworkConfig(**settings))
        self._open.append(network)
        network.set_gate(lambda peer: True)
        return network

    async def pair(self, **options: Any) -> tuple[RealNetwork, RealNetwork]:
        """Two that know each other."""
        first = await self.open(**options)
        return first, await self.open(bootstrap=tuple(first.addresses()), **options)

    def key_file(self, identity: Identity) -> Path:
        path = Path(self._folder.name) / identity.peer_id
        if not path.exists():
            identity.save(path)
        return path


async def until(holds: Callable[[], Awaitable[bool]], *, timeout_s: float = 20.0) -> None:
    """Return as soon as something holds; TimeoutError if it never does."""
    async with asyncio.timeout(timeout_s):
        while not await holds():  # noqa: ASYNC110 - what is awaited is another process's state
            await asyncio.sleep(0.05)


async def echo(peer: str, request: bytes) -> bytes:
    return request
