"""Hosts that answer, for tests of the world that they live in."""

from __future__ import annotations

import asyncio

from gossamer.protocol.identity import PeerId
from gossamer.simulator.host import Host
from gossamer.simulator.world import Simulation


async def echo(peer: PeerId, request: bytes) -> bytes:
    return request


async def sleep_well(peer: PeerId, request: bytes) -> bytes:
    await asyncio.sleep(3600)
    return b""


def serving(sim: Simulation, *names: str) -> list[Host]:
    hosts = [sim.host(name) for name in names]
    for host in hosts:
        serve(host)
    return hosts


def serve(host: Host) -> None:
    host.network.set_gate(lambda peer: True)
    host.network.serve("echo", echo)
    host.network.serve("sleep", sleep_well)


async def ask(a: Host, b: Host, *, timeout_s: float = 5.0) -> bytes:
    return await a.network.call(b.peer_id, "echo", b"?", timeout_s=timeout_s)
