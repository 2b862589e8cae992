"""What idle devices cost a gateway: memory and connections, with real gRPC over TLS on loopback.

    python -m gossamer.benchmarks.idle_devices --devices 1000

The gateway's front and hall run in this process and the devices' streams in a child, so that its memory is not counted.
Every device has a key, a TLS connection, a session and an open attendance stream, as `gossamer edge run` has.
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator
from pathlib import Path

from gossamer.edge.network import EdgeNetwork, Gateway
from gossamer.peer.gateway.attendance import Hall
from gossamer.peer.network.front import Front
from gossamer.protocol import devices
from gossamer.protocol.edge_pb2 import Hello, Uplink
from gossamer.protocol.errors import GossamerError, UnknownMethod
from gossamer.protocol.identity import Identity, PeerId

RUN_ID = "0" * 32
CONNECT_AT_ONCE = 32


def identity(number: int) -> Identity:
    return Identity(hashlib.sha256(f"idle {number}".encode()).digest())


def resident_bytes() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


async def measure(n_devices: int) -> dict[str, float]:
    gateway = identity(-1)
    with tempfile.TemporaryDirectory() as folder:
        front = await Front.open(gateway, run_id=RUN_ID, folder=Path(folder), host="127.0.0.1", port=0)
        hall = Hall(heartbeat_s=60.0, on_submission=_never, on_abandonment=_nothing, on_change=lambda: None)
        front.serve_stream(devices.ATTEND, hall.attend)
        front.set_gate(lambda peer: True)
        before, begun_s = resident_bytes(), time.monotonic()
        order = json.dumps({"port": front.port, "certificate": front.certificate.der.hex(), "devices": n_devices})
        child = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "gossamer.benchmarks.idle_devices", "--as-devices"), stdin=subprocess.PIPE
        )
        assert child.stdin is not None
        child.stdin.write(order.encode() + b"\n")
        await child.stdin.drain()
        while len(hall.present) < n_devices:  # noqa: ASYNC110 - the hall tells nobody else
            await asyncio.sleep(0.05)
        connect_s = time.monotonic() - begun_s
        await asyncio.sleep(2.0)
        busy_s = time.process_time()
        await asyncio.sleep(5.0)
        idle_cpu = (time.process_time() - busy_s) / 5.0
        grown = resident_bytes() - before
        child.stdin.close()
        await child.wait()
        await front.close()
    return {
        "devices": n_devices,
        "connect_s": connect_s,
        "kilobytes_per_device": grown / n_devices / 1024,
        "idle_cpu_share": idle_cpu,
    }


async def attend_as(order: dict[str, object]) -> None:
    """The devices: connect a few at a time, say hello, and stay until standard input ends."""
    gateway = Gateway(
        peer=identity(-1).peer_id,
        run_id=RUN_ID,
        host="127.0.0.1",
        port=int(str(order["port"])),
        certificate=bytes.fromhex(str(order["certificate"])),
    )
    gate = asyncio.Semaphore(CONNECT_AT_ONCE)

    async def one(number: int) -> None:
        client = EdgeNetwork(identity(number), gateway)

        async def words() -> AsyncIterator[bytes]:
            yield Uplink(hello=Hello(samples=1)).SerializeToString()
            await asyncio.Event().wait()

        async with gate:
            await _connected(client, gateway.peer)
        async for _ in client.stream(gateway.peer, devices.ATTEND, words(), timeout_s=3600):
            pass

    tasks = [asyncio.create_task(one(number)) for number in range(int(str(order["devices"])))]
    await asyncio.to_thread(sys.stdin.read)
    for task in tasks:
        task.cancel()
    await asyncio.gather(*tasks, return_exceptions=True)


async def _connected(client: EdgeNetwork, gateway: PeerId) -> None:
    """Open the connection and the session, however often it takes: the handshakes of a crowd time out."""
    while True:
        try:
            await client.call(gateway, "here", b"", timeout_s=60)
        except UnknownMethod:
            return
        except GossamerError:
            await asyncio.sleep(1.0)


async def _never(attendance: object, signed: object) -> None:
    raise AssertionError("idle devices submit nothing")


def _nothing(attendance: object, message: object) -> None:
    return


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--devices", type=int, default=500)
    parser.add_argument("--as-devices", action="store_true", help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    _, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    if chosen.as_devices:
        asyncio.run(attend_as(json.loads(sys.stdin.readline())))
    else:
        print(json.dumps(asyncio.run(measure(chosen.devices))))


if __name__ == "__main__":
    main()
