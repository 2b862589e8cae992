"""Benchmarks' processes that know each other by files only: how two or more networks of our own find each other."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

from gossamer.peer.network import NetworkConfig, RealNetwork
from gossamer.protocol.atomic import write_atomically
from gossamer.protocol.identity import Identity, PeerId

LOOK_EVERY_S, LOOK_S = 0.05, 60.0


@asynccontextmanager
async def opened(number: int, address: str, folder: Path, run_id: str) -> AsyncIterator[RealNetwork]:
    """A network (gRPC over TLS) that lets everybody in; number 0 is where all others join the DHT."""
    identity = Identity.generate()
    key = folder / f"key{number}"
    identity.save(key)
    first = tuple(json.loads(await read(folder / "node0"))["addresses"]) if number else ()
    config = NetworkConfig(run_id=run_id, identity_path=key, bootstrap=first, listen_host=address)
    network = await RealNetwork.open(identity, config)
    try:
        network.set_gate(lambda peer: True)
        yield network
    finally:
        await network.close()


async def meet(network: RealNetwork, number: int, n: int, folder: Path) -> list[PeerId]:
    """Tell the others who I am, when all is served; returns everybody, by number."""
    write(folder / f"node{number}", json.dumps({"peer": network.peer_id, "addresses": network.addresses()}))
    return [PeerId(json.loads(await read(folder / f"node{other}"))["peer"]) for other in range(n)]


def write(path: Path, text: str) -> None:
    """So that others see all of it or nothing."""
    write_atomically(path, text.encode(), durable=False)


async def read(path: Path, *, within_s: float = LOOK_S) -> str:
    """What another process has written, or will have in time. Raises TimeoutError."""
    async with asyncio.timeout(within_s):
        while not _there(path):  # noqa: ASYNC110 - processes that know each other by files only
            await asyncio.sleep(LOOK_EVERY_S)
    return _text(path)


def _there(path: Path) -> bool:
    return path.exists()


def _text(path: Path) -> str:
    return path.read_text()
