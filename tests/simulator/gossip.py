"""A busy little scenario whose trace tells whether a run is reproducible; as a program it prints the trace."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import AsyncIterator

from gossamer.protocol.errors import GossamerError
from gossamer.protocol.identity import PeerId
from gossamer.simulator.host import Host
from gossamer.simulator.world import Simulation

N_HOSTS = 6


def gossip(seed: int, *, shuffle_seed: int | None = None) -> str:
    """Hosts publish, look up, call and stream at random; one dies, one comes back, some are cut off."""
    sim = Simulation(seed=seed, loss=0.01, shuffle_seed=shuffle_seed)
    hosts = [sim.host(f"host {number}", up_bytes_per_s=2e5) for number in range(N_HOSTS)]

    async def main() -> None:
        for host in hosts:
            host.spawn(daemon(host))
        await asyncio.sleep(5.0)
        hosts[1].kill()
        sim.partition(hosts[:2], hosts[4:])
        await asyncio.sleep(5.0)
        hosts[1].restart()
        hosts[1].spawn(daemon(hosts[1]))
        hosts[2].kill(silent=True)
        sim.heal()
        await asyncio.sleep(5.0)

    sim.run(main())
    return f"{sim.n_deliveries} {sim.trace_hash()}"


async def daemon(host: Host) -> None:
    """Talks to whomever it finds, for ever."""
    host.network.set_gate(lambda peer: True)
    host.network.serve("talk", _reverse)
    host.network.serve_stream("sing", _double)
    async with asyncio.TaskGroup() as group:
        for _ in range(3):
            group.create_task(_talk(host))


async def _talk(host: Host) -> None:
    while True:
        await asyncio.sleep(host.random.random() * 0.2)
        await host.network.publish("here", host.random.randbytes(8), ttl_s=3)
        peers = {record.signer for record in await host.network.lookup("here")}
        for peer in sorted(peers - {host.peer_id}):
            try:
                await host.network.call(peer, "talk", host.random.randbytes(3000), timeout_s=1)
                async for _ in host.network.stream(peer, "sing", _verses(host), timeout_s=1):
                    pass
            except GossamerError:
                continue


async def _verses(host: Host) -> AsyncIterator[bytes]:
    for _ in range(host.random.randrange(4)):
        yield host.random.randbytes(2000)


async def _reverse(peer: PeerId, request: bytes) -> bytes:
    return request[::-1]


async def _double(peer: PeerId, chunks: AsyncIterator[bytes]) -> AsyncIterator[bytes]:
    async for chunk in chunks:
        yield chunk * 2


if __name__ == "__main__":
    sys.stdout.write(gossip(int(sys.argv[1])) + "\n")
